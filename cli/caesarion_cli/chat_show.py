"""A turn as it comes, on a terminal or in a pipe. On a terminal Markdown is printed in whole blocks, and only the one
that is being written changes in place. rich is imported when something is rendered.
"""

import io
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, TextIO

from caesarion_cli.chat_chunks import (
    FINAL,
    PYTHON,
    Call,
    Done,
    End,
    Notice,
    Output,
    Preparing,
    Reasoning,
    Result,
    Shown,
    Text,
    TextEnd,
    ToolError,
    Withdrawal,
    coloured,
    printable,
)
from caesarion_cli.failures import Failure
from caesarion_cli.pictures import Picture, PictureFolder, inline_form, picture_in, text_in
from caesarion_cli.terminal import Position, Terminal, moved, without_sequences

if TYPE_CHECKING:
    from rich.console import RenderableType

LIVE_ROWS = 8
LIVE_CHARS = 4000
FOLDED_LINES = 16
FIRST_LINES = 5
_DIM, _RED, _PLAIN = "\x1b[2m", "\x1b[31m", "\x1b[0m"
_PADDING = re.compile(r"(?:\x1b\[[0-9;]*m|\s)+\Z")
_ENDS = {
    "length": "the answer was cut off: the model's limit of length was met; ask it to go on",
    "content-filter": "the model's provider withheld the rest of the answer",
}


class ChatShow:
    """Shows one turn. `fetch` returns the content at a path of the product or raises Failure."""

    def __init__(
        self,
        out: TextIO,
        terminal: Terminal,
        pictures: PictureFolder,
        fetch: Callable[[str], bytes],
        told: Callable[[Failure], None],
        *,
        colours: bool,
    ) -> None:
        self._out = out
        self._terminal = terminal
        self._colours = colours and terminal.out_is_terminal
        self._pictures = pictures
        self._fetch = fetch
        self._told = told
        self._pending = ""
        self._live_rows = 0
        self._printed = False
        self._position = Position()
        self._begins: list[Position] = []
        self._saved: dict[int, Path] = {}
        self.failed_to_save = False
        pictures.begin()

    def show(self, shown: Shown) -> None:
        """Show what a chunk said."""
        if isinstance(shown, Text):
            self._say(shown.text)
            return
        self._end_text()
        match shown:
            case Reasoning(text):
                self._reason(text)
            case Preparing(tool):
                self._set_live([f"writing {'code' if tool == PYTHON else tool} …"])
            case Call():
                self._call(shown)
            case Withdrawal(index, kept_text):
                self._withdraw(index, kept_text)
            case Output(index, record):
                self._output(index, record)
            case Result(_, value):
                self._block(self._styled(folded(_result_text(value)), _DIM))
            case Done():
                self._done(shown)
            case ToolError(tool, text):
                self._gap()
                self._block(self._styled(f"{tool} failed: {text}", _RED))
            case Notice(text):
                self._gap()
                self._block(self._styled(text, _DIM))
            case End(kind, text):
                self._end(kind, text)
            case TextEnd():
                pass

    def waiting(self) -> None:
        """Say on a terminal that an answer is awaited."""
        self._set_live(["…"])

    def settle(self) -> None:
        """Print what is pending and leave the cursor at a line's start, whatever comes next."""
        self._end_text()
        self._end_line()

    def _end(self, kind: str, text: str) -> None:
        self._end_line()
        if kind == "abort":
            self._block(self._styled("[stopped]", _DIM))
        elif kind == "error":
            self._told(Failure(text, code="turn_failed"))
        elif text in _ENDS:
            self._block(self._styled(f"[{_ENDS[text]}]", _DIM))

    # Text of the model.

    def _say(self, text: str) -> None:
        if not self._terminal.out_is_terminal:
            text = printable(text)
            if not self._pending:
                self._gap()
            self._pending = "…"
            self._write(text)
            return
        self._pending += text
        *whole, last = blocks(self._pending)
        for block in whole:
            self._markdown(block)
        self._pending = last
        lines = self._rendered_markdown(last[-LIVE_CHARS:]).splitlines()
        rows = min(LIVE_ROWS, self._terminal.rows - 2)
        gap = [""] if self._printed else []
        self._set_live([*gap, *lines[-max(rows, 1) :]] if lines else [])

    def _end_text(self) -> None:
        self._set_live([])
        pending, self._pending = self._pending, ""
        if not pending:
            return
        if self._terminal.out_is_terminal:
            self._markdown(pending)
        else:
            self._end_line()

    def _markdown(self, source: str) -> None:
        text = self._rendered_markdown(source)
        if text.strip():
            self._set_live([])
            self._gap()
            self._block(text)

    def _rendered_markdown(self, source: str) -> str:
        from rich.markdown import Markdown

        return self._rendered(Markdown(printable(source), hyperlinks=False, code_theme="ansi_dark"))

    def _reason(self, text: str) -> None:
        if self._terminal.out_is_terminal:
            self._write(self._styled(printable(text), _DIM))

    # Tools.

    def _call(self, call: Call) -> None:
        self._gap()
        code = call.input.get("code")
        if call.tool == PYTHON and isinstance(code, str):
            if self._terminal.out_is_terminal:
                from rich.syntax import Syntax

                syntax = Syntax(
                    printable(code), "python", theme="ansi_dark", background_color="default", padding=(0, 2)
                )
                self._block(self._rendered(syntax))
            else:
                self._block(f"```python\n{printable(code)}\n```")
        else:
            given = ", ".join(f"{name}={json.dumps(value, ensure_ascii=False)}" for name, value in call.input.items())
            self._block(self._styled(printable(f"{call.tool}({given})"), _DIM))
        self._position = Position()
        self._begins = []
        self._saved = {}
        self._set_live(["running …"])

    def _withdraw(self, index: int, kept_text: str) -> None:
        """Go back to where an output began, past its text that stays; where that cannot be reached, go on below."""
        if index >= len(self._begins):
            return
        begin = moved(self._begins[index], kept_text, self._terminal.columns)
        del self._begins[index + bool(kept_text) :]
        up = self._position.row - begin.row
        if self._terminal.out_is_terminal and begin.column == 0 and 0 <= up < self._terminal.rows:
            self._send("\r" + (f"\x1b[{up}A" if up else "") + "\x1b[J")
            self._position = begin
        else:
            self._end_line()

    def _output(self, index: int, record: Mapping[str, Any]) -> None:
        if record["type"] != "stream":
            self._end_line()
        if index >= len(self._begins):
            self._begins.append(self._position)
        match record:
            case {"type": "stream", "text": str(text)}:
                self._write(self._styled(text, _RED) if record.get("name") == "stderr" else text)
            case {"type": "display_data" | "execute_result"}:
                self._display(index, record)
            case {"type": "error"}:
                lines = record.get("traceback")
                text = "\n".join(map(str, lines)) if isinstance(lines, list) else ""
                text = coloured(text or f"{record.get('ename')}: {record.get('evalue')}")
                self._block(folded(text if self._colours else without_sequences(text)))
            case {"type": "truncated"}:
                dropped = record.get("dropped_bytes")
                self._block(self._styled(f"[{dropped} bytes of output were over the limit and are not kept]", _DIM))

    def _display(self, index: int, record: Mapping[str, Any]) -> None:
        data = record.get("data")
        bundle = dict(data) if isinstance(data, Mapping) else {}
        urls = record.get("urls")
        elsewhere = {str(form): str(url) for form, url in urls.items()} if isinstance(urls, Mapping) else {}
        try:
            picture = picture_in({**dict.fromkeys(elsewhere, ""), **bundle})
            if picture is not None and picture.media_type in elsewhere:
                picture = replace(picture, content=self._fetch(elsewhere[picture.media_type]))
            elif picture is None and "text/plain" in elsewhere:
                bundle["text/plain"] = self._fetch(elsewhere["text/plain"]).decode(errors="replace")
        except Failure as failure:
            self.failed_to_save = True
            self._told(failure)
            return
        except ValueError:
            picture = None
        if picture is not None:
            self._picture(index, picture)
            return
        if "text/plain" not in bundle and isinstance(bundle.get("text/markdown"), str):
            if self._terminal.out_is_terminal:
                self._block(self._rendered_markdown(bundle["text/markdown"]))
                return
        self._block(printable(text_in(bundle or dict.fromkeys(elsewhere, ""))))

    def _picture(self, index: int, picture: Picture) -> None:
        inline = inline_form(picture, self._terminal.inline)
        if inline is not None:
            self._send(inline)  # How many rows it takes is the terminal's to know: what is above is out of reach.
            self._position = Position()
            self._begins = [Position(-self._terminal.rows)] * len(self._begins)
        try:
            known = self._saved.get(index)
            path = self._pictures.save(picture) if known is None else self._pictures.save_again(known, picture)
        except OSError as exc:
            self.failed_to_save = True
            reason = exc.strerror or str(exc)
            self._told(Failure(f"A picture cannot be saved to {exc.filename!r}: {reason}.", code="not_saved"))
            return
        self._saved[index] = path
        self._block(f"saved: {path}")

    def _done(self, done: Done) -> None:
        self._end_line()
        status = done.status if done.status in FINAL else printable(done.status)
        words = {"timeout": "out of time; variables are kept", "died": "the kernel died; variables are lost"}
        facts = [words.get(status, status)]
        if done.duration_ms is not None:
            facts.append(duration(done.duration_ms))
        if done.cut_chars:
            facts.append(f"{done.cut_chars} characters left out")
        if done.left_out:
            facts.append(f"{done.left_out} outputs left out")
        self._block(self._styled(f"[{', '.join(facts)}]", _DIM if status == "ok" else _RED))

    # Writing.

    def _styled(self, text: str, style: str) -> str:
        return f"{style}{text}{_PLAIN}" if self._colours and text else text

    def _rendered(self, renderable: "RenderableType") -> str:
        from rich.console import Console
        from rich.theme import Theme

        console = Console(
            file=io.StringIO(),
            force_terminal=True,
            width=max(min(self._terminal.columns, 120) - 1, 20),
            color_system="standard" if self._colours else None,
            no_color=not self._colours,
            legacy_windows=False,
            theme=Theme({"markdown.code": "cyan"}),
        )
        with console.capture() as capture:
            console.print(renderable)
        lines = [_PADDING.sub(_unstyled, line) for line in capture.get().split("\n")]
        return "\n".join(lines).strip("\n")

    def _set_live(self, lines: Sequence[str]) -> None:
        """Show lines that are not there for good, in place of those before."""
        if not self._terminal.out_is_terminal or not (lines or self._live_rows):
            return
        if lines:
            self._end_line()
        up = self._live_rows - 1
        back = ("\r" + (f"\x1b[{up}A" if up > 0 else "") + "\x1b[J") if self._live_rows else ""
        self._live_rows = len(lines)
        self._send(back + "\n".join(lines))

    def _gap(self) -> None:
        """Leave an empty line between what is there and what comes."""
        self._end_line()
        if self._printed:
            self._write("\n")

    def _block(self, text: str) -> None:
        self._end_line()
        self._write(text.removesuffix("\n") + "\n")

    def _end_line(self) -> None:
        if not self._live_rows and self._position.column:
            self._write("\n")

    def _write(self, text: str) -> None:
        self._set_live([])
        self._position = moved(self._position, text, self._terminal.columns)
        self._printed = True
        self._send(text)

    def _send(self, text: str) -> None:
        self._out.write(text)
        self._out.flush()


def _unstyled(padding: re.Match[str]) -> str:
    return _PLAIN if padding.start() and "\x1b" in padding.group() else ""


def blocks(source: str) -> list[str]:
    """Return the blocks of Markdown in order; all but the last are whole whatever follows."""
    from markdown_it import MarkdownIt

    tokens = MarkdownIt("commonmark").enable(["table", "strikethrough"]).parse(source)
    begins = sorted({token.map[0] for token in tokens if token.level == 0 and token.map and token.nesting >= 0})
    lines = source.split("\n")
    cuts = [0, *begins[1:], len(lines)]
    parts = ["\n".join(lines[begin:end]) for begin, end in pairwise(cuts)]
    return [part + "\n" for part in parts[:-1]] + parts[-1:]


def folded(text: str) -> str:
    """Return text with the middle of many lines left out; how it begins and ends says most."""
    lines = text.split("\n")
    left_out = len(lines) - FOLDED_LINES
    if left_out <= 1:
        return text
    last = lines[FIRST_LINES + left_out :]
    reset = _PLAIN if "\x1b" in text else ""
    return "\n".join([*lines[:FIRST_LINES], f"{reset}… {left_out} lines left out …", *last])


def duration(duration_ms: float) -> str:
    """Return a run time as people say it."""
    if duration_ms < 1000:
        return f"{duration_ms:.0f} ms"
    if duration_ms < 60_000:
        return f"{duration_ms / 1000:.1f} s"
    minutes, seconds = divmod(round(duration_ms / 1000), 60)
    return f"{minutes} min {seconds} s"


def _result_text(value: Any) -> str:
    match value:
        case str():
            return printable(value)
        case {"text": str(text)} | {"content": str(text)}:
            return printable(text)
    return printable(json.dumps(value, indent=2, ensure_ascii=False))
