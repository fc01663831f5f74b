"""What the sweep does about what it has seen, by time and evidence. Pure: no clock, no network.

A moment in the future has no age: clocks differ and jump, and what is dated so is kept until its time has come.
"""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from caesarion.ports import Orphan, Sandbox, StoredObject
from caesarion.settings import SweepSettings

Reason = Literal["idle", "ended"]

TOLD_TO = timedelta(milliseconds=1)  # a status cuts its times off at milliseconds
STARTS_WITHIN_S = 3600.0  # what starts, is woken or is being suspended for longer than this never ends doing so


@dataclass(frozen=True, slots=True)
class Use:
    """What a sandbox says of its use: whether code runs or waits in it, and when it was last used.

    Reading from it is use as long as it lasts; to ask for its health or status is none.
    """

    busy: bool
    last_activity_at: datetime


@dataclass(frozen=True, slots=True)
class Seen:
    """A sandbox as its platform knows it and, if it was asked and answered, what it says of its use.

    `starting_since` is when a sweep first saw it in the state that it has, if that is "starting".
    """

    sandbox: Sandbox
    use: Use | Literal["unasked", "unreachable"] = "unasked"
    starting_since: datetime | None = None


@dataclass(frozen=True, slots=True)
class Suspend:
    """A session to suspend unless it is used after `unused_since`: an idle one, or one whose processes have ended."""

    sandbox: Sandbox
    unused_since: datetime
    reason: Reason
    idle_s: float | None = None


@dataclass(frozen=True, slots=True)
class Remove:
    """A session to remove if it is suspended since that moment still."""

    sandbox: Sandbox
    suspended_since: datetime


@dataclass(frozen=True, slots=True)
class Decisions:
    """What to do about sandboxes, and how many are left alone as code runs in them or they did not answer.

    `stuck` are those that have been starting for too long; nothing is done about them but to say so.
    """

    suspend: Sequence[Suspend]
    remove: Sequence[Remove]
    stuck: Sequence[Sandbox]
    busy: int
    unreachable: int


def could_be_due(sandbox: Sandbox, now: datetime) -> bool:
    """Whether a running sandbox is old enough to be idle, so that it is worth asking."""
    if sandbox.state != "ready" or sandbox.endpoint is None:
        return False
    age_s = _age_s(sandbox.created_at, now)
    return age_s < 0 or age_s >= sandbox.idle_timeout_s


def decide(seen: Iterable[Seen], now: datetime, policy: SweepSettings) -> Decisions:
    """Return what to do about sandboxes. `now` is a moment before any of them was looked at."""
    suspend: list[Suspend] = []
    remove: list[Remove] = []
    stuck: list[Sandbox] = []
    busy = unreachable = 0
    for one in seen:
        sandbox, use = one.sandbox, one.use
        if sandbox.state == "suspended":
            since = sandbox.suspended_at
            if since is None:
                suspend.append(Suspend(sandbox, now, "ended"))
            elif _age_s(since, now) >= policy.suspended_keep_s:
                remove.append(Remove(sandbox, since))
        elif sandbox.state == "ready" and isinstance(use, Use):
            if use.busy:
                busy += 1
            elif (idle_s := _age_s(use.last_activity_at, now)) >= sandbox.idle_timeout_s:
                suspend.append(Suspend(sandbox, use.last_activity_at + TOLD_TO, "idle", idle_s))
        elif sandbox.state == "ready" and use == "unreachable":
            unreachable += 1
        elif sandbox.state == "starting" and one.starting_since is not None:
            if _age_s(one.starting_since, now) >= STARTS_WITHIN_S:
                stuck.append(sandbox)
    return Decisions(suspend, remove, stuck, busy, unreachable)


def due_orphans(
    orphans: Iterable[Orphan], now: datetime, policy: SweepSettings, *, suspended: Collection[str]
) -> Sequence[Orphan]:
    """Return the orphans that are too old to be something that is only being made.

    A checkpoint without a session, and a session without its checkpoint, are kept as long as a suspended session and
    then so long: where the wrong store was named for a while, both belong together. `suspended` are the digests of the
    sessions that were suspended by a sweep.
    """

    def due_after_s(orphan: Orphan) -> float:
        halves = orphan.kind == "checkpoint" or (orphan.kind == "session" and orphan.name in suspended)
        return policy.orphan_after_s + (policy.suspended_keep_s if halves else 0)

    return [orphan for orphan in orphans if _age_s(orphan.since, now) >= due_after_s(orphan)]


def expired(objects: Iterable[StoredObject], now: datetime, policy: SweepSettings) -> Sequence[StoredObject]:
    """Return the results of events that need not be kept any longer."""
    return [one for one in objects if _age_s(one.modified_at, now) >= policy.results_keep_s]


def _age_s(moment: datetime, now: datetime) -> float:
    return (now - moment).total_seconds()
