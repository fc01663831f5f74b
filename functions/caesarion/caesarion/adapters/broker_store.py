"""What the broker must not forget, in one SQLite file: events, deliveries that are not done, dead letters, ticks.

All work is done by one thread, which commits what waits for it together: when `accept` returns the event is on disk.
One process at a time has the file open. What is being delivered is not marked: whatever is not recorded as done is
delivered again after a restart.
"""

import asyncio
import queue
import sqlite3
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar, cast

from caesarion.adapters.broker_tables import (
    Accepted,
    Bounds,
    DeadLetter,
    Due,
    Kept,
    Reply,
    Tables,
    Waiting,
    open_file,
)
from caesarion.errors import CaesarionError, SandboxUnavailable
from caesarion.events import Event
from caesarion.ids import PrincipalId

T = TypeVar("T")

MAX_TOGETHER = 256


class BrokerStore:
    """The file. Making one opens it, which blocks for a moment, and raises ConfigError when it cannot be used.

    Methods raise SandboxUnavailable when the disk fails; then nothing of the call has happened.
    """

    def __init__(self, path: str | Path, bounds: Bounds | None = None) -> None:
        self._path = Path(path)
        self._bounds = bounds or Bounds()
        self._calls: queue.SimpleQueue[tuple[Callable[[Tables], Any], Future[Any]] | None] = queue.SimpleQueue()
        opened: Future[None] = Future()
        self._closed = False
        self._thread = threading.Thread(target=self._work, args=(opened,), name="broker-store", daemon=True)
        self._thread.start()
        opened.result()

    async def aclose(self) -> None:
        """Finish what was asked for and close the file. Idempotent."""
        if not self._closed:
            self._closed = True
            self._calls.put(None)
        await asyncio.to_thread(self._thread.join)

    async def accept(
        self, event: Event, principal: PrincipalId, *, ttl: int, triggers: Sequence[str], now_s: float
    ) -> Accepted:
        """Keep an event and a delivery of it for each of `triggers`; both are on disk when this returns.

        Raises SandboxUnavailable, `broker_full`, when as much waits as may.
        """
        return await self._do(lambda tables: tables.accept_new(event, principal, ttl, triggers, now_s))

    async def waiting(self) -> Sequence[Waiting]:
        """Return all deliveries that are to be made, the next first."""
        return await self._do(lambda tables: tables.waiting())

    async def due(self, delivery: int) -> Due | None:
        """Return a delivery, or None when it is not to be made any more."""
        return await self._do(lambda tables: tables.due(delivery))

    async def done(self, delivery: int, reply: Reply | None, *, now_s: float) -> Accepted | None:
        """End a delivery and accept the reply, if any, both or neither.

        Raises SandboxUnavailable, `broker_full`, when as much waits as may.
        """
        return await self._do(lambda tables: tables.done(delivery, reply, now_s))

    async def put_off(self, delivery: int, failures: int, next_s: float, status: int | None, reason: str) -> None:
        """Note that a delivery failed and is to be made again."""
        await self._do(lambda tables: tables.put_off(delivery, failures, next_s, status, reason))

    async def give_up(
        self, delivery: int, failures: int, status: int | None, reason: str, *, now_s: float
    ) -> Sequence[int]:
        """Make a delivery a dead letter; return the dead letters that were dropped to make room."""
        return await self._do(lambda tables: tables.give_up(delivery, failures, status, reason, now_s))

    async def dead(self, principal: PrincipalId, *, after: int, limit: int) -> Sequence[DeadLetter]:
        """Return a principal's dead letters with ids greater than `after`, in their order, without their data."""
        return await self._do(lambda tables: tables.dead(principal, after, limit))

    async def dead_letter(self, principal: PrincipalId, dead_letter: int) -> DeadLetter | None:
        """Return a dead letter with its data, or None."""
        return await self._do(lambda tables: tables.dead_letter(principal, dead_letter))

    async def revive(self, principal: PrincipalId, dead_letter: int, *, now_s: float) -> str | None:
        """Make a dead letter a delivery again, to be made now, and return its trigger; None when there is none."""
        return await self._do(lambda tables: tables.revive(principal, dead_letter, now_s))

    async def remove(self, principal: PrincipalId, dead_letter: int) -> bool:
        """Remove a dead letter; returns whether there was one."""
        return await self._do(lambda tables: tables.remove(principal, dead_letter))

    async def history(self, principal: PrincipalId, kind: str, *, after: int, limit: int) -> Sequence[Kept]:
        """Return a principal's next events with numbers greater than `after`: `limit` of them, or fewer large ones.

        Only those whose type begins with `kind`.
        """
        return await self._do(lambda tables: tables.history(principal, kind, after, limit))

    async def start_of_newest(self, principal: PrincipalId, kind: str, count: int) -> int:
        """Return the number after which the principal's newest `count` events of this kind come."""
        return await self._do(lambda tables: tables.start_of_newest(principal, kind, count))

    async def tick(self, schedule: str) -> tuple[str, float] | None:
        """Return the rule and the time of the last tick of a schedule."""
        return await self._do(lambda tables: tables.tick(schedule))

    async def keep_tick(self, schedule: str, rule: str, at_s: float) -> None:
        """Note the last tick of a schedule."""
        await self._do(lambda tables: tables.keep_tick(schedule, rule, at_s))

    async def _do(self, call: Callable[[Tables], T]) -> T:
        if self._closed:
            raise SandboxUnavailable("The broker is closed.", code="broker_closed")
        future: Future[T] = Future()
        self._calls.put((call, cast("Future[Any]", future)))
        return await asyncio.shield(asyncio.wrap_future(future))

    def _work(self, opened: "Future[None]") -> None:
        try:
            tables = Tables(open_file(self._path), self._bounds)
        except BaseException as exc:
            opened.set_exception(exc)
            return
        opened.set_result(None)
        try:
            while (first := self._calls.get()) is not None:
                calls = [first]
                ended = False
                while len(calls) < MAX_TOGETHER and not self._calls.empty():
                    if (more := self._calls.get()) is None:
                        ended = True
                        break
                    calls.append(more)
                _commit(tables, calls)
                if ended:
                    break
        finally:
            tables.close()


def _commit(tables: Tables, calls: Sequence[tuple[Callable[[Tables], Any], "Future[Any]"]]) -> None:
    """Run calls in one transaction and tell their results once they are on disk. One that refuses changed nothing.

    When it fails, each call is made again in a transaction of its own, so that a bad one spoils no other.
    """
    results: list[tuple[Future[Any], Any, BaseException | None]] = []
    try:
        tables.begin()
        for call, future in calls:
            try:
                results.append((future, call(tables), None))
            except CaesarionError as exc:
                results.append((future, None, exc))
        tables.commit()
    except BaseException as exc:
        tables.rollback()
        if len(calls) > 1:
            for one in calls:
                _commit(tables, [one])
            return
        results = [(future, None, _unavailable(exc)) for _, future in calls]
    for future, result, error in results:
        if error is None:
            future.set_result(result)
        else:
            future.set_exception(error)


def _unavailable(exc: BaseException) -> BaseException:
    """Return the failure of the file that this is; a failure of the call itself, as a text that is none, stays so."""
    if not isinstance(exc, (sqlite3.Error, OSError)):
        return exc
    error = SandboxUnavailable(f"The broker's file cannot be written: {exc}.", code="broker_unavailable")
    error.__cause__ = exc
    return error
