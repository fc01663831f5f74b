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
        for listening in sockets or ():
            if listening.family in (socket.AF_INET, socket.AF_INET6):
                # asyncio does so only for sockets made with their protocol's number (asyncio.base_events._set_nodelay);
                # without it the second piece of an answer waits 40 ms for the client's acknowledgement of the first
                listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        await super().startup(sockets)
        self.listening.set()
