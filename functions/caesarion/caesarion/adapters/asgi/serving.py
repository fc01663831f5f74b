"""A uvicorn server that tells when it listens and leaves signals to whoever runs it."""

import asyncio
import socket

import uvicorn


class ListeningServer(uvicorn.Server):
    """Serve with it as a task; `listening` is set once requests are answered."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()
