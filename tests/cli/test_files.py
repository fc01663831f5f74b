"""`caesarion files`."""

import json
import random
from pathlib import Path

import pytest

from tests.cli.conftest import Caesarion, Session

MIB = 1024**2


def test_a_file_comes_back_byte_for_byte(caesarion: Caesarion, session: Session) -> None:
    content = b"\n".join(str(random.random()).encode() for _ in range(250_000))
    assert len(content) > 4 * MIB
    (caesarion.folder / "numbers.csv").write_bytes(content)
    ended = caesarion("files", "put", "numbers.csv", "--session", session.id)
    assert (ended.code, ended.out, ended.err) == (0, "", "")

    assert caesarion("files", "get", "numbers.csv", "--session", session.id, "-o", "back.csv").code == 0
    assert (caesarion.folder / "back.csv").read_bytes() == content
    assert caesarion("files", "get", "numbers.csv", "--session", session.id, "-o", "-").output == content
    (caesarion.folder / "numbers.csv").unlink()
    assert caesarion("files", "get", "numbers.csv", "--session", session.id).err == ""
    assert (caesarion.folder / "numbers.csv").read_bytes() == content


def test_files_are_named_listed_and_removed(caesarion: Caesarion, session: Session) -> None:
    (caesarion.folder / "a.txt").write_text("aa", encoding="utf-8")
    options = ("--session", session.id)
    ended = caesarion("files", "put", "a.txt", "--as", "kept/renamed é.txt", "--json", *options)
    assert ended.lines[0]["files"][0]["path"] == "kept/renamed é.txt"
    assert caesarion("files", "put", "-", "--as", "piped.txt", *options, given="from a pipe").code == 0
    assert session.file("piped.txt") == b"from a pipe"

    listed = json.loads(caesarion("files", "ls", "--json", *options).out)["files"]
    assert [entry["path"] for entry in listed] == ["kept/renamed é.txt", "piped.txt"]
    lines = caesarion("files", "ls", *options).out.splitlines()
    assert lines[0].split() == ["NAME", "SIZE", "MODIFIED"]
    assert lines[1].startswith("kept/renamed é.txt  2 B   ")

    assert caesarion("files", "rm", "piped.txt", "kept/renamed é.txt", *options).code == 0
    assert json.loads(caesarion("files", "ls", "--json", *options).out) == {"files": []}


def test_without_a_session_a_new_one_is_made_and_named(caesarion: Caesarion) -> None:
    (caesarion.folder / "a.csv").write_text("x\n1\n", encoding="utf-8")
    session = caesarion("files", "put", "a.csv").out.strip()
    assert caesarion("run", "-", "--session", session, given="open('a.csv').read()").out == "'x\\n1\\n'\n"
    assert caesarion("sessions", "rm", session).code == 0


def test_what_the_platform_refuses_ends_with_3_and_its_reason(caesarion: Caesarion, session: Session) -> None:
    (caesarion.folder / "picture.csv").write_bytes(b"\x89PNG\r\n\x1a\n" + bytes(1000))
    ended = caesarion("files", "put", "picture.csv", "--session", session.id, "--json")
    assert ended.code == 3
    assert set(ended.error) == {"code", "message", "id"}

    ended = caesarion("files", "get", "none.csv", "--session", session.id)
    assert ended.code == 3
    assert "file_not_found" in ended.err
    assert [path.name for path in caesarion.folder.iterdir()] == ["picture.csv"]


def test_a_download_that_cannot_be_written_leaves_nothing(caesarion: Caesarion, session: Session) -> None:
    session.put("a.txt", b"a")
    ended = caesarion("files", "get", "a.txt", "--session", session.id, "-o", "no/such/folder/a.txt")
    assert ended.code == 3
    assert "cannot be written" in ended.err
    assert list(caesarion.folder.iterdir()) == []


@pytest.mark.parametrize(
    "arguments",
    [("none.csv",), (".",), ("a.csv", "sub/a.csv"), ("a.csv", "b.csv", "--as", "c.csv"), ("-",)],
    ids=["missing", "a folder", "the same name twice", "one name for two", "no name for a pipe"],
)
def test_wrong_paths_are_wrong_usage_and_nothing_is_sent(caesarion: Caesarion, arguments: tuple[str, ...]) -> None:
    (caesarion.folder / "sub").mkdir()
    for name in ("a.csv", "b.csv", "sub/a.csv"):
        Path(caesarion.folder, name).write_text("x", encoding="utf-8")
    ended = caesarion("files", "put", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert "Error: Invalid value" in ended.err


def test_a_terminal_shows_a_bar(caesarion: Caesarion, session: Session) -> None:
    (caesarion.folder / "a.csv").write_text("x\n" * MIB, encoding="utf-8")
    with caesarion.at_terminal("files", "put", "a.csv", "--session", session.id) as person:
        person.sees("a.csv")
        person.sees("MB")
        assert person.leaves() == 0
