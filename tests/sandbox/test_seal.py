"""A sandbox that is sealed while its session is suspended."""

import json
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import Server, new_server, text_of


@pytest.fixture(autouse=True)
def _open(server: Server) -> Iterator[None]:
    yield
    server.client.delete("/v1/seal").raise_for_status()


def seal(server: Server, **body: Any) -> tuple[int, Any]:
    """Ask for a seal; return the status, and the code of a refusal."""
    reply = server.client.post("/v1/seal", json=body)
    return reply.status_code, reply.json().get("error", {}).get("code")


def test_a_sealed_sandbox_answers_nobody_but_who_suspends_it(server: Server) -> None:
    server.outputs("kept = 5")
    assert server.client.post("/v1/seal").json()["sealed"] is True
    assert seal(server) == (200, None)
    requests = (
        ("POST", "/v1/executions"),
        ("GET", "/v1/executions"),
        ("POST", "/v1/claim"),
        ("GET", "/v1/files"),
        ("PUT", "/v1/files/a.txt"),
        ("GET", "/v1/journal/turn"),
        ("GET", "/v1/contexts"),
        ("GET", "/nowhere"),
    )
    for method, path in requests:
        reply = server.client.request(method, path, json={"code": "1"} if method != "GET" else None)
        assert (reply.status_code, reply.json()["error"]["code"]) == (503, "suspending"), path
        assert int(reply.headers["Retry-After"]) > 0
    assert server.client.get("/health/ready").status_code == 200
    assert server.client.get("/v1/status").json()["sealed"] is True
    assert server.client.delete("/v1/seal").status_code == 204
    assert server.client.delete("/v1/seal").status_code == 204
    assert server.client.get("/v1/status").json()["sealed"] is False
    assert text_of(server.outputs("print(kept)")) == "5\n"


def test_a_seal_that_held_has_the_number_it_had_and_a_new_one_a_higher(server: Server) -> None:
    first, again = (server.client.post("/v1/seal").json()["seal"] for _ in range(2))
    server.client.delete("/v1/seal").raise_for_status()
    later = server.client.post("/v1/seal").json()["seal"]
    assert first == again < later


def test_code_that_runs_or_waits_keeps_a_sandbox_from_being_sealed(server: Server) -> None:
    gate = "import os, time\nwhile not os.path.exists('gate'): time.sleep(0.01)\nos.remove('gate')"
    for name in ("runs", "waits"):
        code = gate if name == "runs" else "1"
        server.client.post("/v1/executions?detach=1", json={"code": code, "id": name}).raise_for_status()
    assert seal(server) == (409, "in_use")
    (server.folder / "files" / "gate").touch()
    assert "finished" in server.client.get("/v1/executions/waits/outputs").text
    assert seal(server) == (200, None)


def test_a_held_stream_keeps_a_sandbox_from_being_sealed(server: Server) -> None:
    with server.client.stream("GET", "/v1/journal/turn/hold") as reply:
        lines = reply.iter_lines()  # the stream is closed with it
        assert json.loads(next(lines)) == {"held": True}
        assert seal(server) == (409, "in_use")
    while seal(server) != (200, None):
        pass  # until the server has heard that the holder left


def test_an_upload_keeps_a_sandbox_from_being_sealed(server: Server) -> None:
    seen: list[tuple[int, Any]] = []

    def body() -> Iterator[bytes]:
        yield b"one"
        with httpx.Client(transport=httpx.HTTPTransport(uds=str(server.folder / "run" / "control.sock"))) as other:
            headers = {"Authorization": "Bearer secret"}
            while not (server.client.get("/v1/status").json()["disk_bytes"] and _arrived(server)):
                pass
            reply = other.post("http://sandbox/v1/seal", headers=headers)
            seen.append((reply.status_code, reply.json()["error"]["code"]))
        yield b"two"

    assert server.client.put("/v1/files/up.txt", content=body()).status_code == 201
    assert seen == [(409, "in_use")]
    assert seal(server) == (200, None)


def _arrived(server: Server) -> bool:
    return any(path.name not in ("gate", "up.txt") for path in (server.folder / "files").iterdir())


def test_a_session_that_was_used_meanwhile_is_not_sealed(server: Server) -> None:
    server.outputs("1")
    last = server.client.get("/v1/status").json()["last_activity_at"]
    before = (datetime.fromisoformat(last) - timedelta(milliseconds=1)).isoformat()
    assert seal(server, unused_since=before) == (409, "in_use")
    assert server.client.get("/v1/status").json()["last_activity_at"] == last
    assert seal(server, unused_since=last) == (200, None)
    assert seal(server, unused_since=before) == (200, None)


@pytest.mark.parametrize("moment", ["yesterday", 5, "2026-01-01", "2026-01-01T00:00:00", [], ""])
def test_a_moment_that_is_none_is_refused(server: Server, moment: Any) -> None:
    assert seal(server, unused_since=moment) == (400, "invalid_request")


def test_a_seal_ends_by_itself_when_who_sealed_it_is_gone() -> None:
    with new_server(seal_timeout_s=0.2) as server:
        server.outputs("x = 1")
        assert seal(server) == (200, None)
        while server.client.get("/v1/status").json()["sealed"]:
            pass
        assert text_of(server.outputs("print(x)")) == "1\n"


def test_there_is_no_checkpoint_of_a_sandbox_that_is_not_sealed(server: Server) -> None:
    reply = server.client.get("/v1/checkpoint")
    assert (reply.status_code, reply.json()["error"]["code"]) == (409, "not_sealed")
