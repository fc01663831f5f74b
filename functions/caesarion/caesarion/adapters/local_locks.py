"""Locks by name, of sessions and sandboxes, against other tasks here and other processes with the same home."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from caesarion.adapters.local_record import Home

FIRST_PAUSE_S = 0.005
LONGEST_PAUSE_S = 0.1


class Locks:
    """The locks of one home. A process that ends lets go of all it has."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._here: dict[str, asyncio.Lock] = {}

    @contextlib.asynccontextmanager
    async def held(self, name: str, *, wait: bool = True) -> AsyncIterator[bool]:
        """Hold a lock and give True; unless `wait`, give False when somebody else has it."""
        lock = self._here.setdefault(name, asyncio.Lock())
        if not wait and lock.locked():
            yield False
            return
        try:
            async with lock:
                fd = await self._among_processes(name, wait)
                try:
                    yield fd is not None
                finally:
                    if fd is not None:
                        self._home.unlock(name, fd)
        finally:
            if not lock.locked() and self._here.get(name) is lock:
                del self._here[name]

    async def _among_processes(self, name: str, wait: bool) -> int | None:
        """Return what holds the lock, asked for again and again: flock(2) cannot wait without holding up a thread."""
        pause_s = FIRST_PAUSE_S
        while True:
            fd = self._home.try_lock(name)
            if fd is not None or not wait:
                return fd
            await asyncio.sleep(pause_s)
            pause_s = min(pause_s * 2, LONGEST_PAUSE_S)
