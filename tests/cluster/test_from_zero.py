"""A day of the product on a cluster: nothing runs, it is used in every way there is, and then nothing runs again."""

import json

import httpx
import pytest

from caesarion.ids import new_id
from tests.chat.conftest import Chat
from tests.cluster.conftest import Installation
from tests.cluster.kubectl import FUNCTIONS, SERVICE, until_gone, until_zero
from tests.platform.conftest import Session, new_session
from tests.webhooks.conftest import standard

ORDER = b'{"type": "order.paid", "data": {"total": 5}}'


@pytest.fixture(scope="module", autouse=True)
def forgotten(installation: Installation) -> Session:
    """A session that nobody uses any more when the other tests here are through."""
    session = new_session(installation.client, idle_timeout_s=1)
    assert session.said("kept = 41") == ""
    return session


def test_a_chat_turn_from_zero_pods_runs_code_and_streams_its_output(client: httpx.Client) -> None:
    until_zero("chat", "frontend")
    chat = Chat(new_id("s"), client)
    chunks = chat.ask("Run: print(6 * 7)")
    assert any(chunk.get("preliminary") and "42" in json.dumps(chunk) for chunk in chunks)
    assert "It said: 42" in "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")
    assert client.delete(f"/sessions/{chat.id}").status_code == 204


def test_code_runs_from_zero_pods_and_its_variables_stay(client: httpx.Client) -> None:
    until_zero("execute", "frontend")
    session = new_session(client)
    assert session.said("x = 20; print(x)") == "20\n"
    assert session.said("print(x + 1)") == "21\n"
    assert client.delete(session.path).status_code == 204


def test_a_signed_webhook_from_zero_pods_runs_its_code_once(installation: Installation) -> None:
    until_zero("execute", "frontend")
    attempt = standard(ORDER)
    once_more = standard(ORDER, id=attempt["webhook-id"], sent_s=int(attempt["webhook-timestamp"]) + 1)
    stranger = httpx.Client(base_url=installation.client.base_url, headers={"Host": installation.host}, timeout=200)
    with stranger:
        for headers in (attempt, once_more, standard(ORDER)):
            reply = stranger.post(
                "/webhooks/orders", content=ORDER, headers={"Content-Type": "application/json", **headers}
            )
            assert reply.status_code == 200, reply.text
            assert reply.json()["status"] == "ok"
        assert reply.json()["text"] == "in all 10\n"
        forged = standard(ORDER) | {"webhook-signature": attempt["webhook-signature"]}
        assert stranger.post("/webhooks/orders", content=ORDER, headers=forged).status_code == 401
    assert installation.client.delete("/sessions/orders").status_code == 204


def test_an_event_to_the_broker_makes_a_sandbox_and_its_result_comes_back(installation: Installation) -> None:
    until_zero("execute")
    session, id = installation.session(new_id("s")), new_id("e")
    code = "runs = globals().get('runs', 0) + 1\nprint('run', runs)"
    data = {"code": code, "session": session.id}
    installation.send("dev.caesarion.execution.requested", id=id, data=data)
    result = installation.event("dev.caesarion.execution.finished", lambda event: event["data"]["request"]["id"] == id)
    assert (result["subject"], result["data"]["text"]) == (session.id, "run 1\n")
    installation.event("dev.caesarion.sandbox.claimed", lambda event: event["data"]["session"] == session.id)
    installation.send("dev.caesarion.execution.requested", id=id, data=data)  # as a broker does that got no answer
    installation.send("dev.caesarion.execution.requested", id=id + "-next", data=data)
    following = installation.event(
        "dev.caesarion.execution.finished", lambda event: event["data"]["request"]["id"] == id + "-next"
    )
    assert following["data"]["text"] == "run 2\n"
    assert session.said("print(runs)") == "2\n"
    assert installation.client.delete(session.path).status_code == 204


def test_a_chat_event_is_answered_with_an_event(installation: Installation) -> None:
    until_zero("chat")
    session, id = installation.session(new_id("s")), new_id("e")
    installation.send("dev.caesarion.chat.requested", id=id, data={"message": "Run: print(1)", "session": session.id})
    result = installation.event("dev.caesarion.chat.finished", lambda event: event["data"]["request"]["id"] == id)
    assert "It said: 1" in result["data"]["text"], json.dumps(result)
    assert installation.client.delete(session.path).status_code == 204


def test_a_tick_of_the_schedule_puts_an_idle_session_away_and_its_next_use_wakes_it(
    installation: Installation, forgotten: Session
) -> None:
    installation.event("dev.caesarion.sandbox.suspended", lambda event: event["data"]["session"] == forgotten.id)
    assert installation.client.get(forgotten.path).json()["state"] == "suspended"
    assert forgotten.said("print(kept + 1)") == "42\n"
    assert installation.client.delete(forgotten.path).status_code == 204


def test_after_all_that_no_function_runs(installation: Installation) -> None:
    assert httpx.get(installation.client.base_url, headers={"Host": installation.host}, timeout=60).status_code == 200
    until_gone(FUNCTIONS, SERVICE)
