"""Events that ask for an execution: what comes back, in which session it ran, and what is refused with which status."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from caesarion.adapters.asgi.event_routes import told_to_broker
from caesarion.errors import (
    CaesarionError,
    Conflict,
    Forbidden,
    InvalidRequest,
    MethodNotAllowed,
    ModelError,
    NotFound,
    QuotaExceeded,
    SandboxUnavailable,
    SessionGone,
    SessionNotFound,
    TooLarge,
    Unauthorized,
    UnsupportedType,
)
from caesarion_execute.event_runs import HEAD_CHARS, TAIL_CHARS, Collected
from tests.conftest import ProductServer
from tests.events.conftest import (
    BATCH,
    FINISHED,
    PATH,
    PING,
    REQUESTED,
    STRUCTURED,
    Mode,
    as_document,
    post,
    post_batch,
    ran,
    read,
    requested,
)
from tests.platform.conftest import LogLines, Session, client_of, failure, log_lines, new_session
from tests.platform.test_openapi import check

__all__ = ["log_lines"]

MODES: tuple[Mode, ...] = ("binary", "structured")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(scope="module")
def session(client: httpx.Client) -> Iterator[Session]:
    made = new_session(client)
    yield made
    client.delete(made.path)


def sessions_of(client: httpx.Client) -> set[str]:
    return {session["id"] for session in client.get("/sessions").json()["sessions"]}


@pytest.mark.parametrize("mode", MODES)
def test_the_reply_is_the_result_as_an_event_in_the_mode_of_the_request(
    client: httpx.Client, session: Session, mode: Mode
) -> None:
    event = requested("print('hi')\n6 * 7", session=session.id)
    reply = post(client, event, mode)
    assert reply.headers["content-type"] == (STRUCTURED if mode == "structured" else "application/json")
    result = read(reply)
    assert (result["type"], result["source"], result["subject"]) == (FINISHED, "/events/execute", session.id)
    data = result.data
    assert (data["session"], data["status"], data["text"]) == (session.id, "ok", "hi\n42")
    assert data["request"] == {"source": event["source"], "id": event["id"]}
    listed = client.get(f"{session.executions}/{data['execution']}").json()
    assert (listed["execution_count"], listed["duration_ms"]) == (data["execution_count"], data["duration_ms"])
    lines = client.get(f"{session.executions}/{data['execution']}/outputs").text.splitlines()
    assert data["outputs"] == [json.loads(line) for line in lines]


def test_without_a_session_the_code_has_one_for_this_run_only(client: httpx.Client) -> None:
    before = sessions_of(client)
    data = ran(client, requested("x = 1; print(x)"))
    assert (data["text"], data["status"]) == ("1\n", "ok")
    assert data["session"] not in before
    assert sessions_of(client) == before


def test_a_session_that_is_not_there_is_made_and_stays(client: httpx.Client) -> None:
    name = "made-by-an-event"
    assert ran(client, requested("x = 41", session=name))["session"] == name
    assert Session(name, client).said("print(x + 1)") == "42\n"
    client.delete(f"/sessions/{name}")


def test_the_session_may_stand_in_the_subject_and_data_wins(client: httpx.Client, session: Session) -> None:
    subject = {"subject": session.id}
    assert ran(client, requested("1", attributes=subject))["session"] == session.id
    assert ran(client, requested("1", attributes={"subject": "/no id"}, session=session.id))["session"] == session.id
    for attributes, data in (({"subject": "/no id"}, {}), ({"subject": "/no id"}, {"session": "no id"})):
        assert failure(post(client, requested("1", attributes=attributes, **data))) == (400, "invalid_id")
    assert failure(post(client, requested("1", attributes=subject, session="no id"))) == (400, "invalid_id")


def test_a_context_that_is_not_there_is_made(client: httpx.Client, session: Session) -> None:
    assert ran(client, requested("y = 1", session=session.id, context="side"))["status"] == "ok"
    assert ran(client, requested("y", session=session.id, context="side"))["text"] == "1"
    assert ran(client, requested("y", session=session.id))["status"] == "error"


def test_code_that_raises_or_takes_too_long_is_a_result(client: httpx.Client, session: Session) -> None:
    data = ran(client, requested("print('so far'); 1 / 0", session=session.id))
    assert (data["status"], data["text"]) == ("error", "so far\nZeroDivisionError: division by zero")
    slow = ran(client, requested("import time; time.sleep(60)", session=session.id, timeout_s=0.2))
    assert slow["status"] == "timeout"


def test_extension_attributes_and_the_trace_come_back(client: httpx.Client, session: Session) -> None:
    for mode in MODES:
        event = requested("1", session=session.id, attributes={"zone": "x"})
        result = read(post(client, event, mode, headers={"traceparent": TRACE}))
        assert (result["zone"], result["traceparent"]) == ("x", TRACE)
        again = post(client, event, mode, headers={"traceparent": TRACE.replace("b7", "c8")})
        assert read(again)["traceparent"] == TRACE, "the result is that of the first delivery"
    mine = {"zone": "größe", "partitionkey": "a b"}
    document = {**as_document(requested("1", session=session.id)), **mine, "traceparent": TRACE}
    reply = client.post(PATH, json=document, headers={"Content-Type": STRUCTURED, "traceparent": "not one"})
    told = reply.json()
    assert {name: told[name] for name in mine} == mine
    assert told["traceparent"] == TRACE


def test_outputs_too_large_for_an_event_are_left_where_it_says(client: httpx.Client, session: Session) -> None:
    code = "for n in range(40_000): print(f'line {n:06}')"
    for name in (session.id, None):
        event = requested(code, session=name)
        data = ran(client, event)
        assert "outputs" not in data
        lines = client.get(data["outputs_at"]).text.splitlines()
        printed = "".join(json.loads(line).get("text", "") for line in lines)
        assert printed.count("\n") == 40_000
        assert json.loads(lines[-1])["status"] == data["status"] == "ok"
        assert ran(client, event) == data
        head, note, tail = data["text"].partition("characters left out]\n")
        assert head.startswith("line 000000\nline 000001\n")
        assert note
        assert tail.endswith("line 039999\n")
        assert len(data["text"]) < 66_000
        if name is None:
            assert client.delete(f"/sessions/{data['session']}").status_code == 204


def test_requests_and_results_are_what_the_document_says(client: httpx.Client, session: Session) -> None:
    document = client.get("/openapi.json").json()
    event = requested("print(x); 1 / 0", session=session.id, timeout_s=60, variables={"x": 1})
    check(document, "ExecutionRequestedEvent", as_document(event))
    check(document, "ExecutionRequested", event.data)
    result = post(client, event, "structured").json()
    check(document, "ExecutionFinishedEvent", result)
    check(document, "ExecutionFinished", result["data"])


def test_however_much_is_printed_little_of_it_is_kept() -> None:
    collected = Collected(1000)
    for number in range(10_000):
        collected.add(b'{"seq": %d, "type": "stream", "name": "stdout", "text": "line %05d\\n"}' % (number, number))
    collected.add(b'{"seq": 10001, "type": "execute_result", "data": {"text/plain": "42"}, "metadata": {"x": NaN}}')
    collected.add(b'{"seq": 10002, "type": "finished", "status": "ok"}')
    text = collected.text()
    assert collected.outputs is None
    assert collected.last["status"] == "ok"
    assert text.startswith("line 00000\nline 00001\n")
    assert text.endswith("line 09999\n42")
    left_out = len("line 00000\n") * 10_000 + 2 - HEAD_CHARS - TAIL_CHARS
    assert len(text) == HEAD_CHARS + TAIL_CHARS + len(f"\n[{left_out} characters left out]\n")


def test_the_limit_of_a_result_is_a_setting(product_server: ProductServer, session: Session) -> None:
    with client_of(product_server.serve({"CAESARION_MAX_EVENT_RESULT_BYTES": "1024"})) as client:
        assert "outputs_at" in ran(client, requested("print('x' * 1000)", session=session.id))
        assert "outputs" in ran(client, requested("print('x' * 100)", session=session.id))


def test_a_tick_whose_data_is_a_request_runs_it(client: httpx.Client, session: Session) -> None:
    attributes = {"type": PING, "source": "/apis/v1/namespaces/default/pingsources/nightly"}
    assert ran(client, requested("'tick'", attributes=attributes, session=session.id))["text"] == "'tick'"
    event = requested("", attributes=attributes)
    event.data = {"message": "hello"}
    assert failure(post(client, event)) == (400, "unknown_field")
    event.data = {}
    assert failure(post(client, event)) == (400, "invalid_field")


def test_a_type_that_nobody_handles_is_accepted_and_dropped_with_a_log_line(
    client: httpx.Client, log_lines: LogLines
) -> None:
    event = requested("raise SystemExit", attributes={"type": "com.example.unheard", "source": "/elsewhere"})
    for mode in MODES:
        reply = post(client, event, mode)
        assert (reply.status_code, reply.content) == (202, b"")
    assert post_batch(client, [as_document(event)]).status_code == 202
    assert len(log_lines.having(3, message="event dropped", event_type="com.example.unheard")) == 3


def test_a_batch_is_answered_with_a_batch_in_order(client: httpx.Client, session: Session) -> None:
    texts = [str(number) for number in range(5)]
    events = [as_document(requested(text, session=session.id)) for text in texts]
    unheard = as_document(requested("1", attributes={"type": "com.example.unheard"}))
    reply = post_batch(client, [*events[:2], unheard, *events[2:], events[0]])
    assert reply.headers["content-type"] == BATCH
    results = reply.json()
    assert [result["data"]["text"] for result in results] == [*texts, "0"]
    assert results[0] == results[-1], "an event that comes twice in a batch runs once"
    assert [result["data"]["request"]["id"] for result in results[:5]] == [event["id"] for event in events]
    assert post_batch(client, [*events, unheard]).json() == results[:5]
    assert post_batch(client, []).status_code == 202


@pytest.mark.parametrize(
    "bad",
    [{"specversion": "2.0"}, {"id": None}, {"data": {"code": 5}}, {"data": None}, {"data": {"code": "1", "kode": 1}}],
    ids=str,
)
def test_a_batch_with_one_bad_event_runs_nothing_and_names_it(
    client: httpx.Client, session: Session, bad: dict[str, Any]
) -> None:
    good = [as_document(requested("open('ran', 'w')", session=session.id)) for _ in range(2)]
    reply = post_batch(client, [good[0], {**good[1], **bad}, good[1]])
    assert failure(reply)[0] == 400
    assert "Event 1 of the batch" in reply.json()["error"]["message"]
    assert client.get(f"{session.path}/files/ran").status_code == 404


def test_an_id_that_comes_again_with_another_request_is_refused_for_good(
    client: httpx.Client, session: Session
) -> None:
    for name in (session.id, None):
        event = requested("'first'", session=name)
        data = ran(client, event)
        other = requested("'other'", attributes={"id": event["id"]}, session=name)
        for mode in MODES:
            assert failure(post(client, other, mode)) == (422, "event_changed")
        assert ran(client, event) == data


def test_an_id_that_another_request_has_while_it_runs_is_refused_for_good(
    client: httpx.Client, session: Session
) -> None:
    event = requested("'first'", session=session.id)
    other = requested("'other'", session=session.id, attributes={"id": event["id"]})
    reply = post_batch(client, [as_document(event), as_document(other)])
    assert failure(reply)[0] == 422


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, b"", 400, "invalid_event"),
        ({"content-type": "application/json"}, b'{"code": "1"}', 400, "invalid_event"),
        ({"content-type": STRUCTURED}, b"", 400, "invalid_json"),
        ({"content-type": STRUCTURED}, b"{", 400, "invalid_json"),
        ({"content-type": STRUCTURED}, b"[]", 400, "invalid_event"),
        ({"content-type": BATCH}, b"{}", 400, "invalid_event"),
        ({"content-type": "application/cloudevents+xml"}, b"<a/>", 415, "unsupported_type"),
    ],
)
def test_what_is_no_event_is_told_as_such(
    client: httpx.Client, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    assert failure(client.post(PATH, content=body, headers=headers)) == (status, code)


@pytest.mark.parametrize(
    ("content_type", "body", "code"),
    [
        ("application/json", b"", "invalid_data"),
        ("application/json", b"{", "invalid_data"),
        ("application/json", b"[1]", "invalid_data"),
        ("application/json", b'"1"', "invalid_data"),
        ("application/json", b'{"code": NaN}', "invalid_data"),
        ("application/json; charset=latin-1", b'{"code": "1"}', "invalid_data"),
        ("text/plain", b'{"code": "1"}', "invalid_data"),
        ("application/json", b'{"code": "\\ud800"}', "invalid_field"),
        ("application/json", b'{"code": "1", "timeout_s": 0}', "invalid_field"),
        ("application/json", b'{"code": "1", "context": "a b"}', "invalid_id"),
        ("application/json", b'{"code": "1", "variables": []}', "invalid_field"),
        ("application/json", b'{"code": "1", "variables": {"a b": 1}}', "invalid_field"),
        ("application/json", b'{"code": "1", "variables": {"class": 1}}', "invalid_field"),
        ("application/json", b'{"code": "1", "sesion": "a"}', "unknown_field"),
    ],
)
def test_data_that_is_no_request_is_told_as_such(
    client: httpx.Client, content_type: str, body: bytes, code: str
) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/t", "ce-type": REQUESTED}
    reply = client.post(PATH, content=body, headers={**headers, "content-type": content_type})
    assert failure(reply) == (400, code)


def test_data_may_say_its_charset_or_nothing_or_be_in_base64(client: httpx.Client, session: Session) -> None:
    head = {"ce-specversion": "1.0", "ce-source": "/t", "ce-type": REQUESTED, "ce-subject": session.id}
    body = '{"code": "\'größe\'"}'.encode()
    for number, content_type in enumerate(["application/json; charset=utf-8", "application/JSON", None]):
        headers = {**head, "ce-id": f"charset-{number}", **({"content-type": content_type} if content_type else {})}
        assert read(client.post(PATH, content=body, headers=headers)).data["text"] == "'größe'"
    event = requested("", attributes={"subject": session.id})
    event.data = body
    assert "data_base64" in as_document(event)
    assert ran(client, event, "structured")["text"] == "'größe'"


def test_an_event_larger_than_the_limit_is_refused(client: httpx.Client) -> None:
    for mode in MODES:
        assert failure(post(client, requested("#" * 10_000_000), mode)) == (413, "too_large")


def test_a_huge_id_is_refused_and_a_long_one_is_a_key(client: httpx.Client, session: Session) -> None:
    assert failure(post(client, requested("1", attributes={"id": "x" * 5000}))) == (400, "invalid_event")
    event = requested("1", attributes={"id": "ü" * 2000}, session=session.id)
    assert ran(client, event, "structured")["request"]["id"] == "ü" * 2000


def test_over_the_quota_the_broker_is_told_when_to_come_again(product_server: ProductServer, session: Session) -> None:
    with client_of(product_server.serve({"CAESARION_MAX_SESSIONS": "1"})) as client:
        reply = post(client, requested("1"))
        assert failure(reply) == (429, "quota_exceeded")
        assert int(reply.headers["retry-after"]) > 0


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (InvalidRequest("x"), 400),
        (Unauthorized("x"), 401),
        (Forbidden("x"), 403),
        (NotFound("x", code="model_not_found"), 422),
        (SessionNotFound("x"), 422),
        (MethodNotAllowed("x"), 422),
        (Conflict("x", code="idempotency_conflict"), 422),
        (Conflict("x", code="turn_running"), 503),
        (SessionGone("x"), 410),
        (TooLarge("x"), 413),
        (UnsupportedType("x"), 415),
        (QuotaExceeded("x", retry_after_s=7), 429),
        (ModelError("x"), 502),
        (SandboxUnavailable("x", retry_after_s=7), 503),
    ],
    ids=repr,
)
def test_a_status_says_whether_a_further_delivery_can_help(error: CaesarionError, status: int) -> None:
    told = told_to_broker(error)
    assert (told.status, told.code, told.message) == (status, error.code, error.message)
    assert told.retryable == (status in (429, 502, 503))
    assert error.retry_after_s is None or told.retry_after_s == error.retry_after_s


def test_who_sends_events_may_ask_whether_it_may(client: httpx.Client) -> None:
    reply = client.options(PATH, headers={"WebHook-Request-Origin": "broker.example", "WebHook-Request-Rate": "120"})
    assert reply.status_code == 200
    assert reply.headers["webhook-allowed-origin"] == "broker.example"
    assert reply.headers["webhook-allowed-rate"] == "*"
    assert reply.headers["allow"] == "OPTIONS, POST"
    assert "webhook-allowed-origin" not in client.options(PATH).headers
    assert failure(client.options(PATH, headers={"WebHook-Request-Origin": "x" * 300}))[0] == 400
