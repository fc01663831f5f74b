"""The broker of `caesarion serve`: events in, and to every trigger that takes them, as Knative's broker does.

Accepted means on disk. Each trigger has its own lane with so many deliveries at once, so none waits for another's
subscriber. In a lane whoever has the fewest under way comes next, and nobody has more than half of it. Nothing is
promised about order, and an event may come more than once; its source and id tell.
"""

import asyncio
import heapq
import logging
import time
from collections import Counter
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from starlette.types import ASGIApp

from caesarion.adapters.broker_delivery import Outcome, Subscribers, check_sendable
from caesarion.adapters.broker_store import BrokerStore
from caesarion.adapters.broker_tables import Accepted, DeadLetter, Due, Kept, Reply
from caesarion.errors import CaesarionError, Conflict, InvalidRequest, NotFound, SandboxUnavailable, TooLarge
from caesarion.events import Event, event_digest
from caesarion.ids import PrincipalId
from caesarion.logs import bound
from caesarion.settings import MIB
from caesarion.triggers import MAX_BACKOFF_S, TTL, Trigger, next_attempt, reply_ttl, ttl_of

logger = logging.getLogger(__name__)

MAX_DELIVERIES = 256
BUSY = 503
STORE_RETRY_S = 5.0
LONGEST_WAIT_S = 60.0
"""Timers stand still while a machine sleeps, so none is set for longer than this."""
PAGE = 100


class Broker:
    """A `Sink` that delivers. `send` works from the beginning; deliveries begin with `start`."""

    def __init__(
        self,
        store: BrokerStore,
        triggers: Iterable[Trigger],
        *,
        max_event_bytes: int = 4 * MIB,
        max_deliveries: int = MAX_DELIVERIES,
        now_s: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._store = store
        self._max_event_bytes = max_event_bytes
        self._now_s = now_s
        self._lanes = {trigger.name: _Lane(trigger, max_deliveries, now_s, sleep) for trigger in triggers}
        self._subscribers: Subscribers | None = None
        self._pumps: list[asyncio.Task[None]] = []
        self._news = asyncio.Event()

    @property
    def waiting(self) -> int:
        """How many deliveries are to be made or under way."""
        return sum(len(lane) for lane in self._lanes.values())

    async def start(self, app: ASGIApp) -> None:
        """Begin to deliver, first what an earlier process left; paths are those of `app`."""
        self._subscribers = Subscribers(app, max_answer_bytes=2 * self._max_event_bytes, now_s=self._now_s)
        for waiting in await self._store.waiting():
            lane = self._lanes.get(waiting.trigger)
            if lane is None:
                await self._give_up(waiting.id, 0, Outcome(None, reason="its trigger is not there any more"))
            else:
                lane.add(waiting.id, waiting.principal, waiting.next_s)
        self._pumps = [
            asyncio.create_task(lane.run(self._deliver), name=f"deliver {name}") for name, lane in self._lanes.items()
        ]

    async def aclose(self) -> None:
        """Stop delivering. What is under way is broken off, and delivered again after the next start."""
        for pump in self._pumps:
            pump.cancel()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        self._pumps = []
        if self._subscribers is not None:
            await self._subscribers.aclose()

    async def send(self, event: Event, principal: PrincipalId) -> None:
        """Accept an event: it is on disk, and will be delivered, when this returns.

        Raises SandboxUnavailable when too much waits or the disk fails, TooLarge, and InvalidRequest for an event that
        went around too often or cannot be sent on.
        """
        check_sendable(event)
        size_bytes = len(event.data or b"")
        if size_bytes > self._max_event_bytes:
            raise TooLarge(f"The event's data is larger than {self._max_event_bytes} bytes, the most that is taken.")
        ttl = ttl_of(event)
        if ttl <= 0:
            raise InvalidRequest(f"The event went around too often: its {TTL} is used up.", code="event_loop")
        event = _without_ttl(event)
        triggers = self._takers(event)
        accepted = await self._store.accept(
            event, principal, ttl=reply_ttl(ttl, len(triggers)), triggers=triggers, now_s=self._now_s()
        )
        self._add(accepted, principal)
        logger.info(
            "event accepted",
            extra={
                "event": event_digest(event.source, event.id),
                "event_type": event.type[:200],
                "event_bytes": size_bytes,
                "triggers": len(triggers),
                "principal": principal,
            },
        )

    async def events(
        self,
        principal: PrincipalId,
        *,
        kind: str = "",
        after: int = 0,
        newest: int | None = None,
        follow: bool = False,
    ) -> AsyncGenerator[Kept, None]:
        """Yield the principal's events that are kept, the oldest first: those after a number, or so many of the newest.

        Only those whose type begins with `kind`. With `follow` it goes on with what comes.
        """
        if newest is not None:
            after = max(after, await self._store.start_of_newest(principal, kind, newest))
        while True:
            news = self._news
            page = await self._store.history(principal, kind, after=after, limit=PAGE)
            for kept in page:
                after = kept.seq
                yield kept
            if page:
                continue
            if not follow:
                return
            await news.wait()

    async def dead(self, principal: PrincipalId, *, after: int = 0, limit: int = PAGE) -> Sequence[DeadLetter]:
        """Return the principal's dead letters in the order of their ids, without their data."""
        return await self._store.dead(principal, after=after, limit=limit)

    async def dead_letter(self, principal: PrincipalId, dead_letter: int) -> DeadLetter:
        """Return a dead letter with its data. Raises NotFound."""
        found = await self._store.dead_letter(principal, dead_letter)
        if found is None:
            raise _no_such(dead_letter)
        return found

    async def resend(self, principal: PrincipalId, dead_letter: int) -> None:
        """Deliver a dead letter again, with all its attempts. Raises NotFound, or Conflict without its trigger."""
        found = await self.dead_letter(principal, dead_letter)
        if found.trigger not in self._lanes:
            raise Conflict(f"There is no trigger {found.trigger!r} any more.", code="trigger_gone")
        if await self._store.revive(principal, dead_letter, now_s=self._now_s()) is None:
            raise _no_such(dead_letter)
        self._lanes[found.trigger].add(dead_letter, principal, self._now_s())

    async def remove(self, principal: PrincipalId, dead_letter: int) -> None:
        """Remove a dead letter. Idempotent."""
        await self._store.remove(principal, dead_letter)

    def subscriber_of(self, trigger: str) -> str | None:
        """Return where a trigger delivers to."""
        lane = self._lanes.get(trigger)
        return None if lane is None else lane.trigger.subscriber

    def _takers(self, event: Event) -> tuple[str, ...]:
        return tuple(name for name, lane in self._lanes.items() if lane.trigger.takes(event))

    def _add(self, accepted: Accepted, principal: PrincipalId) -> None:
        now_s = self._now_s()
        for delivery, trigger in accepted.deliveries:
            self._lanes[trigger].add(delivery, principal, now_s)
        news, self._news = self._news, asyncio.Event()
        news.set()

    async def _deliver(self, trigger: Trigger, delivery: int) -> float | None:
        """Make a delivery and record how it went; return when to make it again, or None."""
        try:
            due = await self._store.due(delivery)
            if due is None or self._subscribers is None:
                return None
            with bound(event=event_digest(due.event.source, due.event.id), event_type=due.event.type[:200]):
                try:
                    outcome = await self._subscribers.deliver(trigger, due.event, due.principal)
                    return await self._recorded(trigger, delivery, due, outcome)
                except CaesarionError:
                    raise
                except Exception as exc:
                    logger.error("delivery failed unexpectedly", extra={"trigger": trigger.name}, exc_info=exc)
                    outcome = Outcome(None, reason=f"it failed unexpectedly: {type(exc).__name__}")
                    return await self._recorded(trigger, delivery, due, outcome)
        except CaesarionError as exc:
            # The disk fails. It stays to be delivered; whoever had it already gets it twice.
            logger.error("delivery not recorded", extra={"trigger": trigger.name, "reason": exc.message[:500]})
        except Exception as exc:
            logger.error("delivery failed unexpectedly", extra={"trigger": trigger.name}, exc_info=exc)
        return self._now_s() + STORE_RETRY_S

    async def _recorded(self, trigger: Trigger, delivery: int, due: Due, outcome: Outcome) -> float | None:
        if outcome.arrived:
            try:
                accepted = await self._store.done(delivery, self._reply(due, outcome.reply), now_s=self._now_s())
            except SandboxUnavailable as exc:
                if exc.code != "broker_full":
                    raise
                # As if the subscriber were busy: it answers again when there is room.
                outcome = Outcome(
                    BUSY, retry_after_s=exc.retry_after_s, reason=f"no room for the answer: {exc.message}"
                )
            else:
                if accepted is not None:
                    self._add(accepted, due.principal)
                logger.info("event delivered", extra={"trigger": trigger.name, "reply": accepted is not None})
                return None
        failures = due.failures + 1
        now_s = self._now_s()
        next_s = next_attempt(trigger.delivery, failures, outcome.status, outcome.retry_after_s, now_s)
        noted = {"trigger": trigger.name, "status": outcome.status, "attempts": failures}
        if next_s is None:
            await self._give_up(delivery, failures, outcome)
            logger.warning("event undeliverable", extra={**noted, "reason": outcome.reason[:200]})
            return None
        await self._store.put_off(delivery, failures, next_s, outcome.status, outcome.reason)
        logger.info("delivery put off", extra={**noted, "retry_in_s": round(next_s - now_s, 3)})
        return next_s

    def _reply(self, due: Due, event: Event | None) -> Reply | None:
        if event is None:
            return None
        event = _without_ttl(event)
        if due.reply_ttl <= 0:
            logger.warning(
                "reply dropped", extra={"reply_type": event.type[:200], "reason": "it went around too often"}
            )
            return None
        if len(event.data or b"") > self._max_event_bytes:
            logger.warning("reply dropped", extra={"reply_type": event.type[:200], "reason": "it is too large"})
            return None
        triggers = self._takers(event)
        return Reply(event, reply_ttl(due.reply_ttl, len(triggers)), triggers)

    async def _give_up(self, delivery: int, failures: int, outcome: Outcome) -> None:
        dropped = await self._store.give_up(delivery, failures, outcome.status, outcome.reason, now_s=self._now_s())
        for dead_letter in dropped:
            logger.warning("dead letter dropped", extra={"dead_letter": dead_letter, "reason": "there are too many"})


@dataclass(order=True, frozen=True, slots=True)
class _Waiting:
    next_s: float
    delivery: int


class _Lane:
    """The deliveries of one trigger: so many at once, half of them for one principal, each when it is due."""

    def __init__(
        self, trigger: Trigger, at_once: int, now_s: Callable[[], float], sleep: Callable[[float], Awaitable[None]]
    ) -> None:
        self.trigger = trigger
        self._at_once = at_once
        self._at_once_each = (at_once + 1) // 2
        self._now_s = now_s
        self._sleep = sleep
        self._waiting: dict[PrincipalId, list[_Waiting]] = {}
        self._known: set[int] = set()
        self._running: set[asyncio.Task[None]] = set()
        self._under_way: Counter[PrincipalId] = Counter()
        self._changed = asyncio.Event()

    def __len__(self) -> int:
        return len(self._known)

    def add(self, delivery: int, principal: PrincipalId, next_s: float) -> None:
        """Have a delivery made at a time, unless it is known already."""
        if delivery in self._known:
            return
        self._known.add(delivery)
        heapq.heappush(self._waiting.setdefault(principal, []), _Waiting(next_s, delivery))
        self._changed.set()

    async def run(self, deliver: Callable[[Trigger, int], Awaitable[float | None]]) -> None:
        """Make deliveries until cancelled; those under way are cancelled then too."""

        async def one(delivery: int, principal: PrincipalId) -> None:
            next_s = await deliver(self.trigger, delivery)
            self._known.discard(delivery)
            if next_s is not None:
                self.add(delivery, principal, next_s)

        def begin(principal: PrincipalId) -> None:
            task = asyncio.create_task(one(self._pop(principal), principal))
            self._running.add(task)
            self._under_way[principal] += 1

            def ended(task: asyncio.Task[None]) -> None:
                self._running.discard(task)
                self._under_way[principal] -= 1
                if not self._under_way[principal]:
                    del self._under_way[principal]
                self._changed.set()

            task.add_done_callback(ended)

        try:
            while True:
                self._changed.clear()
                while len(self._running) < self._at_once and (principal := self._next()) is not None:
                    begin(principal)
                waits_s = [self._wait_s(principal) for principal in self._may_begin()]
                await self._change(min(*waits_s, LONGEST_WAIT_S) if waits_s else None)
        finally:
            tasks = list(self._running)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def _next(self) -> PrincipalId | None:
        """Return whose delivery comes next: of those that are due, of whoever has the fewest under way, the oldest."""
        due = [principal for principal in self._may_begin() if self._wait_s(principal) <= 0]
        return min(due, key=lambda each: (self._under_way[each], self._waiting[each][0]), default=None)

    def _may_begin(self) -> Sequence[PrincipalId]:
        """Return who has something to deliver and is free to: nobody has more than half of the lane."""
        if len(self._running) >= self._at_once:
            return ()
        return [principal for principal in self._waiting if self._under_way[principal] < self._at_once_each]

    def _pop(self, principal: PrincipalId) -> int:
        waiting = self._waiting[principal]
        delivery = heapq.heappop(waiting).delivery
        if not waiting:
            del self._waiting[principal]
        return delivery

    def _wait_s(self, principal: PrincipalId) -> float:
        """Return the time to a principal's next delivery; one too far ahead was set by a clock that was wrong."""
        wait_s = self._waiting[principal][0].next_s - self._now_s()
        return wait_s if wait_s <= 2 * MAX_BACKOFF_S else 0.0

    async def _change(self, wait_s: float | None) -> None:
        """Return when something changed, or after so long."""
        if wait_s is None:
            await self._changed.wait()
            return
        changed = asyncio.ensure_future(self._changed.wait())
        timer = asyncio.ensure_future(self._sleep(wait_s))
        try:
            await asyncio.wait({changed, timer}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            changed.cancel()
            timer.cancel()


def _without_ttl(event: Event) -> Event:
    if TTL not in event.extensions:
        return event
    return replace(event, extensions={name: value for name, value in event.extensions.items() if name != TTL})


def _no_such(dead_letter: int) -> NotFound:
    return NotFound(f"There is no dead letter {dead_letter}.", code="dead_letter_not_found")
