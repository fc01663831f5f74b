"""A model behind OpenAI's chat completions. The SDK takes 400 ms to import: on first use, off the event loop."""

import asyncio
import importlib
import sys
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import TYPE_CHECKING, Any, TypeVar

from caesarion.errors import ModelError
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

RETRIES = 2  # with the provider's own Retry-After, see the SDK
CONNECT_TIMEOUT_S = 10.0
RETRY_AFTER_S = 10.0
NO_KEY_NEEDED = "none"
T = TypeVar("T")
_REASONS: dict[str, FinishReason] = {
    "stop": "stop",
    "length": "length",
    "content_filter": "content-filter",
    "tool_calls": "tool-calls",
    "function_call": "tool-calls",
}


class OpenAIModel:
    """The endpoint of the settings. To be used from one event loop."""

    def __init__(self, settings: ModelSettings) -> None:
        self._settings = settings
        self._client: AsyncOpenAI | None = None

    async def stream(
        self, name: str, messages: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[ModelEvent, None]:
        """See `Model.stream`."""
        body: dict[str, Any] = {"model": name, "messages": list(messages)}
        if tools:
            body["tools"] = [_tool(spec) for spec in tools]
        finished: Finished | None = None
        async for chunk in self.chunks({**body, "stream_options": {"include_usage": True}}):
            if chunk.usage is not None:
                yield Usage(chunk.usage.prompt_tokens or 0, chunk.usage.completion_tokens or 0)
            for choice in chunk.choices[:1]:
                delta = choice.delta
                reasoning = getattr(delta, "reasoning_content", None) or getattr(delta, "reasoning", None)
                if isinstance(reasoning, str) and reasoning:
                    yield ReasoningDelta(reasoning)
                if delta.content:
                    yield TextDelta(delta.content)
                for call in delta.tool_calls or ():
                    function = call.function
                    known = (function.name or "", function.arguments or "") if function is not None else ("", "")
                    yield ToolCallDelta(call.index or 0, call.id or "", *known)
                if choice.finish_reason is not None:
                    finished = Finished(_REASONS.get(choice.finish_reason, "other"))
        if finished is None:
            raise ModelError("The model's answer broke off before its end. Ask again.")
        yield finished

    async def chunks(self, body: dict[str, Any]) -> AsyncIterator[Any]:
        """Yield the SDK's chunks of a streamed request, as they come. Raises ModelError."""
        client = await self._opened()
        begun = False
        try:
            async with asyncio.timeout(self._settings.timeout_s):  # all tries together: the user sees one silence
                answer: Any = await client.chat.completions.create(**{**body, "stream": True})
            async with answer as stream:
                iterator = aiter(stream)
                while True:
                    async with asyncio.timeout(self._settings.timeout_s):
                        chunk = await anext(iterator, None)
                    if chunk is None:
                        return
                    begun = True
                    yield chunk
        except Exception as exc:
            raise self._told(exc, begun=begun) from exc

    async def whole(self, body: dict[str, Any]) -> Any:
        """Return the SDK's completion of a request that is not streamed. Raises ModelError."""
        client = await self._opened()
        try:
            return await client.chat.completions.create(**{**body, "stream": False})
        except Exception as exc:
            raise self._told(exc) from exc

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


def _refused(status: int, words: str, retry_after: str) -> ModelError:
    match status:
        case 401 | 403:
            return ModelError(
                f"The model's endpoint refused the key ({status}): {words}. Check OPENAI_API_KEY.", code="model_key"
            )
        case 404:
            return ModelError(
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
            return ModelError(f"The model's endpoint refused the request ({status}): {words}.", code="model_refused")
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
