"""Sessions: their sandboxes found, claimed and woken, within the quota, and told as the API tells them."""

import asyncio
import contextlib
import logging
import time
from collections.abc import AsyncIterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from caesarion.adapters import tracing
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.background import Background
from caesarion.adapters.events import json_bytes
from caesarion.adapters.sandbox_http import Answer, Params, SandboxClients, SandboxUnreachable
from caesarion.adapters.sink import Announcer
from caesarion.clock import parse_rfc3339, rfc3339
from caesarion.errors import CaesarionError, QuotaExceeded, SandboxUnavailable, SessionNotFound
from caesarion.events import JSON_TYPE, SANDBOX_CLAIMED, SESSION_CLOSED, Event, event_digest
from caesarion.ids import PrincipalId, SessionKey, new_id
from caesarion.logs import milliseconds
from caesarion.ports import Endpoint, Sandbox, Sandboxes, SessionSpec

logger = logging.getLogger(__name__)

STATUS_DEADLINE_S = 2.0
ANSWER_DEADLINE_S = 60.0
STATUSES_AT_ONCE = 16
RETRY_AFTER_S = 30.0
STATUS_FIELDS = (
    "last_activity_at",
    "generation",
    "restored",
    "memory_bytes",
    "memory_limit_bytes",
    "disk_bytes",
    "disk_limit_bytes",
)


class Sessions:
    """The sessions of all principals, through the port. Keeps nothing that another replica would miss."""

    def __init__(
        self,
        sandboxes: Sandboxes,
        clients: SandboxClients,
        background: Background,
        metrics: Metrics,
        *,
        max_sessions: int,
        max_kept_sessions: int,
        claim_timeout_s: float,
        announcer: Announcer,
    ) -> None:
        self._sandboxes = sandboxes
        self._clients = clients
        self._background = background
        self._max_sessions = max_sessions
        self._max_kept_sessions = max_kept_sessions
        self._claim_timeout_s = claim_timeout_s
        self._announcer = announcer
        self._durations = metrics.durations(
            "caesarion_claim_duration_seconds", "Time from a claim to the session's ready sandbox.", "start"
        )
        self._claims: dict[tuple[SessionKey, bool], asyncio.Task[Sandbox]] = {}
        self._admitted: set[SessionKey] = set()

    async def claim(self, key: SessionKey, spec: SessionSpec | None = None) -> Sandbox:
        """Return the session's ready sandbox, made (with a `spec`) or woken if need be.

        Raises SessionNotFound, QuotaExceeded, or SandboxUnavailable when none is ready in time.
        """
        return await asyncio.shield(self._claim_begun(key, spec))

    async def claim_within(self, key: SessionKey, spec: SessionSpec, wait_s: float) -> Sandbox | None:
        """Return the session's ready sandbox, or None when it is not ready in time; then its start goes on."""
        found = await self._sandboxes.get(key)
        if found is not None and _is_ready(found) and self._claim_of(key) is None:
            return found
        task = self._claim_begun(key, spec)
        await asyncio.wait({task}, timeout=wait_s)
        return task.result() if task.done() else None

    async def ready(self, key: SessionKey) -> Sandbox:
        """Return the session's ready sandbox, woken if it is suspended. Raises SessionNotFound when there is none.

        While it is made or woken here it may look ready before it has its variables, so that is waited for.
        """
        claim = self._claim_of(key)
        if claim is not None:
            return await asyncio.shield(claim)
        found = await self.get(key)
        return found if _is_ready(found) else await self.claim(key)

    async def get(self, key: SessionKey) -> Sandbox:
        """Return the session's sandbox as it is, once its first start is over. Raises SessionNotFound."""
        found = await self.seen(key)
        return found if found is not None else await asyncio.shield(self._claims[key, True])

    async def seen(self, key: SessionKey) -> Sandbox | None:
        """Return the session's sandbox as it is, or None while its first start goes on. Raises SessionNotFound."""
        found = await self._sandboxes.get(key)
        if found is None and (key, True) not in self._claims:
            _not_found(key)
        return found

    async def release(self, key: SessionKey) -> None:
        """End the session. Idempotent."""
        claims = {task for (claimed, _), task in self._claims.items() if claimed == key}
        if claims:
            await asyncio.wait(claims)
        began_s = time.perf_counter()
        closed = await self._sandboxes.get(key) if self._announcer.heard else None
        await self._sandboxes.release(key)
        logger.info(
            "released",
            extra={"session": key.session, "principal": key.principal, "duration_ms": _ms_since(began_s)},
        )
        if closed is not None:
            event = lifecycle_event(SESSION_CLOSED, closed, "closed", since=closed.created_at)
            self._announcer.announce(event, key.principal)

    @contextlib.asynccontextmanager
    async def stream(
        self,
        key: SessionKey,
        method: str,
        path: str,
        *,
        params: Params | None = None,
        document: object = None,
        body: AsyncIterator[bytes] | None = None,
        headers: Mapping[str, str] | None = None,
        passed: tuple[int, ...] = (),
        seen: Sandbox | None = None,
        only_seen: bool = False,
    ) -> AsyncIterator[Answer]:
        """Ask the session's sandbox, woken if need be, and give its answer to be read. `seen` is it, if just looked up.

        A sandbox that went away since it was last seen is claimed anew and asked once more, unless `body` is used up or
        it must be that very sandbox (`only_seen`).
        """
        async with contextlib.AsyncExitStack() as stack:

            async def asked(sandbox: Sandbox) -> Answer:
                client = await stack.enter_async_context(self._clients.lent(_endpoint(sandbox)))
                return await stack.enter_async_context(
                    client.stream(
                        method, path, params=params, document=document, body=body, headers=headers, passed=passed
                    )
                )

            try:
                usable = seen is not None and _is_ready(seen) and (only_seen or self._claim_of(key) is None)
                answer = await asked(seen if seen is not None and usable else await self.ready(key))
            except SandboxUnreachable as error:
                if error.body_begun or only_seen:
                    raise
                answer = await asked(await self.claim(key))
            yield answer

    async def call(
        self, key: SessionKey, method: str, path: str, *, params: Params | None = None, document: object = None
    ) -> tuple[int, Any]:
        """Ask the session's sandbox and return the status and the decoded JSON of its answer."""
        try:
            async with asyncio.timeout(ANSWER_DEADLINE_S + self._claim_timeout_s):
                async with self.stream(key, method, path, params=params, document=document) as answer:
                    return answer.status, await answer.json() if answer.status != 204 else None
        except TimeoutError as exc:
            raise SandboxUnavailable("The session's sandbox did not answer in time.") from exc

    async def described(self, sandbox: Sandbox) -> dict[str, Any]:
        """Return the session as the API tells it, with what its sandbox says of itself when it runs."""
        if sandbox.endpoint is None:
            return session_document(sandbox, None)
        try:
            async with self._clients.lent(sandbox.endpoint) as client:
                return session_document(sandbox, await client.call("GET", "/v1/status", deadline_s=STATUS_DEADLINE_S))
        except SandboxUnavailable:
            return session_document(sandbox, None)

    async def all_described(self, principal: PrincipalId) -> list[dict[str, Any]]:
        """Return all sessions of a principal, oldest first."""
        at_once = asyncio.Semaphore(STATUSES_AT_ONCE)

        async def one(sandbox: Sandbox) -> dict[str, Any]:
            async with at_once:
                return await self.described(sandbox)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(one(sandbox)) for sandbox in await self._sandboxes.list(principal)]
        return [task.result() for task in tasks]

    async def check(self) -> str | None:
        """Return what is wrong with the platform that sandboxes come from, or None."""
        try:
            async with asyncio.timeout(STATUS_DEADLINE_S):
                await self._sandboxes.list(PrincipalId("health"))
        except TimeoutError:
            return f"no answer within {STATUS_DEADLINE_S:g} s"
        except Exception as exc:
            return type(exc).__name__
        return None

    def _claim_of(self, key: SessionKey) -> "asyncio.Task[Sandbox] | None":
        """Return this session's claim that is under way here, if there is one."""
        return self._claims.get((key, True)) or self._claims.get((key, False))

    def _claim_begun(self, key: SessionKey, spec: SessionSpec | None) -> "asyncio.Task[Sandbox]":
        """Return the one claim of this session that is under way, begun if there is none. It outlives who asked."""
        which = (key, spec is not None)
        task = self._claims.get(which)
        if task is None:
            task = self._background.start(self._claim_admitted(key, spec), name="claim")
            self._claims[which] = task
            task.add_done_callback(lambda _: self._claims.pop(which, None))
        return task

    async def _claim_admitted(self, key: SessionKey, spec: SessionSpec | None) -> Sandbox:
        began_s = time.perf_counter()
        ids = {"session": key.session, "principal": key.principal}
        with tracing.span("claim", {"caesarion.session": key.session}) as span:
            try:
                sandbox = await self._claim_counted(key, spec)
            except CaesarionError as error:
                if not isinstance(error, SessionNotFound):
                    self._durations.add(time.perf_counter() - began_s, "failed")
                    logger.warning("claim failed", extra={**ids, "code": error.code, "duration_ms": _ms_since(began_s)})
                raise
            self._durations.add(time.perf_counter() - began_s, sandbox.start)
            span.set({"caesarion.start": sandbox.start, "caesarion.sandbox": sandbox.name})
        level = logging.DEBUG if sandbox.start == "own" else logging.INFO
        facts = {"sandbox": sandbox.name, "start": sandbox.start, "duration_ms": _ms_since(began_s)}
        logger.log(level, "claimed", extra={**ids, **facts})
        return sandbox

    async def _claim_counted(self, key: SessionKey, spec: SessionSpec | None) -> Sandbox:
        await self._admit(key)
        try:
            known = spec is None or not spec.new
            before = await self._sandboxes.get(key) if known and self._announcer.heard else None
            sandbox = await self._sandboxes.claim(key, spec, deadline_s=self._claim_timeout_s)
        finally:
            self._admitted.discard(key)
        if before is None:
            event = lifecycle_event(SANDBOX_CLAIMED, sandbox, "new", since=sandbox.created_at)
            self._announcer.announce(event, key.principal)
        elif before.state == "suspended" or before.name != sandbox.name:  # else it was being suspended
            event = lifecycle_event(SANDBOX_CLAIMED, sandbox, "woken", since=before.suspended_at)
            self._announcer.announce(event, key.principal)
        return sandbox

    async def _admit(self, key: SessionKey) -> None:
        """Count this claim, or raise QuotaExceeded. Claims that end while the list is fetched are counted once."""
        before = set(self._admitted)
        limited = self._max_sessions or self._max_kept_sessions
        listed = await self._sandboxes.list(key.principal) if limited else ()
        admitted = {other for other in before | self._admitted if other.principal == key.principal}
        used = {sandbox.key for sandbox in listed if sandbox.state != "suspended"} | admitted
        kept = {sandbox.key for sandbox in listed} | admitted
        if self._max_kept_sessions and key not in kept and len(kept) >= self._max_kept_sessions:
            raise QuotaExceeded(
                f"You have {len(kept)} sessions, suspended ones among them; more than {self._max_kept_sessions} of one "
                "principal are not kept. Close some.",
                retry_after_s=RETRY_AFTER_S,
            )
        if self._max_sessions and key not in used and len(used) >= self._max_sessions:
            raise QuotaExceeded(
                f"You have {len(used)} live sessions; more than {self._max_sessions} at once are not given. "
                "Close one, or wait until one is suspended.",
                retry_after_s=RETRY_AFTER_S,
            )
        self._admitted.add(key)


def session_document(sandbox: Sandbox, status: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return a session's JSON from its sandbox's record and, when it runs, its status."""
    document: dict[str, Any] = {
        "id": sandbox.key.session,
        "state": status["state"] if status is not None else sandbox.state,
        "created_at": rfc3339(sandbox.created_at),
        "idle_timeout_s": sandbox.idle_timeout_s,
    }
    if sandbox.suspended_at is not None and sandbox.stored:
        document["suspended_at"] = rfc3339(sandbox.suspended_at)
    if status is None:
        return document
    document.update((name, status[name]) for name in STATUS_FIELDS if status.get(name) is not None)
    if "last_activity_at" in document:
        last = parse_rfc3339(document["last_activity_at"])
        document["expires_at"] = rfc3339(last + timedelta(seconds=sandbox.idle_timeout_s))
    document["contexts"] = status.get("contexts", [])
    return document


def lifecycle_event(kind: str, sandbox: Sandbox, reason: str, *, since: datetime | None) -> Event:
    """Return the event that something has become of a session's sandbox.

    `since` is when what ended by that began: two replicas that saw it tell an event with the same id.
    """
    session = sandbox.key.session
    source = f"/sessions/{session}"
    data = {"session": session, "sandbox": sandbox.name, "reason": reason}
    key = f"{kind} {reason} {sandbox.key.principal} {rfc3339(since)}" if since is not None else new_id("v")
    return Event(
        id=event_digest(source, key),
        source=source,
        type=kind,
        subject=session,
        time=rfc3339(datetime.now(UTC)),
        datacontenttype=JSON_TYPE,
        data=json_bytes(data),
    )


def _ms_since(began_s: float) -> float:
    return milliseconds(time.perf_counter() - began_s)


def _is_ready(sandbox: Sandbox) -> bool:
    return sandbox.state == "ready" and sandbox.endpoint is not None


def _endpoint(sandbox: Sandbox) -> Endpoint:
    if sandbox.endpoint is None:
        raise SandboxUnavailable("The session's sandbox is not ready.")
    return sandbox.endpoint


def _not_found(key: SessionKey) -> NoReturn:
    raise SessionNotFound(
        f"There is no session {key.session!r}. Make it with POST /sessions or POST /sessions/{key.session}/initialize."
    )
