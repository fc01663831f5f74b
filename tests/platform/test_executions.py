"""Code that runs: once for each key, in order, to its end or to its interrupt, and whatever it does to itself."""

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import httpx
import pytest

from tests.platform.conftest import Session, failure, gate, only, temporary_session, text_of

MAX_BODY_BYTES = 4 * 1024**2


@pytest.fixture(scope="module")
def rude_session(client: httpx.Client) -> Iterator[Session]:
    with temporary_session(client) as session:
        yield session


@pytest.fixture
def rude(rude_session: Session) -> Session:
    """A session for code that ruins its kernel; each test begins with a new one."""
    rude_session.client.post(f"{rude_session.path}/contexts/default/restart").raise_for_status()
    return rude_session


def summary(session: Session, execution: str) -> dict[str, Any]:
    return dict(session.client.get(f"{session.executions}/{execution}").json())


def test_variables_survive_between_executions(session: Session) -> None:
    assert session.run("kept = 41")[-1]["status"] == "ok"
    assert [result["data"] for result in only(session.run("kept + 1"), "execute_result")] == [{"text/plain": "42"}]


def test_an_error_of_the_code_is_an_output(session: Session) -> None:
    outputs = session.run("before = 1\nraise ValueError('wrong')\nafter = 1")
    (error,) = only(outputs, "error")
    assert (error["ename"], error["evalue"], outputs[-1]["status"]) == ("ValueError", "wrong", "error")
    assert "ValueError" in "".join(error["traceback"])
    assert session.said("print('before' in globals(), 'after' in globals())") == "True False\n"


ODD_CODE = {
    "": "ok",
    "\n\n": "ok",
    "# nothing but a comment": "ok",
    "'\u2028\x85\u0085 ünï 🎈'": "ok",
    "x = 'a\x00b'": "error",
    "(": "error",
    "é" * 100_000 + " = 1": "ok",
    "%%nothing": "error",
    "raise SystemExit(3)": "error",
    "raise KeyboardInterrupt": "error",
}


@pytest.mark.parametrize("code", ODD_CODE, ids=lambda code: repr(code[:30]))
def test_odd_code_gets_an_honest_answer(session: Session, code: str) -> None:
    outputs = session.run(code)
    assert outputs[0]["type"] == "started"
    assert outputs[-1]["status"] == ODD_CODE[code]
    assert session.said("print('fine')") == "fine\n"


def test_what_is_printed_arrives_as_it_was(session: Session) -> None:
    text = 'ünï 🎈 \u2028 \x85 \x00 \x1b[31m \\ " \t\r\n'
    assert session.said(f"print({text!r}, end='')") == text


def test_what_ran_is_listed(session: Session) -> None:
    good, bad = session.run("1"), session.run("1 / 0")
    with session.begun(gate("listed")) as running:
        next(running.outputs)
        listed = session.client.get(session.executions).json()["executions"][-3:]
        assert [one["status"] for one in listed] == ["ok", "error", "running"]
        session.open_gate("listed")
        last = list(running.outputs)[-1]
    for outputs, shown in zip((good, bad), listed, strict=False):
        assert (shown["id"], shown["context"]) == (outputs[0]["execution"], "default")
        assert shown["execution_count"] == outputs[0]["execution_count"]
        assert shown["duration_ms"] == outputs[-1]["duration_ms"]
        assert shown == summary(session, shown["id"])
    assert "duration_ms" not in listed[2]
    assert summary(session, running.id)["duration_ms"] == last["duration_ms"]
    started = [one["started_at"] for one in listed]
    assert started == sorted(started)
    assert all(moment.endswith("Z") for moment in started)


def test_the_count_goes_up_by_one_and_a_restart_begins_anew(rude: Session) -> None:
    assert [rude.run("1")[-1]["execution_count"] for _ in range(3)] == [1, 2, 3]
    rude.client.post(f"{rude.path}/contexts/default/restart").raise_for_status()
    assert rude.run("1")[-1]["execution_count"] == 1


def test_the_same_key_runs_the_code_once_however_many_ask(session: Session) -> None:
    code = "with open('once.txt', 'a') as file: print(file.write('x'))\nimport random; random.random()"
    with ThreadPoolExecutor(10) as pool:
        asked = [pool.submit(session.run, code, headers={"Idempotency-Key": "a-key:1/2"}) for _ in range(10)]
        answers = [one.result() for one in asked]
    assert all(outputs[-3:] == answers[0][-3:] for outputs in answers)
    assert answers.count(answers[0]) == 10
    assert session.client.get(f"{session.path}/files/once.txt").text == "x"
    assert session.run(code, headers={"Idempotency-Key": "a-key:1/2"}) == answers[0]
    assert session.run(code, headers={"Idempotency-Key": "another"})[-2] != answers[0][-2]


def test_a_key_of_one_session_means_nothing_in_another(session: Session, neighbour: Session) -> None:
    keyed = {"Idempotency-Key": "of-both"}
    assert text_of(session.run("print('here')", headers=keyed)) == "here\n"
    assert text_of(neighbour.run("print('there')", headers=keyed)) == "there\n"


def test_the_same_key_with_other_code_is_a_conflict(session: Session) -> None:
    keyed = {"Idempotency-Key": "taken"}
    session.run("1", headers=keyed)
    for body in ({"code": "2"}, {"code": "1 "}):
        reply = session.client.post(session.executions, json=body, headers=keyed)
        assert failure(reply) == (409, "idempotency_conflict")


@pytest.mark.parametrize("key", [b"", b"x" * 256, "ä".encode(), b"a b"])
def test_a_key_that_cannot_be_one_is_refused(session: Session, key: bytes) -> None:
    reply = session.client.post(session.executions, json={"code": "1"}, headers=[(b"Idempotency-Key", key)])
    assert failure(reply) == (400, "invalid_field")


def test_executions_of_a_context_run_in_the_order_they_came(session: Session) -> None:
    with session.begun(f"order = [1]\n{gate('order')}") as first:
        next(first.outputs)
        with session.begun("order.append(2)") as second:
            assert next(second.outputs) == {"seq": 1, "type": "queued", "position": 1}
            assert summary(session, second.id)["status"] == "queued"
            with session.begun("order.append(3)") as third:
                assert next(third.outputs) == {"seq": 1, "type": "queued", "position": 2}
                session.open_gate("order")
                assert [output["type"] for output in third.outputs] == ["started", "finished"]
    assert session.said("print(order)") == "[1, 2, 3]\n"


def test_an_interrupt_stops_the_code_and_keeps_the_variables(session: Session) -> None:
    with session.begun("going = 'on'\nprint('begun', flush=True)\nwhile True: pass") as running:
        assert next(output for output in running.outputs if "begun" in output.get("text", ""))
        session.interrupt(running.id)
        outputs = list(running.outputs)
    assert [error["ename"] for error in only(outputs, "error")] == ["KeyboardInterrupt"]
    assert outputs[-1]["status"] == "interrupted"
    session.interrupt(running.id)
    assert summary(session, running.id)["status"] == "interrupted"
    assert session.said("print(going)") == "on\n"


def test_what_waits_can_be_interrupted_and_never_runs(session: Session) -> None:
    with session.begun(f"waited = False\n{gate('waiting')}") as first:
        next(first.outputs)
        with session.begun("waited = True") as second:
            assert next(second.outputs)["type"] == "queued"
            session.interrupt(second.id)
            session.open_gate("waiting")
            assert list(first.outputs)[-1]["status"] == "ok"
            assert [(output["type"], output["status"]) for output in second.outputs] == [("finished", "interrupted")]
    assert session.said("print(waited)") == "False\n"


def test_code_that_takes_too_long_is_interrupted_and_keeps_its_variables(session: Session) -> None:
    session.run("timed = 'out'")
    outputs = session.run("import time\nprint('begun', flush=True)\nwhile True: time.sleep(1)", timeout_s=1)
    assert (outputs[-2]["ename"], outputs[-1]["status"]) == ("KeyboardInterrupt", "timeout")
    assert session.said("print(timed)") == "out\n"


def test_code_that_ends_its_kernel_is_told_so_and_only_variables_are_lost(rude: Session) -> None:
    before = rude.client.get(rude.path).json()["generation"]
    outputs = rude.run("lost = 1; open('stays.txt', 'w').write('here'); import os; os._exit(7)")
    assert [output["type"] for output in outputs[-2:]] == ["error", "finished"]
    assert (outputs[-2]["ename"], outputs[-1]["status"]) == ("KernelDied", "died")
    assert "exit status 7" in outputs[-2]["evalue"]
    assert rude.said("print('lost' in globals(), open('stays.txt').read())") == "False here\n"
    assert rude.client.get(rude.path).json()["generation"] == before + 1


def test_code_that_ignores_the_interrupt_loses_its_kernel(rude: Session) -> None:
    ignore = "import signal, time\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('set', flush=True)\n"
    with rude.begun(f"{ignore}while True: time.sleep(1)") as running:
        assert next(output for output in running.outputs if "set" in output.get("text", ""))
        rude.interrupt(running.id)
        outputs = list(running.outputs)
    assert outputs[-1]["status"] == "died"
    assert "ignored the interrupt" in outputs[-2]["evalue"]
    assert rude.said("print('back')") == "back\n"


def test_code_cannot_ask_anybody(session: Session) -> None:
    outputs = session.run("name = input('name? ')")
    assert (outputs[-2]["ename"], outputs[-1]["status"]) == ("EOFError", "error")
    assert "nobody to ask" in outputs[-2]["evalue"]


def test_a_parent_that_is_killed_survives(rude: Session) -> None:
    for victim in ("os.getppid()", "1"):
        rude.run(f"import os, signal\nos.kill({victim}, signal.SIGKILL)")
        assert rude.said("print('still here')") == "still here\n"


def test_a_closed_or_replaced_stdout_is_open_again_for_the_next_cell(rude: Session) -> None:
    assert rude.run("import sys; sys.stdout.close()")[-1]["status"] == "ok"
    assert rude.said("print('open')") == "open\n"
    assert rude.run("import io, sys; sys.stdout = io.StringIO(); print('unseen')")[-1]["status"] == "ok"
    rude.run("sys.stdout.close()")
    assert rude.said("print('mine')") == "mine\n"
    assert rude.run("import os; os.close(1); os.close(2)")[-1]["status"] == "ok"
    assert rude.said("print('again')") == "again\n"


def test_what_a_thread_prints_after_its_cell_comes_with_the_next_and_names_its_own(session: Session) -> None:
    wait = "".join(f"    {line}\n" for line in gate("thread").splitlines())
    late = f"def late():\n{wait}    print('late', flush=True)\n"
    first = session.run(f"import threading\n{late}t = threading.Thread(target=late); t.start()")
    assert first[-1]["status"] == "ok"
    session.open_gate("thread")
    outputs = session.run("t.join(); print('mine')")
    assert sorted(text_of(outputs).split()) == ["late", "mine"]
    origins = {output.get("origin") for output in outputs if "late" in output.get("text", "")}
    assert origins <= {first[0]["execution"], None}


def test_far_more_output_than_is_kept_is_counted_and_others_do_not_notice(rude: Session, neighbour: Session) -> None:
    size = 300_000_000
    with rude.begun(f"for _ in range({size // 1_000_000}): print('x' * 999_999)") as running:
        assert next(running.outputs)["type"] in ("queued", "started")
        assert neighbour.said("print('not bothered')") == "not bothered\n"
        outputs = list(running.outputs)
    assert (outputs[-2]["type"], outputs[-1]["status"]) == ("truncated", "ok")
    kept = len(text_of(outputs))
    assert 0 < kept < 25_000_000
    assert kept + outputs[-2]["dropped_bytes"] == size
    assert rude.said("print('go on')") == "go on\n"


def test_a_fork_bomb_stays_in_its_session(rude: Session, neighbour: Session) -> None:
    bomb = "import os, time\nwhile True:\n    try:\n        os.fork()\n    except OSError:\n        time.sleep(0.1)"
    with rude.begun(bomb) as running:
        assert next(running.outputs)["type"] in ("queued", "started")
        assert neighbour.said("print('not bothered')") == "not bothered\n"
        rude.client.post(f"{rude.path}/contexts/default/restart").raise_for_status()
        assert list(running.outputs)[-1]["status"] == "died"
    assert rude.said("print('cleared away')") == "cleared away\n"


def test_a_memory_hog_loses_its_kernel_and_nobody_else_does(rude: Session, neighbour: Session) -> None:
    with rude.begun("hog = b'x' * (4 * 2**30)") as running:
        first = next(running.outputs)
        assert first["type"] in ("queued", "started", "error")  # the last: lost before it could say that it had begun
        assert neighbour.said("print('not bothered')") == "not bothered\n"
        outputs = [first, *running.outputs]
    assert outputs[-1]["status"] in ("died", "error")
    assert "memory" in (outputs[-2]["evalue"] + outputs[-2]["ename"]).lower()
    assert rude.said("print('again')") == "again\n"


def test_code_of_a_megabyte_and_a_half_runs_and_more_than_is_taken_is_refused(session: Session) -> None:
    size = 1_500_000
    assert session.run(f"size = len('{'x' * size}')")[-1]["status"] == "ok"
    assert session.said("print(size)") == f"{size}\n"
    for body in (b" " * (MAX_BODY_BYTES + 1), iter([b" " * MAX_BODY_BYTES, b" "])):
        assert failure(session.client.post(session.executions, content=body)) == (413, "too_large")
