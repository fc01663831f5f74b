"""How much disk the folders that user code can write take, and when that is too much."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence

ENTRY_BYTES = 1024  # what an empty file or a folder is counted as, since it takes room in the file system's tables


class DiskUse:
    """Walks the folders in a thread, one walk at a time. The one under way may be past what has changed since it began,
    so those who ask meanwhile share the next one."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = tuple(folders)
        self._walking = asyncio.Lock()
        self._next: asyncio.Task[int] | None = None
        self._used_bytes = 0
        self.took_s = 0.0

    async def measure(self, *, at_most_s: float | None = None) -> int:
        """Return the bytes in use, hidden files included. A walk that takes longer than `at_most_s` goes on, and what
        the one before it found is returned."""
        if self._next is None:
            self._next = asyncio.create_task(self._measured())
        walk = self._next
        await asyncio.wait({walk}, timeout=at_most_s)
        return walk.result() if walk.done() else self._used_bytes

    async def _measured(self) -> int:
        async with self._walking:
            self._next = None
            began_s = time.monotonic()
            used_bytes = await asyncio.to_thread(lambda: sum(map(used, self._folders)))
            self.took_s = time.monotonic() - began_s
            self._used_bytes = used_bytes
        return used_bytes


def used(folder: str) -> int:
    """Return the bytes that a folder's content takes on its disk."""
    total = 0
    for root, folders, names in os.walk(folder):
        for name in (*folders, *names):
            with contextlib.suppress(OSError):
                total += max(ENTRY_BYTES, os.lstat(os.path.join(root, name)).st_blocks * 512)
    return total
