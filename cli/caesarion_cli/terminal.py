"""What a terminal can show, and where on it an execution's outputs stand. Pure: nothing is printed here."""

import re
import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

Inline = Literal["iterm", "kitty"]

NO_END = 1 << 30
_TAB = 8
_SEQUENCE = re.compile(
    r"\x1b(?:\[(?P<parameters>[0-?]*)[ -/]*(?P<final>[@-~])"  # CSI
    r"|[\]P_^X].*?(?:\x07|\x1b\\)"  # OSC, DCS, APC, PM, SOS and their text
    r"|[@-Z\\-_])",
    re.DOTALL,
)


@dataclass(frozen=True, slots=True)
class Terminal:
    """What standard output and standard error can show. `inline` is how pictures are shown, where they can be."""

    out_is_terminal: bool = False
    err_is_terminal: bool = False
    colours: bool = False
    columns: int = NO_END
    rows: int = 24
    inline: Inline | None = None


def terminal_of(
    env: Mapping[str, str], *, out_is_terminal: bool, err_is_terminal: bool, size: tuple[int, int]
) -> Terminal:
    """Return what can be shown; `colours` are those of standard error, where errors go. `size` is (columns, rows)."""
    dumb = env.get("TERM", "") in ("", "dumb")
    return Terminal(
        out_is_terminal=out_is_terminal and not dumb,
        err_is_terminal=err_is_terminal,
        colours=err_is_terminal and not dumb and not env.get("NO_COLOR"),
        columns=max(size[0], 1) if out_is_terminal else NO_END,
        rows=max(size[1], 2),
        inline=inline_pictures(env) if out_is_terminal else None,
    )


def inline_pictures(env: Mapping[str, str]) -> Inline | None:
    """Return how the terminal of `env` shows pictures, or None; a multiplexer in between lets none through."""
    term, program = env.get("TERM", ""), env.get("TERM_PROGRAM", "")
    if env.get("TMUX") or term.startswith(("screen", "tmux")):
        return None
    if env.get("KITTY_WINDOW_ID") or term in ("xterm-kitty", "xterm-ghostty") or program == "ghostty":
        return "kitty"
    if program in ("iTerm.app", "WezTerm", "mintty") or env.get("LC_TERMINAL") == "iTerm2":
        return "iterm"
    return None


def without_sequences(text: str) -> str:
    """Return `text` without colours and other escape sequences."""
    return _SEQUENCE.sub("", text)


@dataclass(frozen=True, slots=True)
class Position:
    """A row, counted from where the page began, and a column."""

    row: int = 0
    column: int = 0


def moved(start: Position, text: str, columns: int) -> Position:
    """Return where the cursor stands after `text` on a terminal with so many columns."""
    row, column = start.row, start.column
    at = 0
    for found in _SEQUENCE.finditer(text):
        row, column = _moved_plainly(row, column, text[at : found.start()], columns)
        at = found.end()
        count = found["parameters"] or "1"
        if found["final"] in ("A", "B") and count.isdecimal():
            row = max(0, row + (int(count) if found["final"] == "B" else -int(count)))
    return Position(*_moved_plainly(row, column, text[at:], columns))


def _moved_plainly(row: int, column: int, text: str, columns: int) -> tuple[int, int]:
    for char in text:
        match char:
            case "\n":
                row, column = row + 1, 0
            case "\r":
                column = 0
            case "\b":
                column = max(0, column - 1)
            case "\t":
                column = min((column // _TAB + 1) * _TAB, columns - 1)
            case _:
                width = _width(char)
                if column + width > columns:
                    row, column = row + 1, 0
                column += width
    return row, column


def _width(char: str) -> int:
    if char < " " or unicodedata.combining(char) or unicodedata.category(char) in ("Cc", "Cf", "Mn"):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


@dataclass(frozen=True, slots=True)
class _Item:
    begin: Position
    text: str
    display_id: str | None


class Page:
    """What one execution has shown, as far as it can still be reached on the screen.

    It is told all that is written and returns the text that rewrites the screen; who asks writes that.
    """

    def __init__(self, columns: int, rows: int) -> None:
        self._columns = columns
        self._rows = rows
        self._items: list[_Item] = []
        self.position = Position()

    def add(self, text: str, display_id: str | None = None) -> None:
        """Note that `text` was written, as the display `display_id` if there is one."""
        self._items.append(_Item(self.position, text, display_id))
        self.position = moved(self.position, text, self._columns)
        out_of_reach = 0
        while out_of_reach < len(self._items) - 1 and not self._reachable(self._items[out_of_reach + 1].begin):
            out_of_reach += 1
        del self._items[:out_of_reach]

    def restart(self) -> None:
        """Begin anew below what is there, which then cannot be reached any more. The cursor is at a line's start."""
        self._items.clear()
        self.position = Position()

    def clear(self) -> str:
        """Return what erases all that can be reached, from the page's start on, and forget it."""
        text = self._back_to(Position())
        self.restart()
        return text

    def replace(self, display_id: str, text: str) -> str | None:
        """Return what gives a display new content and repeats what was below; None when it cannot be reached."""
        for number in reversed(range(len(self._items))):
            item = self._items[number]
            if item.display_id == display_id and item.begin.column == 0 and self._reachable(item.begin):
                below = self._items[number + 1 :]
                back = self._back_to(item.begin)
                del self._items[number:]
                self.position = item.begin
                for shown, shown_id in [(text, display_id), *((other.text, other.display_id) for other in below)]:
                    self.add(shown, shown_id)
                return back + text + "".join(other.text for other in below)
        return None

    def _reachable(self, position: Position) -> bool:
        return self.position.row - position.row < self._rows

    def _back_to(self, position: Position) -> str:
        up = min(self.position.row - position.row, self._rows - 1)
        return "\r" + (f"\x1b[{up}A" if up > 0 else "") + "\x1b[J"
