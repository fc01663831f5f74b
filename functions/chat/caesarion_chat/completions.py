"""OpenAI's chat completions: a turn as text, streamed or whole; with a client's own tools the model alone."""

import asyncio
import contextlib
import itertools
import json
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from caesarion.adapters.asgi.responses import JsonResponse, Streamed, until_client_leaves
from caesarion.adapters.platform import Platform
from caesarion.errors import CaesarionError, Conflict, ModelError, error_body
from caesarion.ids import ExecutionId, SessionKey, keyed_execution_id, new_id
from caesarion.ports import Sandbox, SessionSpec
from caesarion_chat.agent import Agent, Stopped
from caesarion_chat.completions_request import CompletionRequest, passed_on, session_line
from caesarion_chat.files import listing, listing_text
from caesarion_chat.journal import TurnJournal, chunks_of, last_chunk
from caesarion_chat.markdown import Markdown
from caesarion_chat.model import FinishReason, Message, Usage
from caesarion_chat.openai_model import OpenAIModel
from caesarion_chat.plain_python import HOW_TO_GIVE_A_KEY
from caesarion_chat.prompt import LEFT_OUT, SYSTEM
from caesarion_chat.reports import TurnReport, TurnReports
from caesarion_chat.settings import Settings
from caesarion_chat.tools import ToolContext
from caesarion_chat.transcript import fitted
from caesarion_chat.turns import looked_at
from caesarion_chat.ui_stream import DONE, MEDIA_TYPE, STOPPED_REASON, Chunk, ChunkLog, as_events, finish

logger = logging.getLogger(__name__)

STREAM_HEADERS = {"Cache-Control": "no-cache", "X-Accel-Buffering": "no"}
FINISH_REASONS = {"length": "length", "content-filter": "content_filter"}


class CompletionTurn:
    """One request's turn, as the loop's `Work`. The conversation is the client's, so nothing of it is kept here."""

    def __init__(self, completions: "Completions", key: SessionKey, request: CompletionRequest, turn: str) -> None:
        self.log = ChunkLog()
        self.stopping = asyncio.Event()
        self.failure: CaesarionError | None = None
        self._kernel = asyncio.Lock()
        self._of = completions
        self._key = key
        self._request = request
        self._turn = turn
        self._claim: asyncio.Future[Sandbox] | None = None

    def emit(self, chunk: Chunk) -> None:
        """See `Work`."""
        self.log.append(chunk)

    async def keep(
        self, message: Message, *, executions: dict[str, str] | None = None, shown: dict[str, Any] | None = None
    ) -> None:
        """See `Work`: the client has it."""

    def context(self, call_id: str) -> ToolContext:
        """See `Work`."""
        platform = self._of.platform
        return ToolContext(
            key=self._key,
            sessions=platform.sessions,
            runs=platform.runs,
            sandbox=self._sandbox,
            execution=ExecutionId(keyed_execution_id(f"{self._turn} {call_id}")),
            show=lambda output: None,
            stopping=self.stopping,
            kernel=self._kernel,
            settings=self._of.settings.chat,
        )

    async def drive(self) -> None:
        """Answer; the last chunk says how it ended."""
        with self._of.reports.of(self._key, self._turn) as report:
            await self._drive(report)

    async def _drive(self, report: TurnReport) -> None:
        self.emit({"type": "start"})
        last: Chunk
        try:
            reason, report.usage = await self._answered()
            report.result, last = reason, finish(reason, report.usage)
        except Stopped:
            report.result = "stopped"
            last = {"type": "abort", "reason": STOPPED_REASON}
        except CaesarionError as exc:
            self.failure = exc
            last = {"type": "error", "errorText": exc.message}
        except Exception:
            logger.exception("completion failed")
            self.failure = CaesarionError("The platform failed. Its log says more.")
            last = {"type": "error", "errorText": self.failure.message}
        if self.failure is not None:
            report.result, report.failure = "error", self.failure.code
        self.emit(last)

    async def _answered(self) -> tuple[FinishReason, Usage]:
        settings, request = self._of.settings, self._request
        own = [message for message in request.messages if message["role"] == "system"]
        said = [message for message in request.messages if message["role"] != "system"]
        if not request.new:
            await self._sandbox()
            files = await listing(self._of.platform.sessions, self._key)
            if files:
                said += looked_at(self._turn, listing_text(files, ()))
        system: list[Message] = [{"role": "system", "content": SYSTEM}, *own]
        kept, left_out = fitted(_turns(said), settings.model.context_tokens)
        if left_out:
            system.append({"role": "system", "content": LEFT_OUT})
        sees = settings.model.sees(request.model)
        return await self._of.agent.answer(request.model, [*system, *kept], self, sees=sees)

    async def _sandbox(self) -> Sandbox:
        if self._claim is None:
            spec = SessionSpec(self._of.settings.sandbox.idle_timeout_s)
            self._claim = asyncio.ensure_future(self._of.platform.sessions.claim(self._key, spec))
        return await asyncio.shield(self._claim)


class Completions:
    """The wire."""

    def __init__(self, platform: Platform, agent: Agent, model: OpenAIModel | None, settings: Settings) -> None:
        self.platform = platform
        self.agent = agent
        self.settings = settings
        self.reports = TurnReports(platform.metrics)
        self._model = model

    async def answer(self, http: Request, key: SessionKey, request: CompletionRequest) -> Response:
        """Answer with our tools.

        A client that leaves stops the turn, as nobody could pick it up again. With an `Idempotency-Key` it may come
        again: then the turn goes on, and the same request gets the same answer.
        """
        given = http.headers.get("idempotency-key")
        answering = await self._keyed(key, request, given) if given else self._begun(key, request, new_id("t"))
        markdown = Markdown(self.settings.chat.public_url or str(http.base_url).rstrip("/"))
        head = {"id": new_id("chatcmpl"), "created": int(time.time()), "model": request.model}
        if request.stream:
            headers = {**STREAM_HEADERS, "X-Session-Id": key.session}
            chunks = self._events(answering, head, markdown, request)
            return Streamed(chunks, headers=headers, media_type=MEDIA_TYPE, closed=answering.left)
        return await self._whole(http, answering, head, markdown, request)

    async def pass_through(self, document: dict[str, Any]) -> Response:
        """Ask the model as the client does, tools and all, and give its answer as it is. Raises ModelError."""
        if self._model is None:
            raise ModelError(HOW_TO_GIVE_A_KEY, code="no_model")
        body = passed_on(document)
        if not document.get("stream"):
            return JsonResponse((await self._model.whole(body)).model_dump(mode="json", exclude_unset=True))
        chunks = self._model.chunks(body)
        first = await anext(aiter(chunks), None)  # what is refused is told with its status

        async def events() -> AsyncGenerator[bytes, None]:
            try:
                if first is not None:
                    yield _event(first.model_dump(mode="json", exclude_unset=True))
                    async for chunk in chunks:
                        yield _event(chunk.model_dump(mode="json", exclude_unset=True))
            except CaesarionError as exc:
                yield _event(error_body(exc, new_id("r")))
            yield DONE

        return Streamed(events(), headers=STREAM_HEADERS, media_type=MEDIA_TYPE)

    def _begun(
        self, key: SessionKey, request: CompletionRequest, name: str, journal: TurnJournal | None = None
    ) -> "Answering":
        """Begin a turn that is driven here. With a `journal`, which holds its stream, it goes on without readers."""
        turn = CompletionTurn(self, key, request, name)

        async def driven() -> None:
            if journal is not None:
                journal.begin(turn.log, turn.stopping)
            await turn.drive()
            if journal is not None:
                await journal.close()

        driving = self.platform.background.start(driven(), name="completion")

        async def left() -> None:
            if journal is None:
                turn.stopping.set()
            if journal is None or turn.log.ended:
                await driving

        return Answering(turn.log.follow(), left, turn)

    async def _keyed(self, key: SessionKey, request: CompletionRequest, given: str) -> "Answering":
        """Begin the turn that an idempotency key stands for, or join it. One that failed is tried again."""
        sessions = self.platform.sessions
        await sessions.claim(key, SessionSpec(self.settings.sandbox.idle_timeout_s))
        for attempt in itertools.count(1):
            name = keyed_execution_id(f"{given} {attempt}")
            journal = TurnJournal(sessions, key, name)
            with contextlib.suppress(Conflict):
                await journal.hold()
                last = await last_chunk(sessions, key, name)
                if last is None:
                    return self._begun(key, request, name, journal)
                await journal.abandon()
                if last["type"] != "finish":
                    continue
            break
        return Answering(chunks_of(sessions, key, name), _nothing)

    def _events(
        self, answering: "Answering", head: dict[str, Any], markdown: Markdown, request: CompletionRequest
    ) -> AsyncGenerator[bytes, None]:
        common = {**head, "object": "chat.completion.chunk"}
        usage = {"usage": None} if request.include_usage else {}

        def delta(content: dict[str, Any], reason: str | None = None) -> bytes:
            return _event({**common, "choices": [{"index": 0, "delta": content, "finish_reason": reason}], **usage})

        def encode(chunk: Chunk) -> bytes:
            match chunk["type"]:
                case "start":
                    return delta({"role": "assistant", "content": ""})
                case "error":
                    return _event(error_body(answering.failure(chunk), new_id("r")))
                case "finish":
                    last = delta({"content": session_line(request.session)})
                    last += delta({}, FINISH_REASONS.get(chunk["finishReason"], "stop"))
                    if request.include_usage:
                        last += _event({**common, "choices": [], "usage": _usage(chunk)})
                    return last
            text = markdown.text(chunk)
            return delta({"content": text}) if text else b""

        return as_events(answering.batches, encode)

    async def _whole(
        self,
        http: Request,
        answering: "Answering",
        head: dict[str, Any],
        markdown: Markdown,
        request: CompletionRequest,
    ) -> Response:
        collecting = asyncio.ensure_future(_collected(answering.batches))
        leaving = asyncio.ensure_future(until_client_leaves(http.receive))
        try:
            await asyncio.wait({leaving, collecting}, return_when=asyncio.FIRST_COMPLETED)
            if not collecting.done():
                raise ClientDisconnect
            chunks = collecting.result()
        finally:
            for task in (collecting, leaving):
                task.cancel()
            await asyncio.wait({collecting, leaving})
            await answering.left()
        last = chunks[-1]
        if last["type"] != "finish":
            raise answering.failure(last)
        text = "".join(map(markdown.text, chunks)).strip()
        message = {"role": "assistant", "content": text + session_line(request.session)}
        reason = FINISH_REASONS.get(last["finishReason"], "stop")
        choice = {"index": 0, "message": message, "finish_reason": reason}
        document = {**head, "object": "chat.completion", "choices": [choice], "usage": _usage(last)}
        return JsonResponse(document, 200, {"X-Session-Id": request.session})


@dataclass(frozen=True, slots=True)
class Answering:
    """A turn that is read: its chunks, and what to do when the client has left. `turn` is there if driven here."""

    batches: AsyncGenerator[list[Chunk], None]
    left: Callable[[], Awaitable[None]]
    turn: CompletionTurn | None = None

    def failure(self, last: Chunk) -> CaesarionError:
        """Return why the turn failed."""
        known = self.turn.failure if self.turn is not None else None
        return known or ModelError(last.get("errorText", "The turn was stopped."))


async def _nothing() -> None:
    pass


async def _collected(batches: AsyncGenerator[list[Chunk], None]) -> list[Chunk]:
    async with contextlib.aclosing(batches):
        return [chunk async for batch in batches for chunk in batch]


def _turns(messages: list[Message]) -> list[list[Message]]:
    """Return messages in groups that begin with a user's."""
    groups: list[list[Message]] = []
    for message in messages:
        if message["role"] == "user" or not groups:
            groups.append([])
        groups[-1].append(message)
    return groups


def _usage(finish: Chunk) -> dict[str, int]:
    taken = finish["messageMetadata"]["usage"]
    prompt, completion = taken["promptTokens"], taken["completionTokens"]
    return {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion}


def _event(document: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(document, separators=(",", ":")).encode() + b"\n\n"
