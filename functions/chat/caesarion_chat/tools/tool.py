"""What a tool is, and what it has at hand while it runs."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, ClassVar, Protocol

from caesarion.adapters.runs import Runs
from caesarion.adapters.sessions import Sessions
from caesarion.ids import ExecutionId, SessionKey
from caesarion.ports import Sandbox
from caesarion_chat.settings import ChatSettings


class ToolFailed(Exception):
    """The tool could not do what was asked. The text goes to the model, which may try another way."""


@dataclass(frozen=True, slots=True)
class ToolResult:
    """`output` is what the user sees (JSON), `text` what the model gets, `images` data URLs for a model that sees."""

    output: Any
    text: str
    images: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ToolContext:
    """One call's surroundings.

    `sandbox` waits for the session's sandbox. `execution` is the id under which code of this call runs, once however
    often the call is tried. `show` gives the user a preliminary output in place of the one before. `stopping` is set
    when the user stops the turn. `kernel` lets the code of a turn's calls run in their order, one after the other, so
    that what has not begun when the user stops never does.
    """

    key: SessionKey
    sessions: Sessions
    runs: Runs
    sandbox: Callable[[], Awaitable[Sandbox]]
    execution: ExecutionId
    show: Callable[[Any], None]
    stopping: asyncio.Event
    kernel: asyncio.Lock
    settings: ChatSettings


class Tool(Protocol):
    """Something that the model may call.

    `ends_when_stopped`: `run` itself returns soon after `stopping` is set; others are cancelled then.
    """

    name: ClassVar[str]
    description: ClassVar[str]
    parameters: ClassVar[dict[str, Any]]
    ends_when_stopped: ClassVar[bool]

    async def run(self, arguments: dict[str, Any], context: ToolContext) -> ToolResult:
        """Do it. Raises ToolFailed for what the model should know, and CaesarionError when the platform fails."""
        ...


def required_text(arguments: dict[str, Any], name: str) -> str:
    """Return a text argument. Raises ToolFailed that says what was expected."""
    value = arguments.get(name)
    if not isinstance(value, str) or not value.strip():
        raise ToolFailed(f"The argument {name!r} must be a string that is not empty.")
    return value.encode("utf-8", "replace").decode()
