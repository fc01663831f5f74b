"""`caesarion serve` as a process: how it begins, crashes, is found again and ends."""

import json
import os
import shutil
import signal
import socket
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import httpx
import pytest

from tests.platform.conftest import text_of
from tests.platform.served import NO_POOL, SERVE, Home, Served, home, start, still_alive

WAITS_FOR_A_FILE = """
import os, time
print("begun", flush=True)
while not os.path.exists("go.txt"):
    time.sleep(0.01)
x = 41
print("went on")
"""
ENDLESS = "print('begun', flush=True)\nwhile True: pass"


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as made:
        yield made


def make_session(served: Served, session: str) -> None:
    served.client.post(f"/sessions/{session}/initialize").raise_for_status()


def run(served: Served, session: str, code: str) -> str:
    """Run code and return its outputs as lines of JSON."""
    return served.client.post(f"/sessions/{session}/executions", json={"code": code}).raise_for_status().text


def begin(served: Served, session: str, code: str, context: ExitStack) -> tuple[str, Iterator[str]]:
    """Run code that prints "begun" and goes on; return the execution's id and the lines to come."""
    url = f"/sessions/{session}/executions"
    reply = context.enter_context(served.client.stream("POST", url, json={"code": code}))
    lines = reply.iter_lines()
    assert next(line for line in lines if "begun" in line)
    return reply.headers["X-Execution-Id"], lines


def outcome(env: dict[str, str]) -> tuple[int, str]:
    """Run `caesarion serve` where it cannot start; return its exit status and what it says."""
    process = start(SERVE, env)
    _, errors = process.communicate(timeout=200)
    return process.returncode, errors


def test_an_execution_goes_on_when_the_functions_are_killed_and_is_followed_after_their_restart(place: Home) -> None:
    with place.serve(**NO_POOL) as first, ExitStack() as open_stream:
        make_session(first, "s")
        execution, lines = begin(first, "s", WAITS_FOR_A_FILE, open_stream)
        first.process.kill()
        first.process.wait()
        with pytest.raises(httpx.TransportError):
            list(lines)
    with place.serve(**NO_POOL) as second:
        shown = second.client.get(f"/sessions/s/executions/{execution}").json()
        assert shown["status"] == "running"
        outputs: list[dict[str, Any]] = []
        with second.client.stream("GET", f"/sessions/s/executions/{execution}/outputs") as reply:
            for line in reply.iter_lines():
                outputs.append(json.loads(line))
                if "begun" in outputs[-1].get("text", ""):
                    assert second.client.put("/sessions/s/files/go.txt", content="go").status_code == 201
        assert [output["seq"] for output in outputs] == list(range(1, len(outputs) + 1))
        assert text_of(outputs) == "begun\nwent on\n"
        assert outputs[-1]["status"] == "ok"
        assert '"42"' in run(second, "s", "x + 1")
        assert [one["id"] for one in second.client.get("/sessions").json()["sessions"]] == ["s"]


def test_what_was_not_claimed_at_a_crash_is_used_by_the_next_start(place: Home) -> None:
    with place.serve() as first:
        waiting = place.sandboxes()
        first.process.kill()
        first.process.wait()
    with place.serve():
        assert place.sandboxes() == waiting


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_sigterm_leaves_no_process_and_no_folder(place: Home, signum: int) -> None:
    with place.serve() as served, ExitStack() as open_stream:
        make_session(served, "s")
        begin(served, "s", ENDLESS, open_stream)
        processes = place.processes()
        assert len(processes) >= 5
        assert served.end(signum) == (0, "")
        assert still_alive(processes) == []
        assert place.sandboxes() == []


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_during_the_start_leaves_nothing(place: Home, signum: int) -> None:
    process = start(SERVE, place.env())
    while not place.processes():
        assert process.poll() is None
        os.sched_yield()
    processes = place.processes()
    os.killpg(process.pid, signum)
    output, errors = process.communicate(timeout=200)
    assert (process.returncode, output, errors) == (0, "", "")
    assert still_alive(processes) == []
    assert place.sandboxes() == []


def test_sandboxes_can_be_kept_over_a_stop(place: Home) -> None:
    with place.serve(CAESARION_KEEP_SANDBOXES="1", **NO_POOL) as first:
        make_session(first, "s")
        run(first, "s", "x = 41")
        assert first.end() == (0, "")
    with place.serve(**NO_POOL) as second:
        assert '"42"' in run(second, "s", "x + 1")


def test_a_second_product_shares_the_sessions_and_the_first_one_to_end_leaves_them(place: Home) -> None:
    with place.serve(**NO_POOL) as first, place.serve(**NO_POOL) as second:
        make_session(first, "s")
        run(first, "s", "x = 41")
        assert first.end(signal.SIGINT) == (0, "")
        assert '"42"' in run(second, "s", "x + 1")
        make_session(second, "t")
        processes = place.processes()
        assert second.end(signal.SIGINT) == (0, "")
        assert still_alive(processes) == []
        assert place.sandboxes() == []


def test_a_second_product_outlives_a_crash_of_the_first(place: Home) -> None:
    with place.serve(**NO_POOL) as first, place.serve(**NO_POOL) as second:
        make_session(first, "s")
        first.process.kill()
        first.process.wait()
        assert '"1"' in run(second, "s", "1")
        assert second.end() == (0, "")
        assert place.sandboxes() == []


def test_all_settings_that_are_wrong_are_named_at_once(place: Home) -> None:
    wrong = {"PORT": "http", "CAESARION_POOL_SIZE": "-1", "CAESARION_SANDBOX_CPUS": "half"}
    status, errors = outcome(place.env(**wrong))
    assert status == 3
    assert "Traceback" not in errors
    assert [name for name in wrong if name not in errors] == []


def test_a_port_that_is_taken_is_told(place: Home) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        status, errors = outcome(place.env(PORT=str(port)))
    assert status == 3
    assert errors == f"caesarion: Cannot listen on 127.0.0.1:{port} (Address already in use). " + (
        "Choose another port with PORT=.\n"
    )
    assert place.sandboxes() == []


def test_an_address_that_others_reach_is_not_listened_on_without_a_key(place: Home) -> None:
    status, errors = outcome(place.env(CAESARION_HOST="0.0.0.0"))
    assert status == 3
    assert "needs at least one API key" in errors


@pytest.mark.parametrize("name", ["CAESARION_HOME", "CAESARION_SANDBOX_PYTHON"])
def test_a_place_that_cannot_be_used_is_named(place: Home, name: str) -> None:
    status, errors = outcome(place.env(**{name: "/dev/null/there"}))
    assert status == 3
    assert name in errors
    assert "Traceback" not in errors


def test_what_was_not_ended_before_is_cleared_away_at_the_next_stop(place: Home) -> None:
    shutil.copytree(Path(__file__).parent, place.path / "sandboxes" / "sb-broken")
    with place.serve(**NO_POOL) as served:
        assert served.end() == (0, "")
    assert place.sandboxes() == []
