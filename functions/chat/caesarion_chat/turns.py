"""Turns of the AI SDK's wire: begun once, driven to their end whoever reads, followed from here or from the journal."""

import asyncio
import contextlib
import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any

from caesarion.adapters.platform import Platform
from caesarion.clock import rfc3339
from caesarion.errors import CaesarionError, Conflict, SessionNotFound
from caesarion.file_names import safe_name
from caesarion.ids import ExecutionId, SessionKey, keyed_execution_id, new_id
from caesarion.ports import Sandbox, SessionSpec
from caesarion_chat.agent import Agent, Stopped
from caesarion_chat.files import listing, listing_text, versions
from caesarion_chat.journal import TurnJournal, chunks_of, history, is_driven, signal_stop
from caesarion_chat.model import FinishReason, Message, Usage
from caesarion_chat.prompt import LEFT_OUT, SYSTEM
from caesarion_chat.reports import TurnReport, TurnReports
from caesarion_chat.settings import Settings
from caesarion_chat.tools import ToolContext
from caesarion_chat.transcript import Failure, Turn, closed, fitted
from caesarion_chat.ui_request import UiRequest
from caesarion_chat.ui_stream import STOPPED_REASON, Chunk, ChunkLog, finish

logger = logging.getLogger(__name__)

ADMITTED_AFTER = 5
MESSAGE_CHANGED = "message_changed"
Batches = AsyncGenerator[list[Chunk], None]
Admitted = Callable[[], Awaitable[bool]]


@dataclass(frozen=True, slots=True)
class Plan:
    """What a turn goes on from: the turns before it, what it continues, and the result of looking at the files."""

    earlier: tuple[Turn, ...] = ()
    continues: Turn | None = None
    looked: tuple[Message, ...] = ()


class Turns:
    """All turns that are driven in this process, and the way to those that are not."""

    def __init__(self, platform: Platform, agent: Agent, settings: Settings) -> None:
        self.sessions = platform.sessions
        self.runs = platform.runs
        self.agent = agent
        self.settings = settings
        self.reports = TurnReports(platform.metrics)
        self._background = platform.background
        self._driven: dict[SessionKey, DrivenTurn] = {}

    async def begin(self, key: SessionKey, request: UiRequest, admitted: Admitted | None = None) -> Batches:
        """Begin the turn that is asked for, and return its chunks. The same message again gives the same turn.

        `admitted` says, once the turn is written down, whether it is to be driven: else SessionNotFound is raised.
        Raises Conflict while another turn of this chat runs, and what claiming a session raises.
        """
        running = self._running_here(key)
        if running is not None:
            if running.is_for(request):
                return running.log.follow()
            raise turn_running()
        turn = self._driven[key] = DrivenTurn(self, key, request, admitted)
        try:
            exists = request.keyed or await self._exists(key)
            if exists:
                before = await turn.prepare()
                if before is not None:
                    self._driven.pop(key)
                    return chunks_of(self.sessions, key, before)
            driving = self._background.start(turn.drive(prepared=exists), name="turn")
        except BaseException:
            self._driven.pop(key)
            await turn.journal.abandon()
            raise
        driving.add_done_callback(lambda _: self._driven.pop(key) if self._driven.get(key) is turn else None)
        return turn.log.follow()

    async def ended(self, key: SessionKey, request: UiRequest, admitted: Admitted) -> Turn | None:
        """Have the turn that is asked for driven to its end, here or elsewhere, and return it as it is written down.

        Its `reason` is None when whoever drove it ended in the middle; None when it is not in the history any more.
        Raises like `begin`.
        """
        async with contextlib.aclosing(await self.begin(key, request, admitted)) as batches:
            async for _ in batches:
                pass
        turns, _ = await history(self.sessions, key)
        return request.turn_in(turns)

    async def found(self, key: SessionKey, turn: str | None) -> Batches | None:
        """Return the chunks of `turn`, ended or not, or without one of the turn that runs or was cut off.

        None when there is no such turn.
        """
        driven = self._driven.get(key)
        if driven is not None and (turn == driven.id or (turn is None and not driven.log.ended)):
            return driven.log.follow()
        turns = await self._turns_of(key)
        named = [known.id for known in turns if known.id == turn]
        unended = [known.id for known in turns[-1:] if known.reason is None]
        wanted = named if turn is not None else unended
        return chunks_of(self.sessions, key, wanted[0]) if wanted else None

    async def stop(self, key: SessionKey, turn: str | None) -> None:
        """Stop the turn that runs, wherever it is driven; only if it is `turn`, when one is named. Idempotent."""
        driven = self._running_here(key)
        if driven is not None:
            if turn in (None, driven.id):
                driven.stopping.set()
            return
        for last in (await self._turns_of(key))[-1:]:
            if last.reason is None and turn in (None, last.id):
                await signal_stop(self.sessions, key, last.id)

    def _running_here(self, key: SessionKey) -> "DrivenTurn | None":
        """Return the turn of this chat that is driven here; one that is only being written down has ended."""
        driven = self._driven.get(key)
        return None if driven is None or driven.log.ended else driven

    async def _exists(self, key: SessionKey) -> bool:
        try:
            await self.sessions.seen(key)
        except SessionNotFound:
            return False
        return True

    async def _turns_of(self, key: SessionKey) -> list[Turn]:
        """Return the turns of a session that is awake; one that sleeps has none that runs."""
        try:
            sandbox = await self.sessions.seen(key)
        except SessionNotFound:
            return []
        if sandbox is None or sandbox.state != "ready":
            return []
        turns, _ = await history(self.sessions, key)
        return turns


class DrivenTurn:
    """One turn, as the loop's `Work`."""

    def __init__(self, turns: Turns, key: SessionKey, request: UiRequest, admitted: Admitted | None = None) -> None:
        self.id = new_id("t")
        self.log = ChunkLog()
        self.stopping = asyncio.Event()
        self.journal = TurnJournal(turns.sessions, key, self.id)
        self._turns = turns
        self._settings = turns.settings
        self._key = key
        self._request = request
        self._admitted = admitted
        self._kernel = asyncio.Lock()
        self._executions: dict[str, str] = {}
        self._plan = Plan()
        self._preparing: asyncio.Future[Any] | None = None
        self._failure: Failure | None = None

    def is_for(self, request: UiRequest) -> bool:
        """Whether a request asks for this turn again."""
        mine = self._request
        return mine.trigger == "submit-message" and request.repeats(mine.message_id, mine.text)

    def emit(self, chunk: Chunk) -> None:
        """See `Work`."""
        self.log.append(chunk)

    async def keep(
        self, message: Message, *, executions: dict[str, str] | None = None, shown: dict[str, Any] | None = None
    ) -> None:
        """See `Work`."""
        await self._prepared()
        record: dict[str, Any] = {"type": "message", "turn": self.id, "message": message}
        if executions:
            record["executions"] = executions
        if shown:
            record["shown"] = shown
        await self.journal.append(record)

    def context(self, call_id: str) -> ToolContext:
        """See `Work`. A call that an earlier function began has the id that it began with."""
        execution = self._executions.get(call_id) or keyed_execution_id(f"{self.id} {call_id}")

        def show(output: Any) -> None:
            chunk = {"type": "tool-output-available", "toolCallId": call_id, "output": output}
            self.log.append({**chunk, "providerExecuted": True, "preliminary": True})

        return ToolContext(
            key=self._key,
            sessions=self._turns.sessions,
            runs=self._turns.runs,
            sandbox=self._sandbox,
            execution=ExecutionId(execution),
            show=show,
            stopping=self.stopping,
            kernel=self._kernel,
            settings=self._settings.chat,
        )

    async def prepare(self) -> str | None:
        """Claim the sandbox, read the history and write this turn into it.

        Returns the turn that this request asked for before, if it has ended or is driven elsewhere; then nothing is
        written. Raises Conflict while another turn runs.
        """
        sessions, key, request = self._turns.sessions, self._key, self._request
        await sessions.claim(key, None if request.keyed else SessionSpec(self._settings.sandbox.idle_timeout_s))
        await self.journal.hold()
        self.journal.begin(self.log, self.stopping)
        for upload in request.files:
            await self._upload(upload.name, upload.content)
        files = await listing(sessions, key)
        for _ in range(ADMITTED_AFTER):
            turns, count = await history(sessions, key)
            last = turns[-1] if turns else None
            runs = last is not None and last.reason is None and await is_driven(sessions, key, last.id)
            before = request.turn_in(turns)
            if before is not None and before.text != request.text:
                raise Conflict("This message was sent before with another text.", code=MESSAGE_CHANGED)
            if before is not None and (request.is_answered_by(before) or (runs and before is last)):
                await self.journal.abandon()
                return before.id
            if runs:
                raise turn_running()
            record = self._begun(turns, last)
            record["files"] = versions(files)
            try:
                await self.journal.append(record, expect=count)
            except Conflict:
                continue
            if self._admitted is not None and not await self._admitted():
                await self.journal.append(self._end_record("stopped"))
                raise SessionNotFound("The session is another one by now.")
            self._plan = self._planned(record, turns, files)
            for message in self._plan.looked:
                await self.journal.append({"type": "message", "turn": self.id, "message": message})
            return None
        raise turn_running()

    async def _prepare_new(self) -> None:
        """Prepare a turn of a chat that did not exist. Raises Conflict when another replica made it meanwhile."""
        if await self.prepare() is not None:
            raise turn_running()

    async def drive(self, *, prepared: bool) -> None:
        """Answer, and end the stream and the record with how it went."""
        with self._turns.reports.of(self._key, self.id) as report:
            await self._drive(report, prepared=prepared)

    async def _drive(self, report: TurnReport, *, prepared: bool) -> None:
        if not prepared:
            self._preparing = asyncio.ensure_future(self._prepare_new())
        self.emit({"type": "start", "messageId": self.id, "messageMetadata": {"turn": self.id}})
        last: Chunk
        try:
            if self._request.files:
                await self._prepared()
            ended, usage = await self._answered()
            await self._prepared()
            reason, last = str(ended), finish(ended, usage, turn=self.id)
            report.usage = usage
        except Stopped:
            reason, last = "stopped", {"type": "abort", "reason": STOPPED_REASON}
        except CaesarionError as exc:
            reason, last = "error", {"type": "error", "errorText": exc.message}
            self._failure = Failure(exc.code, exc.message, exc.retryable, exc.retry_after_s)
        except asyncio.CancelledError:
            self.emit({"type": "error", "errorText": "The function is being stopped. Ask again."})
            if self._preparing is not None:
                self._preparing.cancel()
            await self.journal.abandon()
            raise
        except Exception:
            error_id = new_id("r")
            logger.exception("turn failed", extra={"turn": self.id, "error": error_id})
            text = f"The platform failed; its log says more under {error_id}."
            reason, last = "error", {"type": "error", "errorText": text}
            self._failure = Failure("internal", text, retryable=True)
        report.result = reason
        report.failure = self._failure.code if self._failure is not None else None
        await self._end(reason, last)

    async def _end(self, reason: str, last: Chunk) -> None:
        """Write the end down before anybody is told, so that who asks next finds the turn ended."""
        record = self._end_record(reason)
        try:
            with contextlib.suppress(CaesarionError):
                await self._prepared()
                await self.journal.append(record)
        finally:
            self.emit(last)
            await self.journal.close()

    def _end_record(self, reason: str) -> dict[str, Any]:
        record: dict[str, Any] = {"type": "end", "turn": self.id, "at": rfc3339(datetime.now(UTC)), "reason": reason}
        if self._failure is not None:
            record["failure"] = asdict(self._failure)
        return record

    async def _prepared(self) -> None:
        if self._preparing is not None:
            await asyncio.shield(self._preparing)

    async def _answered(self) -> tuple[FinishReason, Usage]:
        settings, plan = self._settings, self._plan
        name = self._request.model or settings.model.model
        own: list[Message] = [{"role": "user", "content": self._request.text}, *plan.looked]
        pending: Sequence[dict[str, Any]] = ()
        if plan.continues is not None:
            self._executions = dict(plan.continues.executions)
            pending = plan.continues.pending
            own += self._shown_again(plan.continues, {call["id"] for call in pending})
            if plan.continues.answered:
                return "stop", Usage()
        earlier = [turn.for_model() for turn in plan.earlier] or [[message] for message in self._request.earlier]
        kept, left_out = fitted([*earlier, own], settings.model.context_tokens)
        system: list[Message] = [{"role": "system", "content": SYSTEM}]
        if left_out:
            system.append({"role": "system", "content": LEFT_OUT})
            self.emit({"type": "data-notice", "data": {"text": LEFT_OUT}})
        sees = settings.model.sees(name)
        return await self._turns.agent.answer(name, [*system, *kept], self, sees=sees, pending=pending)

    def _shown_again(self, before: Turn, pending: set[str]) -> list[Message]:
        """Show what an earlier function had done of this turn, and return its messages but for what is pending."""
        results = {m["tool_call_id"]: m for m in before.messages if m["role"] == "tool"}
        for message in before.messages:
            if message["role"] != "assistant":
                continue
            self.emit({"type": "start-step"})
            if message.get("content"):
                part = new_id("p")[:18]
                self.emit({"type": "text-start", "id": part})
                self.emit({"type": "text-delta", "id": part, "delta": message["content"]})
                self.emit({"type": "text-end", "id": part})
            for call in message.get("tool_calls") or ():
                if call["id"] in before.shown and call["id"] in results:
                    ids = {"toolCallId": call["id"], "providerExecuted": True}
                    name, arguments = call["function"]["name"], _decoded(call["function"]["arguments"])
                    self.emit({"type": "tool-input-available", "toolName": name, "input": arguments, **ids})
                    self.emit({"type": "tool-output-available", "output": before.shown[call["id"]], **ids})
            self.emit({"type": "finish-step"})
        whole = closed(before.messages)
        return [message for message in whole if message.get("tool_call_id") not in pending]

    def _begun(self, turns: list[Turn], last: Turn | None) -> dict[str, Any]:
        """Return the record of this turn's beginning."""
        request = self._request
        record: dict[str, Any] = {
            "type": "turn",
            "turn": self.id,
            "at": rfc3339(datetime.now(UTC)),
            "message": {"id": request.message_id, "text": request.text},
        }
        asked = {turn.id: turn.id for turn in turns} | {turn.message_id: turn.id for turn in turns}
        about = asked.get(request.about or "")
        if request.keyed:
            if (before := request.turn_in(turns)) is not None:
                record["continues"] = before.id
        elif last is not None and last.reason is None and last.text == request.text:
            record["continues"] = last.id
        elif request.trigger == "regenerate-message":
            if (dropped := about or (last.id if last is not None else None)) is not None:
                record["drops"] = dropped
        elif about is not None:
            record["drops"] = about
        return record

    def _planned(self, record: dict[str, Any], turns: list[Turn], files: list[dict[str, Any]]) -> Plan:
        earlier = list(turns)
        if (dropped := record.get("drops")) is not None:
            earlier = earlier[: [turn.id for turn in earlier].index(dropped)]
        continued = next((turn for turn in earlier if turn.id == record.get("continues")), None)
        earlier = [turn for turn in earlier if turn is not continued]
        if continued is not None or not files:
            return Plan(tuple(earlier), continued)
        known = earlier[-1].files if earlier else {}
        new = [path for path, version in versions(files).items() if known.get(path) != version]
        if not new:
            return Plan(tuple(earlier))
        return Plan(tuple(earlier), None, looked_at(self.id, listing_text(files, new)))

    async def _upload(self, name: str, content: bytes) -> None:
        async def body() -> AsyncIterator[bytes]:
            yield content

        path = f"/v1/files/{safe_name(name)}"
        async with self._turns.sessions.stream(self._key, "PUT", path, body=body()):
            pass

    async def _sandbox(self) -> Sandbox:
        await self._prepared()
        return await self._turns.sessions.ready(self._key)


def looked_at(turn: str, text: str) -> tuple[Message, ...]:
    """Return the messages of a look at the files that was taken for the model. What it found stays a tool's data."""
    call = {"id": f"files_{turn}"[:40], "type": "function", "function": {"name": "list_files", "arguments": "{}"}}
    return (
        {"role": "assistant", "content": None, "tool_calls": [call]},
        {"role": "tool", "tool_call_id": call["id"], "content": text},
    )


def turn_running() -> Conflict:
    """Return what a second message is told."""
    return Conflict(
        "A turn of this chat runs. Wait for its end, or stop it with POST /api/chat/{id}/stop.", code="turn_running"
    )


def _decoded(arguments: str) -> Any:
    try:
        return json.loads(arguments)
    except ValueError:
        return {}
