"""What an execution says, folded for the two who read it in a chat: the user, and the model. Pure.

Displays that are updated or cleared, texts that follow each other: all is applied here, so that a preliminary output is
the whole state so far. Large forms and pictures are named by their address instead.
"""

import base64
import json
import re
import struct
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from caesarion.outputs import (
    ClearOutput,
    DisplayData,
    Error,
    ExecuteResult,
    Finished,
    Output,
    Queued,
    Started,
    Stream,
    Truncated,
    UpdateDisplayData,
)

MAX_TEXT_CHARS = 20_000
MAX_ITEMS = 200
MAX_FORM_BYTES = 16 * 1024
MAX_IMAGES = 4
MAX_IMAGE_CHARS = 4_000_000
MODEL_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_ANSI = re.compile(r"\x1b\[[0-9;?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)")  # colours; titles and links
_HTML_ROWS = re.compile(r"<[^>]+>")


@dataclass(slots=True)
class Item:
    """One thing shown. `seq` is the number of the output that it came with last."""

    seq: int
    output: Stream | DisplayData | ExecuteResult | Error | Truncated
    cut_chars: int = 0


@dataclass(slots=True)
class Shown:
    """The state of an execution as its outputs so far have made it."""

    execution: str
    status: str = "queued"
    execution_count: int | None = None
    duration_ms: float | None = None
    items: list[Item] = field(default_factory=list)
    left_out: int = 0
    _clear_next: bool = False

    def add(self, seq: int, output: Output) -> None:
        """Take the output with this number into account."""
        match output:
            case Queued():
                self.status = "queued"
            case Started(execution_count=count):
                self.status, self.execution_count = "running", count
            case Finished(status=status, execution_count=count, duration_ms=duration_ms):
                self.status, self.duration_ms = status, duration_ms
                self.execution_count = count if count is not None else self.execution_count
            case ClearOutput(wait=wait):
                self._clear_next = wait
                if not wait:
                    self._clear()
            case UpdateDisplayData(display_id=name) if name is not None:
                for item in self.items:
                    if isinstance(item.output, DisplayData | ExecuteResult) and item.output.display_id == name:
                        item.seq = seq
                        item.output = DisplayData(output.data, output.metadata, name)
            case Stream() | DisplayData() | ExecuteResult() | Error() | Truncated():
                self._append(seq, output)

    def for_user(self, address: Callable[[int, str], str]) -> dict[str, Any]:
        """Return the tool output of the UI stream. `address` gives where a form (a number and its type) is found."""
        told: dict[str, Any] = {"execution": self.execution, "status": self.status}
        if self.execution_count is not None:
            told["execution_count"] = self.execution_count
        if self.duration_ms is not None:
            told["duration_ms"] = self.duration_ms
        told["outputs"] = [_item(item, address) for item in self.items]
        if self.left_out:
            told["left_out"] = self.left_out
        return told

    def for_model(self, max_chars: int) -> str:
        """Return the text that the model gets."""
        parts = [part for item in self.items if (part := _for_model(item))]
        if self.left_out:
            parts.append(f"[{self.left_out} further outputs are left out]")
        if self.status not in ("ok", "error"):
            parts.append(_STATUS_WORDS.get(self.status, f"[{self.status}]"))
        return cut_in_the_middle("\n".join(parts) or "[the code ran and showed nothing]", max_chars)

    def images(self) -> list[str]:
        """Return the last pictures as data URLs, for a model that sees."""
        found = []
        for item in self.items:
            if isinstance(item.output, DisplayData | ExecuteResult):
                for kind in MODEL_IMAGES:
                    form = item.output.data.get(kind)
                    if isinstance(form, str) and len(form) <= MAX_IMAGE_CHARS:
                        found.append(f"data:{kind};base64,{form.replace(chr(10), '')}")
                        break
        return found[-MAX_IMAGES:]

    def _append(self, seq: int, output: Stream | DisplayData | ExecuteResult | Error | Truncated) -> None:
        if self._clear_next:
            self._clear_next = False
            self._clear()
        last = self.items[-1] if self.items else None
        if isinstance(output, Stream):
            if last is not None and isinstance(last.output, Stream) and last.output.name == output.name:
                text = _overwritten(last.output.text, output.text)
                last.seq = seq
            else:
                last = Item(seq, output)
                self._push(last)
                text = _overwritten("", output.text)
            kept = text[-MAX_TEXT_CHARS:]
            last.cut_chars += len(text) - len(kept)
            last.output = Stream(output.name, kept)
        elif isinstance(output, Truncated) and last is not None and isinstance(last.output, Truncated):
            self.items[-1] = Item(seq, output)
        else:
            self._push(Item(seq, output))

    def _clear(self) -> None:
        self.items.clear()
        self.left_out = 0

    def _push(self, item: Item) -> None:
        self.items.append(item)
        if len(self.items) > MAX_ITEMS:
            del self.items[MAX_ITEMS // 2]
            self.left_out += 1


_STATUS_WORDS = {
    "interrupted": "[the code was interrupted; variables are kept]",
    "timeout": "[the code took too long and was interrupted; variables are kept]",
    "died": "[the kernel was lost; variables are gone, files are kept]",
}


def cut_in_the_middle(text: str, max_chars: int) -> str:
    """Return a text of about `max_chars`, with a notice where its middle was left out."""
    if len(text) <= max_chars:
        return text
    half = max(1, max_chars // 2)
    return f"{text[:half]}\n[... {len(text) - 2 * half} characters are left out here ...]\n{text[-half:]}"


def without_ansi(text: str) -> str:
    """Return a text without colours and other terminal codes."""
    return _ANSI.sub("", text)


def _overwritten(before: str, text: str) -> str:
    r"""Return both texts joined, of each new line only what follows the last ``\r`` that something follows."""
    if "\r" not in text and not before.endswith("\r"):
        return before + text
    kept = before.rfind("\n") + 1
    lines = (before[kept:] + text).split("\n")
    return before[:kept] + "\n".join(line[line.rstrip("\r").rfind("\r") + 1 :] for line in lines)


def _item(item: Item, address: Callable[[int, str], str]) -> dict[str, Any]:
    output = item.output
    told: dict[str, Any] = {"seq": item.seq, "type": output.type}
    match output:
        case Stream(name=name, text=text):
            told |= {"name": name, "text": text}
            if item.cut_chars:
                told["cut_chars"] = item.cut_chars
        case Error(ename=ename, evalue=evalue, traceback=traceback):
            lines = [cut_in_the_middle(line, MAX_TEXT_CHARS // 4) for line in traceback[-40:]]
            told |= {"ename": ename, "evalue": cut_in_the_middle(evalue, MAX_TEXT_CHARS // 4), "traceback": lines}
        case Truncated(dropped_bytes=dropped_bytes):
            told["dropped_bytes"] = dropped_bytes
        case DisplayData() | ExecuteResult():
            named = [kind for kind, form in output.data.items() if _goes_by_address(kind, form)]
            told["data"] = {kind: form for kind, form in output.data.items() if kind not in named}
            if named:
                told["urls"] = {kind: address(item.seq, kind) for kind in named}
            metadata = output.metadata if len(json.dumps(output.metadata)) < MAX_FORM_BYTES else {}
            if "image/png" in named and "image/png" not in metadata and (size := png_size(output.data["image/png"])):
                metadata = {**metadata, "image/png": dict(zip(("width", "height"), size, strict=True))}
            told["metadata"] = metadata
    return told


def png_size(form: Any) -> tuple[int, int] | None:
    """Return the width and height in pixels of a PNG in base64, so that a page can keep its place before it has it.

    Source: PNG specification, 11.2.1 (IHDR is the first chunk).
    """
    try:
        head = base64.b64decode(form[:44].replace("\n", ""))[:24]
        signature, width, height = struct.unpack(">16sII", head)
    except (AttributeError, TypeError, ValueError, struct.error):
        return None
    return (width, height) if signature.endswith(b"IHDR") else None


def _goes_by_address(kind: str, form: Any) -> bool:
    size = len(form) if isinstance(form, str) else len(json.dumps(form))
    return (kind.startswith("image/") and kind != "image/svg+xml") or size > MAX_FORM_BYTES


def _for_model(item: Item) -> str:
    output = item.output
    match output:
        case Stream(name=name, text=text):
            said = without_ansi(text)
            said = f"[... {item.cut_chars} characters are left out here ...]\n{said}" if item.cut_chars else said
            return said if name == "stdout" else f"[stderr]\n{said}"
        case Error(ename=ename, evalue=evalue, traceback=traceback):
            return without_ansi("\n".join(traceback)) or f"{ename}: {evalue}"
        case Truncated(dropped_bytes=dropped_bytes):
            return f"[{dropped_bytes} bytes of output were dropped]"
        case DisplayData(data=data) | ExecuteResult(data=data):
            text = next((_text(data[kind]) for kind in ("text/markdown", "text/plain") if kind in data), "")
            if not text and "text/html" in data:
                text = _HTML_ROWS.sub(" ", _text(data["text/html"]))
            shown = [kind for kind in data if not kind.startswith("text/")]
            notice = f"[shown to the user: {', '.join(shown)}]" if shown else ""
            return "\n".join(filter(None, (without_ansi(text), notice)))
    return ""


def _text(form: Any) -> str:
    return form if isinstance(form, str) else json.dumps(form)
