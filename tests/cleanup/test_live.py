"""Sweeps over real sandboxes: the cleanup function beside the execute function, each a process as on Knative."""

import asyncio
import contextlib
import json
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.adapters.store import open_store
from caesarion_cleanup.settings import Settings
from tests.cleanup.simulated import key_of
from tests.platform.conftest import Session, gate, new_session, only
from tests.platform.served import NO_POOL, Home, Served, home, still_alive

Report = dict[str, Any]
BALLAST = "ballast = bytearray(os.urandom(40_000_000))"  # so that a checkpoint takes a while


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    with home() as made:
        yield made


@pytest.fixture(scope="module")
def client(place: Home) -> Iterator[httpx.Client]:
    """A client of the execute function."""
    with place.framework("execute", **NO_POOL) as served:
        yield served.client


@pytest.fixture(scope="module")
def cleanup(place: Home) -> Iterator[httpx.Client]:
    """A client of the cleanup function."""
    with place.framework("cleanup") as served:
        yield served.client


@pytest.fixture
def sessions(client: httpx.Client) -> Iterator[Callable[..., Session]]:
    """Make sessions with a short time, each with a variable; they end with the test."""
    made: list[Session] = []

    def make(idle_timeout_s: float = 1, code: str = "") -> Session:
        session = new_session(client, idle_timeout_s=idle_timeout_s)
        made.append(session)
        assert session.said(f"import os\nx = 41\n{code}\nprint('made')") == "made\n"
        return session

    yield make
    for session in made:
        assert client.delete(session.path).status_code == 204


def state(session: Session) -> str:
    """Return the state of a session, or that it is gone. To ask for it is no use of it."""
    reply = session.client.get(session.path)
    return "gone" if reply.status_code == 404 else str(reply.json()["state"])


def swept_until(cleanup: httpx.Client, done: Callable[[], object]) -> list[Report]:
    """Sweep until something is so, and return the reports."""
    reports: list[Report] = []
    while not done():
        reply = cleanup.post("/sweep")
        assert reply.status_code == 200, reply.text
        reports.append(reply.json())
        time.sleep(0.02)
    return reports


def total(reports: list[Report], *names: str) -> int:
    return sum(report[name] for report in reports for name in names)


def test_a_session_that_was_swept_comes_back_with_its_variables_and_files(
    place: Home, cleanup: httpx.Client, sessions: Callable[..., Session]
) -> None:
    session = sessions(code="open('kept.txt', 'w').write('kept'); double = lambda n: x * n")
    processes = place.processes()
    assert processes
    reports = swept_until(cleanup, lambda: state(session) == "suspended")
    assert (total(reports, "suspended"), total(reports, "removed")) == (1, 0)
    assert still_alive(processes) == []
    assert session.said("x += 1; print(x, double(2), open('kept.txt').read())") == "42 84 kept\n"
    assert state(session) == "ready"


def test_a_session_whose_code_runs_is_spared_however_long(
    cleanup: httpx.Client, sessions: Callable[..., Session]
) -> None:
    busy = sessions()
    with busy.begun(f"print('begun', flush=True)\n{gate('busy')}print('went on', x)") as running:
        assert any(output.get("text") == "begun\n" for output in running.outputs)
        idle = sessions()  # younger, and nobody uses it
        reports = swept_until(cleanup, lambda: state(idle) == "suspended")
        assert total(reports, "suspended") == 1
        assert total(reports, "spared_busy") >= 1
        assert state(busy) == "busy"
        busy.open_gate("busy")
        rest = list(running.outputs)
    assert only(rest, "stream")[-1]["text"] == "went on 41\n"
    assert rest[-1]["status"] == "ok"


def test_a_session_from_which_somebody_reads_is_spared(
    place: Home, cleanup: httpx.Client, sessions: Callable[..., Session]
) -> None:
    held, opened, done = sessions(), threading.Event(), threading.Event()

    async def hold() -> None:
        settings = Settings.from_env(place.env(**NO_POOL))
        sandboxes = LocalSandboxes(settings.sandbox, settings.local, open_store(settings.store, settings.local.home))
        sandbox = await sandboxes.get(key_of(held.id, "local"))
        assert sandbox is not None
        assert sandbox.endpoint is not None
        client = SandboxClient(sandbox.endpoint)
        try:
            async with client.stream("GET", "/v1/journal/turns/hold"):
                opened.set()
                await asyncio.to_thread(done.wait)
        finally:
            await client.aclose()
            await sandboxes.aclose()

    holding = threading.Thread(target=lambda: asyncio.run(hold()))
    holding.start()
    try:
        assert opened.wait(60)
        idle = sessions()  # younger, and nobody reads from it
        reports = swept_until(cleanup, lambda: state(idle) == "suspended")
        assert total(reports, "suspended") == 1
        assert state(held) == "ready"
    finally:
        done.set()
        holding.join()
    swept_until(cleanup, lambda: state(held) == "suspended")


def test_a_session_that_is_used_again_and_again_is_spared(
    cleanup: httpx.Client, sessions: Callable[..., Session]
) -> None:
    used, idle = sessions(idle_timeout_s=3), sessions(idle_timeout_s=3)
    generation = used.client.get(used.path).json()["generation"]

    def use() -> bool:
        assert used.said("print(x)") == "41\n"
        return state(idle) == "suspended"

    reports = swept_until(cleanup, use)
    assert total(reports, "suspended") == 1
    told = used.client.get(used.path).json()
    assert (told["state"], told["generation"]) == ("ready", generation)


def test_a_suspended_session_is_removed_once_it_was_kept_for_its_time(
    place: Home, cleanup: httpx.Client, sessions: Callable[..., Session]
) -> None:
    session = sessions()
    swept_until(cleanup, lambda: state(session) == "suspended")
    assert list((place.path / "store" / "checkpoints").iterdir())
    with place.framework("cleanup", CAESARION_SUSPENDED_KEEP_S="1") as impatient:
        reports = swept_until(impatient.client, lambda: state(session) == "gone")
    assert total(reports, "removed") == 1
    assert list((place.path / "store" / "checkpoints").iterdir()) == []


def test_a_session_whose_processes_ended_by_themselves_is_kept_from_when_the_sweep_saw_it(
    place: Home, cleanup: httpx.Client, sessions: Callable[..., Session]
) -> None:
    session = sessions(idle_timeout_s=600, code="open('kept.txt', 'w').write('kept')")
    processes = place.processes()
    for pid in processes:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert still_alive(processes) == []
    assert state(session) == "suspended"
    report = cleanup.post("/sweep").json()
    assert report["suspended"] == 1
    assert cleanup.post("/sweep").json()["suspended"] == 0
    assert session.client.get(f"{session.path}/files/kept.txt").text == "kept"
    assert state(session) == "ready"


def test_a_sweep_that_is_killed_half_way_is_finished_by_the_next_tick(
    place: Home, sessions: Callable[..., Session]
) -> None:
    made = [sessions(code=BALLAST) for _ in range(2)]
    with place.framework("cleanup") as served:
        asking = threading.Thread(target=_ask_until_it_is_gone, args=[served])
        asking.start()
        while all(state(session) == "ready" for session in made):
            time.sleep(0.001)
        status, _ = served.end(signal.SIGKILL)
        asking.join()
    assert status == -signal.SIGKILL
    with place.framework("cleanup") as served:
        tick = {
            "ce-specversion": "1.0",
            "ce-id": "1",
            "ce-source": "/apis/v1/namespaces/default/pingsources/sweep",
            "ce-type": "dev.knative.sources.ping",
        }
        reply = served.client.post("/events/cleanup", headers=tick)
        assert reply.headers["ce-type"] == "dev.caesarion.cleanup.finished"
        swept_until(served.client, lambda: all(state(session) == "suspended" for session in made))
    for session in made:
        assert session.said("print(x + 1, len(ballast))") == "42 40000000\n"


def test_two_sweeps_at_once_in_two_processes_suspend_each_session_once(
    place: Home, cleanup: httpx.Client, sessions: Callable[..., Session]
) -> None:
    made = [sessions() for _ in range(2)]
    reports: list[Report] = []

    def swept(client: httpx.Client) -> None:
        reports.extend(swept_until(client, lambda: all(state(session) == "suspended" for session in made)))

    with place.framework("cleanup") as other:
        threads = [threading.Thread(target=swept, args=[client]) for client in (cleanup, other.client)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert total(reports, "suspended") == 2
    for session in made:
        assert session.said("print(x + 1)") == "42\n"


def test_the_sink_hears_what_became_of_a_session(place: Home, sessions: Callable[..., Session]) -> None:
    with _sink() as (url, heard), place.framework("cleanup", K_SINK=url, CAESARION_SUSPENDED_KEEP_S="1") as served:
        session = sessions()
        swept_until(served.client, lambda: state(session) == "gone")
        while len(heard) < 2:
            time.sleep(0.01)
    assert [event["ce-type"] for event in heard] == [
        "dev.caesarion.sandbox.suspended",
        "dev.caesarion.sandbox.removed",
    ]
    assert {event["ce-subject"] for event in heard} == {session.id}
    suspended = json.loads(heard[0]["data"])
    assert (suspended["session"], suspended["reason"]) == (session.id, "idle")
    assert suspended["idle_s"] >= 1


def _ask_until_it_is_gone(served: Served) -> None:
    with (
        contextlib.suppress(httpx.TransportError),
        httpx.Client(base_url=served.client.base_url, timeout=200) as asking,
    ):
        while True:
            asking.post("/sweep")


@contextlib.contextmanager
def _sink() -> Iterator[tuple[str, list[dict[str, str]]]]:
    """Give the address of a sink that accepts every event, and the events: headers in lower case, and the data."""
    heard: list[dict[str, str]] = []

    class Accepting(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["content-length"])).decode()
            heard.append({**{name.lower(): value for name, value in self.headers.items()}, "data": body})
            self.send_response(202)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Accepting)
    serving = threading.Thread(target=server.serve_forever)
    serving.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", heard
    finally:
        server.shutdown()
        serving.join()
        server.server_close()
