"""A stand-in for a model endpoint: OpenAI's chat completions over real HTTP, answering what a test's script says.

    with scripted([CallTools([Call("python", {"code": "1 + 1"})]), Say("It is 2.")]) as model:
        ...  # give model.url to what is tested as OPENAI_BASE_URL

Each request takes the next step. Leaving the block raises when a step was not used, a request was not expected, or a
step's `expects` failed. `scripted_always` answers any number of requests at once, for load.

A piece of text may be followed by a `threading.Event`: the stream waits for it there, so that a test decides when it
goes on.
"""

import asyncio
import contextlib
import json
import threading
from collections import deque
from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Literal, cast

MODELS = ("gpt-4.1", "gpt-4.1-mini")
PROMPT_TOKENS = 11
COMPLETION_TOKENS = 7
CREATED_S = 1_700_000_000
MAX_WAITING = 1000
REASONS = {200: "OK", 400: "Bad Request", 401: "Unauthorized", 404: "Not Found", 429: "Too Many Requests"}

Body = dict[str, Any]
Expects = Callable[[Body], None]
Piece = str | threading.Event
FinishReason = Literal["stop", "length", "content_filter", "tool_calls"]


@dataclass(frozen=True)
class Say:
    """Text. A sequence is streamed piece by piece, a string in chunks of `chunk_chars` or as a whole."""

    text: str | Sequence[Piece]
    chunk_chars: int | None = None
    reasoning: str = ""
    finish: FinishReason = "stop"
    expects: Expects | None = None


@dataclass(frozen=True)
class Call:
    """A tool call. `arguments` as a string or pieces go out as they are, and need not be JSON."""

    name: str
    arguments: Mapping[str, Any] | str | Sequence[Piece]
    id: str | None = None


@dataclass(frozen=True)
class CallTools:
    """Tool calls, after `text` where there is some; arguments are streamed in chunks of `chunk_chars`.

    A call without an id gets one that is unique in the script: "call_{request}_{index}", both from 0.
    """

    calls: Sequence[Call]
    text: str | Sequence[Piece] = ""
    chunk_chars: int = 8
    reasoning: str = ""
    finish: FinishReason = "tool_calls"
    expects: Expects | None = None


@dataclass(frozen=True)
class Fail:
    """An error instead of an answer; with `after`, an error event in the stream after that text."""

    status: int
    message: str
    retry_after_s: float | None = None
    after: str | Sequence[Piece] = ""
    expects: Expects | None = None


@dataclass(frozen=True)
class Hang:
    """Send `text`, set `reached`, then send nothing until `until` is set or the client leaves.

    Without `head`, not even the head of the answer is sent before.
    """

    until: threading.Event = field(default_factory=threading.Event)
    text: str | Sequence[Piece] = ""
    head: bool = True
    reached: threading.Event = field(default_factory=threading.Event)
    expects: Expects | None = None


@dataclass(frozen=True)
class Cut:
    """Send `text`, then close the connection although the answer has not ended."""

    text: str | Sequence[Piece] = ""
    expects: Expects | None = None


Step = Say | CallTools | Fail | Hang | Cut


@dataclass(frozen=True)
class Received:
    """A request for a completion, as it came; header names are in lower case.

    `left` is set when the connection is gone before the answer was whole, other than by `Cut`.
    """

    headers: dict[str, str]
    body: Body
    left: threading.Event = field(default_factory=threading.Event, compare=False)


class ScriptedModel:
    """The running endpoint. `url` ends in /v1; `requests` are those for completions, in the order they came."""

    def __init__(self, step_of: Callable[[Body], Step | None], host: str = "127.0.0.1", port: int = 0) -> None:
        self.url = ""
        self._address = host, port
        self.requests: list[Received] = []
        self.problems: list[tuple[str, BaseException | None]] = []
        self._step_of = step_of
        self._started = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="scripted model")
        self._waiting = ThreadPoolExecutor(MAX_WAITING, thread_name_prefix="gate")
        self._connections: set[_Connection] = set()

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve until the end of the block; answers that are not whole by then are cut."""
        self._thread.start()
        try:
            self._started.wait()
            yield
        finally:
            self._loop.call_soon_threadsafe(self._ending.set)
            self._thread.join()
            self._waiting.shutdown()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._ending = asyncio.Event()
        server = await self._loop.create_server(lambda: _Connection(self), *self._address, backlog=1024)
        self.url = f"http://{self._address[0]}:{server.sockets[0].getsockname()[1]}/v1"
        self._started.set()
        await self._ending.wait()
        server.close()
        ended = [connection.abort() for connection in self._connections]
        await asyncio.gather(*ended)

    async def answer(self, method: str, path: str, headers: dict[str, str], content: bytes, to: "_Connection") -> None:
        if (method, path) == ("GET", "/v1/models"):
            models = [{"id": name, "object": "model", "created": CREATED_S, "owned_by": "test"} for name in MODELS]
            return to.send_json(200, {"object": "list", "data": models})
        if (method, path) != ("POST", "/v1/chat/completions"):
            return self._refuse(to, 404, f"no such route: {method} {path}")
        received = Received(headers, json.loads(content))
        self.requests.append(received)
        number = len(self.requests) - 1
        try:
            step = self._step_of(received.body)
            if step is not None and step.expects is not None:
                step.expects(received.body)
        except Exception as exc:
            return self._refuse(to, 500, f"request {number} is not as expected: {exc}", exc)
        if step is None:
            return self._refuse(to, 500, f"request {number} was not expected: {_summary(received.body)}")
        to.received = received
        answer = _Answer(to, received.body, number, lambda gate: self._passed(gate, received.left))
        await answer.send(step)
        to.received = None

    def _refuse(self, to: "_Connection", status: int, problem: str, cause: BaseException | None = None) -> None:
        self.problems.append((problem, cause))
        to.send_json(status, _error(status, f"scripted model: {problem}"), {"x-should-retry": "false"})

    async def _passed(self, gate: threading.Event, given_up: threading.Event) -> None:
        def wait() -> None:
            while not gate.wait(0.05) and not given_up.is_set():
                pass

        if not gate.is_set():
            await self._loop.run_in_executor(self._waiting, wait)


@contextlib.contextmanager
def scripted(steps: Sequence[Step]) -> Iterator[ScriptedModel]:
    """Serve these steps in order, one per request, and raise AssertionError at the end when it went otherwise."""
    left = deque(steps)
    model = ScriptedModel(lambda body: left.popleft() if left else None)
    with _checked(model), model.serving():
        yield model
        model.problems += [(f"step was not used: {step}", None) for step in left]


@contextlib.contextmanager
def scripted_always(step_of: Callable[[Body], Step], host: str = "127.0.0.1", port: int = 0) -> Iterator[ScriptedModel]:
    """Answer every request, also many at once, with the step that `step_of` gives for its body."""
    model = ScriptedModel(step_of, host, port)
    with _checked(model), model.serving():
        yield model


@contextlib.contextmanager
def _checked(model: ScriptedModel) -> Iterator[None]:
    try:
        yield
    except Exception as exc:
        for problem, _ in model.problems:
            exc.add_note(f"scripted model: {problem}")
        raise
    if model.problems:
        causes = [cause for _, cause in model.problems if cause is not None]
        raise AssertionError("\n".join(problem for problem, _ in model.problems)) from (causes[0] if causes else None)


class _Connection(asyncio.Protocol):
    """One client's connection, kept open between requests. A client that leaves ends the answer it was getting."""

    def __init__(self, model: ScriptedModel) -> None:
        self.received: Received | None = None
        self._model = model
        self._loop = asyncio.get_running_loop()
        self._buffer = bytearray()
        self._answering: asyncio.Task[None] | None = None
        self._writable = asyncio.Event()
        self._lost = self._loop.create_future()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._writable.set()
        self._model._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._model._connections.discard(self)
        self._lost.set_result(None)
        if self.received is not None:
            self.received.left.set()
        if self._answering is not None:
            self._answering.cancel()

    def pause_writing(self) -> None:
        self._writable.clear()

    def resume_writing(self) -> None:
        self._writable.set()

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        if self._answering is None:
            self._take_request()

    def _take_request(self) -> None:
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        first, *lines = self._buffer[:end].decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        whole = end + 4 + int(headers.get("content-length", 0))
        if len(self._buffer) < whole:
            return
        content = bytes(self._buffer[end + 4 : whole])
        del self._buffer[:whole]
        method, path, _ = first.split(" ")
        self._answering = self._loop.create_task(self._model.answer(method, path, headers, content, self))
        self._answering.add_done_callback(self._answered)

    def _answered(self, answering: asyncio.Task[None]) -> None:
        self._answering = None
        if not answering.cancelled() and (exc := answering.exception()) is not None:
            self._model.problems.append((f"no answer could be given: {exc!r}", exc))
            self.close()
        elif not self._transport.is_closing():
            self._take_request()

    def send_head(self, status: int, headers: Mapping[str, str]) -> None:
        lines = [f"HTTP/1.1 {status} {REASONS.get(status, 'Other')}", *(f"{k}: {v}" for k, v in headers.items())]
        self._transport.write("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def send_json(self, status: int, content: Body, headers: Mapping[str, str] | None = None) -> None:
        data = json.dumps(content).encode()
        length = {"content-type": "application/json", "content-length": str(len(data))}
        self.send_head(status, {**length, **(headers or {})})
        self._transport.write(data)

    async def send_chunk(self, data: bytes) -> None:
        """Send a part of a body of unknown length, an empty one to end it, and let others send."""
        self._transport.write(b"%x\r\n%s\r\n" % (len(data), data))
        await asyncio.sleep(0)
        await self._writable.wait()

    def close(self) -> None:
        """Close the connection once what was sent is out."""
        self._transport.close()

    def abort(self) -> asyncio.Future[None]:
        self._transport.abort()
        return self._lost


@dataclass(frozen=True)
class _Answer:
    """One answer being given, as a stream or as a whole, whichever the request asked for."""

    to: _Connection
    body: Body
    number: int
    passed: Callable[[threading.Event], Any]

    async def send(self, step: Step) -> None:
        match step:
            case Fail(after="") | Fail(after=[]):
                after = {} if step.retry_after_s is None else {"retry-after": f"{step.retry_after_s:g}"}
                return self.to.send_json(step.status, _error(step.status, step.message), after)
            case Hang(head=False):
                step.reached.set()
                await self.passed(step.until)
            case _:
                pass
        await (self._stream(step) if self.body.get("stream") else self._whole(step))

    async def _stream(self, step: Step) -> None:
        self.to.send_head(200, {"content-type": "text/event-stream", "transfer-encoding": "chunked"})
        await self._event(self._chunk({"role": "assistant", "content": ""}))
        async for delta in self._deltas(step):
            await self._event(self._chunk(delta))
        match step:
            case Cut():
                return self.to.close()
            case Fail():
                await self._event(_error(step.status, step.message))
            case Say() | CallTools() | Hang():
                await self._event(self._chunk({}, _finish(step)))
                if self._include_usage:
                    await self._event({**self._chunk({}), "choices": [], "usage": _usage()})
                self.to.received = None  # a client may leave as soon as it has read this
                await self.to.send_chunk(b"data: [DONE]\n\n")
        await self.to.send_chunk(b"")

    async def _whole(self, step: Step) -> None:
        message: Body = {"role": "assistant", "content": ""}
        calls: list[Body] = []
        async for delta in self._deltas(step):
            for name in ("content", "reasoning_content"):
                if name in delta:
                    message[name] = message.get(name, "") + delta[name]
            for call in delta.get("tool_calls", []):
                if "id" in call:
                    calls.append({"id": call["id"], "type": "function", "function": dict(call["function"])})
                else:
                    calls[-1]["function"]["arguments"] += call["function"]["arguments"]
        if calls:
            message |= {"content": message["content"] or None, "tool_calls": calls}
        choice = {"index": 0, "message": message, "finish_reason": _finish(step), "logprobs": None}
        completion = {**self._base("chat.completion"), "choices": [choice], "usage": _usage()}
        match step:
            case Cut():
                self.to.send_head(200, {"content-type": "application/json", "transfer-encoding": "chunked"})
                await self.to.send_chunk(json.dumps(completion)[:-20].encode())
                self.to.close()
            case Fail():
                self.to.send_json(step.status, _error(step.status, step.message))
            case Say() | CallTools() | Hang():
                self.to.send_json(200, completion)

    async def _deltas(self, step: Step) -> AsyncIterator[Body]:
        match step:
            case Say():
                texts = _pieces(step.text, step.chunk_chars)
            case Fail():
                texts = _pieces(step.after, None)
            case CallTools() | Hang() | Cut():
                texts = _pieces(step.text, None)
        if isinstance(step, Say | CallTools) and step.reasoning:
            yield {"reasoning_content": step.reasoning}
        async for text in self._open(texts):
            yield {"content": text}
        if isinstance(step, Hang) and step.head:
            step.reached.set()
            await self.passed(step.until)
        if isinstance(step, CallTools):
            for index, call in enumerate(step.calls):
                named = {"index": index, "id": call.id or f"call_{self.number}_{index}", "type": "function"}
                yield {"tool_calls": [{**named, "function": {"name": call.name, "arguments": ""}}]}
                given = call.arguments
                arguments = json.dumps(given) if isinstance(given, Mapping) else given
                async for text in self._open(_pieces(arguments, step.chunk_chars)):
                    yield {"tool_calls": [{"index": index, "function": {"arguments": text}}]}

    async def _open(self, pieces: Sequence[Piece]) -> AsyncIterator[str]:
        for piece in pieces:
            if isinstance(piece, str):
                yield piece
            else:
                await self.passed(piece)

    async def _event(self, content: Body) -> None:
        await self.to.send_chunk(b"data: %s\n\n" % json.dumps(content).encode())

    def _chunk(self, delta: Body, finish: str | None = None) -> Body:
        choice = {"index": 0, "delta": delta, "finish_reason": finish, "logprobs": None}
        usage = {"usage": None} if self._include_usage else {}
        return {**self._base("chat.completion.chunk"), "choices": [choice], **usage}

    def _base(self, kind: str) -> Body:
        return {"id": f"chatcmpl-{self.number}", "object": kind, "created": CREATED_S, "model": self.body.get("model")}

    @property
    def _include_usage(self) -> bool:
        return bool((self.body.get("stream_options") or {}).get("include_usage"))


def _pieces(text: str | Sequence[Piece], chunk_chars: int | None) -> Sequence[Piece]:
    if not isinstance(text, str):
        return text
    size = chunk_chars or max(len(text), 1)
    return [text[start : start + size] for start in range(0, len(text), size)]


def _finish(step: Step) -> FinishReason:
    return step.finish if isinstance(step, Say | CallTools) else "stop"


def _usage() -> Body:
    total = PROMPT_TOKENS + COMPLETION_TOKENS
    return {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS, "total_tokens": total}


def _error(status: int, message: str) -> Body:
    kind = "server_error" if status >= 500 else "rate_limit_error" if status == 429 else "invalid_request_error"
    return {"error": {"message": message, "type": kind, "param": None, "code": None}}


def _summary(body: Body) -> str:
    """Return the end of what was asked, for a message to whoever wrote the script."""
    messages = body.get("messages") or [None]
    return f"{len(messages)} messages, the last {json.dumps(messages[-1])[:300]}"
