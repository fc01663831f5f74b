"""The execute function under functions-framework, as Knative starts it; two of its processes are two replicas."""

import json
from collections.abc import Iterator

import httpx
import pytest

from caesarion.principals import key_digest, new_key
from tests.platform.conftest import shape
from tests.platform.served import Home, Served, framework, home, start

KEYS = {name: new_key() for name in ("alice", "bob")}
KEYS_VARIABLE = {"CAESARION_API_KEYS": ",".join(f"{name}:{key_digest(key)}" for name, key in KEYS.items())}
WAITS_FOR_A_FILE = """
import os, time
print("begun", flush=True)
while not os.path.exists("go.txt"):
    time.sleep(0.01)
print("went on")
"""


def as_user(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {KEYS[name]}"}


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    with home() as made:
        yield made


@pytest.fixture(scope="module")
def replicas(place: Home) -> Iterator[tuple[Served, Served]]:
    with place.framework(**KEYS_VARIABLE) as first, place.framework(**KEYS_VARIABLE) as second:
        for served in (first, second):
            served.client.headers.update(as_user("alice"))
        yield first, second


def make_session(served: Served, session: str) -> None:
    served.client.post(f"/sessions/{session}/initialize").raise_for_status()


def test_any_replica_follows_what_another_began_line_by_line(replicas: tuple[Served, Served]) -> None:
    first, second = replicas
    make_session(first, "s")
    with first.client.stream("POST", "/sessions/s/executions", json={"code": WAITS_FOR_A_FILE}) as begun:
        lines = begun.iter_lines()
        assert "begun" in next(line for line in lines if '"stream"' in line)  # the code waits still
        url = f"/sessions/s/executions/{begun.headers['X-Execution-Id']}/outputs"
        with second.client.stream("GET", url, params={"after": 1}) as followed:
            others = followed.iter_lines()
            assert "begun" in next(others)
            assert second.client.put("/sessions/s/files/go.txt", content="go").status_code == 201
            assert shape([json.loads(line) for line in others]) == ["stream", "finished"]
        assert shape([json.loads(line) for line in lines]) == ["stream", "finished"]


def test_a_session_made_by_one_replica_is_used_and_closed_by_the_other(replicas: tuple[Served, Served]) -> None:
    first, second = replicas
    make_session(first, "shared")
    first.client.post("/sessions/shared/executions", json={"code": "x = 41"}).raise_for_status()
    assert '"42"' in second.client.post("/sessions/shared/executions", json={"code": "x + 1"}).text
    assert second.client.delete("/sessions/shared").status_code == 204
    assert first.client.get("/sessions/shared").json()["error"]["code"] == "session_not_found"


def test_a_key_used_at_one_replica_runs_the_code_once_when_repeated_at_the_other(
    replicas: tuple[Served, Served],
) -> None:
    first, second = replicas
    make_session(first, "once")
    body, headers = {"code": "print(open('n.txt', 'a').write('x'))"}, {"Idempotency-Key": "k"}
    url = "/sessions/once/executions"
    texts = [served.client.post(url, json=body, headers=headers).text for served in (first, second)]
    assert texts[0] == texts[1]
    assert first.client.get("/sessions/once/files/n.txt").text == "x"


def test_files_go_in_and_out_with_their_paths_and_ranges(replicas: tuple[Served, Served]) -> None:
    served, _ = replicas
    make_session(served, "files")
    sent = served.client.post("/sessions/files/files", files={"file": ("größe.csv", b"a,b\n1,2\n")})
    assert sent.json()["files"][0]["path"] == "größe.csv"
    got = served.client.get("/sessions/files/files/größe.csv", headers={"Range": "bytes=4-"})
    assert (got.status_code, got.content) == (206, b"1,2\n")
    assert served.client.head("/sessions/files/files/größe.csv").headers["Content-Length"] == "8"
    assert served.client.delete("/sessions/files/files/größe.csv").status_code == 204
    outside = served.client.get("/sessions/files/files/%2e%2e%2frecord.json")
    assert outside.json()["error"]["code"] == "invalid_path"


def test_what_is_not_there_has_the_one_error_shape(replicas: tuple[Served, Served]) -> None:
    served, _ = replicas
    for path, code in (("/nowhere", "route_not_found"), ("/", "route_not_found"), ("/sessions/x", "session_not_found")):
        reply = served.client.get(path)
        assert (reply.status_code, reply.json()["error"]["code"]) == (404, code)
        assert set(reply.json()["error"]) == {"code", "message", "id"}
    assert served.client.patch("/sessions").json()["error"]["code"] == "method_not_allowed"


def test_a_key_is_needed_and_another_principal_sees_nothing(replicas: tuple[Served, Served]) -> None:
    served, _ = replicas
    make_session(served, "mine")
    assert httpx.get(f"{served.client.base_url}/sessions").json()["error"]["code"] == "unauthorized"
    assert served.client.get("/sessions/mine", headers=as_user("bob")).json()["error"]["code"] == "session_not_found"


def test_without_keys_it_listens_on_loopback_only(place: Home) -> None:
    for address in ({}, {"HOST": "0.0.0.0"}):
        process = start(framework("execute"), place.env(**address))
        _, errors = process.communicate(timeout=200)
        assert process.returncode == 1
        assert "needs at least one API key" in errors


def test_settings_that_are_wrong_end_the_process_named(place: Home) -> None:
    wrong = {"CAESARION_POOL_SIZE": "-1", "CAESARION_SANDBOX_CPUS": "half"}
    process = start(framework("execute"), place.env(HOST="127.0.0.1", **wrong))
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "Traceback" not in errors
    assert [name for name in wrong if name not in errors] == []
