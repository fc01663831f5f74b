"""What one principal may have at once. Counts are those of this process: replicas do not know of each other."""

import asyncio
import contextlib
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from caesarion.errors import QuotaExceeded
from caesarion.ids import PrincipalId

RETRY_AFTER_S = 5.0


@dataclass(slots=True)
class _Line:
    """One principal's slots in use, and those who wait for one."""

    in_use: int = 0
    waiting: "deque[asyncio.Future[None]]" = field(default_factory=deque)


class Slots:
    """At most `limit` at once for each principal; the others wait in the order in which they came. 0 is no limit."""

    def __init__(self, limit: int, *, queue_timeout_s: float) -> None:
        self._limit = limit
        self._queue_timeout_s = queue_timeout_s
        self._lines: dict[PrincipalId, _Line] = {}

    @property
    def in_use(self) -> int:
        """How many slots are taken by all principals together."""
        return sum(line.in_use for line in self._lines.values())

    async def acquire(self, principal: PrincipalId) -> Callable[[], None]:
        """Return what gives the slot back; calling it twice is harmless. Raises QuotaExceeded if none gets free."""
        line = self._lines.setdefault(principal, _Line())
        if self._limit and (line.in_use >= self._limit or line.waiting):
            await self._turn(principal, line)
        else:
            line.in_use += 1
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._give_back(principal, line)

        return release

    async def _turn(self, principal: PrincipalId, line: _Line) -> None:
        turn = asyncio.get_running_loop().create_future()
        line.waiting.append(turn)
        try:
            await asyncio.wait_for(asyncio.shield(turn), self._queue_timeout_s)
        except TimeoutError:
            if not turn.done():
                raise QuotaExceeded(
                    f"{self._limit} executions of yours run now, and none ended within {self._queue_timeout_s:g} s. "
                    "Try again later, or interrupt one.",
                    retry_after_s=RETRY_AFTER_S,
                ) from None
        except asyncio.CancelledError:
            if turn.done():
                self._give_back(principal, line)
            raise
        finally:
            with contextlib.suppress(ValueError):
                line.waiting.remove(turn)

    def _give_back(self, principal: PrincipalId, line: _Line) -> None:
        self._next(line)
        if not line.in_use and not line.waiting:
            self._lines.pop(principal, None)

    def _next(self, line: _Line) -> None:
        """Hand a slot to who waits longest, or let go of it."""
        while line.waiting:
            turn = line.waiting.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        line.in_use -= 1


class UploadsInFlight:
    """Bytes that each principal is uploading now, as announced. 0 is no limit."""

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._by_principal: Counter[PrincipalId] = Counter()

    @contextlib.contextmanager
    def reserved(self, principal: PrincipalId, size_bytes: int) -> Iterator[None]:
        """Count `size_bytes` while inside. Raises QuotaExceeded if this principal's uploads would be over the limit."""
        under_way = self._by_principal[principal]
        if self._limit_bytes and under_way and under_way + size_bytes > self._limit_bytes:
            raise QuotaExceeded(
                f"Uploads of yours with {under_way} bytes are under way; more than {self._limit_bytes} at once are not "
                "taken. Wait until one has ended.",
                retry_after_s=RETRY_AFTER_S,
            )
        self._by_principal[principal] += size_bytes
        try:
            yield
        finally:
            self._by_principal[principal] -= size_bytes
            if self._by_principal[principal] <= 0:
                del self._by_principal[principal]
