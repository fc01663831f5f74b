"""The routes of a session's files: sent on to its sandbox and back as they stream."""

from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack
from typing import Any
from urllib.parse import quote

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from caesarion.adapters.asgi.bodies import check_length
from caesarion.adapters.asgi.facts import facts_of
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.asgi.responses import JsonResponse, Streamed
from caesarion.adapters.asgi.routes import resource
from caesarion.adapters.quotas import UploadsInFlight
from caesarion.adapters.sandbox_http import Answer
from caesarion.adapters.sessions import Sessions
from caesarion.errors import InvalidRequest, NotSatisfiable, TooLarge
from caesarion.file_names import checked_path, safe_name
from caesarion.ids import SessionKey
from caesarion_execute.multipart import PartReader
from caesarion_execute.requests import key_of

FIELD = "file"
ASKED_HEADERS = {"GET": ("range", "if-range", "if-none-match"), "HEAD": ("if-none-match",)}
TOLD_HEADERS = ("Content-Type", "Content-Length", "Content-Range", "ETag", "Last-Modified", "Accept-Ranges")
DOWNLOAD_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "Content-Security-Policy": "sandbox; default-src 'none'",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "private, no-cache",
}


class FileRoutes:
    """One method a route."""

    def __init__(
        self, sessions: Sessions, uploads: UploadsInFlight, metrics: Metrics, *, max_upload_bytes: int
    ) -> None:
        self._sessions = sessions
        self._uploads = uploads
        self._metrics = metrics
        self._max_upload_bytes = max_upload_bytes

    def routes(self) -> list[BaseRoute]:
        """Return the routes; the list before single files."""
        return [
            resource("/sessions/{session}/files", GET=self.list, POST=self.upload_form),
            resource("/sessions/{session}/files/{path:path}", GET=self.download, PUT=self.upload, DELETE=self.delete),
        ]

    async def list(self, request: Request) -> Response:
        """All files of the session."""
        _, document = await self._sessions.call(key_of(request), "GET", "/v1/files")
        return JsonResponse(document)

    async def download(self, request: Request) -> Response:
        """One file, or a range of it. What user code wrote never runs as a page of ours."""
        key, path = key_of(request), _path(request)
        asked = {name: request.headers[name] for name in ASKED_HEADERS[request.method] if name in request.headers}
        async with AsyncExitStack() as stack:
            answer = await stack.enter_async_context(
                self._sessions.stream(key, request.method, _file(path), headers=asked, passed=(416,))
            )
            headers = {name: answer.headers[name] for name in TOLD_HEADERS if name in answer.headers}
            headers.update(DOWNLOAD_HEADERS)
            headers["Content-Disposition"] = _attachment(path.rsplit("/", 1)[-1])
            if answer.status == 416:
                facts_of(request.scope).headers.append((b"content-range", headers["Content-Range"].encode()))
                raise NotSatisfiable(f"The file does not have the range {asked.get('range', '')[:80]!r}.")
            if request.method == "HEAD" or answer.status == 304:
                return Response(status_code=answer.status, headers=headers)
            return Streamed(_chunks(answer), status_code=answer.status, headers=headers, closed=stack.pop_all().aclose)

    async def upload(self, request: Request) -> Response:
        """The raw body as one file, in place of its namesake."""
        key, path = key_of(request), _path(request)
        await self._sessions.get(key)
        size_bytes = check_length(request, self._max_upload_bytes)
        with self._uploads.reserved(key.principal, self._max_upload_bytes if size_bytes is None else size_bytes):
            entry = await self._put(key, path, request.stream(), size_bytes)
        return JsonResponse(entry, 201)

    async def upload_form(self, request: Request) -> Response:
        """The files of a form. Those before one that is refused are stored."""
        key = key_of(request)
        await self._sessions.get(key)
        announced = request.headers.get("content-length", "")
        size_bytes = int(announced) if announced.isdecimal() else self._max_upload_bytes
        stored: list[Any] = []
        parts = PartReader(request.headers.get("content-type", ""), request.stream())
        with self._uploads.reserved(key.principal, size_bytes):
            while (part := await parts.next_part()) is not None:
                if part.file_name is None and part.field != FIELD:
                    continue
                if part.field != FIELD or part.file_name is None:
                    raise InvalidRequest(
                        f"A file must be a part named `{FIELD}` with a file name, got a part {part.field[:80]!r}.",
                        code="invalid_form",
                    )
                stored.append(await self._put(key, safe_name(part.file_name), parts.chunks(), None))
        if not stored:
            raise InvalidRequest(f"The form has no part named `{FIELD}`.", code="invalid_form")
        return JsonResponse({"files": stored}, 201)

    async def delete(self, request: Request) -> Response:
        """Remove one file."""
        await self._sessions.call(key_of(request), "DELETE", _file(_path(request)))
        return Response(status_code=204)

    async def _put(self, key: SessionKey, path: str, body: AsyncIterator[bytes], size_bytes: int | None) -> Any:
        headers = {"Content-Length": str(size_bytes)} if size_bytes is not None else {}
        limited = self._limited(path, body)
        async with self._sessions.stream(key, "PUT", _file(path), body=limited, headers=headers) as answer:
            return await answer.json()

    async def _limited(self, path: str, body: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        size_bytes = 0
        async for chunk in body:
            size_bytes += len(chunk)
            self._metrics.uploaded_bytes += len(chunk)
            if size_bytes > self._max_upload_bytes:
                raise TooLarge(
                    f"The file {path[-120:]!r} is larger than {self._max_upload_bytes} bytes, the most one may have.",
                    code="file_too_large",
                )
            if chunk:
                yield chunk


async def _chunks(answer: Answer) -> AsyncGenerator[bytes, None]:
    async for chunk in answer.chunks():
        yield chunk


def _attachment(name: str) -> str:
    """Return a `Content-Disposition` (RFC 6266) with the name, and with a plain one for clients that read no other."""
    plain = "".join(char if " " <= char <= "~" and char not in '"\\%' else "_" for char in name)
    return f"attachment; filename=\"{plain}\"; filename*=UTF-8''{quote(name, safe='')}"


def _path(request: Request) -> str:
    return checked_path(request.path_params["path"])


def _file(path: str) -> str:
    return f"/v1/files/{path}"
