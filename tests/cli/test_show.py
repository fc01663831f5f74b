"""How outputs look: what is on the screen at the end, and the rules behind it."""

import base64
import io
import re
from pathlib import Path
from typing import Any

import pytest

from caesarion_cli.listings import printable, size, table
from caesarion_cli.pictures import Picture, PictureFolder, inline_form, picture_in, text_in
from caesarion_cli.show import Show
from caesarion_cli.terminal import Inline, Position, Terminal, inline_pictures, moved, terminal_of, without_sequences
from caesarion_cli.transfers import target_of

COLUMNS, ROWS = 20, 6
PNG = base64.b64encode(b"\x89PNG...").decode()
_STEP = re.compile(r"\x1b\[(\d+)A|\x1b\[(J)|([^\x1b])", re.DOTALL)


def on_screen(text: str) -> list[str]:
    """Return the lines that a terminal of COLUMNS would show, those that scrolled away included."""
    lines, row, column = [""], 0, 0
    for up, erase, char in _STEP.findall(text):
        if up:
            row -= int(up)
        elif erase:
            lines[row] = lines[row][:column]
            del lines[row + 1 :]
        elif char == "\r":
            column = 0
        else:
            if char == "\n" or column == COLUMNS:
                row, column = row + 1, 0
                lines.extend([""] * (row + 1 - len(lines)))
            if char != "\n":
                line = lines[row].ljust(column)
                lines[row] = line[:column] + char + line[column + 1 :]
                column += 1
    return [line for line in lines if line]


def shown(*outputs: dict[str, Any], terminal: bool = True, folder: Path = Path("unused")) -> tuple[str, str]:
    """Show outputs and return what went to standard output and to standard error."""
    out, err = io.StringIO(), io.StringIO()
    facts = Terminal(terminal, terminal, False, COLUMNS, ROWS, None) if terminal else Terminal()
    show = Show(out, out if terminal else err, facts, PictureFolder(folder, "p"))
    for output in outputs:
        show.output(output)
    return out.getvalue(), err.getvalue()


def said(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"type": "stream", "name": name, "text": text}


def display(text: str, display_id: str | None = None, kind: str = "display_data") -> dict[str, Any]:
    known = {"display_id": display_id} if display_id else {}
    return {"type": kind, "data": {"text/plain": text}, "metadata": {}, **known}


def update(text: str, display_id: str) -> dict[str, Any]:
    return display(text, display_id, "update_display_data")


def cleared(*, wait: bool) -> dict[str, Any]:
    return {"type": "clear_output", "wait": wait}


LONG = "w" * (COLUMNS + 5)


@pytest.mark.parametrize(
    ("outputs", "screen"),
    [
        ([said("10%"), said("\r20%"), said("\r100%\n")], ["100%"]),
        ([display("a 1", "a"), update("a 2", "a"), update("a 3", "a")], ["a 3"]),
        ([display("a 1", "a"), display("b 1", "b"), update("a 2", "a"), update("b 2", "b")], ["a 2", "b 2"]),
        ([display("a", "a"), said("below\n"), update("two\nlines", "a")], ["two", "lines", "below"]),
        ([display(LONG, "a"), said("below\n"), update("short", "a")], ["short", "below"]),
        ([said("no end"), display("a", "a"), update("b", "a")], ["no end", "b"]),
        ([said("old\n"), said("older", "stderr"), cleared(wait=False), said("new\n")], ["new"]),
        ([said("old\n"), cleared(wait=True)], ["old"]),
        ([said("old\n"), cleared(wait=True), said("new\n")], ["new"]),
        ([said("old\n"), cleared(wait=True), display("new")], ["new"]),
        ([display("top", "a"), *[said(f"{n}\n") for n in range(4)], update("up", "a")], ["up", "0", "1", "2", "3"]),
        (
            [display("gone", "a"), *[said(f"{n}\n") for n in range(9)], update("below", "a")],
            ["gone", *"012345678", "below"],
        ),
        ([update("never shown", "x")], ["never shown"]),
    ],
)
def test_progress_happens_in_place(outputs: list[dict[str, Any]], screen: list[str]) -> None:
    assert on_screen(shown(*outputs)[0]) == screen


def test_a_pipe_gets_every_output_in_order_and_no_control_sequence() -> None:
    outputs = [
        display("a 1", "a"),
        said("x\n"),
        update("a 2", "a"),
        cleared(wait=False),
        said("y\n"),
        said("z", "stderr"),
    ]
    assert shown(*outputs, terminal=False) == ("a 1\nx\na 2\ny\n", "z")


def test_errors_lose_their_colours_where_there_are_none() -> None:
    error = {"type": "error", "ename": "E", "evalue": "e", "traceback": ["\x1b[31mE\x1b[0m: e"]}
    assert shown(error, terminal=False) == ("", "E: e\n")
    without_text = {"type": "error", "ename": "E", "evalue": "e", "traceback": []}
    assert shown(without_text, terminal=False) == ("", "E: e\n")


def test_dropped_output_is_told_once_with_its_total() -> None:
    finished = {"type": "finished", "status": "ok", "duration_ms": 1.0}
    outputs = [{"type": "truncated", "dropped_bytes": 5}, {"type": "truncated", "dropped_bytes": 12}, finished]
    assert shown(*outputs, terminal=False)[1].count("12 bytes of output") == 1


def test_an_animation_keeps_one_file_for_its_picture(tmp_path: Path) -> None:
    picture = {"type": "display_data", "data": {"image/png": PNG}, "metadata": {}}
    shown(picture, cleared(wait=True), picture, cleared(wait=True), picture, picture, terminal=False, folder=tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["p-1.png", "p-2.png"]


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("", Position(0, 0)),
        ("ab", Position(0, 2)),
        ("ab\ncd\r", Position(1, 0)),
        ("x" * COLUMNS, Position(0, COLUMNS)),
        ("x" * (COLUMNS + 1), Position(1, 1)),
        ("\x1b[31mred\x1b[0m", Position(0, 3)),
        ("\x1b]0;title\x07x", Position(0, 1)),
        ("日本", Position(0, 4)),
        ("e\u0301", Position(0, 1)),
        ("a\tb", Position(0, 9)),
        ("abc\b", Position(0, 2)),
        ("a\nb\n\x1b[2A", Position(0, 0)),
    ],
)
def test_the_cursor_is_where_the_terminal_has_it(text: str, position: Position) -> None:
    assert moved(Position(), text, COLUMNS) == position


@pytest.mark.parametrize(
    ("env", "inline"),
    [
        ({"TERM": "xterm-kitty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "ghostty"}, "kitty"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "iTerm.app"}, "iterm"),
        ({"TERM": "xterm-256color", "LC_TERMINAL": "iTerm2"}, "iterm"),
        ({"TERM": "xterm-256color", "TERM_PROGRAM": "WezTerm"}, "iterm"),
        ({"TERM": "tmux-256color", "KITTY_WINDOW_ID": "1"}, None),
        ({"TERM": "xterm-256color", "TMUX": "/tmp/x", "TERM_PROGRAM": "iTerm.app"}, None),
        ({"TERM": "xterm-256color"}, None),
    ],
)
def test_terminals_that_show_pictures_are_known_by_the_environment(env: dict[str, str], inline: Inline | None) -> None:
    assert inline_pictures(env) == inline
    assert terminal_of(env, out_is_terminal=False, err_is_terminal=True, size=(80, 24)).inline is None


@pytest.mark.parametrize(
    ("env", "terminal", "colours"),
    [
        ({"TERM": "xterm"}, True, True),
        ({"TERM": "xterm"}, False, False),
        ({"TERM": "dumb"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm", "NO_COLOR": ""}, True, True),
    ],
)
def test_colours_are_for_terminals_that_have_them(env: dict[str, str], terminal: bool, colours: bool) -> None:
    assert terminal_of(env, out_is_terminal=True, err_is_terminal=terminal, size=(80, 24)).colours is colours


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ({"text/plain": "42", "text/html": "<b>42</b>"}, "42"),
        ({"text/plain": ["4", "2"]}, "42"),
        ({"text/plain": "<IPython.core.display.Markdown object>", "text/markdown": "*hi*"}, "*hi*"),
        ({"text/plain": "<IPython.core.display.JSON object>", "application/json": [1]}, "[\n  1\n]"),
        ({"application/x-own": "?"}, "[application/x-own]"),
    ],
)
def test_results_are_shown_as_text(data: dict[str, Any], text: str) -> None:
    assert picture_in(data) is None
    assert text_in(data) == text


@pytest.mark.parametrize(
    ("data", "extension", "content"),
    [
        ({"text/plain": "<Figure>", "image/png": PNG}, ".png", b"\x89PNG..."),
        ({"image/svg+xml": ["<svg>", "</svg>"]}, ".svg", b"<svg></svg>"),
        ({"application/vnd.plotly.v1+json": {"data": []}}, ".plotly.json", b'{"data": []}'),
        ({"application/vnd.vegalite.v6.json": {}, "text/plain": "long"}, ".vl.json", b"{}"),
        ({"text/plain": "<IPython.core.display.HTML object>", "text/html": "<b>"}, ".html", b"<b>"),
    ],
)
def test_what_text_cannot_show_is_saved(data: dict[str, Any], extension: str, content: bytes) -> None:
    picture = picture_in(data)
    assert picture is not None
    assert (picture.extension, picture.content) == (extension, content)


def test_inline_forms_carry_the_whole_picture() -> None:
    content = bytes(range(256)) * 40
    picture = Picture("image/png", ".png", content)
    iterm = inline_form(picture, "iterm") or ""
    assert base64.b64decode(iterm.partition(":")[2].removesuffix("\x07\n")) == content
    kitty = inline_form(picture, "kitty") or ""
    chunks = re.findall(r"\x1b_G([^;]*);([^\x1b]*)\x1b\\", kitty)
    assert base64.b64decode("".join(chunk for _, chunk in chunks)) == content
    assert [head[-3:] for head, _ in chunks] == ["m=1"] * (len(chunks) - 1) + ["m=0"]
    assert all(len(chunk) <= 4096 for _, chunk in chunks)
    assert without_sequences(kitty) == without_sequences(iterm) == "\n"
    assert inline_form(Picture("image/svg+xml", ".svg", b""), "kitty") is None
    assert inline_form(picture, None) is None


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(None, "-"), (0, "0 B"), (999, "999 B"), (1000, "1.0 kB"), (999_960, "1.0 MB"), (2_100_000_000, "2.1 GB")],
)
def test_sizes_are_quick_to_read(size_bytes: int | None, text: str) -> None:
    assert size(size_bytes) == text


def test_lists_are_aligned_and_names_cannot_steer_the_terminal() -> None:
    assert table(("NAME", "SIZE"), [("a", "1 B"), ("longer", "12 B")]) == "NAME    SIZE\na       1 B\nlonger  12 B"
    assert printable("a\x1b[2Jb\nc") == "a\\x1b[2Jb\\nc"


@pytest.mark.parametrize(
    ("output", "name", "target"),
    [(None, "a.csv", "a.csv"), (None, "sub/a.csv", "a.csv"), ("-", "a.csv", "-"), ("b.csv", "a.csv", "b.csv")],
)
def test_downloads_go_where_they_were_asked_to(output: str | None, name: str, target: str, tmp_path: Path) -> None:
    assert target_of(Path(output) if output is not None else None, name) == Path(target)
    assert target_of(tmp_path, name) == tmp_path / "a.csv"
