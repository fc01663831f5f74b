"""Executions: begun once for each id, followed to their end, and taken up again when the connection to them breaks."""

import contextlib
import json
import logging
import re
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from caesarion.adapters import tracing
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.background import Background
from caesarion.adapters.quotas import Slots
from caesarion.adapters.sessions import Sessions
from caesarion.errors import CaesarionError, NotFound, SandboxUnavailable, SessionNotFound
from caesarion.ids import ExecutionId, SessionKey
from caesarion.logs import milliseconds
from caesarion.outputs import Error, Finished, Output, encode_output
from caesarion.ports import Sandbox

logger = logging.getLogger(__name__)

AFTER_ALL = 10**14
RESUMED_AT_MOST = 3
_LINE = re.compile(rb'\{"seq": ?(\d+), ?"type": ?"([a-z_]+)"')


@dataclass(frozen=True, slots=True)
class RunRequest:
    """Code to run, and the id under which it runs once. `keyed`: the id may be known, as the client chose it.

    `variables` are set in the context before the code runs.
    """

    id: ExecutionId
    code: str
    context: str
    timeout_s: float | None
    keyed: bool
    variables: Mapping[str, Any] | None = None


class Runs:
    """Begins and follows executions."""

    def __init__(self, sessions: Sessions, slots: Slots, background: Background, metrics: Metrics) -> None:
        self._sessions = sessions
        self._slots = slots
        self._background = background
        self.ended = metrics.counter("caesarion_executions", "Executions that finished, by status.", "status")
        self.first_outputs = metrics.durations(
            "caesarion_execution_first_output_seconds", "Time from the request to run code to its first output or end."
        )
        self.durations = metrics.durations(
            "caesarion_execution_duration_seconds", "Time from the request to run code to its end."
        )

    async def begin(
        self, sandbox: Sandbox, request: RunRequest, *, after: int = 0, only_there: bool = False
    ) -> "Following":
        """Run code in a session's sandbox, or join the execution that has this id, and give its outputs past `after`.

        Waits for one of the principal's slots, which stays taken until the execution ends, also when nobody reads. Who
        joins needs none. With `only_there` the code is never sent to another sandbox that the session has by then.
        Raises QuotaExceeded, SessionNotFound, Conflict and SandboxUnavailable.
        """
        key = sandbox.key
        joins = request.keyed and await self._is_known(key, request.id)
        begun = None if joins else await self._begun(key, request)
        document: dict[str, Any] = {"id": request.id, "code": request.code, "context": request.context}
        if request.timeout_s is not None:
            document["timeout_s"] = request.timeout_s
        if request.variables:
            document["variables"] = request.variables
        following = Following(self, key, request.id, after=after, begun=begun)
        try:
            with begun.span.current() if begun is not None else contextlib.nullcontext():
                if after:
                    await self._sessions.call(key, "POST", "/v1/executions", params={"detach": 1}, document=document)
                    await following.open_outputs()
                else:
                    await following.open(
                        "POST", "/v1/executions", document=document, seen=sandbox, only_seen=only_there
                    )
        except BaseException as error:
            await following.aclose(refused=error)
            raise
        return following

    async def follow(self, key: SessionKey, execution: ExecutionId, *, after: int) -> "Following":
        """Give an execution's outputs past number `after`. Raises NotFound, SessionNotFound, SandboxUnavailable."""
        following = Following(self, key, execution, after=after)
        try:
            await following.open_outputs()
        except BaseException as error:
            await following.aclose(refused=error)
            raise
        return following

    async def _is_known(self, key: SessionKey, execution: ExecutionId) -> bool:
        try:
            await self._sessions.call(key, "GET", f"/v1/executions/{execution}")
        except SessionNotFound:
            raise
        except NotFound:
            return False
        return True

    async def _begun(self, key: SessionKey, request: RunRequest) -> "_Begun":
        attributes = {"caesarion.session": key.session, "caesarion.execution": request.id}
        span = tracing.start("execution", {**attributes, "caesarion.code_chars": len(request.code)})
        began_s = time.perf_counter()
        try:
            return _Begun(self, key, request.id, span, began_s, await self._slots.acquire(key.principal))
        except BaseException as error:
            span.fail(tracing.code_of(error))
            span.end()
            raise

    def _hold(self, key: SessionKey, execution: ExecutionId, begun: "_Begun") -> None:
        """Keep a slot until an execution that nobody reads has ended, and count it then."""

        async def until_ended() -> None:
            try:
                path, params = f"/v1/executions/{execution}/outputs", {"after": AFTER_ALL}
                with contextlib.suppress(CaesarionError):
                    async with self._sessions.stream(key, "GET", path, params=params) as answer:
                        async for _ in answer.chunks():
                            pass
                    _, summary = await self._sessions.call(key, "GET", f"/v1/executions/{execution}")
                    begun.end(summary["status"])
            finally:
                begun.let_go()

        self._background.start(until_ended(), name="hold slot")


class _Begun:
    """An execution that was begun here: its slot, and what operators are told of it."""

    def __init__(
        self,
        runs: Runs,
        key: SessionKey,
        execution: ExecutionId,
        span: tracing.Span,
        began_s: float,
        release: Callable[[], None],
    ) -> None:
        self.span = span
        self._runs = runs
        self._ids = {"session": key.session, "principal": key.principal, "execution": execution}
        self._began_s = began_s
        self._first_output_s: float | None = None
        self._release = release

    def saw_output(self) -> None:
        """Note the first output; later ones change nothing."""
        if self._first_output_s is None:
            self._first_output_s = time.perf_counter() - self._began_s
            self._runs.first_outputs.add(self._first_output_s)
            self.span.event("first output")

    def end(self, status: str) -> None:
        """Tell how the execution ended, and give the slot back."""
        duration_s = time.perf_counter() - self._began_s
        self._runs.ended[status,] += 1
        self._runs.durations.add(duration_s)
        self.span.set({"caesarion.status": status})
        facts: dict[str, object] = {"status": status, "duration_ms": milliseconds(duration_s)}
        if self._first_output_s is not None:
            facts["first_output_ms"] = milliseconds(self._first_output_s)
        logger.info("execution ended", extra={**self._ids, **facts})
        self.let_go()

    def let_go(self, refused: BaseException | None = None) -> None:
        """Give the slot back, also when it is not known how the execution ended. Idempotent."""
        if refused is not None:
            self.span.fail(tracing.code_of(refused))
        self.span.end()
        self._release()


class Following:
    """One execution's outputs as they come. `lost` is why the last ones, if they are, were made here."""

    def __init__(
        self,
        runs: Runs,
        key: SessionKey,
        execution: ExecutionId,
        *,
        after: int,
        begun: _Begun | None = None,
    ) -> None:
        self.execution = execution
        self.finished = False
        self.lost: CaesarionError | None = None
        self._runs = runs
        self._key = key
        self._begun = begun
        self._last_seq = after
        self._stack = contextlib.AsyncExitStack()
        self._blocks: AsyncIterator[bytes] | None = None
        self._first: bytes | None = None
        self._began_s = time.monotonic()

    async def open(
        self,
        method: str,
        path: str,
        *,
        document: object = None,
        after: int = 0,
        seen: Sandbox | None = None,
        only_seen: bool = False,
    ) -> None:
        """Ask for the outputs; errors of the request come out here, before there are any."""
        await self._stack.aclose()
        params = {"after": after} if after else None
        stream = self._runs._sessions.stream(
            self._key, method, path, params=params, document=document, seen=seen, only_seen=only_seen
        )
        self._blocks = (await self._stack.enter_async_context(stream)).lines()

    async def open_outputs(self) -> None:
        """Ask for the outputs past the last one seen."""
        await self.open("GET", f"/v1/executions/{self.execution}/outputs", after=self._last_seq)

    async def lines(self) -> AsyncGenerator[bytes, None]:
        """Yield whole lines to the last, which is `finished`. Never raises for what happens to the sandbox.

        When the connection breaks the outputs are asked for again after the last one seen. A sandbox that ended is
        woken for that: its journal tells how the execution ended. Where nothing helps, the last lines are made here.
        """
        for _ in range(RESUMED_AT_MOST + 1):
            try:
                async for block in self._wanted():
                    self._note(block)
                    yield block
                if self.finished or not await self._unfinished():
                    return
            except SandboxUnavailable:
                pass
            except CaesarionError as exc:
                yield self._last_words(exc, exc.message)
                return
            self._blocks = None
        reason = "the session's sandbox stopped answering"
        yield self._last_words(SandboxUnavailable(f"{reason}."), reason)

    async def nothing_left(self) -> bool:
        """Whether the execution has ended and its outputs past the number asked for are none."""
        if self._blocks is None or await self._unfinished():
            return False
        self._first = await anext(self._blocks, None)
        return self._first is None

    async def aclose(self, *, refused: BaseException | None = None) -> None:
        """Stop reading. Unless it was `refused` the execution goes on, and its slot stays taken until it ends."""
        await self._stack.aclose()
        if self._begun is not None:
            if refused is None and not self.finished:
                self._runs._hold(self._key, self.execution, self._begun)
            else:
                self._begun.let_go(refused)

    async def _wanted(self) -> AsyncIterator[bytes]:
        """Yield from the answer that is open, or from a new one when that broke off."""
        if self._blocks is None:
            await self.open_outputs()
        if self._first is not None:
            first, self._first = self._first, None
            yield first
        if self._blocks is not None:
            async for block in self._blocks:
                yield block

    async def _unfinished(self) -> bool:
        """Whether more may come although the answer ended; it may also have had nothing past the number asked for."""
        _, summary = await self._runs._sessions.call(self._key, "GET", f"/v1/executions/{self.execution}")
        return summary["status"] in ("queued", "running") or self._last_seq == 0

    def _note(self, block: bytes) -> None:
        start = block.rfind(b"\n", 0, -1) + 1
        found = _LINE.match(block, start)
        if found is not None:
            self._last_seq = int(found[1])
            if self._begun is not None:
                self._begun.saw_output()
            if found[2] == b"finished":
                self.finished = True
                if self._begun is not None:  # before the client has the line and begins something else
                    self._begun.end(json.loads(block[start:])["status"])

    def _last_words(self, lost: CaesarionError, reason: str) -> bytes:
        self.lost = lost
        text = f"{reason}. Whether the code ran to its end is not known."
        duration_ms = round((time.monotonic() - self._began_s) * 1000, 3)
        outputs: list[Output] = [Error("SandboxLost", text, [f"SandboxLost: {text}"])]
        outputs.append(Finished("died", None, duration_ms))
        self.finished = True
        if self._begun is not None:
            self._begun.end("died")
        encoded = [encode_output(output, self._last_seq + number) for number, output in enumerate(outputs, start=1)]
        return b"".join(json.dumps(record).encode() + b"\n" for record in encoded)
