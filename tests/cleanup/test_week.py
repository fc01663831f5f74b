"""A week of ticks in simulated time: users come and go, ticks are missed, things fail, clocks are set."""

import random
from collections import Counter
from dataclasses import dataclass, field

import pytest

from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.background import Background
from caesarion.adapters.sink import Announcer
from caesarion.ids import SessionKey
from caesarion.ports import Orphan
from caesarion.settings import SweepSettings
from caesarion_cleanup.sweep import Report, Sweeper
from tests.cleanup.simulated import Clock, SimulatedSandboxes, SimulatedStore, key_of

pytestmark = pytest.mark.anyio

MINUTES_OF_DAY = 1440
HOUR_S, DAY_S = 3600.0, 86_400.0
KEEP_S = DAY_S
POLICY = SweepSettings(suspended_keep_s=KEEP_S, orphan_after_s=600, results_keep_s=DAY_S / 2)
MISSED = {2: range(180, 540), 5: range(60, 65)}  # minutes of days at which no tick comes
STORE_FAILS = {3: range(600, 660)}
CLOCK_SET_S = {(4, 120): -HOUR_S, (4, 720): HOUR_S, (6, 0): 900.0}


@dataclass
class Week:
    """Users at work, and what has become of their sessions."""

    clock: Clock = field(default_factory=Clock)
    drawn: random.Random = field(default_factory=lambda: random.Random(11))
    done: Counter[str] = field(default_factory=Counter)
    seen: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self.sandboxes = SimulatedSandboxes(self.clock)
        self.store = SimulatedStore(self.clock)
        self.sweeper = Sweeper(
            self.sandboxes, self.store, Announcer(None, Background()), Metrics(), POLICY,
            ask=self.sandboxes.ask, now=self.clock,
        )  # fmt: skip
        self.timeouts: dict[SessionKey, float] = {}
        self.ended: set[SessionKey] = set()
        self.left: set[SessionKey] = set()

    async def minute(self, number: int) -> None:
        """Let a minute pass in which users do what they do."""
        self.clock.go(60)
        chance = self.drawn.random
        if len(self.sandboxes.sessions) < 15 and chance() < 0.05:
            key = key_of(f"s{number}", f"p{number % 5}")
            self.timeouts[key] = self.drawn.choice((300.0, HOUR_S, 4 * HOUR_S))
            self.sandboxes.make(key, self.timeouts[key]).variables["made"] = number
        for key, session in list(self.sandboxes.sessions.items()):
            if key in self.left:
                continue
            if chance() < 0.0007:
                self.left.add(key)
                session.running = session.readers = 0
                continue
            if chance() < 0.004:
                self.seen["woken" if session.suspended_at else "used"] += 1
                self.sandboxes.use(key)
            if session.alive and chance() < 0.003:
                session.running = 1 - session.running
                self.sandboxes.use(key)
            if session.alive and chance() < 0.003:
                session.readers = 1 - session.readers
                self.sandboxes.use(key)
            if session.alive and chance() < 0.0005:
                session.alive, session.running, session.readers = False, 0, 0
                self.ended.add(key)
        if chance() < 0.1:
            await self.store.create(f"{self.drawn.choice(('results', 'deliveries'))}/{number}", b"{}")
        if chance() < 0.01:
            orphan = Orphan("sandbox", f"sb-lost-{number}", self.clock())
            self.sandboxes.orphaned[orphan.name] = orphan

    async def tick(self, *, store_fails: bool = False) -> None:
        """Sweep, and see that nothing was done before its time and nothing is left past it."""
        self.sandboxes.broken = set(self.sandboxes.sessions) if store_fails else set()
        report: Report = await self.sweeper.sweep()
        for name in ("suspended", "removed", "spared_busy", "failed", "orphans_removed", "expired_results"):
            self.done[name] += getattr(report, name)
        for key, idle_s in self.sandboxes.suspended:
            assert idle_s >= self.timeouts[key] or key in self.ended
            self.ended.discard(key)
        assert all(kept_s >= KEEP_S for _, kept_s in self.sandboxes.removed)
        self.sandboxes.suspended.clear()
        self.sandboxes.removed.clear()
        if store_fails:
            return
        now = self.clock()
        for key, session in self.sandboxes.sessions.items():
            if session.suspended_at is not None:
                assert (now - session.suspended_at).total_seconds() < KEEP_S
            else:
                idle_s = (now - session.last_activity_at).total_seconds()
                limit_s = self.timeouts[key] if session.alive else 0
                assert session.running or session.readers or idle_s < limit_s
        assert all((now - one.since).total_seconds() < 600 for one in self.sandboxes.orphaned.values())
        assert all((now - one.modified_at).total_seconds() < DAY_S / 2 for _, one in self.store.objects.values())


async def test_a_week_of_ticks_does_everything_in_its_time_and_nothing_before() -> None:
    week = Week()
    for day in range(7):
        for minute in range(MINUTES_OF_DAY):
            await week.minute(day * MINUTES_OF_DAY + minute)
            week.clock.go(CLOCK_SET_S.get((day, minute), 0))
            if minute not in MISSED.get(day, ()):
                await week.tick(store_fails=minute in STORE_FAILS.get(day, ()))
    assert min(week.done.values()) > 20, week.done
    assert min(week.seen.values()) > 20, week.seen

    for session in week.sandboxes.sessions.values():
        session.running = session.readers = 0
    week.clock.go(4 * HOUR_S)
    await week.tick()
    assert all(session.suspended_at for session in week.sandboxes.sessions.values())
    week.clock.go(KEEP_S)
    await week.tick()
    assert (week.sandboxes.sessions, week.sandboxes.orphaned, week.store.objects) == ({}, {}, {})


async def test_a_month_without_a_tick_is_caught_up_by_two() -> None:
    week = Week()
    for number in range(MINUTES_OF_DAY):
        await week.minute(number)
    for session in week.sandboxes.sessions.values():
        session.running = session.readers = 0
    assert len(week.sandboxes.sessions) > 10
    week.clock.go(30 * DAY_S)
    await week.tick()
    assert all(session.suspended_at for session in week.sandboxes.sessions.values())
    assert (week.sandboxes.orphaned, week.store.objects) == ({}, {})
    week.clock.go(KEEP_S)
    await week.tick()
    assert week.sandboxes.sessions == {}
