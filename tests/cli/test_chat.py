"""The chat in the terminal: what its chunks mean, what is shown of them, and the command as people use it."""

import copy
import io
import json
import re
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from caesarion_cli.chat_chunks import (
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
    TurnReader,
    Withdrawal,
    as_seen,
    changes,
    coloured,
    printable,
)
from caesarion_cli.chat_show import ChatShow, blocks, duration, folded
from caesarion_cli.failures import Failure
from caesarion_cli.pictures import PictureFolder
from caesarion_cli.terminal import Terminal
from tests.chat.conftest import Chat, ChatProduct, chat_product
from tests.chat.scripted_model import Call as ToolCall
from tests.chat.scripted_model import CallTools, Fail, Hang, Say, Step
from tests.cli.conftest import Caesarion, Running, Session
from tests.cli.cut_line import CutLine
from tests.cli.person import CTRL_C, CTRL_D
from tests.conftest import ProductServer

DEADLINE_S = 200
PNG = b"\x89PNG\r\n\x1a\nplot"
PICTURE_URL = "/sessions/s/executions/e1/outputs/3?form=image%2Fpng"
START = {"type": "start", "messageId": "a1", "messageMetadata": {"turn": "t1"}}
FINISH = {"type": "finish", "finishReason": "stop"}


def said(text: str, part: str = "0") -> list[dict[str, Any]]:
    return [
        {"type": "text-start", "id": part},
        *({"type": "text-delta", "id": part, "delta": piece} for piece in text.split("|")),
        {"type": "text-end", "id": part},
    ]


def called(code: str, call: str = "c") -> list[dict[str, Any]]:
    given = {"toolCallId": call, "toolName": "python", "input": {"code": code}}
    return [
        {"type": "tool-input-start", "toolCallId": call, "toolName": "python"},
        {"type": "tool-input-available", "providerExecuted": True, **given},
    ]


def answered(*outputs: dict[str, Any], status: str = "running", call: str = "c", **more: Any) -> dict[str, Any]:
    preliminary = {"preliminary": True} if status in ("queued", "running") else {}
    output = {"execution": "e1", "status": status, "outputs": list(outputs), **more}
    return {"type": "tool-output-available", "toolCallId": call, "output": output, **preliminary}


def stream(text: str, **more: Any) -> dict[str, Any]:
    return {"type": "stream", "name": "stdout", "text": text, **more}


def result(text: str) -> dict[str, Any]:
    return {"type": "execute_result", "execution_count": 1, "data": {"text/plain": text}, "metadata": {}}


def read(*chunks: Mapping[str, Any]) -> list[Shown]:
    reader = TurnReader()
    return [shown for chunk in chunks for shown in reader.take(chunk)]


CALL = Call("python", {"code": "x"})


@pytest.mark.parametrize(
    ("chunks", "shown"),
    [
        (
            [START, {"type": "start-step"}, *said("a|b"), FINISH],
            [Text("a"), Text("b"), TextEnd(), End("finish", "stop")],
        ),
        ([{"type": "reasoning-delta", "id": "r", "delta": "hm"}], [Reasoning("hm")]),
        (
            [*called("x"), answered(stream("1")), answered(stream("12")), answered(stream("123"), status="ok")],
            [
                Preparing("python"),
                CALL,
                Output(0, stream("1")),
                Output(0, stream("2")),
                Output(0, stream("3")),
                Done("ok"),
            ],
        ),
        (
            [*called("x"), answered(status="queued"), answered(result("7"), status="ok", duration_ms=5.5)],
            [Preparing("python"), CALL, Output(0, result("7")), Done("ok", 5.5)],
        ),
        (
            [
                *called("x"),
                *called("y", "d"),
                answered(stream("other"), call="d"),
                answered(stream("one"), status="ok"),
                answered(stream("other"), call="d", status="error"),
            ],
            [
                Preparing("python"),
                CALL,
                Output(0, stream("one")),
                Done("ok"),
                Call("python", {"code": "y"}),
                Output(0, stream("other")),
                Done("error"),
            ],
        ),
        (
            [
                {"type": "tool-input-available", "toolCallId": "w", "toolName": "get_weather", "input": {"place": "X"}},
                {"type": "tool-output-available", "toolCallId": "w", "output": {"temperature_c": 3}},
            ],
            [Call("get_weather", {"place": "X"}), Result("get_weather", {"temperature_c": 3})],
        ),
        (
            [*called("x"), {"type": "tool-output-error", "toolCallId": "c", "errorText": "no sandbox"}],
            [Preparing("python"), CALL, ToolError("python", "no sandbox")],
        ),
        (
            [{"type": "tool-input-error", "toolCallId": "c", "toolName": "p", "input": "{", "errorText": "not JSON"}],
            [ToolError("p", "not JSON")],
        ),
        (
            [{"type": "data-notice", "data": {"text": "step \x1b[2Jlimit"}}, {"type": "finish", "finishReason": "x"}],
            [Notice("step limit"), End("finish", "x")],
        ),
        ([{"type": "error", "errorText": "model\x07 down"}, FINISH], [End("error", "model down")]),
        ([{"type": "abort", "reason": "stopped"}], [End("abort", "stopped")]),
        ([{"type": "source-url"}, {"type": "text-delta"}, {"type": "data-other", "data": 1}], []),
    ],
)
def test_chunks_say_what_is_new(chunks: list[dict[str, Any]], shown: list[Shown]) -> None:
    assert read(*chunks) == shown


TURN: list[dict[str, Any]] = [
    START,
    {"type": "start-step"},
    *said("Let |me see."),
    {"type": "data-notice", "data": {"text": "slow"}},
    *called("x"),
    answered(stream("10%\r")),
    answered(stream("10%\r20%\r")),
    answered(stream("10%\r20%\rready\n"), result("7"), status="ok"),
    {"type": "finish-step"},
    {"type": "start-step"},
    *said("It is |7."),
    FINISH,
]


@pytest.mark.parametrize("broke_after", range(1, len(TURN)))
def test_what_was_shown_before_a_connection_broke_is_not_shown_twice(broke_after: int) -> None:
    joined = [chunk for chunk in TURN if "|" not in json.dumps(chunk)]
    assert read(*TURN[:broke_after], *joined) == read(*TURN)


def test_progress_goes_on_after_a_connection_broke() -> None:
    """What begins anew has only the newest of the outputs before."""
    percents = [answered(stream("\r".join(f"{n}%" for n in range(upto)))) for upto in range(1, 9)]
    shown = read(START, *called("x"), *percents[:5], START, *called("x"), *percents[4:])
    assert [each.record["text"] for each in shown if isinstance(each, Output)] == [f"{n}%" for n in range(8)]


def test_outputs_that_are_left_out_later_are_not_shown_twice_and_others_are_counted() -> None:
    def some(*texts: str, left_out: int, status: str = "running") -> dict[str, Any]:
        return answered(*(result(text) for text in texts), status=status, left_out=left_out)

    shown = read(*called("x"), some("1", "2", "3", "4", left_out=0), some("1", "2", "6", "7", left_out=3))
    assert [each.record.get("data") for each in shown if isinstance(each, Output)] == [
        *({"text/plain": text} for text in "1234"),
        None,
        {"text/plain": "6"},
        {"text/plain": "7"},
    ]
    shown = read(*called("x"), some("1", "4", left_out=2), some("1", "5", left_out=3, status="ok"))
    assert [shown[-2], shown[-1]] == [Output(4, result("5")), Done("ok", left_out=2)]


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ([], [stream("a")], [Output(0, stream("a"))]),
        ([stream("a")], [stream("a")], []),
        ([stream("log\n10%")], [stream("log\n20%\n")], [Withdrawal(0, "log\n"), Output(0, stream("20%\n"))]),
        (
            [stream("abcd", cut_chars=0)],
            [stream("cdef", cut_chars=2)],
            [Output(0, stream("ef", cut_chars=2))],
        ),
        ([stream("a"), result("1")], [stream("a"), result("2")], [Withdrawal(1), Output(1, result("2"))]),
        (
            [stream("a"), result("1")],
            [stream("ab"), result("1")],
            [Withdrawal(0), Output(0, stream("ab")), Output(1, result("1"))],
        ),
        ([stream("a"), result("1")], [], [Withdrawal(0)]),
    ],
)
def test_outputs_that_change_are_withdrawn_from_where_they_differ(
    before: list[dict[str, Any]], after: list[dict[str, Any]], shown: list[Shown]
) -> None:
    assert changes(before, after) == shown


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("a\x1b]0;title\x07b\x1b[2Jc\x1b[?25l", "abc"),
        ("10%\r20%\r5", "50%"),
        ("abc\b\bX\r\n", "aXc\n"),
        ("cut\x1b[3", "cut"),
        ("cut\x1b]52;c;aGk", "cut"),
        ("\x9b31m\u202egnp\x00", "31mgnp"),
        ("\tok é 👩‍💻\n", "\tok é 👩‍💻\n"),
        ("\ud800", ""),
    ],
)
def test_text_of_outputs_cannot_steer_the_terminal(text: str, seen: str) -> None:
    assert as_seen(text) == seen


def test_tracebacks_keep_their_colours_only() -> None:
    assert coloured("\x1b[31mE\x1b[0m\x1b[2J\x1b]0;t\x07: \x07e") == "\x1b[31mE\x1b[0m: e\x1b[0m"
    assert printable("\x1b[31mE\x1b[0m\r\n") == "E\n"


@pytest.mark.parametrize(
    ("source", "whole"),
    [
        ("one", 0),
        ("one\n\ntwo", 1),
        ("# head\ntext\n", 1),
        ("- a\n- b\n\n  c\n", 0),
        ("```python\na\n\nb\n", 0),
        ("```\na\n```\n\n| a | b |\n|---|---|\n| 1 |", 1),
        ("", 0),
    ],
)
def test_a_block_of_markdown_is_whole_when_the_next_begins(source: str, whole: int) -> None:
    assert len(blocks(source)) == whole + 1
    assert "".join(blocks(source)) == source


def on_terminal(
    *chunks: Mapping[str, Any], terminal: bool = True, folder: Path = Path("unused"), colours: bool = False
) -> str:
    """Return what is written to show a turn."""
    out = io.StringIO()

    def told(failure: Failure) -> None:
        out.write(failure.as_text() + "\n")

    facts = Terminal(terminal, terminal, colours, 80, 24, None) if terminal else Terminal()
    show = ChatShow(out, facts, PictureFolder(folder, "p"), lambda path: PNG, told, colours=colours)
    for shown in read(*chunks):
        show.show(shown)
    show.settle()
    return out.getvalue()


def screen_of(written: str) -> list[str]:
    """Return the lines that a wide terminal would show, without their colours."""
    lines, row, column = [""], 0, 0
    position = 0
    while position < len(written):
        char = written[position]
        position += 1
        if char == "\x1b":
            end = next(at for at in range(position, len(written)) if written[at].isalpha())
            if written[end] == "A":
                row -= int(written[position + 1 : end])
            elif written[end] == "J":
                lines[row] = lines[row][:column]
                del lines[row + 1 :]
            else:
                assert written[end] == "m"
            position = end + 1
        elif char == "\n":
            row, column = row + 1, 0
            lines.extend([""] * (row + 1 - len(lines)))
        elif char == "\r":
            column = 0
        else:
            lines[row] = lines[row].ljust(column)[:column] + char + lines[row][column + 1 :]
            column += 1
    return [line for line in lines if line.strip()]


def test_markdown_ends_up_on_the_screen_once_and_whole() -> None:
    items = "".join(f"- item {number}|\n" for number in range(30))
    screen = screen_of(on_terminal(START, *said(f"Some **bo|ld** text.\n\n{items}\nThe |end."), FINISH))
    assert screen == ["Some bold text.", *(f" • item {number}" for number in range(30)), "The end."]


def test_tables_and_code_are_laid_out() -> None:
    text = "| a | b |\n|---|---|\n| 1 | 2 |\n\n```python\nprint(1)\n```\n"
    screen = "\n".join(screen_of(on_terminal(START, *said(text), FINISH, colours=True)))
    assert "|" not in screen
    assert "print(1)" in screen


def test_progress_changes_in_place() -> None:
    chunks = [
        *called("x"),
        *(answered(stream("log\n" + "\r".join(f"{n}%" for n in range(upto)))) for upto in range(1, 9)),
    ]
    assert screen_of(on_terminal(START, *chunks, answered(stream("log\n7%\n"), status="ok", duration_ms=1234)))[
        -3:
    ] == [
        "log",
        "7%",
        "[ok, 1.2 s]",
    ]


def test_a_pipe_gets_plain_text(tmp_path: Path) -> None:
    picture = {
        "type": "display_data",
        "data": {"text/plain": "<Figure>"},
        "metadata": {},
        "urls": {"image/png": PICTURE_URL},
    }
    error = {"type": "error", "ename": "E", "evalue": "e", "traceback": ["\x1b[31mE\x1b[0m: e"]}
    chunks = [
        *said("Look:|\x1b[2J"),
        *called("x"),
        answered(stream("a\x1b]0;t\x07b")),
        answered(stream("a\x1b]0;t\x07b\n"), picture, error, status="error", duration_ms=12.0),
        *said("Done.", "1"),
    ]
    shown = on_terminal(START, *chunks, FINISH, terminal=False, folder=tmp_path)
    saved = tmp_path / "p-1.png"
    assert shown == f"Look:\n\n```python\nx\n```\nab\nsaved: {saved}\nE: e\n[error, 12 ms]\n\nDone.\n"
    assert saved.read_bytes() == PNG


def test_long_tracebacks_are_folded_in_the_middle() -> None:
    short = folded("\n".join(str(number) for number in range(100)))
    assert short.splitlines()[:6] == ["0", "1", "2", "3", "4", "… 84 lines left out …"]
    assert short.splitlines()[-1] == "99"
    assert folded("a\nb") == "a\nb"


@pytest.mark.parametrize(("duration_ms", "text"), [(12.4, "12 ms"), (1234, "1.2 s"), (125_000, "2 min 5 s")])
def test_run_times_are_told_as_people_say_them(duration_ms: float, text: str) -> None:
    assert duration(duration_ms) == text


# The command, with the product and a model that says what the test wants.

PROMPT = "\n>"
KEEPS = "kept = 'kept'\nprint('begun', flush=True)\nwhile True: pass"
PLOTS = "import matplotlib.pyplot as plt\nplt.plot([1, 2])\nplt.show()"
COUNTS = "open('runs.txt', 'a').write('x')\nprint('ran', flush=True)"
# Ends when the test puts a file there, whatever interrupts it.
STUBBORN = """
import os, time
print('begun', flush=True)
while True:
    try:
        if os.path.exists('gate.txt'):
            break
        time.sleep(0.01)
    except KeyboardInterrupt:
        print('not yet', flush=True)
"""
PNG_HEAD = b"\x89PNG\r\n\x1a\n"


def runs(code: str) -> CallTools:
    return CallTools([ToolCall("python", {"code": code})])


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path


@contextmanager
def answering(
    server: ProductServer, folder: Path, steps: Sequence[Step], **env: str
) -> Iterator[tuple[Caesarion, ChatProduct]]:
    """Give the command against a product whose model takes these steps, each exactly once."""
    with chat_product(server, list(steps)) as product:
        yield Caesarion(str(product.replica(**env).base_url), folder), product


@contextmanager
def line_to(server: ProductServer, url: str) -> Iterator[CutLine]:
    replica = copy.copy(server)
    replica.url = url.rstrip("/")
    with CutLine.to(replica) as line:
        yield line


def asked(product: ChatProduct, number: int) -> list[tuple[str, str]]:
    """Return what the model was given, but for the product's own words, by role and content."""
    messages = product.model.requests[number].body["messages"]
    return [(each["role"], each["content"] or "") for each in messages if each["role"] != "system"]


def shown(out: str) -> str:
    """Return what was shown, with `TIME` for run times."""
    return re.sub(r"\d[\d.]* m?s\b", "TIME", out)


def test_a_question_is_answered_once_in_plain_text(product_server: ProductServer, folder: Path) -> None:
    with answering(product_server, folder, [runs("print(6 * 7)"), Say(["It is", " **42**."])]) as (caesarion, product):
        ended = caesarion("chat", "-m", "six times seven?")
        assert (ended.code, ended.err) == (0, "")
        assert shown(ended.out) == "```python\nprint(6 * 7)\n```\n42\n[ok, TIME]\n\nIt is **42**.\n"
        assert asked(product, 0) == [("user", "six times seven?")]


def test_a_pipe_is_a_question_and_a_picture_is_saved(product_server: ProductServer, folder: Path) -> None:
    with answering(product_server, folder, [runs(PLOTS), Say("There.")]) as (caesarion, product):
        ended = caesarion("chat", "--save-dir", "plots", given="plot it")
        assert (ended.code, "saved: plots/picture-1.png\n" in ended.out) == (0, True)
        assert (caesarion.folder / "plots" / "picture-1.png").read_bytes().startswith(PNG_HEAD)
        assert asked(product, 0) == [("user", "plot it")]


def test_a_kept_session_knows_files_variables_and_what_was_said(
    product_server: ProductServer, folder: Path, session: Session
) -> None:
    steps: list[Step] = [runs("rows = open('a.csv').read()"), Say("Read."), runs("print(rows)"), Say("There.")]
    with answering(product_server, folder, steps) as (caesarion, product):
        (caesarion.folder / "a.csv").write_text("x\n1", encoding="utf-8")
        ended = caesarion("chat", "-m", "read it", "--session", session.id, "--file", "a.csv")
        assert ended.code == 0
        ended = caesarion("chat", "-m", "show it", "--session", session.id)
        assert "```\nx\n1\n[ok" in ended.out
        told = asked(product, 2)
        assert ("user", "read it") in told
        assert ("assistant", "Read.") in told
        assert told[-1] == ("user", "show it")


def test_scripts_get_each_chunk_once_though_the_connection_broke(
    product_server: ProductServer, folder: Path, known: Session
) -> None:
    go_on = threading.Event()
    steps: list[Step] = [runs("print(42)"), Say(["a", "b\n", go_on, "c"])]
    with answering(product_server, folder, steps) as (caesarion, _), line_to(product_server, caesarion.url) as line:
        with caesarion.started("chat", "-m", "q", "--json", "--url", line.url, "--session", known.id) as running:
            chunks = [json.loads(running.next_line())]
            while chunks[-1].get("delta") != "b\n":
                chunks.append(json.loads(running.next_line()))
            product_server.run(line.cut())
            go_on.set()
            ended = running.finished()
    chunks += ended.lines
    kinds = [chunk["type"] for chunk in chunks]
    assert (ended.code, ended.err) == (0, "")
    assert (kinds[0], kinds[-1], kinds.count("start"), kinds.count("tool-input-available")) == ("start", "finish", 1, 1)
    assert "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta") == "ab\nc"


def test_an_answer_goes_on_where_the_connection_broke(
    product_server: ProductServer, folder: Path, session: Session
) -> None:
    code = f"{COUNTS}\n{STUBBORN}\nprint('ended')"
    with (
        answering(product_server, folder, [runs(code), Say("Done.")]) as (caesarion, _),
        line_to(product_server, caesarion.url) as line,
        caesarion.started("chat", "-m", "q", "--url", line.url, "--session", session.id) as running,
    ):
        while running.next_line() != "begun\n":
            pass
        product_server.run(line.cut())
        session.put("gate.txt", b"open")
        ended = running.finished()
    assert (ended.code, shown(ended.out)) == (0, "ended\n[ok, TIME]\n\nDone.\n")
    assert "The connection broke" in ended.err
    assert session.file("runs.txt") == b"x"


@contextmanager
def away(
    server: ProductServer, caesarion: Caesarion, session: Session, go_on: threading.Event
) -> Iterator[tuple[Running, str]]:
    """Give a command that was cut off and has not noticed, because nobody reads what it prints; its turn has ended."""
    with (
        line_to(server, caesarion.url) as line,
        httpx.Client(base_url=caesarion.url, timeout=DEADLINE_S) as client,
        caesarion.started("chat", "-m", "q", "--url", line.url, "--session", session.id) as running,
    ):
        assert running.next_line() == "begin\n"
        with Chat(session.id, client).resuming() as chunks:
            server.run(line.cut())
            go_on.set()
            every = list(chunks)
        assert every[-1]["type"] == "finish"
        yield running, every[0]["messageMetadata"]["turn"]


LONG = "begin\n" + "x" * 300_000


def test_an_answer_that_ended_while_the_connection_was_broken_is_shown(
    product_server: ProductServer, folder: Path, session: Session
) -> None:
    go_on = threading.Event()
    with answering(product_server, folder, [Say([LONG, go_on, " end."])]) as (caesarion, _):
        with away(product_server, caesarion, session, go_on) as (running, _):
            ended = running.finished()
    assert (ended.code, ended.out.strip("x")) == (0, " end.\n")
    assert len(ended.out) <= len(LONG) + len(" end.\n"), "nothing is shown twice"


def test_an_answer_that_cannot_be_had_any_more_is_a_failure(
    product_server: ProductServer, folder: Path, session: Session, client: httpx.Client
) -> None:
    go_on = threading.Event()
    with answering(product_server, folder, [Say([LONG, go_on, " end."])]) as (caesarion, _):
        with away(product_server, caesarion, session, go_on) as (running, turn):
            client.delete(f"/sessions/{session.id}").raise_for_status()
            path = f"{caesarion.url}/api/chat/{session.id}/stream"
            while httpx.get(path, params={"turn": turn}, timeout=DEADLINE_S).status_code != 204:
                pass
            ended = running.finished()
    assert (ended.code, "turn_lost" in ended.err) == (3, True)


def test_a_question_whose_answer_never_came_is_not_asked_twice(
    product_server: ProductServer, folder: Path, session: Session
) -> None:
    with answering(product_server, folder, [runs(COUNTS), Say("Done.")]) as (caesarion, _):
        with line_to(product_server, caesarion.url) as line:
            line.swallow_answer_to(b"POST /api/chat ")
            ended = caesarion("chat", "-m", "q", "--url", line.url, "--session", session.id)
            assert line.swallowed
    assert (ended.code, shown(ended.out)) == (0, f"```python\n{COUNTS}\n```\nran\n[ok, TIME]\n\nDone.\n")
    assert session.file("runs.txt") == b"x"


def test_a_turn_that_fails_is_told(product_server: ProductServer, folder: Path, known: Session) -> None:
    with answering(product_server, folder, [Fail(401, "no such key")]) as (caesarion, _):
        ended = caesarion("chat", "-m", "q", "--session", known.id)
        assert (ended.code, ended.out) == (1, "")
        assert "no such key" in ended.err
        assert "(turn_failed)" in ended.err


def test_a_product_that_is_not_there_and_no_question_are_told(folder: Path) -> None:
    caesarion = Caesarion("http://127.0.0.1:1", folder)
    ended = caesarion("chat", "-m", "q")
    assert (ended.code, "caesarion serve" in ended.err) == (3, True)
    assert caesarion("chat", "-m", " ").code == 2


def test_the_limit_of_steps_and_a_kernel_that_died_are_told(product_server: ProductServer, folder: Path) -> None:
    steps: list[Step] = [runs("import os; os._exit(3)")]
    with answering(product_server, folder, steps, CAESARION_MAX_STEPS="1") as (caesarion, _):
        ended = caesarion("chat", "-m", "q")
        assert ended.code == 0
        assert "[the kernel died; variables are lost" in ended.out
        assert "Stopped after 1 steps" in ended.out


def test_of_very_many_outputs_each_is_shown_or_counted(product_server: ProductServer, folder: Path) -> None:
    code = "for number in range(300): display(number)"
    with answering(product_server, folder, [runs(code), Say("Done.")]) as (caesarion, _):
        ended = caesarion("chat", "-m", "q")
    numbers = [int(line) for line in ended.out.splitlines() if line.isdecimal()]
    left_out = re.search(r"(\d+) outputs left out", ended.out)
    assert numbers == sorted(set(numbers))
    assert len(numbers) + int(left_out[1] if left_out else 0) == 300


def test_ctrl_c_stops_the_code_and_variables_stay(product_server: ProductServer, folder: Path, known: Session) -> None:
    with answering(product_server, folder, [runs(KEEPS)]) as (caesarion, _):
        with caesarion.started("chat", "-m", "q", "--session", known.id) as running:
            while running.next_line() != "begun\n":
                pass
            running.press_ctrl_c()
            ended = running.finished()
        assert ended.code == 130
        assert shown(ended.out).endswith("KeyboardInterrupt: \n[interrupted, TIME]\n[stopped]\n")
        assert caesarion("run", "-", "--session", known.id, given="kept").out == "'kept'\n"


def test_ctrl_c_stops_a_model_that_thinks(product_server: ProductServer, folder: Path, known: Session) -> None:
    with answering(product_server, folder, [Hang(text="thinking\n")]) as (caesarion, product):
        with caesarion.started("chat", "-m", "q", "--session", known.id) as running:
            assert running.next_line() == "thinking\n"
            busy = caesarion("chat", "-m", "another", "--session", known.id)
            assert (busy.code, "turn_running" in busy.err) == (3, True)
            running.press_ctrl_c()
            ended = running.finished()
        assert (ended.code, ended.out) == (130, "[stopped]\n")
        assert product.model.requests[0].left.wait(DEADLINE_S)


def test_an_answer_that_nobody_reads_is_stopped(product_server: ProductServer, folder: Path, known: Session) -> None:
    code = "while True: print('line', flush=True)"
    with answering(product_server, folder, [runs(code)]) as (caesarion, _):
        with caesarion.started("chat", "-m", "q", "--session", known.id) as running:
            while running.next_line() != "line\n":
                pass
            running.stop_reading()
            assert running.finished().code == 130
        assert caesarion("run", "-", "--session", known.id, given="'free again'").out == "'free again'\n"


def test_a_conversation_at_the_terminal(product_server: ProductServer, folder: Path, session: Session) -> None:
    steps: list[Step] = [
        runs("1 / 0"),
        Say(["It **fai", "led**."]),
        runs(KEEPS),
        runs("print(kept, 'on')"),
        Say("Again."),
    ]
    with answering(product_server, folder, steps) as (caesarion, product):
        with caesarion.at_terminal("chat", "--session", session.id) as person:
            person.sees(PROMPT)
            person.types("divide\r")
            person.sees("ZeroDivisionError: division by zero")
            person.sees("It failed.")
            person.sees(PROMPT)
            person.types("loop\r")
            person.sees("begun\n")
            person.types(CTRL_C)
            person.sees("[stopped]")
            person.sees(PROMPT)
            person.types("/retry\r")
            person.sees("kept on")
            person.sees("Again.")
            person.sees(PROMPT)
            person.types("typed" + CTRL_C)
            person.sees(PROMPT)
            person.types(CTRL_D)
            assert person.leaves() == 0
        assert asked(product, 3) == [*asked(product, 2)], "the stopped answer gave way to the new one"
        assert asked(product, 3)[-1] == ("user", "loop")


def test_files_go_to_the_session_and_back_at_the_prompt(
    product_server: ProductServer, folder: Path, session: Session
) -> None:
    steps: list[Step] = [runs("print(open('sales.csv').read(), end='')"), Say("Read.")]
    with answering(product_server, folder, steps) as (caesarion, _):
        (caesarion.folder / "sales.csv").write_text("a\n1\n", encoding="utf-8")
        session.put("made.txt", b"made")
        with caesarion.at_terminal("chat", "--session", session.id) as person:
            person.sees(PROMPT)
            person.types("/file sales.csv\r")
            person.sees("uploaded 'sales.csv', 4 B")
            person.sees(PROMPT)
            person.types("read it\r")
            person.sees("a\n1\n[ok")
            person.sees(PROMPT)
            person.types("/files\r")
            person.sees("made.txt")
            person.sees("sales.csv")
            person.sees(PROMPT)
            person.types("/save sales.csv\r")
            person.sees("left as it is")
            person.sees(PROMPT)
            person.types("/save made.txt\r")
            person.sees("saved: made.txt")
            person.sees(PROMPT)
            person.types("/nothing\r")
            person.sees("there is no '/nothing'")
            person.sees("/quit")
            person.sees(PROMPT)
            person.types("/quit\r")
            assert person.leaves() == 0
        assert (caesarion.folder / "made.txt").read_bytes() == b"made"


def test_a_second_ctrl_c_leaves_a_turn_that_does_not_stop_and_another_terminal_shows_it_to_its_end(
    product_server: ProductServer, folder: Path, session: Session
) -> None:
    """The other terminal begins before, as code that ignores its interrupt is given seconds only."""
    with (
        answering(product_server, folder, [runs(STUBBORN)]) as (caesarion, _),
        caesarion.at_terminal("chat", "--session", session.id) as person,
    ):
        person.sees(PROMPT)
        person.types("go\r")
        person.sees("begun\n")
        with caesarion.at_terminal("chat", "--session", session.id) as other:
            other.sees("begun\n")
            person.types(CTRL_C)
            person.sees("not yet\n")
            person.types(CTRL_C)
            assert person.leaves() == 130
            session.put("gate.txt", b"open")
            other.sees("[stopped]")
            other.sees(PROMPT)
            other.types("/quit\r")
            assert other.leaves() == 0


def test_neither_model_nor_code_steers_the_terminal_and_pictures_are_shown_there(
    product_server: ProductServer, folder: Path
) -> None:
    steps: list[Step] = [
        runs("print('\\x1b]0;from code\\x07\\x1b[2J')\n" + PLOTS),
        Say("\x1b]0;from model\x07 \x1b[2JDone."),
    ]
    with answering(product_server, folder, steps) as (caesarion, _):
        with caesarion.at_terminal("chat", "-m", "q", env={"KITTY_WINDOW_ID": "1"}) as person:
            person.sees("saved: picture-1.png")
            person.sees("Done.")
            assert person.leaves() == 0
    assert b"\x1b]0;" not in person.raw
    assert b"\x1b[2J" not in person.raw
    assert b"\x1b_G" in person.raw


def test_without_a_model_code_runs_and_a_session_of_its_own_is_closed(
    caesarion: Caesarion, client: httpx.Client
) -> None:
    with caesarion.at_terminal("chat") as person:
        person.sees("Session ")
        session = person.sees(" at ")
        person.sees(PROMPT)
        person.types("print(6 * 7)\r")
        person.sees("42\n")
        person.sees("OPENAI_API_KEY")
        person.sees(PROMPT)
        assert client.get(f"/sessions/{session}").status_code == 200
        person.types(CTRL_D)
        assert person.leaves() == 0
    assert client.get(f"/sessions/{session}").status_code == 404


def test_without_a_model_code_runs_also_when_a_file_came_first(caesarion: Caesarion) -> None:
    (caesarion.folder / "a.csv").write_text("x\n1\n", encoding="utf-8")
    ended = caesarion("chat", "-m", "print(open('a.csv').read(), end='')", "--file", "a.csv")
    assert (ended.code, "```\nx\n1\n[ok" in ended.out) == (0, True)
