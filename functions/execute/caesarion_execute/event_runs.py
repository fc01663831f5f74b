"""Code run for events: once for each, whatever is delivered how often and to which replica, and told as one event.

The event's source and id are the key. The result is kept in the store, so that who comes later gets the very same
event; until it is there the execution's id, made from the key, leads everybody to the one execution in the session's
sandbox.
"""

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from starlette.requests import Request
from starlette.routing import Route

from caesarion.adapters.asgi.bodies import Fields
from caesarion.adapters.asgi.event_routes import event_route, unhandled
from caesarion.adapters.asgi.facts import principal_of
from caesarion.adapters.background import joined
from caesarion.adapters.events import data_json, json_bytes, result_of
from caesarion.adapters.platform import Platform
from caesarion.adapters.results import fingerprint
from caesarion.adapters.runs import Following, RunRequest
from caesarion.adapters.sandbox_http import SandboxUnreachable
from caesarion.clock import parse_rfc3339, rfc3339
from caesarion.errors import CaesarionError, InvalidRequest, NotFound, SandboxUnavailable, SessionGone, SessionNotFound
from caesarion.events import (
    EXECUTION_FINISHED,
    EXECUTION_REQUESTED,
    JSON_TYPE,
    NO_EXTENSIONS,
    PING,
    Event,
    event_digest,
)
from caesarion.ids import DEFAULT_CONTEXT, ExecutionId, PrincipalId, SessionId, SessionKey, checked_id
from caesarion.logs import bind
from caesarion.ports import SessionSpec
from caesarion.settings import SandboxSettings
from caesarion_execute.requests import timeout_of, variables_of
from caesarion_execute.settings import Settings

SOURCE = "/events/execute"
TYPES = frozenset({EXECUTION_REQUESTED, PING})
FIELDS = ("code", "session", "context", "timeout_s", "variables")
ATTEMPTS = 5
HEAD_CHARS = 48 * 1024
TAIL_CHARS = 16 * 1024

Others = Callable[[Request, Event], Awaitable[Event | None]]


@dataclass(frozen=True, slots=True)
class ExecutionRequest:
    """What an event asks for. Without a session the code has one of its own, for this run only."""

    code: str
    session: SessionId | None = None
    context: str = DEFAULT_CONTEXT
    timeout_s: float | None = None
    variables: Mapping[str, Any] | None = None


def execution_request(event: Event, limits: SandboxSettings) -> ExecutionRequest:
    """Return what an event's data asks for. Raises InvalidRequest."""
    data = data_json(event)
    if not isinstance(data, dict):
        raise InvalidRequest("The event's data must be a JSON object with `code`.", code="invalid_data")
    unknown = sorted(set(data) - set(FIELDS))
    if unknown:
        raise InvalidRequest(
            f"The field {unknown[0][:80]!r} of the event's data is not known; known are {', '.join(FIELDS)}.",
            code="unknown_field",
        )
    fields = Fields(data)
    session = data.get("session")
    what = "`session`"
    if session is None and event.subject is not None:
        session, what = event.subject, "The event's subject, which names the session,"
    return ExecutionRequest(
        code=fields.text("code"),
        session=None if session is None else SessionId(checked_id(session, what=what)),
        context=fields.name("context", DEFAULT_CONTEXT),
        timeout_s=timeout_of(fields, limits),
        variables=variables_of(fields),
    )


def requested_event(
    source: str,
    event_id: str,
    request: ExecutionRequest,
    *,
    time: datetime | None = None,
    extensions: Mapping[str, str] = NO_EXTENSIONS,
) -> Event:
    """Return the event that asks for this; the same source and id with another request is refused."""
    data: dict[str, Any] = {"code": request.code, "session": request.session, "timeout_s": request.timeout_s}
    data |= {"context": request.context if request.context != DEFAULT_CONTEXT else None}
    data |= {"variables": dict(request.variables) if request.variables else None}
    return Event(
        id=event_id,
        source=source,
        type=EXECUTION_REQUESTED,
        subject=request.session,
        time=rfc3339(time) if time is not None else None,
        datacontenttype=JSON_TYPE,
        extensions=extensions,
        data=json_bytes({name: value for name, value in data.items() if value is not None}),
    )


@dataclass(frozen=True, slots=True)
class _Begun:
    """A run of this process that goes on whoever leaves. `admitted` is set once a sandbox has the code."""

    task: asyncio.Task[Event]
    admitted: asyncio.Event
    kernel: tuple[SessionKey, str]


class EventRuns:
    """Runs code for events."""

    def __init__(self, platform: Platform, settings: Settings) -> None:
        self._platform = platform
        self._limits = settings.sandbox
        self._max_body_bytes = settings.serving.max_body_bytes
        self._max_result_bytes = settings.events.max_result_bytes
        self._running: dict[tuple[str, ...], _Begun] = {}
        self._turns: dict[tuple[SessionKey, str], asyncio.Lock] = {}

    def route(self, path: str, others: Others | None = None) -> Route:
        """Return the route that takes events; those of types that ask for no execution go to `others`."""

        def check(event: Event) -> None:
            if event.type in TYPES:
                execution_request(event, self._limits)

        async def handle(request: Request, event: Event) -> Event | None:
            if event.type in TYPES:
                return await self.run(principal_of(request), event, execution_request(event, self._limits))
            if others is not None:
                return await others(request, event)
            unhandled(event)
            return None

        return event_route(path, handle, max_bytes=self._max_body_bytes, check=check, carries=False)

    async def run(self, principal: PrincipalId, event: Event, request: ExecutionRequest) -> Event:
        """Run the code of an event to its end, unless that was done or is being done, and return its result.

        The code is known by the event's source and id, so `event` must be one for this request alone. The result has
        the extension attributes of the event that came first. The run goes on when the caller is cancelled.
        """
        return await joined(self._begun(principal, event, request, in_turn=True).task)

    async def begin(self, principal: PrincipalId, event: Event, request: ExecutionRequest) -> None:
        """Like `run`, but return once a sandbox has the code, or the result is there already."""
        begun = self._begun(principal, event, request, in_turn=False)
        admitted = asyncio.ensure_future(begun.admitted.wait())
        try:
            await asyncio.wait({admitted, begun.task}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            admitted.cancel()
        if begun.task.done():
            begun.task.result()

    def _begun(self, principal: PrincipalId, event: Event, request: ExecutionRequest, *, in_turn: bool) -> _Begun:
        which = (principal, event.source, event.id, fingerprint(event))
        begun = self._running.get(which)
        if begun is None:
            admitted = asyncio.Event()
            run = _Run(self._platform, principal, event, request, self._limits, self._max_result_bytes)
            if in_turn:
                run.turn = self._turns.setdefault(run.kernel, asyncio.Lock())
            begun = _Begun(self._platform.background.start(run.result(admitted), name="event"), admitted, run.kernel)
            self._running[which] = begun
            begun.task.add_done_callback(lambda _: self._ended(which, run.kernel))
        return begun

    def _ended(self, which: tuple[str, ...], kernel: tuple[SessionKey, str]) -> None:
        self._running.pop(which, None)
        if not any(other.kernel == kernel for other in self._running.values()):
            self._turns.pop(kernel, None)


class _Run:
    """One event's run, from whatever was done of it already to its result.

    `turn` is what the runs of one kernel take in turn: code that would only wait for its kernel must not hold one of
    the executions at once that its principal has, or a slow session would leave none for the others.
    """

    def __init__(
        self,
        platform: Platform,
        principal: PrincipalId,
        event: Event,
        request: ExecutionRequest,
        limits: SandboxSettings,
        max_result_bytes: int,
    ) -> None:
        digest = event_digest(event.source, event.id)
        self._platform = platform
        self._event = event
        self._request = request
        self._own_session = request.session is None
        self._key = SessionKey(principal, request.session or SessionId(f"ev-{digest}"))
        self._spec = SessionSpec(limits.idle_timeout_s)
        self._max_result_bytes = max_result_bytes
        self.turn = asyncio.Lock()
        self.kernel = (self._key, request.context)
        self._wanted = RunRequest(
            id=ExecutionId(f"ev_{digest}"),
            code=request.code,
            context=request.context,
            timeout_s=request.timeout_s,
            keyed=True,
            variables=request.variables,
        )

    async def result(self, admitted: asyncio.Event) -> Event:
        """Return the result once it is this run's turn."""
        async with self.turn:
            return await self._result(admitted)

    async def _result(self, admitted: asyncio.Event) -> Event:
        """Return the result, from the store, or from the execution, begun if it is not.

        A session of its own is released once its result is kept. Whoever finds it gone finds the result; and who made
        it anew meanwhile, having looked too early, finds the result before it sends any code there.
        """
        bind(session=self._key.session, execution=self._wanted.id)
        failure: CaesarionError = SandboxUnavailable("The session's sandbox went away again and again.")
        for _ in range(ATTEMPTS):
            kept = await self._kept()
            if kept is not None:
                return kept
            try:
                sandbox = await self._platform.sessions.claim(self._key, self._spec)
                kept = await self._kept()
                if kept is not None:
                    await self._let_go(kept)
                    return kept
                if self._wanted.context != DEFAULT_CONTEXT:
                    await self._call("POST", "/v1/contexts", {"name": self._wanted.context})
                following = await self._platform.runs.begin(sandbox, self._wanted, only_there=True)
                admitted.set()
                told = await self._told(following)
            except (SandboxUnreachable, SessionNotFound) as exc:
                failure = SandboxUnavailable(exc.message)
                continue
            except (SessionGone, NotFound) as exc:
                failure = exc
                break
            kept = await self._platform.results.keep(self._key.principal, self._event, told)
            await self._let_go(kept)
            return kept
        kept = await self._kept()
        if kept is not None:
            return kept
        raise failure

    async def _kept(self) -> Event | None:
        return await self._platform.results.find(self._key.principal, self._event)

    async def _let_go(self, result: Event) -> None:
        """Release the run's own session unless its outputs are to be fetched there."""
        if self._own_session and "outputs_at" not in json.loads(result.data or b"{}"):
            with contextlib.suppress(SandboxUnavailable):  # the sweep removes what is left
                await self._platform.sessions.release(self._key)

    async def _told(self, following: Following) -> Event:
        """Return the finished execution as an event."""
        collected = Collected(self._max_result_bytes)
        try:
            async with contextlib.aclosing(following.lines()) as blocks:
                async for block in blocks:
                    for line in block.splitlines():
                        collected.add(line)
        finally:
            await following.aclose()
        finished_at = datetime.now(UTC)
        match following.lost:
            case None:
                record = await self._call("GET", f"/v1/executions/{self._wanted.id}")
                finished_at = _finished_at(record, finished_at)
            case SandboxUnavailable():
                raise following.lost
            case _ if self._own_session:  # released once its result is kept, or closed by somebody
                kept = await self._kept()
                if kept is not None:
                    return kept
        return self._finished(collected, finished_at)

    def _finished(self, collected: "Collected", finished_at: datetime) -> Event:
        session, execution = self._key.session, self._wanted.id
        data: dict[str, Any] = {"session": session, "execution": execution}
        last = collected.last
        data |= {
            name: last[name] for name in ("status", "execution_count", "duration_ms") if last.get(name) is not None
        }
        data["text"] = collected.text()
        if collected.outputs is not None:
            data["outputs"] = collected.outputs
        else:
            data["outputs_at"] = f"/sessions/{session}/executions/{execution}/outputs"
        time = rfc3339(finished_at)
        return result_of(self._event, EXECUTION_FINISHED, source=SOURCE, session=session, time=time, data=data)

    async def _call(self, method: str, path: str, document: object = None) -> Any:
        _, answer = await self._platform.sessions.call(self._key, method, path, document=document)
        return answer


class Collected:
    """An execution's outputs as they come: all of them up to a size, and what they say as text up to another."""

    def __init__(self, max_bytes: int) -> None:
        self.outputs: list[dict[str, Any]] | None = []
        self.last: dict[str, Any] = {}
        self._max_bytes = max_bytes
        self._size_bytes = 0
        self._head = ""
        self._tail = ""
        self._chars = 0
        self._breaks = False

    def add(self, line: bytes) -> None:
        """Take an output as its line."""
        output = json.loads(line, parse_constant=lambda _: None)
        self.last = output
        self._size_bytes += len(line)
        if self._size_bytes > self._max_bytes:
            self.outputs = None
        if self.outputs is not None:
            self.outputs.append(output)
        match output:
            case {"type": "stream", "text": str(text)}:
                self._say(text)
            case {"type": "execute_result" | "display_data", "data": {"text/plain": str(text)}}:
                self._say(text, line=True)
            case {"type": "error", "ename": str(name), "evalue": str(value)}:
                self._say(f"{name}: {value}", line=True)

    def text(self) -> str:
        """Return what was said; the middle of a long text is left out."""
        left_out = self._chars - len(self._head) - len(self._tail)
        cut = f"\n[{left_out} characters left out]\n" if left_out else ""
        return f"{self._head}{cut}{self._tail}"

    def _say(self, text: str, *, line: bool = False) -> None:
        """Add text; what is a `line` stands on a line of its own."""
        ends = self._tail or self._head
        if (self._breaks or line) and ends and not ends.endswith("\n"):
            text = "\n" + text
        self._breaks = line
        self._chars += len(text)
        room = HEAD_CHARS - len(self._head) if not self._tail else 0
        self._head += text[:room]
        self._tail = (self._tail + text[room:])[-TAIL_CHARS:]


def _finished_at(record: Mapping[str, Any], otherwise: datetime) -> datetime:
    """Return when an execution ended by its own record, which is the same whoever asks."""
    if "started_at" not in record:
        return otherwise
    return parse_rfc3339(record["started_at"]) + timedelta(milliseconds=record.get("duration_ms", 0))
