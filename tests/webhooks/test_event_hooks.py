"""Hooks of the kind `event`: their code runs for what the broker delivers, once, and the reply is its result."""

import json
from typing import Any

import httpx

from caesarion.events import EXECUTION_FINISHED
from tests.webhooks.conftest import Heard, Hooked, Serve, failure

MADE = """\
[[hooks]]
name = "made"
kind = "event"
filter = { exact = { type = "com.example.made" } }
code = "main.py"
session = { fixed = "made" }
"""
ALSO = MADE.replace('"made"', '"also"')
DATA = b'{"item": "O\'Neill \\"x\\""}'
PRINT = "import json\nprint(json.dumps([payload, headers, delivery]))\n"
COUNT = "runs = globals().get('runs', 0) + 1\nprint('run', runs)\n"


def deliver(app: Hooked, data: bytes = DATA, path: str = "/events/execute", **attributes: str) -> httpx.Response:
    """Deliver an event in binary mode, as a broker does."""
    given = {"specversion": "1.0", "id": app.event_id, "source": "/shop", "type": "com.example.made", **attributes}
    headers = {f"ce-{name}": value for name, value in given.items()} | {"content-type": "application/json"}
    return app.client.post(path, content=data, headers=headers)


def result(reply: httpx.Response) -> dict[str, Any]:
    """Return the data of a reply that is the result of an execution."""
    assert reply.status_code == 200, reply.text
    assert reply.headers["ce-type"] == EXECUTION_FINISHED
    data: dict[str, Any] = reply.json()
    assert data["status"] == "ok", data
    return data


def test_the_code_finds_the_event_and_the_reply_names_it(hooked: Serve) -> None:
    app = hooked(MADE, shared=True, main=PRINT)
    reply = deliver(app, subject="item 7", color="blue", knativebrokerttl="254")
    data = result(reply)
    payload, headers, delivery = json.loads(data["text"])
    assert payload == json.loads(DATA)
    assert headers == {
        "ce-id": app.event_id,
        "ce-source": "/shop",
        "ce-type": "com.example.made",
        "ce-subject": "item 7",
        "ce-color": "blue",
    }
    assert delivery == {"id": app.event_id, "hook": "made", "event": "com.example.made"}
    assert data["request"] == {"source": "/shop", "id": app.event_id}
    assert (reply.headers["ce-subject"], reply.headers["ce-color"]) == ("made", "blue")


def test_an_event_that_is_delivered_again_runs_nothing_again(hooked: Serve) -> None:
    app = hooked(MADE, shared=True, main=COUNT)
    trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b716920333{}-01"
    first = deliver(app, knativebrokerttl="254", traceparent=trace.format(1))
    second = deliver(app, knativebrokerttl="254", traceparent=trace.format(2))
    assert result(first)["text"] == "run 1\n"
    assert second.json() == first.json()
    assert second.headers["ce-id"] == first.headers["ce-id"]
    assert result(deliver(app, source="/other"))["text"] == "run 2\n"


def test_an_event_that_no_hook_wants_is_dropped(hooked: Serve) -> None:
    app = hooked(MADE, main=COUNT)
    reply = deliver(app, type="com.example.sold")
    assert (reply.status_code, reply.content) == (202, b"")
    assert app.sessions() == []


def test_each_of_several_hooks_runs_once_and_the_results_of_the_others_go_to_the_sink(hooked: Serve) -> None:
    sink = Heard()
    app = hooked(MADE + ALSO, sink=sink, shared=True, main=COUNT)
    reply = deliver(app)
    assert result(reply)["session"] == "made"
    told = [event for event, _ in sink.events if event.type == EXECUTION_FINISHED]
    assert [event.subject for event in told] == ["also"]
    assert told[0].id != reply.headers["ce-id"]
    assert [len(app.executions(session)) for session in ("made", "also")] == [1, 1]


def test_the_hook_that_is_meant_may_be_named(hooked: Serve) -> None:
    app = hooked(MADE + ALSO, shared=True, main=COUNT)
    assert result(deliver(app, path="/events/execute?hook=also"))["session"] == "also"
    assert [len(app.executions(session)) for session in ("made", "also")] == [0, 1]
    assert deliver(app, path="/events/execute?hook=none").status_code == 202


def test_data_that_is_not_json_runs_nothing_and_is_not_sent_again(hooked: Serve) -> None:
    app = hooked(MADE, main=COUNT)
    for data in (b"x", b"[1e400]", b"[" * 200 + b"]" * 200):
        assert failure(deliver(app, data))[0] == 400
    assert app.sessions() == []


def test_a_key_that_the_data_has_not_is_not_sent_again(hooked: Serve) -> None:
    app = hooked(MADE.replace('{ fixed = "made" }', '{ key = "customer.id" }'), main=COUNT)
    assert failure(deliver(app)) == (422, "no_session_key")
    assert app.sessions() == []


def test_an_event_without_data_has_none_as_its_payload(hooked: Serve) -> None:
    app = hooked(MADE, shared=True, main=PRINT)
    assert json.loads(result(deliver(app, b""))["text"])[0] is None
