"""A reader of streamed answers that costs little, the same for the product and for the model behind it."""

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import cast
from urllib.parse import urlsplit

from bench.product import Unexpected

DEADLINE_S = 120.0
END = b"\r\n0\r\n\r\n"  # of a chunked body; JSON has no line ends of its own


@dataclass(frozen=True, slots=True)
class Heard:
    """An answer: when it was asked for, when the mark came first and last (time.perf_counter), and how often."""

    asked_s: float
    first_s: float
    last_s: float
    count: int
    content: bytes

    @property
    def first_ms(self) -> float:
        """Milliseconds from asking to the first mark."""
        return (self.first_s - self.asked_s) * 1000


class Connection(asyncio.Protocol):
    """A kept connection on which one request after the other is sent; `mark` is what is looked for in the answers.

    A server may close it while it is idle: then it is opened again before the time of a request begins.
    """

    def __init__(self, url: str, mark: bytes) -> None:
        self._server = urlsplit(url)
        self._mark = mark
        self._transport: asyncio.Transport | None = None
        self._content = bytearray()
        self._first_s = self._last_s = 0.0
        self._ended: asyncio.Future[None] | None = None
        self.marked = asyncio.Event()

    async def open(self) -> asyncio.Transport:
        """Connect unless that has been done."""
        if self._transport is None:
            assert self._server.hostname is not None and self._server.port is not None
            loop = asyncio.get_running_loop()
            await loop.create_connection(lambda: self, self._server.hostname, self._server.port)
        assert self._transport is not None
        return self._transport

    async def post(self, path: str, document: object) -> Heard:
        """Send a document and read the answer to its end. Raises Unexpected for a failure."""
        body = json.dumps(document).encode()
        head = f"POST {path} HTTP/1.1\r\nhost: {self._server.netloc}\r\ncontent-type: application/json\r\n"
        transport = await self.open()
        self._content.clear()
        self.marked.clear()
        self._ended = asyncio.get_running_loop().create_future()
        asked_s = time.perf_counter()
        transport.write(f"{head}content-length: {len(body)}\r\n\r\n".encode() + body)
        async with asyncio.timeout(DEADLINE_S):
            await self._ended
        content = bytes(self._content)
        if not self.marked.is_set():
            raise Unexpected(f"POST {path} never said what was waited for, but {content[-300:]!r}")
        return Heard(asked_s, self._first_s, self._last_s, content.count(self._mark), content)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)

    def data_received(self, data: bytes) -> None:
        now_s = time.perf_counter()
        searched = max(0, len(self._content) - len(self._mark) + 1)
        self._content += data
        if self._content.find(self._mark, searched) >= 0:
            self._last_s = now_s
            if not self.marked.is_set():
                self._first_s = now_s
                self.marked.set()
        if self._ended is None or self._ended.done():
            return
        if not self._content.startswith(b"HTTP/1.1 200 "):
            self._ended.set_exception(Unexpected(f"the answer is {bytes(self._content[:300])!r}"))
        elif self._content.endswith(END):
            self._ended.set_result(None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._transport = None
        if self._ended is not None and not self._ended.done():
            self._ended.set_exception(Unexpected(f"the answer was cut off after {bytes(self._content[-300:])!r}"))

    def close(self) -> None:
        """Let go of the connection."""
        if self._transport is not None:
            self._transport.close()


@contextlib.asynccontextmanager
async def connections(url: str, mark: bytes, count: int) -> AsyncIterator[list[Connection]]:
    """Open connections to a server."""
    opened = [Connection(url, mark) for _ in range(count)]
    try:
        for connection in opened:
            await connection.open()
        yield opened
    finally:
        for connection in opened:
            connection.close()
