"""Tasks that outlive the request that began them, with one owner: whoever closes it ends them."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from caesarion.errors import CaesarionError, SandboxUnavailable

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Background:
    """Owns tasks. A failed one is logged, once, whether or not somebody waits for it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()
        self._closing = False

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run `work` now; the task is kept until it ends. Raises SandboxUnavailable once this is being closed."""
        if self._closing:
            work.close()
            raise stopping()
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def aclose(self) -> None:
        """Cancel what still runs and wait until it has ended; nothing begins any more."""
        self._closing = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            # a session closed meanwhile, for one, and what cannot go on when all is being closed
            expected = isinstance(exc, CaesarionError) and (exc.status < 500 or self._closing)
            level = logging.INFO if expected else logging.WARNING
            logger.log(level, "background work failed", extra={"work": task.get_name(), "reason": repr(exc)[:500]})


async def joined(task: "asyncio.Task[T]") -> T:
    """Wait for a task that goes on when the caller is cancelled. Raises SandboxUnavailable when its owner ended it."""
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        if task.cancelled():
            raise stopping() from None
        raise


def stopping() -> SandboxUnavailable:
    """Return the failure of what cannot be done as this process ends."""
    return SandboxUnavailable("The function is being stopped. Ask again.", code="stopping", retry_after_s=1)
