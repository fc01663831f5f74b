"""The prompt, at a real terminal."""

import json
from pathlib import Path

from tests.cli.conftest import Caesarion, Session
from tests.cli.person import CTRL_C, CTRL_D, UP


def test_variables_stay_and_prompts_carry_the_real_numbers(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [1]:")
        person.types("x = 41\r")
        person.sees("In [2]:")
        person.types("x + 1\r")
        person.sees("Out[2]: 42")
        person.sees("In [3]:")
        person.types(CTRL_D)
        assert person.leaves() == 0


def test_a_block_goes_on_until_the_kernel_takes_it_as_complete(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [1]:")
        person.types("for i in range(3):\rprint('row', i * 11)\r\r")
        assert person.sees("In [2]:").endswith("row 0\nrow 11\nrow 22\n")


def test_tab_completes_from_the_kernels_variables(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [1]:")
        person.types("unmistakable = 'found' + ' it'\r")
        person.sees("In [2]:")
        person.types("unmis\t")
        person.sees("unmis")
        person.sees("takable")
        person.types("\r")
        person.sees("Out[2]: 'found it'")


def test_ctrl_c_interrupts_what_runs_and_variables_stay(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [1]:")
        person.types("kept = 7\r")
        person.sees("In [2]:")
        person.types("print('be' + 'gun'); import time; time.sleep(1000)\r")
        person.sees("begun")
        person.types(CTRL_C)
        person.sees("KeyboardInterrupt")
        person.sees("In [3]:")
        person.types("kept\r")
        person.sees("Out[3]: 7")


def test_ctrl_c_clears_what_is_typed(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [1]:")
        person.types("nonsense(")
        person.sees("nonsense(")
        person.types(CTRL_C)
        person.sees("In [1]:")
        person.types("1 + 1\r")
        person.sees("Out[1]: 2")


def test_errors_have_jupyters_colours_unless_none_are_wanted(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    for env, coloured in (({}, True), ({"NO_COLOR": "1"}, False)):
        with caesarion.at_terminal("repl", *fresh, env=env) as person:
            person.sees("In [")
            person.types("1/0\r")
            person.sees("ZeroDivisionError: division by zero")
            person.sees("In [")
            assert (b"\x1b[91mZeroDivisionError" in person.raw) is coloured


def test_magics_are_code_like_any_other(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [1]:")
        person.types("%pwd\r")
        person.sees("Out[1]: '/uploaded_files'")


def test_what_was_typed_is_remembered_for_the_next_time(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [1]:")
        person.types("'remem' + 'bered'\r")
        person.sees("In [2]:")
        person.types(CTRL_D)
        person.leaves()
    history = Path(caesarion.home, ".local/state/caesarion/history")
    assert history.stat().st_mode & 0o077 == 0
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [2]:")
        person.types(UP)
        person.sees("'remem' + 'bered'")
        person.types("\r")
        person.sees("Out[2]: 'remembered'")


def test_a_named_session_is_kept_and_an_unnamed_one_is_closed(caesarion: Caesarion, session: Session) -> None:
    with caesarion.at_terminal("repl", "--session", session.id) as person:
        person.sees("In [1]:")
        person.types("here = 'still'\r")
        person.sees("In [2]:")
        person.types("exit\r")
        assert person.leaves() == 0
    assert caesarion("run", "-", "--session", session.id, given="here").out == "'still'\n"

    with caesarion.at_terminal("repl") as person:
        person.sees("Session ")
        other = person.sees(" at ")
        person.sees("In [1]:")
        person.types(CTRL_D)
        assert person.leaves() == 0
    listed = json.loads(caesarion("sessions", "ls", "--json").out)["sessions"]
    ids = [known["id"] for known in listed]
    assert session.id in ids
    assert other not in ids


def test_a_kernel_that_died_is_told_and_the_numbers_begin_again(caesarion: Caesarion, fresh: tuple[str, ...]) -> None:
    with caesarion.at_terminal("repl", *fresh) as person:
        person.sees("In [1]:")
        person.types("1\r")
        person.sees("In [2]:")
        person.types("import os; os._exit(1)\r")
        person.sees("KernelDied")
        person.sees("In [1]:")


def test_without_a_terminal_it_says_what_to_use_instead(caesarion: Caesarion) -> None:
    ended = caesarion("repl", given="1")
    assert ended.code == 2
    assert "caesarion run -" in ended.err
