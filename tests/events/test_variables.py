"""Values that come with a request are variables of the code, never parts of it: by events and by the API."""

import httpx
import pytest

from tests.events.conftest import Mode, post, ran, requested
from tests.platform.conftest import Session, failure, new_session

VALUES = {
    "payload": {"name": 'O\'Neill "x" {curly} \\n', "n": [1, 2.5, None, True], "größe": "\u2028"},
    "größe": "'''); raise SystemExit  # ",
    "none": None,
}
CODE = "import json\nprint(json.dumps({'payload': payload, 'größe': größe, 'none': none}))"


@pytest.fixture(scope="module")
def session(client: httpx.Client) -> Session:
    return new_session(client)


@pytest.mark.parametrize("mode", ["binary", "structured"])
def test_an_events_variables_are_there_as_they_were_sent(client: httpx.Client, session: Session, mode: Mode) -> None:
    data = ran(client, requested(CODE, session=session.id, variables=VALUES), mode)
    assert data["status"] == "ok", data
    assert httpx.Response(200, content=data["text"]).json() == VALUES


def test_the_apis_variables_are_there_and_stay(session: Session) -> None:
    said = session.said(CODE, variables=VALUES)
    assert httpx.Response(200, content=said).json() == VALUES
    assert session.said("print(none, payload['n'])") == "None [1, 2.5, None, True]\n"


def test_variables_are_part_of_what_a_key_stands_for(client: httpx.Client, session: Session) -> None:
    event = requested("print(x)", session=session.id, variables={"x": 1})
    assert ran(client, event)["text"] == "1\n"
    other = requested("print(x)", session=session.id, variables={"x": 2}, attributes={"id": event["id"]})
    assert failure(post(client, other)) == (422, "event_changed")
    headers = {"Idempotency-Key": "with-variables"}
    assert session.run("print(x)", headers=headers, variables={"x": 1})[-1]["status"] == "ok"
    again = client.post(session.executions, json={"code": "print(x)", "variables": {"x": 2}}, headers=headers)
    assert failure(again) == (409, "idempotency_conflict")


@pytest.mark.parametrize("variables", [[], "x", {"a b": 1}, {"": 1}, {"1a": 1}, {"class": 1}, {"None": 1}])
def test_names_that_python_does_not_take_are_refused(client: httpx.Client, session: Session, variables: object) -> None:
    reply = client.post(session.executions, json={"code": "1", "variables": variables})
    assert failure(reply) == (400, "invalid_field")
