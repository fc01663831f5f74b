"""A model behind OpenAI's chat completions. The SDK takes 400 ms to import: on first use, off the event loop."""

import asyncio
import contextlib
import importlib
import logging
import sys
import time
from collections.abc import AsyncGenerator, Sequence
from typing import TYPE_CHECKING, Any

from caesarion.adapters import tracing
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.errors import ModelError
from caesarion.logs import milliseconds
from caesarion_chat.model import (
    Finished,
    FinishReason,
    Message,
    ModelEvent,
    ReasoningDelta,
    TextDelta,
    ToolCallDelta,
    ToolSpec,
    Usage,
)
from caesarion_chat.settings import ModelSettings

if TYPE_CHECKING:
    from openai import AsyncOpenAI

logger = logging.getLogger(__name__)

RETRIES = 2  # with the provider's own Retry-After, see the SDK
CONNECT_TIMEOUT_S = 10.0
RETRY_AFTER_S = 10.0
NO_KEY_NEEDED = "none"
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
}


class ModelRefused(ModelError):
    """The model's endpoint does not take such a request; asking again will not help."""

    retryable = False


class OpenAIModel:
    """The endpoint of the settings. To be used from one event loop."""

    def __init__(self, settings: ModelSettings, metrics: Metrics) -> None:
        self._settings = settings
        self._durations = metrics.durations(
            "caesarion_model_call_duration_seconds", "Time from a request to the model to its end.", "result"
        )
        self._first_tokens = metrics.durations(
            "caesarion_model_first_token_seconds", "Time from a streamed request to the model to its first chunk."
        )
        self._tokens = metrics.counter("caesarion_model_tokens", "Tokens that the model told of, by kind.", "kind")
        self._client: AsyncOpenAI | None = None

    async def stream(
        self, name: str, messages: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[ModelEvent, None]:
        """See `Model.stream`."""
        body: dict[str, Any] = {"model": name, "messages": list(messages)}
        if tools:
            body["tools"] = [_tool(spec) for spec in tools]
        finished: Finished | None = None
        pairs = _Pairs()
        asked = {**body, "stream_options": {"include_usage": True}}
        async with contextlib.aclosing(self._documents(asked)) as documents:
            async for document in documents:
                if isinstance(usage := document.get("usage"), dict):
                    yield Usage(usage.get("prompt_tokens") or 0, usage.get("completion_tokens") or 0)
                for choice in (document.get("choices") or ())[:1]:
                    delta = choice.get("delta") or {}
                    reasoning = delta.get("reasoning_content") or delta.get("reasoning")
                    if isinstance(reasoning, str) and (text := pairs.joined("reasoning", reasoning)):
                        yield ReasoningDelta(text)
                    if (content := delta.get("content")) and (text := pairs.joined("text", content)):
                        yield TextDelta(text)
                    for call in delta.get("tool_calls") or ():
                        index, function = call.get("index") or 0, call.get("function") or {}
                        arguments = pairs.joined(index, function.get("arguments") or "")
                        yield ToolCallDelta(index, call.get("id") or "", function.get("name") or "", arguments)
                    if (reason := choice.get("finish_reason")) is not None:
                        finished = Finished(_REASONS.get(reason, "other"))
        if finished is None:
            raise ModelError("The model's answer broke off before its end. Ask again.")
        yield finished

    async def chunks(self, body: dict[str, Any]) -> AsyncGenerator[Any, None]:
        """Yield the SDK's chunks of a streamed request, as they come. Raises ModelError."""
        await self._opened()
        from openai.types.chat import ChatCompletionChunk

        async with contextlib.aclosing(self._documents(body)) as documents:
            async for document in documents:
                yield ChatCompletionChunk.construct(**document)

    async def _documents(self, body: dict[str, Any]) -> AsyncGenerator[dict[str, Any], None]:
        """Yield the chunks of a streamed request as they came. Raises ModelError.

        The SDK's own method for this walks through all messages before and makes typed values of each chunk: as much
        work as all else that is done for a token.
        """
        client = await self._opened()
        from openai import AsyncStream

        begun = False
        call = _Call(self, body["model"])
        try:
            async with asyncio.timeout(self._settings.timeout_s):  # all tries together: the user sees one silence
                answer = await client.post(
                    "/chat/completions",
                    body={**body, "stream": True},
                    cast_to=object,
                    stream=True,
                    stream_cls=AsyncStream[object],
                )
            async with answer as stream:
                iterator = aiter(stream)
                while True:
                    async with asyncio.timeout(self._settings.timeout_s):
                        document = await anext(iterator, None)
                    if document is None:
                        call.end("ok")
                        return
                    if not begun:
                        call.saw_answer()
                    begun = True
                    if isinstance(document, dict):
                        call.count(document.get("usage"))
                        yield document
        except Exception as exc:
            error = self._told(exc, begun=begun)
            call.end(error.code)
            raise error from exc
        finally:
            call.end("left")

    async def whole(self, body: dict[str, Any]) -> Any:
        """Return the SDK's completion of a request that is not streamed. Raises ModelError."""
        client = await self._opened()
        call = _Call(self, body["model"])
        try:
            completion = await client.chat.completions.create(**{**body, "stream": False})
            if completion.usage is not None:
                call.count(completion.usage.model_dump())
            call.end("ok")
            return completion
        except Exception as exc:
            error = self._told(exc)
            call.end(error.code)
            raise error from exc
        finally:
            call.end("left")

    async def aclose(self) -> None:
        """Close the connections."""
        if self._client is not None:
            await self._client.close()

    async def _opened(self) -> "AsyncOpenAI":
        if "openai" not in sys.modules:
            await asyncio.to_thread(importlib.import_module, "openai")
        if self._client is None:
            import openai

            self._client = openai.AsyncOpenAI(
                api_key=self._settings.api_key.reveal() or NO_KEY_NEEDED,
                base_url=self._settings.base_url or None,
                max_retries=RETRIES,
                timeout=openai.Timeout(self._settings.timeout_s, connect=CONNECT_TIMEOUT_S),
            )
        return self._client

    def _told(self, exc: Exception, *, begun: bool = False) -> ModelError:
        """Return the failure in words for people. The endpoint's own words are kept, in bounds."""
        import openai

        timeout = f"The model did not go on for {self._settings.timeout_s:g} s, so it was given up. Ask again."
        match exc:
            case openai.APITimeoutError() | TimeoutError():
                return ModelError(timeout, code="model_timeout")
            case openai.APIStatusError():
                return _refused(exc.status_code, self._words(exc), exc.response.headers.get("retry-after", ""))
            case openai.APIConnectionError() if not begun:
                return ModelError("The model's endpoint cannot be reached. Check OPENAI_BASE_URL and the network.")
            case openai.APIError() if not isinstance(exc, openai.APIConnectionError):
                return ModelError(f"The model failed in mid-answer: {self._words(exc)}. Ask again.")
        if "timeout" in type(exc).__name__.lower():
            return ModelError(timeout, code="model_timeout")
        return ModelError("The model's answer broke off before its end. Ask again.")

    def _words(self, exc: Any) -> str:
        """Return the endpoint's own words, without the key: some say which one they were given."""
        words, key = _words(exc), self._settings.api_key.reveal()
        return words.replace(key, "***") if key else words


class _Call:
    """One request to the model, as operators are told of it."""

    def __init__(self, model: OpenAIModel, name: str) -> None:
        self._model = model
        self._name = name
        self._began_s = time.perf_counter()
        self._ended = False
        self._tokens = {"prompt": 0, "completion": 0}
        attributes = {"gen_ai.operation.name": "chat", "gen_ai.request.model": name}
        self._span = tracing.start(f"chat {name}", attributes, kind="client")

    def saw_answer(self) -> None:
        """Note that the answer has begun."""
        self._model._first_tokens.add(time.perf_counter() - self._began_s)
        self._span.event("first token")

    def count(self, usage: object) -> None:
        """Note how many tokens the endpoint says there are by now; some say it with every chunk."""
        if isinstance(usage, dict):
            for kind in self._tokens:
                told = usage.get(f"{kind}_tokens")
                if isinstance(told, int):
                    self._tokens[kind] = told

    def end(self, result: str) -> None:
        """Tell how it ended: `ok`, `left` by who asked, or the failure's name. Later calls change nothing."""
        if self._ended:
            return
        self._ended = True
        duration_s = time.perf_counter() - self._began_s
        self._model._durations.add(duration_s, result)
        if any(self._tokens.values()):
            for kind, tokens in self._tokens.items():
                self._model._tokens[kind,] += tokens
            named = zip(("gen_ai.usage.input_tokens", "gen_ai.usage.output_tokens"), self._tokens.values(), strict=True)
            self._span.set(dict(named))
        if result not in ("ok", "left"):
            self._span.fail(result)
            facts = {"model": self._name, "code": result, "duration_ms": milliseconds(duration_s)}
            logger.warning("model call failed", extra=facts)
        self._span.end()


class _Pairs:
    """Joins what endpoints that count in UTF-16 cut in two: half a character is not text, and cannot be sent on."""

    def __init__(self) -> None:
        self._halves: dict[str | int, str] = {}

    def joined(self, part: str | int, piece: str) -> str:
        """Return the next whole characters of a part; half of one at the end waits for the next piece."""
        text = self._halves.pop(part, "") + piece
        if "\ud800" <= text[-1:] <= "\udbff":
            self._halves[part] = text[-1]
            text = text[:-1]
        return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _refused(status: int, words: str, retry_after: str) -> ModelError:
    match status:
        case 401 | 403:
            return ModelRefused(
                f"The model's endpoint refused the key ({status}): {words}. Check OPENAI_API_KEY.", code="model_key"
            )
        case 404:
            return ModelRefused(
                f"The model's endpoint does not know this model or address (404): {words}. "
                "Check CAESARION_MODEL and OPENAI_BASE_URL.",
                code="model_unknown",
            )
        case 429:
            after_s = float(retry_after) if retry_after.replace(".", "", 1).isdigit() else RETRY_AFTER_S
            return ModelError(
                f"The model's endpoint has too much to do or its quota is used up (429): {words}. "
                f"Try again in {after_s:g} s.",
                code="model_busy",
                retry_after_s=after_s,
            )
        case _ if status < 500:
            return ModelRefused(f"The model's endpoint refused the request ({status}): {words}.", code="model_refused")
    return ModelError(f"The model's endpoint failed ({status}): {words}. Ask again.")


def _words(exc: Any) -> str:
    body = exc.body
    if isinstance(body, dict):
        inner = body.get("error", body)
        if isinstance(inner, dict) and isinstance(inner.get("message"), str):
            return _short(inner["message"])
        if isinstance(inner, str):
            return _short(inner)
    return _short(getattr(exc, "message", "") or "no reason given")


def _short(text: str) -> str:
    return " ".join(text.split())[:300].rstrip(".")


def _tool(spec: ToolSpec) -> dict[str, Any]:
    function = {"name": spec.name, "description": spec.description, "parameters": spec.parameters}
    return {"type": "function", "function": function}
