"""What an OpenAI client asks of `POST /v1/chat/completions`. Pure.

The session is the one that the request names, or that an earlier answer names in its last line, which Markdown does not
show: clients of this wire send the whole conversation each time and know nothing of sessions.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NoReturn

from caesarion.errors import InvalidRequest, NotFound, TooLarge
from caesarion.ids import SessionId, checked_id, keyed_execution_id, new_id
from caesarion_chat.model import Message

OWN_ROLES = ("system", "developer", "user", "assistant")
ALL_ROLES = (*OWN_ROLES, "tool", "function")
_SESSION_LINE = re.compile(r"\n*\[//\]: # \(session ([A-Za-z0-9_-]{1,64})\)\s*$")
# What is passed on to the model with a client's own tools; with ours only what does not change the loop.
PASSED = (
    "temperature", "top_p", "max_tokens", "max_completion_tokens", "stop", "seed", "presence_penalty",
    "frequency_penalty", "logit_bias", "logprobs", "top_logprobs", "n", "response_format", "reasoning_effort",
    "parallel_tool_calls", "tools", "tool_choice", "user", "verbosity", "metadata",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class CompletionRequest:
    """A request with our tools. `new` tells that the session is made for it."""

    session: SessionId
    new: bool
    model: str
    messages: tuple[Message, ...]
    stream: bool
    include_usage: bool


def wants_own_tools(document: Mapping[str, Any]) -> bool:
    """Whether the client brings tools of its own, so that the model is asked as it is."""
    return bool(document.get("tools")) or bool(document.get("functions"))


def checked_document(document: object, models: Sequence[str]) -> dict[str, Any]:
    """Return the body with its model and messages checked as far as both ways need it."""
    if not isinstance(document, dict):
        _wrong("The body", "a JSON object")
    model = document.get("model") or models[0]
    if model not in models:
        raise NotFound(
            f"There is no model {str(model)[:80]!r} here; there are {', '.join(models)}.", code="model_not_found"
        )
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        _wrong("`messages`", "an array with at least one message")
    roles = ALL_ROLES if wants_own_tools(document) else OWN_ROLES
    for position, message in enumerate(messages):
        role = message.get("role") if isinstance(message, dict) else None
        if role not in roles:
            more = "" if role not in ALL_ROLES else "; results of tools come with `tools` only"
            _wrong(f"`messages[{position}].role`", f"one of {', '.join(roles)}, got {str(role)[:40]!r}{more}")
    for name in ("stream",):
        if not isinstance(document.get(name, False), bool):
            _wrong(f"`{name}`", "true or false")
    if not isinstance(document.get("stream_options") or {}, dict):
        _wrong("`stream_options`", "an object")
    return {**document, "model": model}


def passed_on(document: Mapping[str, Any]) -> dict[str, Any]:
    """Return what of a request with the client's own tools goes to the model."""
    body = {name: document[name] for name in ("model", "messages", *PASSED) if document.get(name) is not None}
    if document.get("stream") and document.get("stream_options"):
        body["stream_options"] = document["stream_options"]
    return body


def decode_completion(
    document: Mapping[str, Any],
    header_session: str | None,
    idempotency_key: str | None = None,
    *,
    max_message_chars: int,
) -> CompletionRequest:
    """Return a checked request with our tools. Raises InvalidRequest or TooLarge.

    Where nothing names a session, the idempotency key stands for one, so that the request finds it when it comes again.
    """
    messages: list[Message] = []
    named: str | None = None
    for position, message in enumerate(document["messages"]):
        text = _text(message.get("content"), position)
        if len(text) > max_message_chars:
            raise TooLarge(f"`messages[{position}]` has {len(text)} characters; at most {max_message_chars} are taken.")
        if message["role"] == "assistant":
            found = _SESSION_LINE.search(text)
            if found is not None:
                named, text = found[1], text[: found.start()]
        if text:
            messages.append({"role": "system" if message["role"] == "developer" else message["role"], "content": text})
    if not messages or messages[-1]["role"] != "user":
        _wrong("The last message", "one of the role 'user' with text")
    session = document.get("session") or header_session or named
    if session is not None:
        checked_id(session, what="The session's id")
    made = f"s{keyed_execution_id(idempotency_key)}" if idempotency_key else new_id("s")
    return CompletionRequest(
        session=SessionId(session or made),
        new=session is None,
        model=document["model"],
        messages=tuple(messages),
        stream=document.get("stream", False),
        include_usage=bool((document.get("stream_options") or {}).get("include_usage")),
    )


def session_line(session: str) -> str:
    """Return the line by which the next request of a conversation finds its session."""
    return f"\n\n[//]: # (session {session})"


def _text(content: object, position: int) -> str:
    if content is None:
        return ""
    if isinstance(content, str):
        return content.encode("utf-8", "replace").decode()
    if not isinstance(content, list):
        _wrong(f"`messages[{position}].content`", "a string or an array of parts")
    texts = []
    for part in content:
        if not isinstance(part, dict) or part.get("type") != "text" or not isinstance(part.get("text"), str):
            kind = part.get("type") if isinstance(part, dict) else None
            _wrong(
                f"`messages[{position}].content`",
                f"text; a part of the type {str(kind)[:40]!r} is taken with `tools` of your own only. "
                "Upload files with POST /sessions/{id}/files",
            )
        texts.append(part["text"])
    return "\n\n".join(texts).encode("utf-8", "replace").decode()


def _wrong(what: str, expected: str) -> NoReturn:
    raise InvalidRequest(f"{what} must be {expected}.", code="invalid_field")
