"""One sweep: sandboxes are looked at and, by `rules`, suspended or removed; orphans and old results go too.

Nothing that matters is kept between sweeps. What one leaves undone, as it was ended half-way or something failed, the
next one does; and of several at once each asks anew before it acts, by the preconditions of the port.
"""

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Literal, TypeVar, get_args

from caesarion.adapters import tracing
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.events import json_bytes
from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.adapters.sink import Announcer
from caesarion.clock import parse_rfc3339, rfc3339
from caesarion.errors import SandboxUnavailable
from caesarion.events import JSON_TYPE, SANDBOX_REMOVED, SANDBOX_SUSPENDED, Event, event_digest
from caesarion.ids import SessionKey
from caesarion.logs import milliseconds
from caesarion.ports import Endpoint, ObjectStore, Orphan, Sandbox, Sandboxes, SandboxState, StoredObject
from caesarion.settings import SweepSettings
from caesarion_cleanup.rules import Remove, Seen, Suspend, Use, could_be_due, decide, due_orphans, expired
from caesarion_cleanup.suspensions import Suspensions, wait_a_while

logger = logging.getLogger(__name__)
T = TypeVar("T")
R = TypeVar("R")

RESULT_FOLDERS = ("results", "deliveries")
STATUSES_AT_ONCE = 32
STATUS_DEADLINE_S = 5.0
SUSPEND_DEADLINE_S = 180.0
REMOVES_AT_ONCE = 8
REMOVE_DEADLINE_S = 120.0
LIST_DEADLINE_S = 120.0
STATES = get_args(SandboxState)
ACTIONS = ("suspended", "removed", "spared_busy", "failed", "orphans_removed", "expired_results")

Ask = Callable[[Endpoint], Awaitable[Use]]


@dataclass(frozen=True, slots=True)
class Report:
    """What a sweep did.

    `spared_busy` are those past their time in which code runs, or that somebody used, woke or swept in between.
    `still_suspending` are suspensions that go on; the report of a sweep after their end counts them.
    """

    examined: int
    suspended: int
    removed: int
    spared_busy: int
    failed: int
    orphans_removed: int
    expired_results: int
    still_suspending: int
    duration_ms: float


async def use_over_http(endpoint: Endpoint) -> Use:
    """Ask a sandbox's server for its use. Raises SandboxUnavailable when it does not answer, or not as it should."""
    client = SandboxClient(endpoint)
    try:
        status = await client.call("GET", "/v1/status", deadline_s=STATUS_DEADLINE_S)
        moment = parse_rfc3339(status["last_activity_at"])
        if moment.tzinfo is None:
            raise ValueError("a time without its zone")
        return Use(status["state"] == "busy", moment)
    except (ValueError, TypeError, LookupError) as exc:
        raise SandboxUnavailable("The sandbox's status is not understood.") from exc
    finally:
        await client.aclose()


class Sweeper:
    """Sweeps when asked. Counts what was done, and announces each session that was suspended or removed.

    Suspensions that take longer than `patience` go on when a sweep has ended; whoever closes this ends them.
    """

    def __init__(
        self,
        sandboxes: Sandboxes,
        store: ObjectStore,
        announcer: Announcer,
        metrics: Metrics,
        policy: SweepSettings,
        *,
        ask: Ask = use_over_http,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        patience: Callable[[], Awaitable[None]] = wait_a_while,
    ) -> None:
        self._sandboxes = sandboxes
        self._store = store
        self._announcer = announcer
        self._policy = policy
        self._ask = ask
        self.now = now
        self._suspensions = Suspensions(self._suspended, patience)
        self._starting_since: dict[SessionKey, datetime] = {}
        self._actions = metrics.counter("caesarion_sweep_actions", "What sweeps did, by action.", "action")
        for action in ACTIONS:
            self._actions[action,] += 0
        self._ended_s = self._took_s = 0.0
        metrics.gauge(
            "caesarion_sweep_ended_timestamp_seconds", "End of the last sweep, 0 before it.", lambda: self._ended_s
        )
        self._states: Counter[str] = Counter()
        metrics.gauges(
            "caesarion_sandboxes", "Sandboxes of sessions by state, as the last sweep saw them.", "state",
            lambda: {state: self._states[state] for state in STATES},
        )  # fmt: skip
        metrics.gauge("caesarion_sweep_duration_seconds", "Duration of the last sweep.", lambda: self._took_s)

    async def sweep(self) -> Report:
        """Sweep once. What fails is counted and logged, and the rest goes on.

        Raises what listing the sandboxes raises, as then nothing is known of them.
        """
        began_s = time.perf_counter()
        now = self.now()
        done: Counter[str] = Counter()
        listed = await self._list()
        self._states = Counter(sandbox.state for sandbox in listed)
        decisions = decide(await self._look(listed, now), now, self._policy)
        done["spared_busy"] += decisions.busy
        done["failed"] += decisions.unreachable + len(decisions.stuck)
        for sandbox in decisions.stuck:
            logger.warning("sandbox is starting for too long", extra=_facts(sandbox))
        await _each(decisions.remove, self._remove, done, at_once=REMOVES_AT_ONCE, deadline_s=REMOVE_DEADLINE_S)
        await self._suspensions.work_off(decisions.suspend)
        suspended = {sandbox.key.digest for sandbox in listed if sandbox.suspended_at is not None}
        found = await _listed(self._sandboxes.orphans(), "orphans", done)
        orphans = due_orphans(found, now, self._policy, suspended=suspended)
        await _each(orphans, self._remove_orphan, done, at_once=REMOVES_AT_ONCE, deadline_s=REMOVE_DEADLINE_S)
        for folder in RESULT_FOLDERS:
            old = expired(await _listed(self._store.list(folder), folder, done), now, self._policy)
            await _each(old, self._delete, done, at_once=REMOVES_AT_ONCE, deadline_s=REMOVE_DEADLINE_S)
        done += self._suspensions.outcomes()
        return self._reported(len(listed), done, time.perf_counter() - began_s)

    async def aclose(self) -> None:
        """End the suspensions that are under way."""
        await self._suspensions.aclose()

    async def _list(self) -> Sequence[Sandbox]:
        try:
            async with asyncio.timeout(LIST_DEADLINE_S):
                return await self._sandboxes.list(None)
        except Exception as exc:
            self._actions["failed",] += 1
            if isinstance(exc, TimeoutError):
                raise SandboxUnavailable(f"The sandboxes were not listed within {LIST_DEADLINE_S:g} s.") from exc
            raise

    async def _look(self, listed: Sequence[Sandbox], now: datetime) -> list[Seen]:
        """Ask those that could be due, and return all with what is known of their use."""
        uses: dict[SessionKey, Use | Literal["unreachable"]] = {}

        async def ask(sandbox: Sandbox) -> str | None:
            if sandbox.endpoint is None:
                return None
            uses[sandbox.key] = "unreachable"
            try:
                uses[sandbox.key] = await self._ask(sandbox.endpoint)
            except SandboxUnavailable:
                there = await self._sandboxes.get(sandbox.key)
                if there is not None and there.endpoint == sandbox.endpoint:
                    raise
                del uses[sandbox.key]  # it was suspended or closed in between
            return None

        due = [sandbox for sandbox in listed if could_be_due(sandbox, now) and sandbox.key not in self._suspensions]
        await _each(due, ask, Counter(), at_once=STATUSES_AT_ONCE, deadline_s=2 * STATUS_DEADLINE_S)
        since = self._starting_since = {
            sandbox.key: self._starting_since.get(sandbox.key, now) for sandbox in listed if sandbox.state == "starting"
        }
        return [Seen(one, uses.get(one.key, "unasked"), since.get(one.key)) for one in listed]

    async def _suspended(self, decided: Suspend) -> str:
        return await _outcome(decided, self._suspend, deadline_s=SUSPEND_DEADLINE_S)

    async def _suspend(self, decided: Suspend) -> str:
        sandbox = decided.sandbox
        began_s = time.perf_counter()
        with tracing.span("suspend", {"caesarion.session": sandbox.key.session}):
            if not await self._sandboxes.suspend(sandbox.key, unused_since=decided.unused_since):
                return "spared_busy"
        took_s = time.perf_counter() - began_s
        self._tell(SANDBOX_SUSPENDED, sandbox, decided.reason, decided.unused_since, took_s, decided.idle_s)
        return "suspended"

    async def _remove(self, decided: Remove) -> str:
        sandbox = decided.sandbox
        began_s = time.perf_counter()
        if not await self._sandboxes.release(sandbox.key, suspended_since=decided.suspended_since):
            return "spared_busy"
        self._tell(SANDBOX_REMOVED, sandbox, "expired", decided.suspended_since, time.perf_counter() - began_s)
        return "removed"

    async def _remove_orphan(self, orphan: Orphan) -> str | None:
        if not await self._sandboxes.remove_orphan(orphan):
            return None
        logger.info("orphan removed", extra=_facts(orphan))
        return "orphans_removed"

    async def _delete(self, old: StoredObject) -> str:
        await self._store.delete(old.path)
        return "expired_results"

    def _tell(
        self, kind: str, sandbox: Sandbox, reason: str, since: datetime, took_s: float, idle_s: float | None = None
    ) -> None:
        """Log and announce what was done. Two sweeps that did the same make the same event."""
        data: dict[str, Any] = {"session": sandbox.key.session, "sandbox": sandbox.name, "reason": reason}
        if idle_s is not None:
            data["idle_s"] = round(idle_s, 3)
        logger.info(kind.rpartition(".")[2], extra={**_facts(sandbox), **data, "duration_ms": milliseconds(took_s)})
        event = Event(
            id=event_digest(kind, f"{sandbox.key.digest} {rfc3339(since)}"),
            source=f"/sessions/{sandbox.key.session}",
            type=kind,
            subject=sandbox.key.session,
            time=rfc3339(self.now()),
            datacontenttype=JSON_TYPE,
            data=json_bytes(data),
        )
        self._announcer.announce(event, sandbox.key.principal)

    def _reported(self, examined: int, done: Counter[str], took_s: float) -> Report:
        report = Report(
            examined,
            **{action: done[action] for action in ACTIONS},
            still_suspending=len(self._suspensions),
            duration_ms=milliseconds(took_s),
        )
        for action in ACTIONS:
            self._actions[action,] += done[action]
        self._ended_s, self._took_s = self.now().timestamp(), took_s
        logger.info("swept", extra=asdict(report))
        return report


async def _listed(listing: Awaitable[Sequence[T]], what: str, done: Counter[str]) -> Sequence[T]:
    """Return what is listed, or nothing when that fails, which is counted and logged."""
    try:
        async with asyncio.timeout(LIST_DEADLINE_S):
            return await listing
    except Exception as exc:
        done["failed"] += 1
        logger.warning("sweep could not list", extra={"listed": what, "reason": repr(exc)[:500]})
        return ()


async def _each(
    items: Sequence[T],
    act: Callable[[T], Awaitable[str | None]],
    done: Counter[str],
    *,
    at_once: int,
    deadline_s: float,
) -> None:
    """Act on each item, some at once, and count what was done. One that fails is logged; the others go on."""
    left = iter(items)

    async def worker() -> None:
        for item in left:
            if (outcome := await _outcome(item, act, deadline_s=deadline_s)) is not None:
                done[outcome] += 1

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(items))):
            group.create_task(worker())


async def _outcome(item: T, act: Callable[[T], Awaitable[R]], *, deadline_s: float) -> R | Literal["failed"]:
    """Return what `act` says that it did, or that it failed, which is logged."""
    try:
        async with asyncio.timeout(deadline_s):
            return await act(item)
    except Exception as exc:
        logger.warning("sweep failed on one", extra={**_facts(item), "reason": repr(exc)[:500]})
        return "failed"


def _facts(item: object) -> dict[str, object]:
    """Return what a log line says of something that was swept."""
    match item:
        case Sandbox(name=name, key=key):
            return {"principal": key.principal, "session": key.session, "sandbox": name}
        case Suspend(sandbox=sandbox) | Remove(sandbox=sandbox):
            return {"action": type(item).__name__.lower(), **_facts(sandbox)}
        case Orphan(kind=kind, name=name):
            return {"orphan": name, "kind": kind}
        case StoredObject(path=path):
            return {"object": path}
    return {}
