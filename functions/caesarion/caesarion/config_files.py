"""TOML files of people, read so that whatever is wrong in one is told with its file and line. Pure but for the reading.

`tomllib` gives no lines for values, so a second pass over the text, which is known to be valid then, finds them.
"""

import os.path
import re
import tomllib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any, NoReturn

from caesarion.errors import ConfigError, InvalidRequest
from caesarion.ids import checked_id

Path = tuple[str | int, ...]

MAX_FILE_BYTES = 4 * 1024 * 1024
MAX_SHOWN_CHARACTERS = 80
_AT_LINE = re.compile(r" \(at line (\d+), column (\d+)\)$")
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_BLANK = re.compile(r"(?:[ \t\n]|#[^\n]*)*")
_SPACE = re.compile(r"[ \t]*")
_PLAIN_VALUE = re.compile(r"[^,\]}#\n]*")
_STRINGS = (
    re.compile(r'"""(?:\\.|[^\\])*?"{3,5}', re.DOTALL),
    re.compile(r"'''.*?'{3,5}", re.DOTALL),
    re.compile(r'"(?:\\.|[^"\\\n])*"'),
    re.compile(r"'[^'\n]*'"),
)


@dataclass(frozen=True, slots=True)
class Table:
    """One table of a file: its values as `tomllib` gives them, and where each stands.

    `at` is the way to it from the top of the file, `within` the part of that which names one of its keys to people.
    """

    values: Mapping[str, Any]
    path: str
    line: int
    at: Path = ()
    within: Path = ()
    lines: Mapping[Path, int] = field(default_factory=dict, repr=False)

    def line_of(self, key: str, *further: str | int) -> int:
        """Return the line of a key, or of what it stands in when there is no such key."""
        whole = (*self.at, key, *further)
        for length in range(len(whole), len(self.at), -1):
            if (line := self.lines.get(whole[:length])) is not None:
                return line
        return self.line

    def fail(self, key: str, expected: str, *further: str | int) -> NoReturn:
        """Raise ConfigError that says where the value of `key` stands, what it must be, and what it is.

        `further` leads on to a part of that value: names of keys, indices of lists.
        """
        value: Any = self.values
        try:
            for step in (key, *further):
                value = value[step]
        except (LookupError, TypeError):
            given = "and is missing"
        else:
            given = f"got {_shown(value)}"
        name = shown_path((*self.within, key, *further))
        raise ConfigError(f"{self.path}:{self.line_of(key, *further)}: `{name}` must be {expected}, {given}")

    def problem(self, text: str, key: str | None = None) -> NoReturn:
        """Raise ConfigError with `text` at the line of `key`, or of the table."""
        raise ConfigError(f"{self.path}:{self.line if key is None else self.line_of(key)}: {text}")

    def check_known(self, names: Collection[str]) -> None:
        """Raise ConfigError for the first key that is none of `names`."""
        for key in self.values:
            if key not in names:
                known = ", ".join(f"`{name}`" for name in names)
                name = shown_path((*self.within, key))
                raise ConfigError(f"{self.path}:{self.line_of(key)}: `{name}` is not known here; known are {known}")

    def text(self, key: str, expected: str = "a text", *, default: str | None = None) -> str:
        """Return a text that is not empty; `default` when there is none, and without one it must be there."""
        value = self.values.get(key, default)
        if not isinstance(value, str) or not (value or key not in self.values):
            self.fail(key, expected)
        return value

    def whole(self, key: str, low: int, high: int, *, default: int | None = None) -> int:
        """Return a whole number from `low` to `high`."""
        value = self.values.get(key, default)
        if not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high:
            self.fail(key, f"a whole number from {low} to {high}")
        return value

    def number(self, key: str, low: float, high: float, *, default: float | None = None) -> float:
        """Return a number from `low` to `high`."""
        value = self.values.get(key, default)
        if not isinstance(value, int | float) or isinstance(value, bool) or not low <= value <= high:
            self.fail(key, f"a number from {low:g} to {high:g}")
        return float(value)

    def id(self, key: str, *, default: str | None = None) -> str:
        """Return an id that a client may choose."""
        try:
            return checked_id(self.values.get(key, default), what=key)
        except InvalidRequest:
            self.fail(key, "1 to 64 of the characters A-Z a-z 0-9 _ -")

    def one_of(self, key: str, words: Collection[str], *, default: str | None = None) -> str:
        """Return one of `words`."""
        value = self.values.get(key, default)
        if not isinstance(value, str) or value not in words:
            self.fail(key, f"one of {', '.join(repr(word) for word in words)}")
        return value

    def table(self, key: str, expected: str = "a table") -> "Table":
        """Return the table that is the value of `key`."""
        value = self.values.get(key)
        if not isinstance(value, dict):
            self.fail(key, expected)
        at = (*self.at, key)
        return Table(value, self.path, self.line_of(key), at, (*self.within, key), self.lines)


def found_file(given: str, home: str, name: str) -> str | None:
    """Return the file that is set, or the one of this name in CAESARION_HOME if it is there."""
    default = os.path.join(home, name)
    return given or (default if os.path.exists(default) else None)


def read_tables(path: str, table: str) -> list[Table]:
    """Return the tables `[[table]]` of a file in their order; none for a file without.

    Raises ConfigError that names file and line when the file is no TOML, or has anything else in it.
    """
    text = _read(path)
    try:
        whole = tomllib.loads(text)
        lines = key_lines(text)
    except tomllib.TOMLDecodeError as exc:
        message = str(exc)
        place = _AT_LINE.search(message)
        line = int(place[1]) if place else max(1, len(text.splitlines()))
        column = f", column {place[2]}" if place else ""
        reason = message.removesuffix(place[0] if place else " (at end of document)")
        raise ConfigError(f"{path}:{line}: this is no TOML: {reason}{column}") from exc
    except (ValueError, RecursionError) as exc:
        raise ConfigError(f"{path}: this cannot be read: {exc}") from exc
    top = Table(whole, path, 1, lines=lines)
    for key in whole:
        if key != table:
            top.problem(f"`{shown_path((key,))}` is not known here; only [[{table}]] is", key)
    found = whole.get(table, [])
    if not isinstance(found, list) or not all(isinstance(item, dict) for item in found):
        top.problem(f"`{table}` must be a list of tables: write [[{table}]] above each", table)
    return [
        Table(item, path, lines.get((table, number), top.line_of(table)), (table, number), lines=lines)
        for number, item in enumerate(found)
    ]


def shown_path(path: Path) -> str:
    """Return a way to a value as TOML would write it, indices in brackets."""
    text = ""
    for step in path:
        if isinstance(step, int):
            text += f"[{step}]"
        else:
            text += ("." if text else "") + (step if _BARE_KEY.fullmatch(step) else repr(step))
    return text


def key_lines(text: str) -> dict[Path, int]:
    """Return the line of each key of a valid TOML text by the way to it; elements of lists have their index in it."""
    return _Scan(text).lines


def _read(path: str) -> str:
    try:
        with open(path, "rb") as file:
            content = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        raise ConfigError(f"{path}: this cannot be read: {exc.strerror}") from exc
    if len(content) > MAX_FILE_BYTES:
        raise ConfigError(f"{path}: this is larger than {MAX_FILE_BYTES} bytes")
    try:
        return content.decode("utf-8-sig").replace("\r\n", "\n")
    except UnicodeDecodeError as exc:
        line = content.count(b"\n", 0, exc.start) + 1
        raise ConfigError(f"{path}:{line}: this must be UTF-8") from exc


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= MAX_SHOWN_CHARACTERS else f"{text[:MAX_SHOWN_CHARACTERS]}..."


class _Scan:
    """A walk over a valid TOML text that notes on which line each key stands."""

    def __init__(self, text: str) -> None:
        self.lines: dict[Path, int] = {}
        self._text = text
        self._at = 0
        self._line = 1
        self._counted_to = 0
        self._elements: dict[Path, int] = {}
        table: Path = ()
        while self._skip(_BLANK) < len(text):
            if text[self._at] == "[":
                table = self._header()
            else:
                self._pair(table)

    def _header(self) -> Path:
        line = self._here()
        is_element = self._text.startswith("[[", self._at)
        self._at += 2 if is_element else 1
        *parents, last = self._key()
        self._at += 2 if is_element else 1
        at: Path = ()
        for name in parents:
            at = self._newest((*at, name))
            self.lines.setdefault(at, line)
        at = (*at, last)
        self.lines.setdefault(at, line)
        if is_element:
            self._elements[at] = self._elements.get(at, -1) + 1
            at = self._newest(at)
        self.lines[at] = line
        return at

    def _newest(self, at: Path) -> Path:
        return (*at, self._elements[at]) if at in self._elements else at

    def _pair(self, table: Path) -> None:
        line = self._here()
        at = table
        for name in self._key():
            at = (*at, name)
            self.lines.setdefault(at, line)
        self._at += 1  # the equals sign
        self._value(at)

    def _value(self, at: Path) -> None:
        self._skip(_SPACE)
        match self._text[self._at]:
            case '"' | "'":
                self._string()
            case "[":
                self._at += 1
                index = 0
                while self._text[self._skip(_BLANK)] != "]":
                    self.lines[(*at, index)] = self._here()
                    self._value((*at, index))
                    index += 1
                    if self._text[self._skip(_BLANK)] == ",":
                        self._at += 1
                self._at += 1
            case "{":
                self._at += 1
                while self._text[self._skip(_BLANK)] != "}":
                    self._pair(at)
                    if self._text[self._skip(_BLANK)] == ",":
                        self._at += 1
                self._at += 1
            case _:
                self._skip(_PLAIN_VALUE)

    def _key(self) -> list[str]:
        """Read a key with its dots and the blanks around it."""
        names: list[str] = []
        while True:
            start = self._skip(_SPACE)
            if self._text[start] in "\"'":
                quoted = self._string()
                names.append(str(tomllib.loads(f"key = {quoted}")["key"]))
            else:
                self._skip(_BARE_KEY)
                names.append(self._text[start : self._at])
            if self._text[self._skip(_SPACE)] != ".":
                return names
            self._at += 1

    def _string(self) -> str:
        start = self._at
        for kind in _STRINGS:
            if found := kind.match(self._text, start):
                self._at = found.end()
                return found[0]
        raise ValueError(f"no string at {start}")

    def _skip(self, what: re.Pattern[str]) -> int:
        if found := what.match(self._text, self._at):
            self._at = found.end()
        return self._at

    def _here(self) -> int:
        """Return the line of the place that was reached."""
        self._line += self._text.count("\n", self._counted_to, self._at)
        self._counted_to = self._at
        return self._line
