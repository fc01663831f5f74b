"""What an AI SDK client sends: its last user message, and which turn it is about. Pure.

Of the conversation that comes along only texts are taken, and only where the session has no history of its own: what a
client says that tools gave is not believed.
"""

import base64
import binascii
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn
from urllib.parse import unquote_to_bytes

from caesarion.errors import InvalidRequest, TooLarge, UnsupportedType
from caesarion.ids import SessionId, checked_id, new_id
from caesarion_chat.model import Message
from caesarion_chat.transcript import Turn

Trigger = Literal["submit-message", "regenerate-message"]
ROLES = ("user", "assistant", "system")
MAX_ID_CHARS = 200


@dataclass(frozen=True, slots=True)
class UploadedPart:
    """A file that came inside a message."""

    name: str
    content: bytes


@dataclass(frozen=True, slots=True)
class UiRequest:
    """A request for a turn. `about` is the message id that an edit or another answer is about, if one is named.

    `keyed`: the message's id stands for an event, whose turn counts once wherever it is in the history, and goes on
    when it failed. Its session is there.
    """

    session: SessionId
    message_id: str
    text: str
    trigger: Trigger
    about: str | None
    files: tuple[UploadedPart, ...] = ()
    earlier: tuple[Message, ...] = ()
    model: str | None = None
    keyed: bool = False

    def turn_in(self, turns: Sequence[Turn]) -> Turn | None:
        """Return the turn that this very request asked for before; of requests that are not keyed only the last."""
        if self.keyed:
            return next((turn for turn in turns if turn.message_id == self.message_id), None)
        last = turns[-1] if turns else None
        return last if last is not None and self.repeats(last.message_id, last.text) else None

    def is_answered_by(self, turn: Turn) -> bool:
        """Whether this turn, which this request asked for, has ended for good."""
        return turn.reason is not None and not (self.keyed and turn.reason == "error")

    def repeats(self, message_id: str, text: str) -> bool:
        """Whether this is the message with this id and text, sent again."""
        return self.trigger == "submit-message" and (self.message_id, self.text) == (message_id, text)


def decode_ui_request(document: object, *, max_message_chars: int) -> UiRequest:
    """Return the request. Raises InvalidRequest, TooLarge or UnsupportedType that names what is wrong."""
    if not isinstance(document, dict):
        _wrong("The body", "a JSON object")
    session = SessionId(checked_id(document.get("id"), what="The chat's id"))
    trigger = document.get("trigger", "submit-message")
    if trigger not in ("submit-message", "regenerate-message"):
        _wrong("`trigger`", "'submit-message' or 'regenerate-message'")
    messages = document.get("messages")
    if not isinstance(messages, list) or not messages:
        _wrong("`messages`", "an array with at least one message")
    for position, message in enumerate(messages):
        _check_message(message, position)
    last = max((i for i, message in enumerate(messages) if message["role"] == "user"), default=None)
    if last is None:
        _wrong("`messages`", "an array with a message of the role 'user'")
    message = messages[last]
    text = _text(message["parts"])
    if len(text) > max_message_chars:
        raise TooLarge(
            f"The message has {len(text)} characters; at most {max_message_chars} are taken. "
            "Upload it as a file instead."
        )
    files = tuple(_file(part) for part in message["parts"] if part["type"] == "file")
    if not text.strip() and not files:
        _wrong("The last user message", "one with text or a file")
    return UiRequest(
        session=session,
        message_id=message.get("id") or new_id("u"),
        text=text,
        trigger=trigger,
        about=_optional(document, "messageId"),
        files=files,
        earlier=tuple(
            {"role": earlier["role"], "content": said}
            for earlier in messages[:last]
            if earlier["role"] != "system" and (said := _text(earlier["parts"]))
        ),
        model=_optional(document, "model"),
    )


def _check_message(message: object, position: int) -> None:
    where = f"`messages[{position}]`"
    if not isinstance(message, Mapping) or message.get("role") not in ROLES:
        got = repr(message.get("role"))[:60] if isinstance(message, Mapping) else "something else"
        _wrong(where, f"a message with one of the roles {', '.join(ROLES)}, got {got}")
    name = message.get("id", "")
    if not isinstance(name, str) or len(name) > MAX_ID_CHARS:
        _wrong(f"{where}.id", f"a string of at most {MAX_ID_CHARS} characters")
    parts = message.get("parts")
    if not isinstance(parts, list):
        _wrong(f"{where}.parts", "an array")
    for number, part in enumerate(parts):
        kind = part.get("type") if isinstance(part, Mapping) else None
        if not isinstance(kind, str):
            _wrong(f"{where}.parts[{number}]", "an object with a `type`")
        if kind == "text" and not isinstance(part.get("text"), str):
            _wrong(f"{where}.parts[{number}].text", "a string")
        if message["role"] == "user" and kind not in ("text", "file") and not kind.startswith("data-"):
            _wrong(f"{where}.parts[{number}]", f"a part of the type text, file or data-*, got {kind[:60]!r}")


def _text(parts: list[Any]) -> str:
    texts = (part["text"] for part in parts if part["type"] == "text")
    return "\n\n".join(texts).encode("utf-8", "replace").decode()


def _file(part: Mapping[str, Any]) -> UploadedPart:
    url = part.get("url")
    if not isinstance(url, str) or not url.startswith("data:"):
        raise UnsupportedType(
            "A file in a message must come as a data: URL; nothing is fetched from other addresses. "
            "Or upload it with POST /sessions/{id}/files."
        )
    head, comma, body = url.partition(",")
    try:
        content = base64.b64decode(body, validate=True) if head.endswith(";base64") else unquote_to_bytes(body)
    except (binascii.Error, ValueError):
        comma, content = "", b""
    if not comma:
        _wrong("The file's `url`", "a data: URL with valid base64")
    name = part.get("filename")
    return UploadedPart(name if isinstance(name, str) and name else "upload.txt", content)


def _optional(document: Mapping[str, Any], name: str) -> str | None:
    value = document.get(name)
    if value is None or (isinstance(value, str) and 0 < len(value) <= MAX_ID_CHARS):
        return value
    _wrong(f"`{name}`", f"a string of 1 to {MAX_ID_CHARS} characters")


def _wrong(what: str, expected: str) -> NoReturn:
    raise InvalidRequest(f"{what} must be {expected}.", code="invalid_field")
