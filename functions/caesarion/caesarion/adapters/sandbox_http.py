"""A sandbox's HTTP interface from outside: one client for each sandbox, its connections kept and used again.

Bodies stream both ways and wait for the slower side. The HTTP library is imported on first use. It is aiohttp because a
request over a Unix socket and back took 0.45 ms with it, 1.2 ms with httpcore and 1.6 ms with httpx.
"""

import asyncio
import contextlib
import importlib
import io
import json
import sys
from collections import OrderedDict
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

from caesarion.adapters import tracing
from caesarion.errors import CaesarionError, SandboxUnavailable, Unauthorized, error_from_body
from caesarion.ports import Endpoint

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT_S = 5.0
KEPT_CONNECTION_S = 3.0
MAX_ERROR_BYTES = 64 * 1024
READ_BUFFER_BYTES = 256 * 1024
SUSPENDING = "suspending"

Params = Mapping[str, str | int]


class SandboxUnreachable(SandboxUnavailable):
    """The connection was refused or broke before the answer began, or the sandbox is being suspended: it may end.

    `body_begun` says that something of a streamed body is used up.
    """

    body_begun = False


class ForeignSandbox(SandboxUnreachable):
    """What answers does not know the token: another sandbox has the address now, or somebody else claimed this one."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A sandbox's answer whose body is still to be read."""

    status: int
    headers: Mapping[str, str]
    _content: "aiohttp.StreamReader"

    async def chunks(self) -> AsyncIterator[bytes]:
        """Yield the body as it comes. Raises SandboxUnavailable when it breaks off."""
        import aiohttp

        try:
            async for chunk in self._content.iter_any():
                yield chunk
        except (aiohttp.ClientError, OSError) as exc:
            raise SandboxUnavailable("The session's sandbox stopped answering.") from exc

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield as many whole lines as there are, each time some are; a line that breaks off is left out."""
        held: list[bytes] = []
        async for chunk in self.chunks():
            whole, newline, rest = chunk.rpartition(b"\n")
            if newline:
                held.append(whole + newline)
                yield b"".join(held)
                held = [rest]
            else:
                held.append(rest)

    async def json(self) -> Any:
        """Return the body decoded."""
        return json.loads(b"".join([chunk async for chunk in self.chunks()]))


class SandboxClient:
    """Speaks to the server of one sandbox. To be used from one event loop."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._base = endpoint.base_url.rstrip("/") if endpoint.base_url else "http://sandbox"
        self._session: aiohttp.ClientSession | None = None

    @contextlib.asynccontextmanager
    async def stream(
        self,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        document: object = None,
        body: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        passed: Collection[int] = (),
    ) -> AsyncIterator[Answer]:
        """Send a request with a JSON `document` or a streamed `body`, and give the answer once its head is there.

        `path` is unquoted. An error of the sandbox is raised as what it says it is, but those with a status in `passed`
        are given as they are. Raises SandboxUnreachable when the sandbox cannot be reached or breaks off before it
        answers; what `body` raises comes out unchanged.
        """
        session = await self._opened()
        from yarl import URL

        query = f"?{urlencode(params)}" if params else ""
        sent = {"Authorization": f"Bearer {self._endpoint.token}", **tracing.handed_on(), **(headers or {})}
        source = _Source(body) if body is not None else None  # asked for once the sandbox has agreed to take it
        data: Any = source.chunks() if source is not None else None
        if document is not None:
            data = io.BytesIO(json.dumps(document).encode())  # bytes of a megabyte would be written at one go
            sent["Content-Type"] = "application/json"
        url = URL(f"{self._base}{quote(path, safe='/')}{query}", encoded=True)
        request = session.request(
            method, url, data=data, headers=sent, allow_redirects=False, expect100=source is not None
        )
        async with contextlib.AsyncExitStack() as stack:
            with self._told_as_unavailable(source):
                response = await stack.enter_async_context(request)
            answer = Answer(response.status, response.headers, response.content)
            if answer.status >= 400 and answer.status not in passed:
                error = await _error(answer)
                if isinstance(error, SandboxUnreachable):
                    error.body_begun = source is not None and source.begun
                raise error
            yield answer

    async def call(
        self, method: str, path: str, *, params: Params | None = None, document: object = None, deadline_s: float = 30.0
    ) -> Any:
        """Send a request and return its decoded JSON answer, or None for an empty one. Raises like `stream`."""
        try:
            async with asyncio.timeout(deadline_s):
                async with self.stream(method, path, params=params, document=document) as answer:
                    return await answer.json() if answer.status != 204 else None
        except TimeoutError as exc:
            raise SandboxUnavailable(f"The session's sandbox did not answer within {deadline_s:g} s.") from exc

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _opened(self) -> "aiohttp.ClientSession":
        if "aiohttp" not in sys.modules:
            await asyncio.to_thread(importlib.import_module, "aiohttp")
        if self._session is None:
            import aiohttp

            socket_path = self._endpoint.socket_path
            kept: dict[str, Any] = {"keepalive_timeout": KEPT_CONNECTION_S, "limit": 0}
            connector = aiohttp.UnixConnector(socket_path, **kept) if socket_path else aiohttp.TCPConnector(**kept)
            self._session = aiohttp.ClientSession(
                connector=connector,
                cookie_jar=aiohttp.DummyCookieJar(),
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=CONNECT_TIMEOUT_S),
                auto_decompress=False,
                read_bufsize=READ_BUFFER_BYTES,
                skip_auto_headers=("User-Agent", "Accept", "Accept-Encoding", "Content-Type"),
            )
        return self._session

    @contextlib.contextmanager
    def _told_as_unavailable(self, source: "_Source | None") -> Iterator[None]:
        import aiohttp

        try:
            yield
        except (aiohttp.ClientError, OSError) as exc:
            if source is not None and source.failure is not None:
                raise source.failure from None
            error = SandboxUnreachable("The session's sandbox cannot be reached.")
            error.body_begun = source is not None and source.begun
            raise error from exc


class _Source:
    """A body to send, with what made it fail."""

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self.begun = False
        self.failure: Exception | None = None

    async def chunks(self) -> AsyncIterator[bytes]:
        self.begun = True
        try:
            async for chunk in self._body:
                yield chunk
        except Exception as exc:
            self.failure = exc
            raise


class SandboxClients:
    """The clients of a process, one for each sandbox; those not used for longest are closed past `kept`."""

    def __init__(self, kept: int = 256) -> None:
        self._kept = kept
        self._clients: OrderedDict[tuple[str | None, str | None, str], SandboxClient] = OrderedDict()
        self._in_use: dict[SandboxClient, int] = {}

    @contextlib.asynccontextmanager
    async def lent(self, endpoint: Endpoint) -> AsyncIterator[SandboxClient]:
        """Give the client of a sandbox; it stays open at least as long as it is in use."""
        key = (endpoint.socket_path, endpoint.base_url, endpoint.token)
        client = self._clients.get(key)
        if client is None:
            client = self._clients[key] = SandboxClient(endpoint)
        self._clients.move_to_end(key)
        self._in_use[client] = self._in_use.get(client, 0) + 1
        try:
            yield client
        finally:
            self._in_use[client] -= 1
            if not self._in_use[client]:
                del self._in_use[client]
                await self._close_surplus()

    async def aclose(self) -> None:
        """Close all of them."""
        clients, self._clients = list(self._clients.values()), OrderedDict()
        for client in clients:
            await client.aclose()

    async def _close_surplus(self) -> None:
        surplus = len(self._clients) - self._kept
        for key in [key for key, client in self._clients.items() if client not in self._in_use][: max(0, surplus)]:
            await self._clients.pop(key).aclose()


async def _error(answer: Answer) -> CaesarionError:
    text = bytearray()
    async for chunk in answer.chunks():
        text += chunk
        if len(text) > MAX_ERROR_BYTES:
            break
    try:
        error = error_from_body(answer.status, json.loads(text))
    except ValueError:
        error = error_from_body(answer.status, None)
    if error.status == SandboxUnavailable.status and error.code == SUSPENDING:
        error = SandboxUnreachable("The session is being suspended. Try again.")
    elif error.status == Unauthorized.status:
        error = ForeignSandbox("The session's sandbox cannot be reached: another one is at its address.")
    retry_after = answer.headers.get("Retry-After", "")
    error.retry_after_s = float(retry_after) if retry_after.isdigit() else None
    return error
