"""What the agent loop knows of a model: messages and tools go in, deltas come out."""

from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

Message = dict[str, Any]  # as in OpenAI's chat completions
FinishReason = Literal["stop", "length", "content-filter", "tool-calls", "other"]


@dataclass(frozen=True, slots=True)
class TextDelta:
    """A piece of the answer."""

    text: str


@dataclass(frozen=True, slots=True)
class ReasoningDelta:
    """A piece of what the model thinks before it answers."""

    text: str


@dataclass(frozen=True, slots=True)
class ToolCallDelta:
    """A piece of the `index`-th tool call: `id` and `name` come with the first, `arguments` is JSON in pieces."""

    index: int
    id: str
    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens that a request took."""

    prompt_tokens: int = 0
    completion_tokens: int = 0

    def __add__(self, other: "Usage") -> "Usage":
        return Usage(self.prompt_tokens + other.prompt_tokens, self.completion_tokens + other.completion_tokens)


@dataclass(frozen=True, slots=True)
class Finished:
    """The answer is whole."""

    reason: FinishReason


ModelEvent = TextDelta | ReasoningDelta | ToolCallDelta | Usage | Finished


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as the model is told of it; `parameters` is a JSON schema."""

    name: str
    description: str
    parameters: dict[str, Any]


class Model(Protocol):
    """Something that answers."""

    def stream(
        self, name: str, messages: Sequence[Message], tools: Sequence[ToolSpec]
    ) -> AsyncGenerator[ModelEvent, None]:
        """Yield the answer of the model `name` as it comes; `Finished` is there exactly once unless it raises.

        Raises ModelError in words for people when the endpoint refuses, fails, is silent for too long, or breaks off.
        """
        ...
