"""Tasks that outlive the request that began them, with one owner: whoever closes it ends them."""

import asyncio
import logging
from collections.abc import Coroutine
from typing import Any, TypeVar

from caesarion.errors import CaesarionError

logger = logging.getLogger(__name__)
T = TypeVar("T")


class Background:
    """Owns tasks. A failed one is logged, once, whether or not somebody waits for it."""

    def __init__(self) -> None:
        self._tasks: set[asyncio.Task[Any]] = set()

    def start(self, work: Coroutine[Any, Any, T], *, name: str) -> asyncio.Task[T]:
        """Run `work` now; the task is kept until it ends."""
        task = asyncio.get_running_loop().create_task(work, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._ended)
        return task

    async def aclose(self) -> None:
        """Cancel what still runs and wait until it has ended."""
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _ended(self, task: asyncio.Task[Any]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (exc := task.exception()) is not None:
            expected = isinstance(exc, CaesarionError) and exc.status < 500  # a session closed meanwhile, for one
            level = logging.INFO if expected else logging.WARNING
            logger.log(level, "background work failed", extra={"work": task.get_name(), "reason": repr(exc)[:500]})
