"""How often and how closely something is done: one after the other, a new one each so often, or all at once."""

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

Action = Callable[[], Awaitable[float]]


@dataclass(slots=True)
class Outcomes:
    """Milliseconds of what succeeded, reasons of what did not, and how long all of it took."""

    samples_ms: list[float] = field(default_factory=list)
    failures: list[str] = field(default_factory=list)
    took_s: float = 0.0

    @property
    def tried(self) -> int:
        return len(self.samples_ms) + len(self.failures)

    def failed(self, error: Exception) -> None:
        """Keep why something did not succeed."""
        self.failures.append(f"{type(error).__name__}: {error}"[:300])


async def nothing() -> None:
    """Be ready at once."""


async def sequential(action: Action, count: int, *, ready: Callable[[], Awaitable[None]] = nothing) -> Outcomes:
    """Do `action` one after the other, each once `ready` has returned."""
    outcomes = Outcomes()
    began_s = time.perf_counter()
    for _ in range(count):
        await ready()
        await tried(action, outcomes)
    outcomes.took_s = time.perf_counter() - began_s
    return outcomes


async def staggered(action: Action, count: int, *, interval_s: float) -> Outcomes:
    """Begin `action` every `interval_s`, whether the ones before have ended or not. 0 begins all at once."""
    outcomes = Outcomes()
    began_s = time.perf_counter()
    async with asyncio.TaskGroup() as group:
        for number in range(count):
            await asyncio.sleep(max(0.0, began_s + number * interval_s - time.perf_counter()))
            group.create_task(tried(action, outcomes))
    outcomes.took_s = time.perf_counter() - began_s
    return outcomes


async def burst(action: Action, count: int) -> Outcomes:
    """Begin `action` `count` times at once."""
    return await staggered(action, count, interval_s=0)


async def tried(action: Action, outcomes: Outcomes) -> None:
    """Do `action` once, and keep what came of it."""
    try:
        outcomes.samples_ms.append(await action())
    except Exception as exc:
        outcomes.failed(exc)
