"""Sweeps over sandboxes in memory, in simulated time: what becomes of each, and what failures, races and clocks do."""

import asyncio
import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

import pytest
from prometheus_client.parser import text_string_to_metric_families

import caesarion_cleanup.sweep
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.background import Background
from caesarion.adapters.sink import Announcer
from caesarion.errors import SandboxUnavailable
from caesarion.events import Event
from caesarion.ids import PrincipalId
from caesarion.ports import Endpoint, Orphan, Sandbox, Sandboxes
from caesarion.settings import SweepSettings
from caesarion_cleanup.rules import Use
from caesarion_cleanup.sweep import Report, Sweeper
from tests.cleanup.simulated import Clock, SimulatedSandboxes, SimulatedStore, key_of

pytestmark = pytest.mark.anyio

MINUTE_S, HOUR_S, DAY_S = 60.0, 3600.0, 86_400.0
POLICY = SweepSettings(suspended_keep_s=2 * DAY_S, orphan_after_s=600, results_keep_s=DAY_S)


class Heard:
    """A sink that keeps what it accepted."""

    def __init__(self) -> None:
        self.events: list[tuple[Event, PrincipalId]] = []

    async def send(self, event: Event, principal: PrincipalId) -> None:
        self.events.append((event, principal))


class Patience:
    """The time that a sweep waits for suspensions, which ends when it is told to."""

    def __init__(self) -> None:
        self._ends = asyncio.Event()

    async def __call__(self) -> None:
        await self._ends.wait()
        self._ends.clear()

    def end(self) -> None:
        self._ends.set()


@dataclass
class World:
    """Sandboxes, a store, a clock, and a sweeper that was told of them."""

    clock: Clock
    sandboxes: SimulatedSandboxes
    store: SimulatedStore
    heard: Heard
    metrics: Metrics

    def sweeper(self, patience: Patience | None = None) -> Sweeper:
        """Return a sweeper as another process would have it, which waits for suspensions as long as `patience`."""
        port: Sandboxes = self.sandboxes
        announcer = Announcer(self.heard, Background(), max_waiting=100_000)
        ask, clock = self.sandboxes.ask, self.clock
        return Sweeper(
            port, self.store, announcer, self.metrics, POLICY, ask=ask, now=clock, patience=patience or Patience()
        )

    async def sweep(self) -> Report:
        return await self.sweeper().sweep()

    def states(self) -> dict[str, str]:
        """Return what has become of sessions by their ids."""
        return {
            key.session: "suspended" if one.suspended_at else "running" if one.alive else "ended"
            for key, one in self.sandboxes.sessions.items()
        }


@pytest.fixture
def world() -> World:
    clock = Clock()
    return World(clock, SimulatedSandboxes(clock), SimulatedStore(clock), Heard(), Metrics())


async def told(world: World) -> list[tuple[Event, PrincipalId]]:
    """Return what was announced, once all of it is."""
    await asyncio.sleep(0)
    return world.heard.events


def counts(report: Report) -> dict[str, int]:
    """Return what a report counts that is not zero."""
    kept = ("examined", "suspended", "removed", "spared_busy", "failed", "orphans_removed", "expired_results")
    shown = (*kept, "still_suspending")
    return {name: getattr(report, name) for name in shown if getattr(report, name)}


async def test_a_sweep_does_what_is_due_and_no_more(world: World) -> None:
    long_suspended = world.sandboxes.make(key_of("long-suspended"))
    long_suspended.alive, long_suspended.suspended_at = False, world.clock()
    await world.store.create("results/old", b"{}")
    await world.store.create("deliveries/old", b"")
    await world.store.create("checkpoints/old", b"")
    world.sandboxes.orphaned["sb-lost"] = Orphan("sandbox", "sb-lost", world.clock())
    world.clock.go(2 * DAY_S - HOUR_S)
    for name in ("idle", "computing", "read-from", "used", "ended", "starting", "silent"):
        world.sandboxes.make(key_of(name))
    await world.store.create("results/fresh", b"{}")
    world.sandboxes.orphaned["sb-new"] = Orphan("sandbox", "sb-new", world.clock() + timedelta(seconds=HOUR_S))
    sessions = world.sandboxes.sessions
    sessions[key_of("computing")].running = 1
    sessions[key_of("read-from")].readers = 1
    sessions[key_of("ended")].alive = False
    sessions[key_of("starting")].starting = True
    world.sandboxes.silent.add(key_of("silent"))
    world.clock.go(HOUR_S)
    world.sandboxes.use(key_of("used"))
    world.sandboxes.make(key_of("young"))

    assert counts(await world.sweep()) == {
        "examined": 9,
        "suspended": 2,
        "removed": 1,
        "spared_busy": 1,
        "failed": 1,
        "orphans_removed": 1,
        "expired_results": 2,
    }
    running = dict.fromkeys(("computing", "read-from", "used", "young", "starting", "silent"), "running")
    assert world.states() == {**running, "idle": "suspended", "ended": "suspended"}
    assert set(world.store.objects) == {"results/fresh", "checkpoints/old"}
    assert set(world.sandboxes.orphaned) == {"sb-new"}
    assert key_of("young") not in world.sandboxes.asked
    assert counts(await world.sweep()) == {"examined": 8, "spared_busy": 1, "failed": 1}


async def test_each_that_was_suspended_or_removed_is_announced_to_whom_it_belongs(world: World) -> None:
    for key in (key_of("idle", "alice"), key_of("ended", "bob")):
        world.sandboxes.make(key)
    world.sandboxes.sessions[key_of("ended", "bob")].alive = False
    world.clock.go(HOUR_S + 1.5)
    await world.sweep()
    world.clock.go(2 * DAY_S)
    await world.sweep()
    shown = {}
    for event, principal in await told(world):
        assert event.data is not None
        assert (event.time, event.datacontenttype) != (None, None)
        assert event.source == f"/sessions/{event.subject}"
        shown[event.type.rpartition(".")[2], principal] = json.loads(event.data)
    idle, ended = {"session": "idle", "sandbox": "sb-1"}, {"session": "ended", "sandbox": "sb-2"}
    assert shown == {
        ("suspended", "alice"): {**idle, "reason": "idle", "idle_s": HOUR_S + 1.5},
        ("suspended", "bob"): {**ended, "reason": "ended"},
        ("removed", "alice"): {**idle, "reason": "expired"},
        ("removed", "bob"): {**ended, "reason": "expired"},
    }
    assert len({event.id for event, _ in world.heard.events}) == 4


def measured(metrics: Metrics) -> dict[str, float]:
    """Return what the metrics tell of sweeps, actions by their names."""
    samples = [one for family in text_string_to_metric_families(metrics.text()[0].decode()) for one in family.samples]
    return {
        one.labels.get("action", one.name.removeprefix("caesarion_sweep_")): one.value
        for one in samples
        if one.name.startswith("caesarion_sweep_")
    }


async def test_what_was_done_is_counted_and_when_it_ended(world: World) -> None:
    sweeper = world.sweeper()
    assert set(measured(world.metrics).values()) == {0.0}
    for name in ("one", "other"):
        world.sandboxes.make(key_of(name))
    for _ in range(2):
        world.clock.go(HOUR_S)
        await sweeper.sweep()
    told = measured(world.metrics)
    assert told.pop("duration_seconds") > 0
    assert told.pop("ended_timestamp_seconds") == world.clock().timestamp()
    assert {action: count for action, count in told.items() if count} == {"suspended": 2.0}
    assert set(told) == {"suspended", "removed", "spared_busy", "failed", "orphans_removed", "expired_results"}


async def test_a_session_that_is_used_between_the_question_and_the_suspension_goes_on(world: World) -> None:
    session = world.sandboxes.make(key_of("s"))
    session.variables["x"] = 41
    world.clock.go(HOUR_S)

    def used_now() -> None:
        if world.sandboxes.asked:
            world.clock.go(0.001)
            world.sandboxes.use(key_of("s"))

    world.sandboxes.between = used_now
    assert counts(await world.sweep()) == {"examined": 1, "spared_busy": 1}
    assert world.states() == {"s": "running"}
    assert await told(world) == []


async def test_a_session_is_suspended_although_a_status_cuts_off_its_last_use_at_milliseconds(world: World) -> None:
    world.clock.go(0.000_999)
    world.sandboxes.make(key_of("s"))
    world.clock.go(HOUR_S)
    assert counts(await world.sweep()) == {"examined": 1, "suspended": 1}


async def test_code_that_begins_between_the_question_and_the_suspension_goes_on(world: World) -> None:
    world.sandboxes.make(key_of("s"))
    world.clock.go(HOUR_S)

    def run() -> None:
        world.sandboxes.sessions[key_of("s")].running = len(world.sandboxes.asked)

    world.sandboxes.between = run
    assert counts(await world.sweep()) == {"examined": 1, "spared_busy": 1}
    assert world.states() == {"s": "running"}


@pytest.mark.parametrize("suspended_by_a_sweep", [True, False])
async def test_a_session_that_wakes_up_after_it_was_listed_is_spared(world: World, suspended_by_a_sweep: bool) -> None:
    session = world.sandboxes.make(key_of("s"))
    session.alive = False
    if suspended_by_a_sweep:
        session.suspended_at = world.clock()
    world.clock.go(2 * DAY_S)

    def wake() -> None:
        world.clock.go(0.001)
        world.sandboxes.use(key_of("s"))

    world.sandboxes.between = wake
    assert counts(await world.sweep()) == {"examined": 1, "spared_busy": 1}
    assert world.states() == {"s": "running"}


async def test_a_session_that_is_closed_or_suspended_before_it_is_asked_is_no_failure(world: World) -> None:
    for name in ("closed", "suspended", "silent"):
        world.sandboxes.make(key_of(name))
    world.sandboxes.silent.add(key_of("silent"))
    world.clock.go(HOUR_S)

    def go_away() -> None:
        world.sandboxes.sessions.pop(key_of("closed"), None)
        suspended = world.sandboxes.sessions[key_of("suspended")]
        suspended.alive, suspended.suspended_at = False, world.clock()

    world.sandboxes.between = go_away
    assert counts(await world.sweep()) == {"examined": 3, "failed": 1}
    assert world.states() == {"suspended": "suspended", "silent": "running"}


async def test_an_orphan_that_was_adopted_meanwhile_stays(world: World) -> None:
    world.sandboxes.orphaned["sb-lost"] = Orphan("sandbox", "sb-lost", world.clock())
    world.sandboxes.adopted.add("sb-lost")
    world.clock.go(HOUR_S)
    assert counts(await world.sweep()) == {}
    assert "sb-lost" in world.sandboxes.orphaned


async def test_what_fails_is_counted_and_the_rest_is_done_and_the_next_sweep_tries_again(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    start = world.clock()
    for name in ("stuck", "gone"):
        one = world.sandboxes.make(key_of(name))
        one.alive, one.suspended_at = False, start
    for name in ("results/stuck", "results/old"):
        await world.store.create(name, b"{}")
    for name in ("sb-stuck", "sb-lost"):
        world.sandboxes.orphaned[name] = Orphan("sandbox", name, start)
    world.clock.go(2 * DAY_S - HOUR_S)
    for name in ("full-disk", "idle"):
        world.sandboxes.make(key_of(name))
    world.clock.go(HOUR_S)
    world.sandboxes.broken = {key_of("stuck"), key_of("full-disk"), "sb-stuck"}
    world.store.broken = {"results/stuck", "deliveries"}

    with caplog.at_level("WARNING"):
        report = await world.sweep()
    done = {"suspended": 1, "removed": 1, "orphans_removed": 1, "expired_results": 1}
    assert counts(report) == {"examined": 4, "failed": 5, **done}
    assert world.states() == {"stuck": "suspended", "full-disk": "running", "idle": "suspended"}
    lines = [vars(record) for record in caplog.records if record.name == "caesarion_cleanup.sweep"]
    assert len(lines) == 5
    assert {line.get("session") or line.get("orphan") or line.get("object") or line["listed"] for line in lines} == {
        "stuck", "full-disk", "sb-stuck", "results/stuck", "deliveries"
    }  # fmt: skip

    world.sandboxes.broken, world.store.broken = {"orphans"}, {"results"}
    assert counts(await world.sweep()) == {"examined": 3, "failed": 2, "suspended": 1, "removed": 1}
    world.sandboxes.broken, world.store.broken = set(), set()
    assert counts(await world.sweep()) == {"examined": 2, "orphans_removed": 1, "expired_results": 1}


async def test_a_sweep_that_cannot_list_the_sandboxes_fails_and_does_nothing(world: World) -> None:
    world.sandboxes.make(key_of("idle"))
    world.clock.go(HOUR_S)
    world.sandboxes.broken.add("list")
    with pytest.raises(SandboxUnavailable):
        await world.sweep()
    assert measured(world.metrics)["failed"] == 1
    assert world.states() == {"idle": "running"}


async def test_sandboxes_that_never_answer_are_waited_for_together_and_kept(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(100):
        world.sandboxes.make(key_of(f"silent-{number}"))
    world.sandboxes.make(key_of("idle"))
    world.clock.go(HOUR_S)
    at_once = most_at_once = 0

    async def ask(endpoint: Endpoint) -> Use:
        nonlocal at_once, most_at_once
        if endpoint.base_url == "http://alice/idle":
            return await world.sandboxes.ask(endpoint)
        at_once += 1
        most_at_once = max(most_at_once, at_once)
        try:
            await asyncio.Event().wait()
        finally:
            at_once -= 1
        raise AssertionError

    monkeypatch.setattr(caesarion_cleanup.sweep, "STATUS_DEADLINE_S", 0.01)
    sweeper = Sweeper(
        world.sandboxes, world.store, Announcer(None, Background()), world.metrics, POLICY, ask=ask, now=world.clock
    )
    assert counts(await sweeper.sweep()) == {"examined": 101, "failed": 100, "suspended": 1}
    assert (at_once, most_at_once) == (0, 32)
    assert set(world.states().values()) == {"running", "suspended"}


def endless_sessions(world: World, principal: str, number: int) -> None:
    """Make sessions whose suspension never ends."""
    for one in range(number):
        key = key_of(f"{principal}-{one}", principal)
        world.sandboxes.make(key)
        world.sandboxes.endless.add(key)


async def test_sessions_whose_suspension_never_ends_hold_up_nobody_else_and_no_sweep(world: World) -> None:
    endless_sessions(world, "mallory", 20)
    for number in range(20):
        world.sandboxes.make(key_of(f"s{number}", f"p{number % 3}"))
    world.sandboxes.orphaned["sb-lost"] = Orphan("sandbox", "sb-lost", world.clock())
    world.clock.go(HOUR_S)
    patience = Patience()
    sweeper = world.sweeper(patience)
    tasks = len(asyncio.all_tasks())

    for expected in ({"suspended": 20, "orphans_removed": 1}, {}, {}):
        sweep = asyncio.create_task(sweeper.sweep())
        await world.sandboxes.until(
            lambda: len(world.sandboxes.suspended) == 20 and len(world.sandboxes.suspending) == 2
        )
        patience.end()
        assert counts(await sweep) == {"examined": 40, "still_suspending": 2, **expected}
        assert len(asyncio.all_tasks()) == tasks + 2
    await sweeper.aclose()
    assert world.sandboxes.suspending == []
    assert len(asyncio.all_tasks()) == tasks
    assert sorted(world.states().values()) == ["running"] * 20 + ["suspended"] * 20


async def test_a_suspension_that_ends_after_its_sweep_is_counted_by_the_next(world: World) -> None:
    endless_sessions(world, "mallory", 2)
    world.clock.go(HOUR_S)
    patience = Patience()
    sweeper = world.sweeper(patience)
    patience.end()
    assert counts(await sweeper.sweep()) == {"examined": 2, "still_suspending": 2}
    world.sandboxes.broken = {key_of("mallory-0", "mallory")}
    world.sandboxes.end.set()
    await world.sandboxes.until(lambda: not world.sandboxes.suspending)
    world.sandboxes.broken = set()
    assert counts(await sweeper.sweep()) == {"examined": 2, "suspended": 2, "failed": 1}
    assert {event.subject for event, _ in await told(world)} == {"mallory-0", "mallory-1"}


async def test_a_suspension_has_a_deadline_and_the_session_goes_on_after_it(
    world: World, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(caesarion_cleanup.sweep, "SUSPEND_DEADLINE_S", 0.01)
    endless_sessions(world, "mallory", 3)
    world.clock.go(HOUR_S)
    assert counts(await world.sweep()) == {"examined": 3, "failed": 3}
    assert set(world.states().values()) == {"running"}


async def test_what_failed_before_and_whose_failed_before_comes_last(world: World) -> None:
    for number in range(20):
        endless_sessions(world, f"mallory-{number}", 3)
    world.clock.go(HOUR_S)
    patience = Patience()
    sweeper = world.sweeper(patience)
    sweep = asyncio.create_task(sweeper.sweep())
    await world.sandboxes.until(lambda: len(world.sandboxes.suspending) == 16)
    first = list(world.sandboxes.suspending)
    assert len({key.principal for key in first}) == 16
    patience.end()
    await sweep
    world.sandboxes.broken.update(first)
    world.sandboxes.end.set()
    await world.sandboxes.until(lambda: not world.sandboxes.suspending)
    world.sandboxes.end.clear()

    world.sandboxes.make(key_of("s"))
    world.clock.go(HOUR_S)
    sweep = asyncio.create_task(sweeper.sweep())
    await world.sandboxes.until(lambda: len(world.sandboxes.suspending) == 16 and world.states()["s"] == "suspended")
    patience.end()
    assert counts(await sweep) == {"examined": 61, "suspended": 1, "failed": 16, "still_suspending": 16}
    second = world.sandboxes.suspending
    assert not set(first) & set(second)
    assert len({key.principal for key in second} - {key.principal for key in first}) == 4
    await sweeper.aclose()


async def test_a_sandbox_that_starts_for_more_than_an_hour_is_counted_as_failed(
    world: World, caplog: pytest.LogCaptureFixture
) -> None:
    sweeper = world.sweeper()
    stuck, woken = world.sandboxes.make(key_of("stuck")), world.sandboxes.make(key_of("woken"))
    world.clock.go(DAY_S)
    for session in (stuck, woken):
        world.sandboxes.use(session.key)
        session.starting = True
    assert counts(await sweeper.sweep()) == {"examined": 2}
    woken.starting = False
    world.clock.go(HOUR_S - 1)
    world.sandboxes.use(woken.key)
    assert counts(await sweeper.sweep()) == {"examined": 2}
    woken.starting = True
    world.clock.go(1)
    with caplog.at_level("WARNING"):
        assert counts(await sweeper.sweep()) == {"examined": 2, "failed": 1}
    assert [vars(record)["session"] for record in caplog.records] == ["stuck"]
    stuck.starting = woken.starting = False
    assert counts(await sweeper.sweep()) == {"examined": 2, "suspended": 1}


async def test_two_sweeps_at_once_over_10_000_sandboxes_do_what_one_does(world: World) -> None:
    expected = {}
    for number in range(10_000):
        key = key_of(f"s{number}", f"p{number % 7}")
        session = world.sandboxes.make(key)
        match number % 10:
            case 0:
                session.running = 1
                expected[key] = "running"
            case 1:
                session.readers = 1
                expected[key] = "running"
            case 2:
                session.alive, session.suspended_at = False, world.clock()
            case 3:
                session.spec = type(session.spec)(idle_timeout_s=10 * DAY_S)
                expected[key] = "running"
            case _:
                expected[key] = "suspended"
    world.clock.go(2 * DAY_S)
    reports = await asyncio.gather(world.sweep(), world.sweep())
    assert [report.failed for report in reports] == [0, 0]
    states = {
        key: "suspended" if one.suspended_at else "running" for key, one in world.sandboxes.sessions.items()
    }  # fmt: skip
    assert states == expected
    assert len(world.sandboxes.suspended) == 6000
    assert len(world.sandboxes.removed) == 1000
    announced = {event.id for event, _ in await told(world)}
    assert len(announced) == 7000
    assert sum(report.suspended + report.removed for report in reports) >= 7000
    assert counts(await world.sweep()) == {"examined": 9000, "spared_busy": 1000}


class SlowToList(SimulatedSandboxes):
    """Sandboxes of which the first listing takes until it is let go, and is old news then."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.listed, self.let_go = asyncio.Event(), asyncio.Event()

    async def list(self, principal: PrincipalId | None) -> Sequence[Sandbox]:
        found = await super().list(principal)
        if not self.listed.is_set():
            self.listed.set()
            await self.let_go.wait()
        return found


async def test_a_sweep_that_comes_too_late_does_nothing_and_tells_no_other_event(world: World) -> None:
    world.sandboxes = sandboxes = SlowToList(world.clock)
    removed, ended = sandboxes.make(key_of("removed")), sandboxes.make(key_of("ended"))
    removed.alive, removed.suspended_at, ended.alive = False, world.clock(), False
    sandboxes.make(key_of("idle"))
    world.clock.go(2 * DAY_S)
    late = asyncio.create_task(world.sweep())
    await sandboxes.listed.wait()
    assert counts(await world.sweep()) == {"examined": 3, "suspended": 2, "removed": 1}
    world.clock.go(5)
    sandboxes.use(key_of("idle"))
    sandboxes.let_go.set()
    assert counts(await late) == {"examined": 3, "spared_busy": 1, "removed": 1}
    assert world.states() == {"ended": "suspended", "idle": "running"}
    assert len({event.id for event, _ in await told(world)}) == 3


@pytest.mark.parametrize("ended_after", [0, 1, 5, 40, 41, 60, 90])
async def test_a_sweep_that_is_ended_half_way_is_continued_by_the_next(world: World, ended_after: int) -> None:
    for number in range(40):
        session = world.sandboxes.make(key_of(f"s{number}"))
        if number % 4 == 0:
            session.alive, session.suspended_at = False, world.clock()
    world.clock.go(2 * DAY_S)
    sweep = asyncio.create_task(world.sweep())
    for _ in range(ended_after):
        await asyncio.sleep(0)
    sweep.cancel()
    await asyncio.wait({sweep})
    await world.sweep()
    assert world.states() == {f"s{number}": "suspended" for number in range(40) if number % 4}
    assert len(world.sandboxes.removed) == 10
    assert len(world.sandboxes.suspended) == 30
