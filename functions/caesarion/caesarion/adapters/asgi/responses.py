"""Responses that stream, and one that hands a request to another app."""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping
from typing import Any

from starlette.requests import ClientDisconnect
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

_ROUTING_KEYS = frozenset({"app", "router", "route", "endpoint", "path_params", "starlette.exception_handlers"})


class JsonResponse(Response):
    """A JSON document."""

    media_type = "application/json"

    def render(self, content: Any) -> bytes:
        return json.dumps(content, separators=(",", ":")).encode()


class Streamed(Response):
    """Sends what a generator yields, each piece at once, and stops it when the client leaves. HEAD gets the head only.

    `closed` is awaited at the end in every case, also when the generator never began.
    """

    def __init__(
        self,
        chunks: AsyncGenerator[bytes, None],
        *,
        status_code: int = 200,
        headers: Mapping[str, str] | None = None,
        media_type: str | None = None,
        closed: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.status_code = status_code
        self.media_type = media_type
        self.background = None
        self._chunks = chunks
        self._closed = closed
        self.init_headers(headers)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        try:
            if scope["method"] == "HEAD":
                await self._send_head(send)
                return
            sending = asyncio.ensure_future(self._send_all(send))
            leaving = asyncio.ensure_future(until_client_leaves(receive))
            try:
                await asyncio.wait({sending, leaving}, return_when=asyncio.FIRST_COMPLETED)
            finally:
                gone = not sending.done()
                await _ended(sending)
                await _ended(leaving)
            if gone:
                raise ClientDisconnect
            sending.result()
        finally:
            if self._closed is not None:
                await asyncio.shield(asyncio.ensure_future(self._closed()))

    async def _send_head(self, send: Send) -> None:
        async with contextlib.aclosing(self._chunks):
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
        await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _send_all(self, send: Send) -> None:
        async with contextlib.aclosing(self._chunks) as chunks:
            await send({"type": "http.response.start", "status": self.status_code, "headers": self.raw_headers})
            async for chunk in chunks:
                await send({"type": "http.response.body", "body": chunk, "more_body": True})
        await send({"type": "http.response.body", "body": b"", "more_body": False})


class Mounted(Response):
    """A response that hands the whole request to an app, as it came."""

    def __init__(self, app: ASGIApp) -> None:
        super().__init__()
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        fresh = {key: value for key, value in scope.items() if key not in _ROUTING_KEYS}
        await self._app(fresh, receive, send)


async def until_client_leaves(receive: Receive) -> None:
    """Return when the client has closed the connection."""
    while (await receive())["type"] != "http.disconnect":
        pass


async def _ended(task: "asyncio.Future[None]") -> None:
    """Cancel a task unless it is done and wait for its end, whatever it is."""
    task.cancel()
    await asyncio.wait({task})
    if not task.cancelled():
        task.exception()
