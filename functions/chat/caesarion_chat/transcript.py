"""A chat's history as its journal has it: records folded into turns, and turns fitted into a model's context. Pure.

Records of the stream `chat`, each written before what follows from it is done:

    {"type": "turn", "turn", "message": {"id", "text"}, "files", "drops"?, "continues"?}    a user's message
    {"type": "message", "turn", "message", "executions"?, "shown"?}                         of the assistant or a tool
    {"type": "end", "turn", "at", "reason", "failure"?}                                     the turn is over

`drops` names the turn that no longer counts, with those after it (an edit, another answer); `continues` names one whose
function ended in the middle, and whose messages this one goes on from. `executions` are the ids under which the
tool calls of a message run, `shown` what the user saw of a call. `failure` says why a turn ended with an error.
"""

import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from caesarion_chat.model import Message

CHARS_PER_TOKEN = 4
PICTURE_CHARS = 6000  # what one takes in a context, about; its base64 is longer
NOT_RUN = "[this call has no result: the turn was ended before it had one]"


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a turn ended with an error. `retryable`: the same message may succeed later."""

    code: str
    message: str
    retryable: bool
    retry_after_s: float | None = None


@dataclass(frozen=True, slots=True)
class Turn:
    """A user's message and what came of it. `reason` and `ended_at` are None while it is not over."""

    id: str
    message_id: str
    text: str
    messages: tuple[Message, ...] = ()
    executions: dict[str, str] = field(default_factory=dict)
    shown: dict[str, Any] = field(default_factory=dict)
    files: dict[str, str] = field(default_factory=dict)
    reason: str | None = None
    ended_at: str | None = None
    failure: Failure | None = None

    @property
    def said(self) -> str:
        """All that the assistant said, in paragraphs."""
        texts = (message.get("content") for message in self.messages if message["role"] == "assistant")
        return "\n\n".join(text for text in texts if text)

    @property
    def answered(self) -> bool:
        """Whether the model has said its last: a turn can end right after that without its end being written."""
        last = self.messages[-1] if self.messages else None
        return last is not None and last["role"] == "assistant" and not last.get("tool_calls")

    @property
    def ran(self) -> list[str]:
        """The executions that tool calls of this turn ran, in the order of the calls."""
        calls = [call["id"] for message in self.messages for call in message.get("tool_calls") or ()]
        shown = (self.shown.get(call) for call in calls)
        return [output["execution"] for output in shown if isinstance(output, dict) and "execution" in output]

    @property
    def pending(self) -> list[dict[str, Any]]:
        """The tool calls that have no result yet."""
        answered = {message.get("tool_call_id") for message in self.messages}
        calls = [call for message in self.messages for call in message.get("tool_calls") or ()]
        return [call for call in calls if call["id"] not in answered]

    def for_model(self) -> list[Message]:
        """Return the messages, with a result for every tool call, as the wire demands."""
        return [{"role": "user", "content": self.text}, *closed(self.messages)]


def folded(records: Iterable[dict[str, Any]]) -> list[Turn]:
    """Return the turns that count, oldest first."""
    turns: dict[str, Turn] = {}
    for record in records:
        match record:
            case {"type": "turn", "turn": str(name), "message": {"id": str(message_id), "text": str(text)}}:
                if (dropped := record.get("drops")) in turns:
                    known = list(turns)
                    turns = {kept: turns[kept] for kept in known[: known.index(dropped)]}
                begun = Turn(name, message_id, text, files=record.get("files", {}))
                if (before := turns.pop(record.get("continues", ""), None)) is not None:
                    begun = replace(begun, messages=before.messages, executions=before.executions, shown=before.shown)
                turns[name] = begun
            case {"type": "message", "turn": str(name), "message": dict(message)} if name in turns:
                turn = turns[name]
                turns[name] = replace(
                    turn,
                    messages=(*turn.messages, message),
                    executions={**turn.executions, **record.get("executions", {})},
                    shown={**turn.shown, **record.get("shown", {})},
                )
            case {"type": "end", "turn": str(name), "reason": str(reason)} if name in turns:
                failure = Failure(**record["failure"]) if "failure" in record else None
                turns[name] = replace(turns[name], reason=reason, ended_at=record.get("at"), failure=failure)
    return list(turns.values())


def closed(messages: Sequence[Message]) -> list[Message]:
    """Return messages in which each tool call has its result right behind it, whatever was recorded."""
    results = {message["tool_call_id"]: message for message in messages if message["role"] == "tool"}
    whole: list[Message] = []
    for message in messages:
        if message["role"] == "tool":
            continue
        whole.append(message)
        for call in message.get("tool_calls") or ():
            missing = {"role": "tool", "tool_call_id": call["id"], "content": NOT_RUN}
            whole.append(results.get(call["id"], missing))
    return whole


def fitted(turns: Sequence[Sequence[Message]], budget_tokens: int) -> tuple[list[Message], int]:
    """Return the messages of as many of the last turns as fit, one at least, and how many turns were left out."""
    room_chars = budget_tokens * CHARS_PER_TOKEN
    kept: list[Sequence[Message]] = []
    for turn in reversed(turns):
        room_chars -= sum(map(length_chars, turn))
        if kept and room_chars < 0:
            break
        kept.append(turn)
    return [message for turn in reversed(kept) for message in turn], len(turns) - len(kept)


def length_chars(message: Message) -> int:
    """Return about how much of a context a message takes, in characters of text."""
    content = message.get("content")
    calls = len(json.dumps(message["tool_calls"])) if message.get("tool_calls") else 0
    if isinstance(content, list):
        parts = (len(part["text"]) if part.get("type") == "text" else PICTURE_CHARS for part in content)
        return sum(parts) + calls
    return len(content or "") + calls
