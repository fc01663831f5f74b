"""Sessions: made, told, woken, closed, and unseen by others."""

from datetime import datetime

import httpx
import pytest

from caesarion.ids import LOCAL_PRINCIPAL, SessionId, SessionKey
from tests.conftest import ProductServer
from tests.platform.conftest import Session, failure, temporary_session

CODE = {"code": "1"}
ROUTES_OF_A_SESSION = {
    ("GET", ""): {},
    ("GET", "/executions"): {},
    ("POST", "/executions"): CODE,
    ("GET", "/executions/e"): {},
    ("DELETE", "/executions/e"): {},
    ("GET", "/executions/e/outputs"): {},
    ("GET", "/contexts"): {},
    ("POST", "/contexts"): {"name": "other"},
    ("DELETE", "/contexts/other"): {},
    ("POST", "/contexts/default/restart"): {},
    ("POST", "/contexts/default/complete"): CODE,
    ("POST", "/contexts/default/is_complete"): CODE,
    ("GET", "/files"): {},
    ("GET", "/files/a.txt"): {},
    ("DELETE", "/files/a.txt"): {},
    ("GET", "/notebook.ipynb"): {},
}


def test_a_new_session_is_ready_knows_its_variables_and_can_be_closed_twice(client: httpx.Client) -> None:
    reply = client.post("/sessions", json={"idle_timeout_s": 120, "env": {"GREETING": "grüß dich"}})
    made = reply.json()
    assert (reply.status_code, made["state"], made["generation"]) == (201, "ready", 1)
    assert reply.headers["location"] == f"/sessions/{made['id']}"
    assert len(made["id"]) > 32
    assert made["contexts"] == [{"name": "default", "state": "idle", "execution_count": 0, "generation": 1}]
    until = datetime.fromisoformat(made["expires_at"]) - datetime.fromisoformat(made["last_activity_at"])
    assert (made["idle_timeout_s"], until.total_seconds()) == (120, 120)
    assert 0 < made["memory_bytes"] < made["memory_limit_bytes"]

    session = Session(made["id"], client)
    assert session.said("import os; print(os.environ['GREETING'])") == "grüß dich\n"
    client.post(f"{session.path}/contexts/default/restart").raise_for_status()
    assert session.said("import os; print(os.environ['GREETING'])") == "grüß dich\n"
    shown = client.get(session.path).json()
    assert (shown["created_at"], shown["generation"]) == (made["created_at"], 2)

    assert [client.delete(session.path).status_code for _ in range(2)] == [204, 204]
    assert failure(client.get(session.path)) == (404, "session_not_found")
    assert session.id not in [one["id"] for one in client.get("/sessions").json()["sessions"]]


def test_initialize_makes_a_session_once_and_code_waits_for_it(client: httpx.Client) -> None:
    session = Session("chosen_by-the-client", client)
    begun = client.post(f"{session.path}/initialize?wait_s=0", json={"env": {"A": "1"}})
    assert (begun.status_code, begun.json()) == (202, {"id": session.id, "state": "starting"})
    assert begun.headers["retry-after"] == "1"
    seen = client.get(session.path)
    assert (seen.status_code, seen.json()["state"]) in ((202, "starting"), (200, "ready"))
    assert session.said("import os; print(os.environ['A'])") == "1\n"
    ready = client.post(f"{session.path}/initialize", json={"env": {"A": "2"}})
    again = client.post(f"{session.path}/initialize?wait_s=0")
    assert (ready.status_code, again.status_code) == (200, 200)
    assert ready.json()["created_at"] == again.json()["created_at"]
    assert session.said("print(os.environ['A'])") == "1\n", "a session keeps what it was made with"
    client.delete(session.path)


def test_a_suspended_session_is_woken_with_its_files_and_variables(
    client: httpx.Client, product_server: ProductServer
) -> None:
    with temporary_session(client, env={"KEPT": "yes"}) as session:
        first = session.run("x = 1; open('kept.txt', 'w').write('still here')")
        before = client.get(session.path).json()
        product_server.run(product_server.sandboxes.suspend(SessionKey(LOCAL_PRINCIPAL, SessionId(session.id))))

        suspended = client.get(session.path).json()
        assert (suspended["state"], suspended["created_at"]) == ("suspended", before["created_at"])
        assert suspended in client.get("/sessions").json()["sessions"]
        assert "memory_bytes" not in suspended
        assert suspended["suspended_at"] > before["created_at"]

        assert session.said("import os; print(x, open('kept.txt').read(), os.environ['KEPT'])") == "1 still here yes\n"
        after = client.get(session.path).json()
        assert (after["state"], after["generation"]) == ("ready", before["generation"])
        assert "suspended_at" not in after
        with session.following(first[0]["execution"]) as replayed:
            assert list(replayed.outputs) == first


def test_a_suspended_session_is_woken_by_initialize_too(client: httpx.Client, product_server: ProductServer) -> None:
    with temporary_session(client) as session:
        product_server.run(product_server.sandboxes.suspend(SessionKey(LOCAL_PRINCIPAL, SessionId(session.id))))
        assert client.post(f"{session.path}/initialize?wait_s=0").status_code == 202
        assert client.post(f"{session.path}/initialize").json()["state"] == "ready"


@pytest.mark.parametrize("call", ROUTES_OF_A_SESSION, ids=" ".join)
def test_an_unknown_session_is_not_found_on_every_path(client: httpx.Client, call: tuple[str, str]) -> None:
    method, path = call
    reply = client.request(method, f"/sessions/unknown{path}", json=ROUTES_OF_A_SESSION[call] or None)
    assert failure(reply) == (404, "session_not_found")
    assert "POST /sessions" in reply.json()["error"]["message"]


def test_uploads_to_an_unknown_session_are_not_found(client: httpx.Client) -> None:
    assert failure(client.put("/sessions/unknown/files/a.txt", content=b"a"))[1] == "session_not_found"
    form = {"file": ("a.txt", b"a")}
    assert failure(client.post("/sessions/unknown/files", files=form))[1] == "session_not_found"


@pytest.mark.parametrize("call", ROUTES_OF_A_SESSION, ids=" ".join)
def test_the_session_of_another_looks_as_if_it_were_not_there(
    alices: Session, bob: httpx.Client, call: tuple[str, str]
) -> None:
    method, path = call

    def told(session: str) -> tuple[int, dict[str, str], str]:
        reply = bob.request(method, f"/sessions/{session}{path}", json=ROUTES_OF_A_SESSION[call] or None)
        assert failure(reply) == (404, "session_not_found")
        headers = {name: value for name, value in reply.headers.items() if name not in ("date", "x-request-id")}
        return reply.status_code, headers, reply.text.replace(reply.headers["x-request-id"], "").replace(session, "")

    assert told(alices.id) == told("s_" + "0" * 40)


def test_closing_the_session_of_another_does_nothing(alices: Session, bob: httpx.Client) -> None:
    assert bob.delete(alices.path).status_code == 204
    assert bob.get("/sessions").json() == {"sessions": []}
    assert alices.said("print('here')") == "here\n"
    assert [one["id"] for one in alices.client.get("/sessions").json()["sessions"]] == [alices.id]


def test_two_principals_use_the_same_id_and_never_meet(alice: httpx.Client, bob: httpx.Client) -> None:
    for owner, name in ((alice, "alice"), (bob, "bob")):
        owner.post("/sessions/same/initialize").raise_for_status()
        Session("same", owner).run(f"me = {name!r}; open('me.txt', 'w').write(me)")
    for owner, name in ((alice, "alice"), (bob, "bob")):
        assert Session("same", owner).said("print(me, open('me.txt').read())") == f"{name} {name}\n"
        assert owner.get("/sessions/same/files/me.txt").text == name
    assert bob.delete("/sessions/same").status_code == 204
    assert Session("same", alice).said("print(me)") == "alice\n"
    alice.delete("/sessions/same")


BAD_SPECS = {
    '{"idle_timeout_s": 0}': "invalid_field",
    '{"idle_timeout_s": "60"}': "invalid_field",
    '{"idle_timeout_s": true}': "invalid_field",
    '{"idle_timeout_s": 1e999}': "invalid_field",
    '{"env": ["A=1"]}': "invalid_field",
    '{"env": {"A": 1}}': "invalid_field",
    '{"env": {"A-B": "1"}}': "invalid_field",
    '{"env": {"A": "\\u0000"}}': "invalid_field",
    '{"env": {"A": "\\ud800"}}': "invalid_field",
    '{"env": {"A": "' + "x" * 70_000 + '"}}': "invalid_field",
    '{"cpus": 4}': "unknown_field",
    "[]": "invalid_json",
}


@pytest.mark.parametrize("body", BAD_SPECS, ids=lambda body: body[:40])
def test_a_session_that_cannot_be_had_is_refused_with_its_reason(client: httpx.Client, body: str) -> None:
    for path in ("/sessions", "/sessions/refused/initialize"):
        reply = client.post(path, content=body, headers={"Content-Type": "application/json"})
        assert failure(reply) == (400, BAD_SPECS[body])
    assert client.get("/sessions/refused").status_code == 404


@pytest.mark.parametrize("wait_s", ["-1", "61", "nan", "inf", "x", " ", "1" * 50])
def test_a_wait_that_makes_no_sense_is_refused(client: httpx.Client, wait_s: str) -> None:
    reply = client.post("/sessions/refused/initialize", params={"wait_s": wait_s})
    assert failure(reply) == (400, "invalid_field")
