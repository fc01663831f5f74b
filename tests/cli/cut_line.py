"""A line to the product that can be cut: what a lost connection looks like to the command."""

import asyncio
import contextlib
from collections.abc import Iterator

from tests.conftest import ProductServer

BLOCK_BYTES = 65536


class CutLine:
    """Passes bytes to and from the product, until it is cut; new connections work again."""

    def __init__(self, host: str, port: int) -> None:
        self._product = (host, port)
        self._open: set[asyncio.StreamWriter] = set()
        self._swallow = b""
        self.url = ""

    @classmethod
    @contextlib.contextmanager
    def to(cls, server: ProductServer) -> Iterator["CutLine"]:
        """Give a line to the product."""
        host, _, port = server.url.removeprefix("http://").partition(":")
        line = cls(host, int(port))
        listening = server.run(line._listen())
        try:
            yield line
        finally:
            server.run(line._close(listening))

    async def cut(self) -> None:
        """Break the connections that are open."""
        for writer in list(self._open):
            writer.transport.abort()

    def swallow_answer_to(self, request: bytes) -> None:
        """Let the next request that holds these bytes reach the product, and break off instead of its answer."""
        self._swallow = request

    @property
    def swallowed(self) -> bool:
        """Whether that happened."""
        return not self._swallow

    async def _listen(self) -> asyncio.Server:
        listening = await asyncio.start_server(self._joined, "127.0.0.1", 0)
        port = listening.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"
        return listening

    async def _close(self, listening: asyncio.Server) -> None:
        listening.close()
        await self.cut()
        await listening.wait_closed()

    async def _joined(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(*self._product)
        both = {writer, far_writer}
        self._open |= both
        doomed = asyncio.Event()

        async def asked() -> None:
            while block := await reader.read(BLOCK_BYTES):
                if self._swallow and self._swallow in block:
                    doomed.set()
                far_writer.write(block)
                await far_writer.drain()

        async def answered() -> None:
            while block := await far_reader.read(BLOCK_BYTES):
                if doomed.is_set():
                    self._swallow = b""
                    return
                writer.write(block)
                await writer.drain()

        directions = [asyncio.create_task(asked()), asyncio.create_task(answered())]
        await asyncio.wait(directions, return_when=asyncio.FIRST_COMPLETED)
        for direction in directions:
            direction.cancel()
        await asyncio.gather(*directions, return_exceptions=True)
        for each in both:
            each.transport.abort()
        self._open -= both
