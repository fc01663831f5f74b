"""What one principal may have at once, and that it comes back."""

import contextlib
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx
import pytest

from caesarion.ids import PrincipalId, SessionId, SessionKey
from caesarion.principals import key_digest
from tests.conftest import ProductServer
from tests.platform.conftest import Session, client_of, failure, gate, new_session

PRINCIPALS = ("carol", "dave")
KEYS = {"CAESARION_API_KEYS": ",".join(f"{name}:{key_digest(name)}" for name in PRINCIPALS)}


@contextlib.contextmanager
def clients(server: ProductServer, **env: str) -> Iterator[tuple[httpx.Client, httpx.Client]]:
    """Give two principals' clients of an app with these quotas."""
    url = server.serve({**KEYS, **{f"CAESARION_{name}": value for name, value in env.items()}})
    with client_of(url, "carol") as carol, client_of(url, "dave") as dave:
        yield carol, dave


@pytest.fixture(scope="module")
def sessions(product_server: ProductServer) -> dict[str, str]:
    """A session of each principal, by name."""
    with clients(product_server) as both:
        return {name: new_session(client).id for name, client in zip(PRINCIPALS, both, strict=True)}


def gauge(client: httpx.Client, name: str) -> float:
    lines = client.get("/metrics").text.splitlines()
    return float(next(line.rsplit(" ", 1)[1] for line in lines if line.startswith(f"{name} ")))


def wait_until(client: httpx.Client, name: str, value: float) -> None:
    while gauge(client, name) != value:
        pass


def test_a_principal_has_only_so_many_live_sessions(product_server: ProductServer, sessions: dict[str, str]) -> None:
    key = SessionKey(PrincipalId("carol"), SessionId(sessions["carol"]))
    with clients(product_server, MAX_SESSIONS="1") as (carol, dave):
        reply = carol.post("/sessions")
        assert failure(reply) == (429, "quota_exceeded")
        assert int(reply.headers["retry-after"]) > 0
        assert failure(carol.post("/sessions/other/initialize"))[1] == "quota_exceeded"
        assert carol.post(f"/sessions/{key.session}/initialize").status_code == 200, "the one there is stays usable"
        assert Session(sessions["dave"], dave).said("print('not bothered')") == "not bothered\n"

        product_server.run(product_server.sandboxes.suspend(key))
        with ThreadPoolExecutor(3) as pool:
            asked = [pool.submit(carol.post, f"/sessions/racing{number}/initialize") for number in range(3)]
            statuses = sorted(one.result().status_code for one in asked)
        assert statuses == [200, 429, 429]
        assert failure(carol.post(f"/sessions/{key.session}/executions", json={"code": "1"}))[0] == 429
        for number in range(3):
            assert carol.delete(f"/sessions/racing{number}").status_code == 204
        assert Session(key.session, carol).said("print('woken')") == "woken\n"


def test_a_principal_has_only_so_many_sessions_suspended_ones_among_them(
    product_server: ProductServer, sessions: dict[str, str]
) -> None:
    key = SessionKey(PrincipalId("carol"), SessionId(sessions["carol"]))
    with clients(product_server, MAX_KEPT_SESSIONS="2") as (carol, dave):
        product_server.run(product_server.sandboxes.suspend(key))
        assert carol.get(f"/sessions/{key.session}").json()["suspended_at"]
        assert carol.post("/sessions/second/initialize").status_code == 200
        reply = carol.post("/sessions")
        assert failure(reply) == (429, "quota_exceeded")
        assert "Close some" in reply.json()["error"]["message"]
        assert dave.post("/sessions/others/initialize").status_code == 200
        assert Session(key.session, carol).said("print('woken')") == "woken\n"
        assert carol.delete("/sessions/second").status_code == 204
        assert carol.post("/sessions/third/initialize").status_code == 200
        assert carol.delete("/sessions/third").status_code == 204
        assert dave.delete("/sessions/others").status_code == 204


def test_executions_over_the_quota_wait_for_their_turn_and_then_are_refused(
    product_server: ProductServer, sessions: dict[str, str]
) -> None:
    with clients(product_server, MAX_EXECUTIONS="1", QUEUE_TIMEOUT_S="0.2") as (carol, dave):
        session = Session(sessions["carol"], carol)
        with session.begun(gate("refused")) as running:
            next(running.outputs)
            reply = carol.post(session.executions, json={"code": "1"})
            assert failure(reply) == (429, "quota_exceeded")
            assert int(reply.headers["retry-after"]) > 0
            assert Session(sessions["dave"], dave).said("print('not bothered')") == "not bothered\n"
            assert carol.get(session.executions).status_code == 200
            session.open_gate("refused")
            assert list(running.outputs)[-1]["status"] == "ok"
        assert session.said("print('my turn')") == "my turn\n"


def test_an_execution_over_the_quota_runs_once_another_has_ended(
    product_server: ProductServer, sessions: dict[str, str]
) -> None:
    with clients(product_server, MAX_EXECUTIONS="1") as (carol, _), ThreadPoolExecutor(2) as pool:
        session = Session(sessions["carol"], carol)
        carol.post(f"{session.path}/contexts", json={"name": "beside"}).raise_for_status()
        with session.begun(gate("turn") + "print('first')") as running:
            next(running.outputs)
            waiting = [pool.submit(session.run, "1", context="beside") for _ in range(2)]
            wait_until(carol, "caesarion_requests_in_flight", 4)
            assert [one["status"] for one in carol.get(session.executions).json()["executions"][-1:]] == ["running"]
            session.open_gate("turn")
            assert list(running.outputs)[-1]["status"] == "ok"
        assert [one.result()[-1]["status"] for one in waiting] == ["ok", "ok"]
        carol.delete(f"{session.path}/contexts/beside").raise_for_status()
        wait_until(carol, "caesarion_executions_running", 0)


def test_a_slot_stays_taken_when_the_client_leaves_and_comes_back_when_the_code_ends(
    product_server: ProductServer, sessions: dict[str, str]
) -> None:
    with clients(product_server, MAX_EXECUTIONS="1", QUEUE_TIMEOUT_S="0") as (carol, _):
        session = Session(sessions["carol"], carol)
        for accept in ("application/x-ndjson", "text/event-stream"):
            name = f"slot-{accept[0]}"
            with session.begun(gate(name), headers={"Accept": accept}):
                pass
            assert failure(carol.post(session.executions, json={"code": "1"})) == (429, "quota_exceeded")
            session.open_gate(name)
            wait_until(carol, "caesarion_executions_running", 0)
            assert session.said("print('free')") == "free\n"


def test_who_comes_again_with_its_key_needs_no_slot(product_server: ProductServer, sessions: dict[str, str]) -> None:
    with clients(product_server, MAX_EXECUTIONS="1", QUEUE_TIMEOUT_S="0") as (carol, _):
        session = Session(sessions["carol"], carol)
        code, keyed = f"print('begun', flush=True)\n{gate('joined')}", {"Idempotency-Key": "joined"}
        with session.begun(code, headers=keyed) as first:
            begun = next(first.outputs)
        with session.begun(code, headers=keyed) as again:
            assert (again.id, next(again.outputs)) == (first.id, begun)
            session.open_gate("joined")
            assert list(again.outputs)[-1]["status"] == "ok"
        wait_until(carol, "caesarion_executions_running", 0)


def test_no_request_that_fails_keeps_a_slot(product_server: ProductServer, sessions: dict[str, str]) -> None:
    with clients(product_server, MAX_EXECUTIONS="1", QUEUE_TIMEOUT_S="0") as (carol, _):
        session = Session(sessions["carol"], carol)
        taken = {"Idempotency-Key": "failing"}
        session.run("1", headers=taken)
        for _ in range(2):
            failing = (
                carol.post(session.executions, json={"code": "1", "context": "unknown"}),
                carol.post(session.executions, json={"code": "2"}, headers=taken),
                carol.post("/sessions/unknown/executions", json={"code": "1"}),
                carol.post(session.executions, json={"code": 1}),
            )
            assert [reply.status_code for reply in failing] == [404, 409, 404, 400]
        assert gauge(carol, "caesarion_executions_running") == 0
        assert session.run("1 / 0")[-1]["status"] == "error"
        assert session.run("import os; os._exit(1)")[-1]["status"] == "died"
        wait_until(carol, "caesarion_executions_running", 0)
        assert session.said("print('free')") == "free\n"


def test_executions_are_counted_once_each(product_server: ProductServer, sessions: dict[str, str]) -> None:
    with clients(product_server) as (carol, _):
        session = Session(sessions["carol"], carol)
        finished = session.run("1", headers={"Idempotency-Key": "counted"})
        session.run("1", headers={"Idempotency-Key": "counted"})
        with session.following(finished[0]["execution"]) as again:
            list(again.outputs)
        with session.begun(gate("counted") + "1 / 0"):
            pass
        session.open_gate("counted")
        wait_until(carol, "caesarion_executions_running", 0)
        assert gauge(carol, 'caesarion_executions_total{status="ok"}') == 1
        assert gauge(carol, 'caesarion_executions_total{status="error"}') == 1


def test_uploads_under_way_are_limited_by_their_bytes(product_server: ProductServer, sessions: dict[str, str]) -> None:
    going_on = threading.Event()

    def slowly() -> Iterator[bytes]:
        yield b"x" * 500
        going_on.wait()
        yield b"x" * 400

    with clients(product_server, MAX_INFLIGHT_UPLOAD_BYTES="1000") as (carol, dave), ThreadPoolExecutor(1) as pool:
        path = f"/sessions/{sessions['carol']}/files"
        slow = pool.submit(carol.put, f"{path}/slow.txt", content=slowly(), headers={"Content-Length": "900"})
        try:
            wait_until(carol, "caesarion_uploaded_bytes_total", 500)
            reply = carol.put(f"{path}/quick.txt", content=b"x" * 900)
            assert failure(reply) == (429, "quota_exceeded")
            assert int(reply.headers["retry-after"]) > 0
            assert carol.put(f"{path}/small.txt", content=b"x" * 100).status_code == 201
            other = f"/sessions/{sessions['dave']}/files/quick.txt"
            assert dave.put(other, content=b"x" * 900).status_code == 201
        finally:
            going_on.set()
        assert slow.result().status_code == 201
        refused = carol.put(f"{path}/refused.png", content=b"x" * 900)
        assert refused.status_code == 415
        assert carol.put(f"{path}/quick.txt", content=b"x" * 900).status_code == 201
