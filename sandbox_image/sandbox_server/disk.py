"""How much disk the folders that user code can write take, and when that is too much."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence

ENTRY_BYTES = 1024  # what an empty file or a folder is counted as, since it takes room in the file system's tables


class DiskUse:
    """Walks the folders in a thread, one walk at a time: who asks meanwhile gets the result of the one under way."""

    def __init__(self, folders: Sequence[str]) -> None:
        self._folders = tuple(folders)
        self._walk: asyncio.Task[int] | None = None
        self._used_bytes = 0
        self.took_s = 0.0

    async def measure(self, *, at_most_s: float | None = None) -> int:
        """Return the bytes in use, hidden files included. A walk that takes longer than `at_most_s` goes on, and what
        the one before it found is returned."""
        if self._walk is None or self._walk.done():
            self._walk = asyncio.create_task(self._measured())
        await asyncio.wait({self._walk}, timeout=at_most_s)
        return self._walk.result() if self._walk.done() else self._used_bytes

    async def _measured(self) -> int:
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
