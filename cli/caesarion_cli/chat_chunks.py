"""What the chunks of a turn (AI SDK 6's UI message stream) say that was not shown yet. Pure: nothing is printed here.

All text from the model and from outputs is data: it leaves here without what could steer a terminal, except that
tracebacks keep their colours.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from caesarion.terminal_text import overwritten
from caesarion_cli.terminal import without_sequences

PYTHON = "python"
FINAL = frozenset({"ok", "error", "interrupted", "timeout", "died"})

_UNSEEN = "unseen"

_COLOUR = re.compile(r"\x1b\[[0-9;:]*m")
_OPEN_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*|[\]P_^X][^\x07\x1b]*)?\Z")
# C0 but tab and newline, DEL, C1, the marks that reorder text, and halves of characters.
_STEERING = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


@dataclass(frozen=True, slots=True)
class Text:
    """Further text of the model, which is Markdown."""

    text: str


@dataclass(frozen=True, slots=True)
class TextEnd:
    """The text before is whole."""


@dataclass(frozen=True, slots=True)
class Reasoning:
    """Further text of what the model thinks."""

    text: str


@dataclass(frozen=True, slots=True)
class Preparing:
    """The model writes the input of a tool."""

    tool: str


@dataclass(frozen=True, slots=True)
class Call:
    """A tool is called. Its outputs follow before another call is shown."""

    tool: str
    input: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Withdrawal:
    """Outputs of the call from number `index` on are to go, except for `kept_text` of that one."""

    index: int
    kept_text: str = ""


@dataclass(frozen=True, slots=True)
class Output:
    """An output of the call, with its number; of a stream that grows only the new text.

    The type `unseen` takes the place of one that was left out before it could be told.
    """

    index: int
    record: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Result:
    """What a tool other than python answered."""

    tool: str
    value: Any


@dataclass(frozen=True, slots=True)
class Done:
    """The code has ended. `cut_chars` of its text and `left_out` of its outputs were never told."""

    status: str
    duration_ms: float | None = None
    cut_chars: int = 0
    left_out: int = 0


@dataclass(frozen=True, slots=True)
class ToolError:
    """A tool could not be called, or failed."""

    tool: str
    text: str


@dataclass(frozen=True, slots=True)
class Notice:
    """Something the product says to people."""

    text: str


@dataclass(frozen=True, slots=True)
class End:
    """The turn has ended; `text` is the finish reason, the error, or why it was stopped."""

    kind: Literal["finish", "error", "abort"]
    text: str


Shown = Text | TextEnd | Reasoning | Preparing | Call | Withdrawal | Output | Result | Done | ToolError | Notice | End


@dataclass(slots=True)
class _Call:
    tool: str
    input: Mapping[str, Any]
    announced: bool = False
    shown: list[Mapping[str, Any]] = field(default_factory=list)
    newest: Mapping[str, Any] | None = None
    ending: Shown | None = None
    ended: bool = False
    seen: int = 0
    at: int = 0


class TurnReader:
    """Takes the chunks of one turn in order. When they begin anew, what was told already is not told again."""

    def __init__(self) -> None:
        self.turn: str | None = None
        self.message: str | None = None
        self.end: End | None = None
        self._replaying = False
        self._step = 0
        self._told: dict[tuple[int, str, str], int] = {}
        self._at: dict[tuple[int, str, str], int] = {}
        self._whole: set[tuple[int, str]] = set()
        self._notices = 0
        self._notices_at = 0
        self._calls: dict[str, _Call] = {}
        self._named: dict[str, str] = {}

    def take(self, chunk: Mapping[str, Any]) -> list[Shown]:
        """Return what a chunk says that was not told yet. A chunk of an unknown kind says nothing."""
        match chunk:
            case {"type": "start"}:
                self._begin(chunk)
            case {"type": "start-step"}:
                self._step += 1
            case {"type": "text-delta", "id": str(part), "delta": str(delta)}:
                text = self._new_text("text", part, delta)
                return [*self._released(all_calls=True), Text(text)] if text else []
            case {"type": "text-end", "id": str(part)}:
                if (self._step, part) not in self._whole:
                    self._whole.add((self._step, part))
                    return [TextEnd()]
            case {"type": "reasoning-delta", "id": str(part), "delta": str(delta)}:
                text = self._new_text("reasoning", part, delta)
                return [Reasoning(text)] if text else []
            case {"type": "tool-input-start", "toolCallId": str(call), "toolName": str(tool)}:
                if call not in self._named:
                    self._named[call] = tool
                    return [Preparing(printable(tool))] if not self._open() else []
            case {"type": "data-notice", "data": {"text": str(text)}}:
                self._notices_at += 1
                if self._notices_at > self._notices:
                    self._notices = self._notices_at
                    return [Notice(printable(text))]
            case {"type": str(kind)} if kind.startswith("tool-"):
                return self._tool(chunk)
            case {"type": "finish"}:
                return self._ended("finish", str(chunk.get("finishReason") or "stop"))
            case {"type": "error"}:
                return self._ended("error", str(chunk.get("errorText") or "The turn failed."))
            case {"type": "abort"}:
                return self._ended("abort", str(chunk.get("reason") or ""))
        return []

    def _begin(self, chunk: Mapping[str, Any]) -> None:
        self._replaying = self.message is not None or self.turn is not None
        match chunk:
            case {"messageMetadata": {"turn": str(turn)}}:
                self.turn = turn
        message = chunk.get("messageId")
        self.message = str(message) if message is not None else None
        self._step = self._notices_at = 0
        self._at.clear()
        for call in self._calls.values():
            call.at = 0

    def _new_text(self, kind: str, part: str, delta: str) -> str:
        key = (self._step, kind, part)
        at = self._at[key] = self._at.get(key, 0) + len(delta)
        new = at - self._told.get(key, 0)
        if new <= 0:
            return ""
        self._told[key] = at
        return delta[-new:]

    def _tool(self, chunk: Mapping[str, Any]) -> list[Shown]:
        match chunk:
            case {"type": "tool-input-available", "toolCallId": str(key), "toolName": str(tool)}:
                if key not in self._calls:
                    given = chunk.get("input")
                    self._calls[key] = _Call(tool, given if isinstance(given, Mapping) else {"input": given})
            case {"type": "tool-output-available", "toolCallId": str(key), "output": output}:
                call = self._calls.setdefault(key, _Call(self._named.get(key, ""), {}))
                if not chunk.get("preliminary"):
                    call.newest = output if isinstance(output, Mapping) else None
                    call.ending = _ending(call.tool, output)
                elif isinstance(output, Mapping):
                    call.at += 1
                    if self._replaying and call.at <= call.seen and _goes_back(call.shown, output):
                        return []
                    call.seen = call.at
                    call.newest = output
            case {"type": "tool-input-error" | "tool-output-error", "toolCallId": str(key)}:
                tool = str(chunk.get("toolName") or self._named.get(key, ""))
                call = self._calls.setdefault(key, _Call(tool, {}, announced=True))
                call.ending = ToolError(printable(call.tool), printable(str(chunk.get("errorText", ""))))
        return self._released()

    def _open(self) -> list[_Call]:
        return [call for call in self._calls.values() if not call.ended]

    def _released(self, *, all_calls: bool = False) -> list[Shown]:
        """Return what is new of the first call that has not ended, and of those after it as far as they have."""
        shown: list[Shown] = []
        for call in self._open():
            if not call.announced:
                call.announced = True
                shown.append(Call(printable(call.tool), call.input))
            if call.tool == PYTHON and call.newest is not None:
                shown += self._new_outputs(call, call.newest)
                call.newest = None
            if call.ending is not None:
                call.ended = True
                unseen = sum(record["type"] == _UNSEEN for record in call.shown)
                shown.append(replace(call.ending, left_out=unseen) if isinstance(call.ending, Done) else call.ending)
            elif not all_calls:
                break
        return shown

    def _new_outputs(self, call: _Call, output: Mapping[str, Any]) -> list[Shown]:
        records = _all_records(call.shown, output)
        shown = changes(call.shown, records)
        call.shown = records
        return shown

    def _ended(self, kind: Literal["finish", "error", "abort"], text: str) -> list[Shown]:
        if self.end is not None:
            return []
        self.end = End(kind, printable(text))
        return [*self._released(all_calls=True), self.end]


def changes(before: Sequence[Mapping[str, Any]], after: Sequence[Mapping[str, Any]]) -> list[Shown]:
    """Return how the outputs `before` become `after`, each list being all outputs of a call so far."""
    same = 0
    while same < min(len(before), len(after)) and before[same] == after[same]:
        same += 1
    shown: list[Shown] = []
    if same < len(before):
        old, new = before[same], after[same] if same < len(after) else None
        kept, fresh = _kept(old, new)
        if new is not None and fresh is not None and same == len(before) - 1:
            if kept != old["text"] and kept is not None:
                shown.append(Withdrawal(same, kept))
            if fresh:
                shown.append(Output(same, {**new, "text": fresh}))
            same += 1
        else:
            shown.append(Withdrawal(same))
    shown += [Output(number, after[number]) for number in range(same, len(after))]
    return shown


def printable(text: str) -> str:
    """Return text without escape sequences and other characters that steer a terminal or reorder what it shows."""
    return _STEERING.sub("", without_sequences(text.replace("\r\n", "\n")))


def coloured(text: str) -> str:
    """Return text with its colours and without anything else that steers a terminal."""
    pieces = []
    at = 0
    for colour in _COLOUR.finditer(text):
        pieces += [printable(text[at : colour.start()]), colour.group()]
        at = colour.end()
    pieces.append(printable(text[at:]))
    return "".join(pieces) + ("\x1b[0m" if at else "")


def as_seen(text: str) -> str:
    """Return what a terminal would show of text that goes back in its lines, as progress bars do."""
    plain = without_sequences(_OPEN_SEQUENCE.sub("", text))
    return _STEERING.sub("", overwritten(plain))


def _kept(old: Mapping[str, Any], new: Mapping[str, Any] | None) -> tuple[str | None, str | None]:
    """Return what of an old stream's text stays and what is new after it; (None, None) for other outputs.

    Of a text that is cut at its beginning to stay within bounds, all that stays is what has been seen.
    """
    if new is None or old["type"] != "stream" or new["type"] != "stream" or old.get("name") != new.get("name"):
        return None, None
    was, now = old["text"], new["text"]
    if now.startswith(was):
        return was, now[len(was) :]
    moved_chars = _cut_chars(new) - _cut_chars(old)
    if moved_chars > 0 and now.startswith(was[moved_chars:]):
        return was, now[len(was[moved_chars:]) :]
    common = 0
    while common < min(len(was), len(now)) and was[common] == now[common]:
        common += 1
    kept = was[: was.rfind("\n", 0, common) + 1]
    return kept, now[len(kept) :]


def _goes_back(shown: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> bool:
    """Whether an output of a call lacks some of what was shown."""
    return any(isinstance(each, Withdrawal) for each in changes(shown, _all_records(shown, output)))


def _records(output: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    given = output.get("outputs")
    records = [record for record in given if isinstance(record, Mapping)] if isinstance(given, list) else []
    return [
        {**record, "text": as_seen(str(record.get("text", "")))} if record.get("type") == "stream" else record
        for record in records
        if "type" in record
    ]


def _all_records(shown: Sequence[Mapping[str, Any]], output: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the outputs with those that were left out of their middle: as they were shown, or as a place for each."""
    records = _records(output)
    left_out = output.get("left_out")
    if not isinstance(left_out, int) or left_out <= 0:
        return records
    middle = len(records) // 2
    known = list(shown[middle : middle + left_out])
    return [*records[:middle], *known, *[{"type": _UNSEEN}] * (left_out - len(known)), *records[middle:]]


def _ending(tool: str, output: Any) -> Shown:
    if tool != PYTHON or not isinstance(output, Mapping):
        return Result(printable(tool), output)
    duration = output.get("duration_ms")
    cut = _cut_chars(output) or sum(_cut_chars(record) for record in _records(output))
    return Done(str(output.get("status", "")), duration if isinstance(duration, int | float) else None, cut)


def _cut_chars(record: Mapping[str, Any]) -> int:
    cut = record.get("cut_chars")
    return cut if isinstance(cut, int) else 0
