"""What the sweep decides, by time and evidence."""

import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import Literal

import pytest

from caesarion.ids import PrincipalId, SandboxName, SessionId, SessionKey
from caesarion.ports import Endpoint, Orphan, Sandbox, SandboxState, StoredObject
from caesarion.settings import SweepSettings
from caesarion_cleanup.rules import Decisions, Seen, Use, could_be_due, decide, due_orphans, expired

NOW = datetime(2026, 3, 29, 1, 30, tzinfo=UTC)
HOUR_S, WEEK_S = 3600.0, 7 * 86_400.0
JUST_S = 1e-6  # the smallest step of a datetime
FAR_S = 50 * 365 * 86_400.0
POLICY = SweepSettings(suspended_keep_s=WEEK_S, orphan_after_s=600, results_keep_s=86_400)

Found = Literal["kept", "suspended", "removed", "busy", "unreachable"]
Moment = float | None


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def sandbox(
    state: SandboxState, *, age_s: float, suspended_s: Moment = None, idle_timeout_s: float = HOUR_S
) -> Sandbox:
    """Return a sandbox that was made and, if so, suspended that long ago."""
    return Sandbox(
        name=SandboxName("sb-1"),
        key=SessionKey(PrincipalId("alice"), SessionId("s")),
        state=state,
        created_at=ago(age_s),
        idle_timeout_s=idle_timeout_s,
        endpoint=Endpoint("token", base_url="http://sb-1") if state == "ready" else None,
        suspended_at=None if suspended_s is None else ago(suspended_s),
    )


def found(seen: Seen) -> Found:
    """Return what is decided about one sandbox."""
    decisions = decide([seen], NOW, POLICY)
    counts: dict[Found, int] = {
        "suspended": len(decisions.suspend),
        "removed": len(decisions.remove),
        "busy": decisions.busy,
        "unreachable": decisions.unreachable,
    }
    assert sum(counts.values()) + len(decisions.stuck) <= 1
    return next((kind for kind, count in counts.items() if count), "kept")


def used(seconds: float, *, busy: bool = False) -> Use:
    return Use(busy, ago(seconds))


RUNNING: dict[str, tuple[Use | Literal["unasked", "unreachable"], Found]] = {
    "used just now": (used(0), "kept"),
    "used a moment before its time is over": (used(HOUR_S - JUST_S), "kept"),
    "unused for exactly its time": (used(HOUR_S), "suspended"),
    "unused for longer": (used(HOUR_S + JUST_S), "suspended"),
    "unused for years": (used(FAR_S), "suspended"),
    "running code": (used(0, busy=True), "busy"),
    "running code, as it says, since long ago": (used(FAR_S, busy=True), "busy"),
    "used in the future, by a clock ahead of ours": (used(-1), "kept"),
    "used in the far future, before our clock was set back": (used(-FAR_S), "kept"),
    "no answer": ("unreachable", "unreachable"),
    "not asked": ("unasked", "kept"),
}


@pytest.mark.parametrize("case", RUNNING)
def test_a_running_sandbox_is_suspended_once_it_is_unused_for_its_time(case: str) -> None:
    use, expected = RUNNING[case]
    assert found(Seen(sandbox("ready", age_s=2 * FAR_S), use)) == expected


SUSPENDED: dict[str, tuple[Moment, Found]] = {
    "just now": (0, "kept"),
    "a moment before its time is over": (WEEK_S - JUST_S, "kept"),
    "for exactly its time": (WEEK_S, "removed"),
    "for longer": (WEEK_S + JUST_S, "removed"),
    "in the future, by a clock ahead of ours": (-1, "kept"),
    "in the far future, before our clock was set back": (-FAR_S, "kept"),
    "by no sweep, as its processes ended by themselves": (None, "suspended"),
}


@pytest.mark.parametrize("case", SUSPENDED)
def test_a_suspended_session_is_removed_once_it_was_kept_for_its_time(case: str) -> None:
    suspended_s, expected = SUSPENDED[case]
    for age_s in (2 * FAR_S, HOUR_S, 0.0, -HOUR_S):
        assert found(Seen(sandbox("suspended", age_s=age_s, suspended_s=suspended_s))) == expected


@pytest.mark.parametrize("age_s", [0, HOUR_S, FAR_S, -FAR_S])
@pytest.mark.parametrize("use", [use for use, _ in RUNNING.values()])
def test_a_sandbox_that_starts_is_left_alone(age_s: float, use: Use | Literal["unasked", "unreachable"]) -> None:
    starting = sandbox("starting", age_s=age_s)
    assert not could_be_due(starting, NOW)
    assert found(Seen(starting, use)) == "kept"


@pytest.mark.parametrize(
    ("age_s", "asked"), [(0, False), (HOUR_S - JUST_S, False), (HOUR_S, True), (FAR_S, True), (-1, True)]
)
def test_a_sandbox_is_asked_once_it_is_old_enough_to_be_idle(age_s: float, asked: bool) -> None:
    assert could_be_due(sandbox("ready", age_s=age_s), NOW) is asked
    assert not could_be_due(sandbox("suspended", age_s=age_s, suspended_s=age_s), NOW)
    assert not could_be_due(replace(sandbox("ready", age_s=age_s), endpoint=None), NOW)


def test_each_session_has_its_own_time() -> None:
    for idle_timeout_s in (1.0, 0.1 + 0.2, 59.999, 31_536_000.0):
        one = sandbox("ready", age_s=FAR_S, idle_timeout_s=idle_timeout_s)
        step_s = 2 * JUST_S  # times are whole microseconds, timeouts need not be
        assert found(Seen(one, used(idle_timeout_s - step_s))) == "kept"
        assert found(Seen(one, used(idle_timeout_s + step_s))) == "suspended"


def test_a_suspension_says_since_when_it_must_not_have_been_used() -> None:
    [idle] = decide([Seen(sandbox("ready", age_s=FAR_S), used(HOUR_S + 0.25))], NOW, POLICY).suspend
    assert (idle.reason, idle.idle_s) == ("idle", HOUR_S + 0.25)
    assert ago(HOUR_S + 0.25) <= idle.unused_since < ago(HOUR_S)
    [ended] = decide([Seen(sandbox("suspended", age_s=FAR_S))], NOW, POLICY).suspend
    assert (ended.reason, ended.idle_s, ended.unused_since) == ("ended", None, NOW)
    [removal] = decide([Seen(sandbox("suspended", age_s=FAR_S, suspended_s=WEEK_S))], NOW, POLICY).remove
    assert removal.suspended_since == ago(WEEK_S)


@pytest.mark.parametrize("hours", [-11, 0, 5.75, 14])
def test_moments_of_other_time_zones_are_the_same_moments(hours: float) -> None:
    zone = timezone(timedelta(hours=hours))
    for unused_s, expected in ((HOUR_S, "suspended"), (HOUR_S - JUST_S, "kept")):
        use = Use(False, ago(unused_s).astimezone(zone))
        assert found(Seen(sandbox("ready", age_s=FAR_S), use)) == expected


@pytest.mark.parametrize(
    ("since_s", "stuck"), [(None, False), (-FAR_S, False), (0, False), (HOUR_S - JUST_S, False), (HOUR_S, True)]
)
def test_what_is_starting_for_an_hour_is_told_and_left_alone(since_s: Moment, stuck: bool) -> None:
    starting = sandbox("starting", age_s=FAR_S)
    since = None if since_s is None else ago(since_s)
    decisions = decide([Seen(starting, starting_since=since)], NOW, POLICY)
    assert list(decisions.stuck) == ([starting] if stuck else [])
    assert acted_on(decisions) == set()


ORPHANS: dict[str, tuple[Literal["sandbox", "session", "checkpoint"], bool, float]] = {
    "a sandbox of no session": ("sandbox", False, 600),
    "a session whose sandbox is gone": ("session", False, 600),
    "a suspended session without its checkpoint": ("session", True, WEEK_S + 600),
    "a checkpoint of no session": ("checkpoint", False, WEEK_S + 600),
    "a checkpoint that was left of an earlier suspension": ("checkpoint", True, WEEK_S + 600),
}


@pytest.mark.parametrize("case", ORPHANS)
def test_an_orphan_goes_once_it_is_old_and_what_another_store_may_have_the_rest_of_much_later(case: str) -> None:
    kind, of_suspended, after_s = ORPHANS[case]
    suspended = {"sb-2"} if of_suspended else {"another"}
    for age_s in (-FAR_S, -1, 0, 600 - JUST_S, 600, WEEK_S, after_s - JUST_S, after_s, after_s + JUST_S, FAR_S):
        orphan = Orphan(kind, "sb-2", ago(age_s))
        assert due_orphans([orphan], NOW, POLICY, suspended=suspended) == ([orphan] if age_s >= after_s else [])


@pytest.mark.parametrize("age_s", [-FAR_S, -1, 0, 86_400 - JUST_S, 86_400, 86_400 + JUST_S, FAR_S])
def test_a_result_goes_once_it_was_kept_for_its_time(age_s: float) -> None:
    result = StoredObject("results/1", 10, ago(age_s))
    assert expired([result], NOW, POLICY) == ([result] if age_s >= 86_400 else [])


def drawn(random_: random.Random) -> Seen:
    """Return something that a sweep may see, often just at a limit."""

    def near(limit_s: float) -> float:
        return random_.choice((0.0, limit_s, limit_s - JUST_S, limit_s + JUST_S, -JUST_S, random_.uniform(-1, 2e6)))

    timeout_s = random_.choice((1.0, 60.0, HOUR_S))
    state: SandboxState = random_.choice(("starting", "ready", "suspended"))
    suspended_s = random_.choice((None, near(WEEK_S))) if state == "suspended" else None
    one = sandbox(state, age_s=near(timeout_s), suspended_s=suspended_s, idle_timeout_s=timeout_s)
    answer = used(near(timeout_s), busy=random_.random() < 0.3)
    use: Use | Literal["unasked", "unreachable"] = random_.choice(("unasked", "unreachable", answer))
    return Seen(replace(one, name=SandboxName(f"sb-{random_.random()}")), use)


def acted_on(decisions: Decisions) -> set[str]:
    decided = [*(one.sandbox for one in decisions.suspend), *(one.sandbox for one in decisions.remove)]
    return {one.name for one in decided}


@pytest.fixture
def many() -> list[Seen]:
    random_ = random.Random(7)
    return [drawn(random_) for _ in range(3000)]


def test_what_is_decided_of_one_does_not_depend_on_the_others(many: list[Seen]) -> None:
    together = decide(many, NOW, POLICY)
    alone = [decide([one], NOW, POLICY) for one in many]
    assert list(together.suspend) == [decided for one in alone for decided in one.suspend]
    assert list(together.remove) == [decided for one in alone for decided in one.remove]
    assert together.busy == sum(one.busy for one in alone)
    assert together.unreachable == sum(one.unreachable for one in alone)
    assert min(len(together.suspend), len(together.remove), together.busy, together.unreachable) > 50


def test_what_is_busy_silent_or_starting_is_never_touched_and_what_runs_never_removed(many: list[Seen]) -> None:
    decisions = decide(many, NOW, POLICY)
    starting = {one.sandbox.name for one in many if one.sandbox.state == "starting"}
    ready = [one for one in many if one.sandbox.state == "ready"]
    silent_or_busy = {one.sandbox.name for one in ready if isinstance(one.use, str) or one.use.busy}
    assert starting
    assert silent_or_busy
    assert not acted_on(decisions) & (starting | silent_or_busy)
    assert {decided.sandbox.state for decided in decisions.remove} == {"suspended"}


def test_what_is_due_stays_due_and_nothing_is_due_before_its_time(many: list[Seen]) -> None:
    before = acted_on(decide(many, NOW - timedelta(days=40), POLICY))
    now = acted_on(decide(many, NOW, POLICY))
    later = acted_on(decide(many, NOW + timedelta(days=40), POLICY))
    ended = {one.sandbox.name for one in many if one.sandbox.state == "suspended" and not one.sandbox.suspended_at}
    assert before == ended
    assert before < now < later


def test_only_differences_of_times_count(many: list[Seen]) -> None:
    shift = timedelta(days=12345, microseconds=6)

    def moved(one: Seen) -> Seen:
        kept = one.sandbox
        suspended_at = None if kept.suspended_at is None else kept.suspended_at - shift
        there = replace(kept, created_at=kept.created_at - shift, suspended_at=suspended_at)
        use = one.use if isinstance(one.use, str) else Use(one.use.busy, one.use.last_activity_at - shift)
        return Seen(there, use)

    shifted = decide([moved(one) for one in many], NOW - shift, POLICY)
    decided = decide(many, NOW, POLICY)
    assert [one.sandbox.name for one in shifted.suspend] == [one.sandbox.name for one in decided.suspend]
    assert [one.sandbox.name for one in shifted.remove] == [one.sandbox.name for one in decided.remove]
