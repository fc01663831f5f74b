"""Outputs as they come, on a terminal or in a pipe: text to where it belongs, pictures to files, progress in place."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, TextIO

from caesarion_cli.failures import Failure, tell
from caesarion_cli.pictures import PictureFolder, inline_form, picture_in, text_in
from caesarion_cli.terminal import Page, Terminal, without_sequences

RED = "\x1b[31m"
PLAIN = "\x1b[0m"


class Show:
    """Shows the outputs of one execution, each as soon as it is given one."""

    def __init__(
        self, out: TextIO, err: TextIO, terminal: Terminal, pictures: PictureFolder, *, numbered: bool = False
    ) -> None:
        """`numbered`: results are shown with their number, as a prompt for code does it."""
        self._out = out
        self._err = err
        self._terminal = terminal
        self._pictures = pictures
        self._numbered = numbered
        self._page = Page(terminal.columns, terminal.rows)
        self._saved: dict[str, Path] = {}
        self._clear_with_next = False
        self._dropped_bytes = 0
        self.failed_to_save = False
        pictures.begin()

    def output(self, record: Mapping[str, Any]) -> None:
        """Show one output."""
        match record["type"]:
            case "queued":
                self._notice(f"another execution of this context runs; waiting, number {record['position']} to run")
            case "stream":
                self._clear_if_due()
                self._write(record["text"], to_err=record["name"] == "stderr")
            case "display_data":
                self._clear_if_due()
                self._display(record)
            case "update_display_data":
                self._update(record)
            case "execute_result":
                self._clear_if_due()
                self._display(record, heading=self._heading(record))
            case "clear_output":
                self._clear_with_next = bool(record["wait"])
                if not record["wait"]:
                    self._clear()
            case "error":
                self._clear_if_due()
                text = "\n".join(record["traceback"]) or f"{record['ename']}: {record['evalue']}"
                self._write_block(text if self._terminal.colours else without_sequences(text), to_err=True)
            case "truncated":
                self._dropped_bytes = record["dropped_bytes"]
            case "finished":
                self._finish(record["status"])

    def end_line(self) -> None:
        """See to it that what comes next on the terminal begins a line."""
        if self._page.position.column:
            self._write("\n")

    def _finish(self, status: str) -> None:
        if self._dropped_bytes:
            self._notice(f"{self._dropped_bytes} bytes of output were over the limit and are not kept", always=True)
        if status == "timeout":
            self._notice("the code ran out of time and was interrupted; its variables are kept", always=True)
        elif status == "interrupted":
            self._notice("interrupted; variables are kept")

    def _display(self, record: Mapping[str, Any], *, heading: str = "") -> None:
        display_id = record.get("display_id")
        picture = picture_in(record["data"])
        if picture is None:
            self._write_block(_with_heading(heading, text_in(record["data"])), display_id=display_id)
            return
        inline = inline_form(picture, self._terminal.inline)
        if inline is not None:
            self._write_block(inline.removesuffix("\n"))
            self._page.restart()  # How many rows the picture takes is the terminal's to know.
        try:
            known = self._saved.get(display_id) if display_id is not None else None
            path = self._pictures.save(picture) if known is None else self._pictures.save_again(known, picture)
        except OSError as exc:
            self.failed_to_save = True
            reason = exc.strerror or str(exc)
            tell(Failure(f"A picture cannot be saved to {exc.filename!r}: {reason}.", code="not_saved"))
            return
        if display_id is not None:
            self._saved[display_id] = path
        self._write_block(_with_heading(heading, f"saved: {path}"), display_id=display_id)

    def _update(self, record: Mapping[str, Any]) -> None:
        """Give a display new content in place; where it cannot be reached, below."""
        display_id = record.get("display_id")
        picture = picture_in(record["data"])
        if picture is None and display_id is not None and self._terminal.out_is_terminal:
            rewritten = self._page.replace(display_id, text_in(record["data"]) + "\n")
            if rewritten is not None:
                self._send(self._out, rewritten)
                return
        self._display(record)

    def _heading(self, record: Mapping[str, Any]) -> str:
        if not self._numbered:
            return ""
        heading = f"Out[{record.get('execution_count')}]: "
        return f"{RED}{heading}{PLAIN}" if self._terminal.colours else heading

    def _clear_if_due(self) -> None:
        if self._clear_with_next:
            self._clear_with_next = False
            self._clear()

    def _clear(self) -> None:
        self._pictures.clear()
        if self._terminal.out_is_terminal:
            self._send(self._out, self._page.clear())

    def _notice(self, text: str, *, always: bool = False) -> None:
        """Say something of our own: to people, or to everybody."""
        if always or self._terminal.err_is_terminal:
            self._write_block(f"caesarion: {text}", to_err=True)

    def _write_block(self, text: str, *, to_err: bool = False, display_id: str | None = None) -> None:
        """Write whole lines, on lines of their own."""
        if not to_err or self._terminal.err_is_terminal:
            self.end_line()
        self._write(text.removesuffix("\n") + "\n", to_err=to_err, display_id=display_id)

    def _write(self, text: str, *, to_err: bool = False, display_id: str | None = None) -> None:
        if not to_err or (self._terminal.out_is_terminal and self._terminal.err_is_terminal):
            self._page.add(text, display_id)
        self._send(self._err if to_err else self._out, text)

    def _send(self, stream: TextIO, text: str) -> None:
        stream.write(text)
        stream.flush()


def _with_heading(heading: str, text: str) -> str:
    return heading + ("\n" + text if heading and "\n" in text else text)
