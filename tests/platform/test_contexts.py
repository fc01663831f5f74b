"""Contexts: further kernels of a session, restarted, removed, and asked about code that is being typed."""

import httpx
import pytest

from tests.platform.conftest import Session, failure, gate, only, temporary_session

MAX_CONTEXTS = 8


def states(session: Session) -> dict[str, str]:
    contexts = session.client.get(f"{session.path}/contexts").json()["contexts"]
    return {context["name"]: context["state"] for context in contexts}


def test_a_context_has_variables_and_a_count_of_its_own(session: Session) -> None:
    path = f"{session.path}/contexts"
    made, again = (session.client.post(path, json={"name": "own-1"}) for _ in range(2))
    assert (made.status_code, again.status_code) == (201, 200)
    assert made.json() == {"name": "own-1", "state": "idle", "execution_count": 0, "generation": 1}
    session.run("here = 1")
    outputs = session.run("there = 'here' in globals(); there", context="own-1")
    assert outputs[0] == {**outputs[0], "context": "own-1", "execution_count": 1}
    assert [result["data"] for result in only(outputs, "execute_result")] == [{"text/plain": "False"}]
    assert session.said("print('there' in globals())") == "False\n"
    assert session.said("import os; print(os.getcwd())", context="own-1") == "/uploaded_files\n"
    assert states(session) == {"default": "idle", "own-1": "idle"}
    assert session.client.delete(f"{path}/own-1").status_code == 204
    assert states(session) == {"default": "idle"}


def test_a_context_does_not_wait_for_another(session: Session) -> None:
    session.client.post(f"{session.path}/contexts", json={"name": "second"}).raise_for_status()
    with session.begun(gate("contexts")) as running:
        next(running.outputs)
        assert session.said("print('meanwhile')", context="second") == "meanwhile\n"
        assert states(session) == {"default": "busy", "second": "idle"}
        session.open_gate("contexts")
        assert list(running.outputs)[-1]["status"] == "ok"
    session.client.delete(f"{session.path}/contexts/second").raise_for_status()


def test_a_restart_ends_what_runs_and_what_waits_and_tells_that_variables_are_lost(session: Session) -> None:
    path = f"{session.path}/contexts/restarted"
    session.client.post(f"{session.path}/contexts", json={"name": "restarted"}).raise_for_status()
    before = session.client.get(session.path).json()["generation"]
    with session.begun("x = 1\nwhile True: pass", context="restarted") as running:
        next(running.outputs)
        with session.begun("y = 1", context="restarted") as waiting:
            next(waiting.outputs)
            reply = session.client.post(f"{path}/restart")
            assert (reply.status_code, reply.json()["generation"], reply.json()["execution_count"]) == (200, 2, 0)
            assert list(running.outputs)[-1]["status"] == "died"
            assert list(waiting.outputs)[-1]["status"] == "interrupted"
    assert session.said("print('x' in globals(), 'y' in globals())", context="restarted") == "False False\n"
    assert session.client.get(session.path).json()["generation"] == before + 1
    session.client.delete(path).raise_for_status()
    assert session.client.get(session.path).json()["generation"] >= before + 1, "what was lost stays told"


def test_removing_a_context_ends_what_runs_in_it(session: Session) -> None:
    session.client.post(f"{session.path}/contexts", json={"name": "removed"}).raise_for_status()
    with session.begun("while True: pass", context="removed") as running:
        next(running.outputs)
        assert session.client.delete(f"{session.path}/contexts/removed").status_code == 204
        assert list(running.outputs)[-1]["status"] == "died"
    assert session.client.get(f"{session.executions}/{running.id}").json()["status"] == "died"


def test_the_default_context_stays(session: Session) -> None:
    assert failure(session.client.delete(f"{session.path}/contexts/default"))[0] == 400
    assert session.said("print('there')") == "there\n"


def test_an_unknown_context_is_not_found(session: Session) -> None:
    unknown = f"{session.path}/contexts/unknown"
    replies = (
        session.client.delete(unknown),
        session.client.post(f"{unknown}/restart"),
        session.client.post(f"{unknown}/complete", json={"code": "a"}),
        session.client.post(f"{unknown}/is_complete", json={"code": "a"}),
        session.client.post(session.executions, json={"code": "1", "context": "unknown"}),
        session.client.get(f"{session.path}/notebook.ipynb?context=unknown"),
    )
    assert {failure(reply) for reply in replies} == {(404, "context_not_found")}


@pytest.mark.parametrize("name", ["", "a b", "../x", "ä", "x" * 65, 1, None, ["a"]])
def test_a_name_that_cannot_be_one_is_refused(session: Session, name: object) -> None:
    reply = session.client.post(f"{session.path}/contexts", json={"name": name})
    assert failure(reply) == (400, "invalid_id")


def test_a_session_has_only_so_many_contexts(client: httpx.Client) -> None:
    with temporary_session(client) as session:
        path = f"{session.path}/contexts"
        made = [client.post(path, json={"name": f"c{number}"}).status_code for number in range(MAX_CONTEXTS - 1)]
        assert made == [201] * (MAX_CONTEXTS - 1)
        assert failure(client.post(path, json={"name": "one-more"})) == (429, "quota_exceeded")
        client.delete(f"{path}/c0").raise_for_status()
        assert client.post(path, json={"name": "one-more"}).status_code == 201


def test_what_could_stand_at_the_cursor_comes_from_the_variables(session: Session) -> None:
    session.run("remarkable_name = {'a': 1}")
    path = f"{session.path}/contexts/default/complete"
    found = session.client.post(path, json={"code": "print(remarkable_n"}).json()
    assert found["matches"] == ["remarkable_name"]
    assert (found["cursor_start"], found["cursor_end"]) == (6, 18)
    found = session.client.post(path, json={"code": "remarkable_n + 1", "cursor_pos": 12}).json()
    assert found["matches"] == ["remarkable_name"]
    for cursor_pos in (-1, 99, 1.5, "1", True):
        reply = session.client.post(path, json={"code": "abc", "cursor_pos": cursor_pos})
        assert failure(reply) == (400, "invalid_field")


IS_COMPLETE = {
    "x = 1": {"status": "complete"},
    "for i in range(3):": {"status": "incomplete", "indent": "    "},
    "x = (": {"status": "incomplete"},
    "x = )": {"status": "invalid"},
}


@pytest.mark.parametrize("code", IS_COMPLETE)
def test_whether_code_is_complete_is_told(session: Session, code: str) -> None:
    told = session.client.post(f"{session.path}/contexts/default/is_complete", json={"code": code}).json()
    assert told == {**told, **IS_COMPLETE[code]}
