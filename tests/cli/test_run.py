"""`caesarion run`: live output, exit codes, interrupts, lost connections, pictures."""

import json
import subprocess
from pathlib import Path

import pytest

from tests.cli.conftest import COMMAND, Caesarion, Session
from tests.cli.cut_line import CutLine
from tests.conftest import ProductServer
from tests.platform.conftest import shape

# Waits for a file that the test puts there. Deadlines are the test's.
UNTIL_GATE = """
import os, time
while not os.path.exists("gate.txt"):
    time.sleep(0.01)
"""
PNG_HEAD = b"\x89PNG\r\n\x1a\n"
PLOT = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()\n"


def test_output_goes_where_the_code_sent_it(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    script = caesarion.script("import sys\nprint('said')\nprint('complained', file=sys.stderr)\n6 * 7")
    ended = caesarion("run", script, *fresh)
    assert (ended.code, ended.out, ended.err) == (0, "said\n42\n", "complained\n")


def test_code_comes_from_standard_input_and_tables_are_readable(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    ended = caesarion("run", "-", *fresh, given="import pandas as pd\npd.DataFrame({'a': [1, 2], 'b': [3, 4]})")
    assert ended.out == "   a  b\n0  1  3\n1  2  4\n"


def test_output_is_seen_while_the_code_still_runs(caesarion: Caesarion, session: Session) -> None:
    script = caesarion.script(f"print('first', flush=True)\n{UNTIL_GATE}\nprint('second')")
    with caesarion.started("run", script, "--session", session.id) as running:
        assert running.next_line() == "first\n"
        session.put("gate.txt", b"open")
        ended = running.finished()
    assert (ended.code, ended.out) == (0, "second\n")


@pytest.mark.parametrize(
    ("code", "options", "told"),
    [
        ("1 / 0", (), "ZeroDivisionError: division by zero"),
        ("while True: pass", ("--timeout", "1"), "ran out of time"),
        ("import os; os._exit(3)", (), "KernelDied"),
        ("print(1", (), "SyntaxError"),
    ],
)
def test_code_that_fails_ends_with_1_and_a_plain_traceback(
    caesarion: Caesarion, fresh: tuple[str, ...], code: str, options: tuple[str, ...], told: str
) -> None:
    ended = caesarion("run", "-", *fresh, *options, given=code)
    assert ended.code == 1
    assert told in ended.err
    assert "\x1b" not in ended.err


def test_ctrl_c_interrupts_and_what_the_code_still_says_is_shown(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    script = caesarion.script(
        "kept = 'kept'\ntry:\n    print('begun', flush=True)\n    while True: pass\nfinally:\n    print('cleaned up')"
    )
    with caesarion.started("run", script, *fresh) as running:
        assert running.next_line() == "begun\n"
        running.press_ctrl_c()
        ended = running.finished()
    assert (ended.code, ended.out) == (130, "cleaned up\n")
    assert "KeyboardInterrupt" in ended.err
    assert caesarion("run", "-", *fresh, given="kept").out == "'kept'\n"


def test_a_second_ctrl_c_leaves_at_once(caesarion: Caesarion, session: Session) -> None:
    script = caesarion.script(
        "import os, time\n"
        "try:\n    print('begun', flush=True)\n    time.sleep(1000)\n"
        "except KeyboardInterrupt:\n    print('interrupted', flush=True)\n"
        "while not os.path.exists('gate.txt'): time.sleep(0.01)"
    )
    with caesarion.started("run", script, "--session", session.id) as running:
        assert running.next_line() == "begun\n"
        running.press_ctrl_c()
        assert running.next_line() == "interrupted\n"
        running.press_ctrl_c()
        assert running.finished().code == 130
    session.put("gate.txt", b"open")


def test_json_is_what_the_api_gives_and_nothing_else(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    ended = caesarion("run", "-", *fresh, "--json", given=PLOT + "print('said')\n1 / 0")
    assert ended.code == 1
    assert ended.err == ""
    assert [output["seq"] for output in ended.lines] == list(range(1, len(ended.lines) + 1))
    assert shape(ended.lines) == ["started", "display_data", "stream", "error", "finished"]
    assert list(caesarion.folder.iterdir()) == []


def test_pictures_are_saved_under_the_scripts_name_and_nothing_is_overwritten(
    caesarion: Caesarion, fresh: tuple[str, ...]
) -> None:
    script = caesarion.script(PLOT + PLOT, "curve.py")
    (caesarion.folder / "curve-1.png").write_bytes(b"somebody's own")
    ended = caesarion("run", script, *fresh)
    assert ended.out == "saved: curve-2.png\nsaved: curve-3.png\n"
    assert (caesarion.folder / "curve-1.png").read_bytes() == b"somebody's own"
    assert (caesarion.folder / "curve-3.png").read_bytes().startswith(PNG_HEAD)

    ended = caesarion("run", "-", *fresh, "--save-dir", "pictures/today", given=PLOT)
    assert ended.out == f"saved: {Path('pictures/today/picture-1.png')}\n"
    assert (caesarion.folder / "pictures/today/picture-1.png").read_bytes().startswith(PNG_HEAD)


def test_a_picture_that_cannot_be_saved_is_told_and_the_rest_is_shown(
    caesarion: Caesarion, fresh: tuple[str, ...]
) -> None:
    (caesarion.folder / "file").write_text("", encoding="utf-8")
    ended = caesarion("run", "-", *fresh, "--save-dir", "file/below", given=PLOT + "print('rest')")
    assert (ended.code, ended.out) == (3, "rest\n")
    assert "cannot be saved" in ended.err


@pytest.mark.parametrize(
    ("env", "inline"),
    [({"KITTY_WINDOW_ID": "1"}, b"\x1b_G"), ({"TERM_PROGRAM": "iTerm.app"}, b"\x1b]1337;File=inline=1"), ({}, None)],
)
def test_pictures_are_shown_where_the_terminal_can(
    caesarion: Caesarion, fresh: tuple[str, ...], env: dict[str, str], inline: bytes | None
) -> None:
    with caesarion.at_terminal("run", caesarion.script(PLOT), *fresh, env=env) as person:
        person.sees("saved: script-1.png")
        assert person.leaves() == 0
        assert inline in person.raw if inline else b"\x1b_G" not in person.raw and b"\x1b]1337" not in person.raw
    assert "\x1b" not in caesarion("run", "-", *fresh, given=PLOT, env=env).out


def test_files_are_uploaded_before_the_code_runs(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    (caesarion.folder / "a.csv").write_text("x\n1\n", encoding="utf-8")
    (caesarion.folder / "b.csv").write_text("x\n2\n", encoding="utf-8")
    code = "print(open('a.csv').read() + open('/uploaded_files/b.csv').read(), end='')"
    assert caesarion("run", "-", *fresh, "--file", "a.csv", "--file", "b.csv", given=code).out == "x\n1\nx\n2\n"


def test_a_session_and_its_contexts_keep_their_variables(caesarion: Caesarion, session: Session) -> None:
    caesarion("run", "-", "--session", session.id, given="x = 'default'")
    caesarion("run", "-", "--session", session.id, "--context", "other", given="x = 'other'")
    assert caesarion("run", "-", "--session", session.id, given="x").out == "'default'\n"
    assert caesarion("run", "-", "--session", session.id, "--context", "other", given="x").out == "'other'\n"


@pytest.mark.parametrize("end", ["by itself", "by SIGTERM"])
def test_a_session_of_its_own_is_closed_at_the_end(caesarion: Caesarion, end: str) -> None:
    def sessions() -> set[str]:
        return {known["id"] for known in json.loads(caesarion("sessions", "ls", "--json").out)["sessions"]}

    before = sessions()
    code = "print('begun', flush=True)" if end == "by itself" else "print('begun', flush=True)\nwhile True: pass"
    with caesarion.started("run", caesarion.script(code)) as running:
        assert running.next_line() == "begun\n"
        if end == "by SIGTERM":
            running.terminate()
        assert running.finished().code == (0 if end == "by itself" else 143)
    assert sessions() <= before


def test_a_lost_connection_is_taken_up_where_it_broke(
    caesarion: Caesarion, session: Session, product_server: ProductServer
) -> None:
    once = "open('runs.txt', 'a').write('x')\nprint('one', flush=True)\n"
    script = caesarion.script(f"{once}{UNTIL_GATE}\nprint('two')")
    with CutLine.to(product_server) as line:
        arguments = ("run", script, "--session", session.id, "--url", line.url)
        with caesarion.started(*arguments) as running:
            assert running.next_line() == "one\n"
            product_server.run(line.cut())
            session.put("gate.txt", b"open")
            ended = running.finished()
    assert (ended.code, ended.out) == (0, "two\n")
    assert "The connection broke" in ended.err
    assert session.file("runs.txt") == b"x"


def test_code_whose_answer_never_came_is_not_run_again(
    caesarion: Caesarion, session: Session, product_server: ProductServer
) -> None:
    with CutLine.to(product_server) as line:
        line.swallow_answer_to(f"POST /sessions/{session.id}/executions".encode())
        script = caesarion.script("open('runs.txt', 'a').write('x')\nprint('ran')")
        ended = caesarion("run", script, "--session", session.id, "--url", line.url)
        assert line.swallowed
    assert (ended.code, ended.out) == (0, "ran\n")
    assert session.file("runs.txt") == b"x"


def test_code_is_interrupted_when_nobody_reads_what_it_says(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    script = caesarion.script("while True: print('line', flush=True)")
    with caesarion.started("run", script, *fresh) as running:
        assert running.next_line() == "line\n"
        running.stop_reading()
        assert running.finished().code == 130
    assert caesarion("run", "-", *fresh, given="'free again'").out == "'free again'\n"


@pytest.mark.parametrize("given", ["none.py", ".", "latin.py"])
def test_a_wrong_file_is_wrong_usage(caesarion: Caesarion, given: str) -> None:
    (caesarion.folder / "latin.py").write_bytes("x = 'é'".encode("latin-1"))
    ended = caesarion("run", given)
    assert (ended.code, ended.out) == (2, "")
    assert repr(given) in ended.err


def test_source_may_declare_its_encoding(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    (caesarion.folder / "latin.py").write_bytes("# coding: latin-1\nprint('é')".encode("latin-1"))
    assert caesarion("run", "latin.py", *fresh).out == "é\n"
    ended = caesarion("run", "latin.py", *fresh, env={"PYTHONIOENCODING": "ascii"})
    assert (ended.code, ended.out) == (0, "?\n")


def test_help_is_quick_because_it_loads_nothing_heavy() -> None:
    code = (
        "import sys; from caesarion_cli.main import app\ntry: app(['--help'])\nexcept SystemExit: print(*sys.modules)"
    )
    python = str(Path(COMMAND).with_name("python"))
    shown = subprocess.run([python, "-c", code], capture_output=True, text=True, check=True).stdout
    assert "130  interrupted" in shown
    loaded = set(shown.splitlines()[-1].split())
    assert not loaded & {"httpx", "rich", "prompt_toolkit", "pygments", "asyncio", "starlette", "uvicorn", "aiohttp"}
