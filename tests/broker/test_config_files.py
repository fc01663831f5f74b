"""TOML files: whatever is wrong is told with its file and line."""

import random
import tomllib
from pathlib import Path
from typing import Any

import pytest

from caesarion.config_files import Table, found_file, key_lines, read_tables, shown_path
from caesarion.errors import ConfigError

TRICKY = '''# a comment with [[hooks]] and name = "no"
[[hooks]]  # [more]
name = "a"   # x = 3
code = """
x = 1
[[hooks]]
"""
plain = \'\'\'
a = 2 \'\'\'
"we ird" . 'k.ey'.z = [ 1, # c ]
   { a = 1, "b" = [ "x]", 'y' ] }, """
   m \\""" ]
   """, 3 ]
[hooks.filter]
type = "x"
[[hooks.list]]
a = 1
[[hooks.list]]
a = 2

[[hooks]]
name = "b"
session = { fixed = "x", key.a = -1 }
at = 2020-01-01 00:00:00
[hooks.filter]
exact.type = "[x]"
[[hooks.list]]
b = true
'''


def tables(tmp_path: Path, text: str | bytes) -> list[Table]:
    path = tmp_path / "hooks.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return read_tables(str(path), "hooks")


def refusal(tmp_path: Path, text: str | bytes) -> str:
    """Return what is told of a file, after its path."""
    with pytest.raises(ConfigError) as refused:
        tables(tmp_path, text)
    path = str(tmp_path / "hooks.toml")
    assert refused.value.message.startswith(path + ":")
    return refused.value.message.removeprefix(path + ":")


@pytest.mark.parametrize(
    ("table", "path", "line"),
    [
        (0, ("name",), 3),
        (0, ("code",), 4),
        (0, ("plain",), 8),
        (0, ("we ird",), 10),
        (0, ("we ird", "k.ey", "z"), 10),
        (0, ("we ird", "k.ey", "z", 1), 11),
        (0, ("we ird", "k.ey", "z", 1, "b", 1), 11),
        (0, ("we ird", "k.ey", "z", 3), 13),
        (0, ("filter",), 14),
        (0, ("filter", "type"), 15),
        (0, ("filter", "missing"), 14),
        (0, ("list", 1, "a"), 19),
        (0, ("missing",), 2),
        (1, ("name",), 22),
        (1, ("session", "key", "a"), 23),
        (1, ("at",), 24),
        (1, ("filter", "exact", "type"), 26),
        (1, ("list", 0, "b"), 28),
        (1, ("code",), 21),
    ],
)
@pytest.mark.parametrize("ends", ["\n", "\r\n"], ids=["lf", "crlf"])
def test_the_line_of_a_value_is_found(tmp_path: Path, table: int, path: tuple[Any, ...], line: int, ends: str) -> None:
    found = tables(tmp_path, TRICKY.replace("\n", ends))[table]
    assert found.line_of(*path) == line
    with pytest.raises(ConfigError, match=rf"hooks\.toml:{line}: `.*` must be as it should, (got|and is missing)"):
        found.fail(path[0], "as it should", *path[1:])


def test_a_value_of_a_table_within_is_named_as_toml_writes_it(tmp_path: Path) -> None:
    found = tables(tmp_path, TRICKY)[1].table("filter").table("exact")
    with pytest.raises(ConfigError, match=r":26: `filter\.exact\.type` must be short, got '\[x\]'"):
        found.fail("type", "short")
    assert shown_path(("a", 0, "b c", "d")) == "a[0].'b c'.d"


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[[hooks]]\nname = \n", "2: this is no TOML: Invalid value, column 8"),
        ("[[hooks]]\nx = 1\nx = 2\n", "3: this is no TOML: Cannot overwrite a value, column 6"),
        ('[[hooks]]\nx = """\n\n', "3: this is no TOML: Unterminated string"),
        ("[hooks]\na = 1", "1: `hooks` must be a list of tables: write [[hooks]] above each"),
        ("\n[[hook]]\n", "2: `hook` is not known here; only [[hooks]] is"),
        ("version = 1\n", "1: `version` is not known here; only [[hooks]] is"),
        ("[[hooks]]\nx = " + "[" * 3000 + "]" * 3000, " this cannot be read: "),
        ("[[hooks]]\nx = " + "1" * 5000, " this cannot be read: "),
        (b"[[hooks]]\nx = '\xff'\n", "2: this must be UTF-8"),
    ],
)
def test_what_is_no_such_file_is_told_with_its_line(tmp_path: Path, text: str | bytes, told: str) -> None:
    assert refusal(tmp_path, text).startswith(told)


def test_a_file_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"none\.toml: this cannot be read: No such file"):
        read_tables(str(tmp_path / "none.toml"), "hooks")
    with pytest.raises(ConfigError, match="this cannot be read: Is a directory"):
        read_tables(str(tmp_path), "hooks")


def test_the_file_of_the_home_is_read_if_it_is_there_and_none_is_set(tmp_path: Path) -> None:
    assert found_file("", str(tmp_path), "hooks.toml") is None
    (tmp_path / "hooks.toml").touch()
    assert found_file("", str(tmp_path), "hooks.toml") == str(tmp_path / "hooks.toml")
    assert found_file("/else/where.toml", str(tmp_path), "hooks.toml") == "/else/where.toml"
    assert read_tables(str(tmp_path / "hooks.toml"), "hooks") == []


def test_an_unknown_key_is_told_with_those_that_are_known(tmp_path: Path) -> None:
    (table,) = tables(tmp_path, '[[hooks]]\nname = "a"\nnmae = "b"\n')
    with pytest.raises(ConfigError, match=r":3: `nmae` is not known here; known are `name`, `code`"):
        table.check_known(("name", "code"))


@pytest.mark.parametrize(
    ("value", "ask", "told"),
    [
        ("1", lambda table: table.text("x"), "a text, got 1"),
        ('""', lambda table: table.text("x"), "a text, got ''"),
        ("true", lambda table: table.whole("x", 0, 9), "a whole number from 0 to 9, got True"),
        ("10", lambda table: table.whole("x", 0, 9), "a whole number from 0 to 9, got 10"),
        ("nan", lambda table: table.number("x", 0, 9), "a number from 0 to 9, got nan"),
        ('"c"', lambda table: table.one_of("x", ("a", "b")), "one of 'a', 'b', got 'c'"),
        ("[]", lambda table: table.table("x"), "a table, got []"),
        (f'"{"y" * 200}"', lambda table: table.whole("x", 0, 9), f"a whole number from 0 to 9, got '{'y' * 79}..."),
    ],
)
def test_a_wrong_value_is_told_with_what_it_must_be(tmp_path: Path, value: str, ask: Any, told: str) -> None:
    (table,) = tables(tmp_path, f"[[hooks]]\nx = {value}\n")
    with pytest.raises(ConfigError) as refused:
        ask(table)
    assert refused.value.message == f"{tmp_path}/hooks.toml:2: `x` must be {told}"


def leaves(value: Any, at: tuple[str | int, ...] = ()) -> set[tuple[str | int, ...]]:
    """Return the ways to everything within a value."""
    steps = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return {at} | {path for step, inner in steps for path in leaves(inner, (*at, step))}


@pytest.mark.parametrize("seed", range(40))
def test_every_value_of_any_file_has_a_line(seed: int) -> None:
    chance = random.Random(seed)

    def value(depth: int) -> str:
        kinds = [
            "1",
            "-0.5",
            "true",
            '"a # [b] \\" = {"',
            "'c ] = '",
            "'''d\n\n]'''",
            '"""e\\\n \\""" f"""',
            "1979-05-27",
        ]
        if depth and chance.random() < 0.4:
            items = [value(depth - 1) for _ in range(chance.randrange(4))]
            if chance.random() < 0.5:
                return "[ # [\n" + "".join(f" {item}, # ]\n" for item in items) + "]"
            return (
                "{ " + ", ".join(f"{key}.k{number} = {item}" for number, (key, item) in enumerate(keyed(items))) + " }"
            )
        return chance.choice(kinds)

    def keyed(items: list[str]) -> list[tuple[str, str]]:
        return [(chance.choice(["a", '"b.c"', "'d]'"]) + f". e{number}", item) for number, item in enumerate(items)]

    text = ""
    for table in range(5):
        text += f"# [x]\n[[t.'n n']] # {table}\n\n"
        text += "".join(f"k{number} = {value(3)}\n" for number in range(3))
        text += f"  [t.'n n'.sub.\"s{table}\"]\n{chance.choice(['x.y', 'z'])} = {value(2)}\n"
    whole = tomllib.loads(text)
    lines = key_lines(text)
    assert leaves(whole) - {()} <= lines.keys()
    parts = text.split("\n")
    for path, line in lines.items():
        if isinstance(path[-1], str):
            assert path[-1] in parts[line - 1], path
