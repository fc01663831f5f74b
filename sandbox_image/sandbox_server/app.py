"""The sandbox's HTTP interface, `docs/sandbox-api.md`: decode, call, encode."""

import asyncio
import hashlib
import json
import keyword
import logging
import os
import re
import unicodedata
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager
from datetime import datetime
from typing import Any

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from caesarion.clock import parse_rfc3339
from caesarion.errors import (
    CaesarionError,
    InvalidRequest,
    NotFound,
    SandboxUnavailable,
    TooLarge,
    Unauthorized,
)
from caesarion.ids import DEFAULT_CONTEXT, checked_id
from sandbox_server.answers import told
from sandbox_server.bearer import Token
from sandbox_server.checkpoint import Checkpoint, restore
from sandbox_server.execution import Variables
from sandbox_server.provisioner import KernelRefused
from sandbox_server.sandbox import Sandbox
from sandbox_server.seal import SealedDoor

logger = logging.getLogger(__name__)

NDJSON = "application/x-ndjson"
MAX_BODY_BYTES = 8 * 1024**2
FILE_CHUNK_BYTES = 256 * 1024
_RANGE = re.compile(r"bytes=(\d{0,18})-(\d{0,18})")


class Door:
    """Lets requests with the sandbox's token through; health needs none."""

    def __init__(self, app: ASGIApp, token: Token) -> None:
        self._app = app
        self._token = token

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http" and not scope["path"].startswith("/health/"):
            given = next((value for name, value in scope["headers"] if name == b"authorization"), b"")
            if not self._token.admits(given, scope["method"], scope["path"]):
                error = Unauthorized("The sandbox's bearer token is missing or wrong.")
                await told(error)(scope, receive, send)
                return
        await self._app(scope, receive, send)


def build_app(sandbox: Sandbox) -> ASGIApp:
    """Return the ASGI application of a sandbox."""
    routes = Routes(sandbox)
    app = Starlette(
        routes=[
            Route("/health/live", routes.live),
            Route("/health/ready", routes.live),
            Route("/v1/status", routes.status),
            Route("/v1/claim", routes.claim, methods=["POST"]),
            Route("/v1/seal", routes.seal, methods=["POST"]),
            Route("/v1/seal", routes.unseal, methods=["DELETE"]),
            Route("/v1/checkpoint", routes.restore, methods=["PUT"]),
            Route("/v1/checkpoint", routes.checkpoint),
            Route("/v1/executions", routes.execute, methods=["POST"]),
            Route("/v1/executions", routes.executions),
            Route("/v1/executions/{id}", routes.interrupt, methods=["DELETE"]),
            Route("/v1/executions/{id}", routes.execution),
            Route("/v1/executions/{id}/outputs", routes.outputs),
            Route("/v1/history", routes.history),
            Route("/v1/contexts", routes.add_context, methods=["POST"]),
            Route("/v1/contexts", routes.contexts),
            Route("/v1/contexts/{name}", routes.remove_context, methods=["DELETE"]),
            Route("/v1/contexts/{name}/restart", routes.restart, methods=["POST"]),
            Route("/v1/contexts/{name}/complete", routes.complete, methods=["POST"]),
            Route("/v1/contexts/{name}/is_complete", routes.is_complete, methods=["POST"]),
            Route("/v1/files", routes.files),
            Route("/v1/files/{path:path}", routes.put_file, methods=["PUT"]),
            Route("/v1/files/{path:path}", routes.delete_file, methods=["DELETE"]),
            Route("/v1/files/{path:path}", routes.get_file),
            Route("/v1/journal/{stream}", routes.append_record, methods=["POST"]),
            Route("/v1/journal/{stream}", routes.read_records),
            Route("/v1/journal/{stream}/hold", routes.hold_records),
            Route("/v1/journal/{stream}/signal", routes.signal_holder, methods=["POST"]),
        ],
        exception_handlers={
            CaesarionError: _on_error,
            KernelRefused: _on_refused,
            Exception: _on_unknown,
            404: _on_missing,
            405: _on_missing,
        },
    )
    return Door(SealedDoor(app, sandbox.seal), Token(sandbox.config))


class Routes:
    """One method a route."""

    def __init__(self, sandbox: Sandbox) -> None:
        self._sandbox = sandbox

    async def live(self, request: Request) -> Response:
        return JSONResponse({"status": "ok"})

    async def status(self, request: Request) -> Response:
        return JSONResponse(await self._sandbox.status())

    async def claim(self, request: Request) -> Response:
        body = await _json_object(request)
        await self._sandbox.claim(float(body["idle_timeout_s"]), dict(body.get("env") or {}))
        return Response(status_code=204)

    async def seal(self, request: Request) -> Response:
        body = await _bounded(request)
        unused_since = _object(body).get("unused_since") if body else None
        self._sandbox.close_seal(_moment(unused_since, "unused_since") if unused_since is not None else None)
        return JSONResponse({"sealed": True, "seal": self._sandbox.seal.number})

    async def unseal(self, request: Request) -> Response:
        self._sandbox.seal.open()
        return Response(status_code=204)

    async def checkpoint(self, request: Request) -> Response:
        made = await Checkpoint.begin(self._sandbox)
        return _Within(made, made.pieces(), media_type="application/x-tar")

    async def restore(self, request: Request) -> Response:
        lost = await restore(self._sandbox, _body(request))
        return JSONResponse({"generation": self._sandbox.generation, "lost": lost})

    async def execute(self, request: Request) -> Response:
        if self._sandbox.config.token_path and not self._sandbox.claimed:
            raise Unauthorized("The sandbox has no variables before it is claimed.")
        body = await _json_object(request)
        code = body.get("code")
        if not isinstance(code, str):
            raise InvalidRequest("`code` must be a string of Python code.")
        timeout_s = body.get("timeout_s")
        if timeout_s is not None and (not isinstance(timeout_s, int | float) or isinstance(timeout_s, bool)):
            raise InvalidRequest("`timeout_s` must be a number of seconds.")
        context = checked_id(body.get("context", DEFAULT_CONTEXT), what="`context`")
        wanted_id = checked_id(body["id"], what="`id`") if body.get("id") is not None else None
        execution = self._sandbox.submit(code, context, timeout_s, wanted_id, _variables(body.get("variables")))
        headers = {"X-Execution-Id": execution.id}
        if request.query_params.get("detach") == "1":
            return JSONResponse(execution.summary(), 202, headers)
        return StreamingResponse(execution.read(), media_type=NDJSON, headers=headers)

    async def executions(self, request: Request) -> Response:
        return JSONResponse({"executions": [execution.summary() for execution in self._sandbox.executions.all()]})

    async def execution(self, request: Request) -> Response:
        return JSONResponse(self._sandbox.executions.get(request.path_params["id"]).summary())

    async def interrupt(self, request: Request) -> Response:
        self._sandbox.interrupt(request.path_params["id"])
        return Response(status_code=204)

    async def outputs(self, request: Request) -> Response:
        execution = self._sandbox.executions.get(request.path_params["id"])
        self._sandbox.touch()
        headers = {"X-Execution-Id": execution.id}
        return StreamingResponse(execution.read(_number(request, "after")), media_type=NDJSON, headers=headers)

    async def history(self, request: Request) -> Response:
        context = request.query_params.get("context", DEFAULT_CONTEXT)
        self._sandbox.context(context)
        return StreamingResponse(self._history(context), media_type=NDJSON)

    async def _history(self, context: str) -> AsyncIterator[bytes]:
        for execution in self._sandbox.executions.all():
            if execution.context == context and execution.finished:
                outputs = b"".join([lines async for lines in execution.read()])
                decoded = [json.loads(line) for line in outputs.splitlines()]
                yield json.dumps({**execution.summary(), "code": execution.code, "outputs": decoded}).encode() + b"\n"

    async def contexts(self, request: Request) -> Response:
        return JSONResponse({"contexts": self._sandbox.contexts()})

    async def add_context(self, request: Request) -> Response:
        name = checked_id((await _json_object(request)).get("name"), what="`name`")
        known = any(context["name"] == name for context in self._sandbox.contexts())
        context = self._sandbox.add_context(name)
        await context.ready()
        return JSONResponse(context.describe(), 200 if known else 201)

    async def remove_context(self, request: Request) -> Response:
        await self._sandbox.remove_context(request.path_params["name"])
        return Response(status_code=204)

    async def restart(self, request: Request) -> Response:
        context = await self._sandbox.restart(request.path_params["name"])
        return JSONResponse(context.describe())

    async def complete(self, request: Request) -> Response:
        body = await _json_object(request)
        reply = await self._sandbox.context(request.path_params["name"]).complete(
            str(body.get("code", "")), body.get("cursor_pos")
        )
        return JSONResponse({key: reply[key] for key in ("matches", "cursor_start", "cursor_end") if key in reply})

    async def is_complete(self, request: Request) -> Response:
        body = await _json_object(request)
        reply = await self._sandbox.context(request.path_params["name"]).is_complete(str(body.get("code", "")))
        return JSONResponse({"status": reply.get("status", "unknown"), "indent": reply.get("indent", "")})

    async def files(self, request: Request) -> Response:
        entries = await asyncio.to_thread(self._sandbox.files.entries)
        return JSONResponse({"files": [entry.describe() for entry in entries]})

    async def put_file(self, request: Request) -> Response:
        length = request.headers.get("content-length")
        expected = int(length) if length is not None else None
        entry = await self._sandbox.files.put(request.path_params["path"], _body(request), expected_bytes=expected)
        self._sandbox.touch()
        return JSONResponse(entry.describe(), 201, {"ETag": entry.etag})

    async def delete_file(self, request: Request) -> Response:
        self._sandbox.files.delete(request.path_params["path"])
        self._sandbox.touch()
        return Response(status_code=204)

    async def get_file(self, request: Request) -> Response:
        fd, entry = self._sandbox.files.open(request.path_params["path"])
        self._sandbox.touch()
        headers = {"ETag": entry.etag, "Last-Modified": entry.last_modified, "Accept-Ranges": "bytes"}
        start, stop = 0, entry.size_bytes
        status = 200
        try:
            if_none_match = request.headers.get("if-none-match", "")
            if entry.etag in if_none_match or if_none_match == "*":
                return Response(status_code=304, headers=headers)
            wanted = _RANGE.fullmatch(request.headers.get("range", ""))
            if wanted and any(wanted.groups()) and request.headers.get("if-range", entry.etag) == entry.etag:
                start, stop = _bounds(wanted[1], wanted[2], entry.size_bytes)
                if start >= stop:
                    return Response(
                        status_code=416, headers={**headers, "Content-Range": f"bytes */{entry.size_bytes}"}
                    )
                headers["Content-Range"] = f"bytes {start}-{stop - 1}/{entry.size_bytes}"
                status = 206
            headers["Content-Length"] = str(stop - start)
            if request.method == "HEAD":
                return Response(status_code=status, headers=headers, media_type=entry.media_type)
            body, fd = _file_chunks(fd, start, stop), -1
            return StreamingResponse(body, status, headers, entry.media_type)
        finally:
            if fd >= 0:
                os.close(fd)

    async def append_record(self, request: Request) -> Response:
        stream = _stream_name(request)
        expect = _number(request, "expect") if "expect" in request.query_params else None
        number = await self._sandbox.records.append(stream, _decoded(await _bounded(request)), expect=expect)
        self._sandbox.touch()
        return JSONResponse({"seq": number}, 201)

    async def read_records(self, request: Request) -> Response:
        stream = _stream_name(request)
        records = self._sandbox.records
        follow = request.query_params.get("follow") == "1"
        lines = records.read(stream, after=_number(request, "after"), follow=follow)
        return _Within(records.reading(), lines, {"X-Journal-Held": "true" if records.held(stream) else "false"})

    async def hold_records(self, request: Request) -> Response:
        hold = self._sandbox.records.hold(_stream_name(request))
        self._sandbox.touch()
        return _Within(hold, hold.lines())

    async def signal_holder(self, request: Request) -> Response:
        self._sandbox.records.signal(_stream_name(request), _decoded(await _bounded(request)))
        self._sandbox.touch()
        return Response(status_code=204)


class _Within(StreamingResponse):
    """A stream sent within a context, which ends with the answer, whatever the client was being sent when it left."""

    def __init__(
        self,
        context: AbstractContextManager[Any],
        pieces: AsyncIterator[bytes],
        headers: dict[str, str] | None = None,
        media_type: str = NDJSON,
    ) -> None:
        super().__init__(pieces, headers=headers, media_type=media_type)
        self._context = context

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        with self._context:
            await super().__call__(scope, receive, send)


def _stream_name(request: Request) -> str:
    return checked_id(request.path_params["stream"], what="the stream's name")


def _bounds(first: str, last: str, size: int) -> tuple[int, int]:
    """Return the half-open interval of an RFC 9110 byte range; empty when it cannot be satisfied."""
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(size, int(last) + 1) if last else size


async def _file_chunks(fd: int, start: int, stop: int) -> AsyncIterator[bytes]:
    try:
        while start < stop and (chunk := os.pread(fd, min(FILE_CHUNK_BYTES, stop - start), start)):
            start += len(chunk)
            yield chunk
    finally:
        os.close(fd)


async def _body(request: Request) -> AsyncIterator[bytes]:
    try:
        async for chunk in request.stream():
            if chunk:
                yield chunk
    except ClientDisconnect:
        raise InvalidRequest("The upload broke off; nothing was stored.", code="upload_incomplete") from None


async def _bounded(request: Request) -> bytes:
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > MAX_BODY_BYTES:
            raise TooLarge(f"The body is larger than {MAX_BODY_BYTES} bytes.")
    return bytes(body)


def _decoded(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        raise InvalidRequest("The body must be JSON, and not nested deeply.") from None


async def _json_object(request: Request) -> dict[str, Any]:
    return _object(await _bounded(request))


def _object(body: bytes) -> dict[str, Any]:
    decoded = _decoded(body)
    if not isinstance(decoded, dict):
        raise InvalidRequest("The body must be a JSON object.")
    return decoded


def _moment(value: object, name: str) -> datetime:
    try:
        moment = parse_rfc3339(value if isinstance(value, str) else "")
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidRequest(f"`{name}` must be a time as RFC 3339 writes it, got {str(value)[:40]!r}.")
    return moment


def _variables(value: object) -> Variables:
    """Return an execution's variables. Raises InvalidRequest unless each has a name that code can use."""
    if value is None or value == {}:
        return Variables()
    if not isinstance(value, dict):
        raise InvalidRequest("`variables` must be a JSON object of names and values.")
    for name in value:
        if not name.isidentifier() or keyword.iskeyword(unicodedata.normalize("NFKC", name)):
            raise InvalidRequest(
                f"A name in `variables` must be a Python identifier and no keyword, got {name[:40]!r}."
            )
    try:
        ordered = json.dumps(value, sort_keys=True)
        return Variables(json.dumps(value), hashlib.sha256(ordered.encode()).hexdigest())
    except RecursionError:
        raise InvalidRequest("`variables` must not be nested deeply.") from None


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    if not text.isdecimal() or len(text) > 15:
        raise InvalidRequest(f"`{name}` must be a whole number from 0, got {text[:40]!r}.")
    return int(text)


async def _on_error(request: Request, error: Exception) -> Response:
    return told(error if isinstance(error, CaesarionError) else CaesarionError("The sandbox failed."))


async def _on_refused(request: Request, error: Exception) -> Response:
    return told(SandboxUnavailable(f"A kernel could not be started: {error}. Interrupt what runs, or restart again."))


async def _on_unknown(request: Request, error: Exception) -> Response:
    logger.error("unexpected failure", exc_info=error)
    return told(CaesarionError("The sandbox failed; its log has the details."))


async def _on_missing(request: Request, error: Exception) -> Response:
    return told(NotFound(f"There is no {request.method} {request.url.path} here.", code="route_not_found"))
