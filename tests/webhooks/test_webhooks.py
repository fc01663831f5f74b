"""Webhooks as their senders meet them: what runs, what is answered, and what is refused with nothing run."""

import json
import logging
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlencode

import httpx
import pytest

from caesarion.events import EXECUTION_FINISHED, EXECUTION_REQUESTED, event_digest
from caesarion.ids import new_id
from caesarion.logs import JsonFormatter
from caesarion_execute.hooks import readable_id
from tests.webhooks.conftest import GITHUB_SECRET, NEW_SECRET, SECRET, Heard, Hooked, Serve, failure, github, standard

BODY = b'{"type": "order.paid", "data": {"id": 7}}'
HOOK = """\
[[hooks]]
name = "orders"
kind = "standard"
secrets = ["HOOK_SECRET"]
code = "main.py"
session = { fixed = "orders" }
answer = "result"
wait_s = 200
principal = "{principal}"
"""
PUSH = """\
[[hooks]]
name = "push"
kind = "github"
secrets = ["GITHUB_SECRET"]
code = "main.py"
session = { fixed = "builds" }
answer = "result"
wait_s = 200
principal = "{principal}"
"""
ACCEPTED = HOOK.replace('answer = "result"\nwait_s = 200\n', "")
COUNT = "runs = globals().get('runs', 0) + 1\nprint('run', runs)\n"
PRINT = "import json\nprint(json.dumps([payload, headers, delivery]))\n"


def said(reply: httpx.Response) -> str:
    """Return what the code of an answered hook printed."""
    assert reply.status_code == 200, reply.text
    assert reply.json()["status"] == "ok", reply.text
    text: str = reply.json()["text"]
    return text


def found(reply: httpx.Response) -> list[Any]:
    """Return the payload, headers and delivery that the code found."""
    values: list[Any] = json.loads(said(reply))
    return values


@pytest.fixture
def log_lines() -> Iterator[list[dict[str, Any]]]:
    lines: list[dict[str, Any]] = []

    class Kept(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            lines.append(json.loads(self.format(record)))

    handler = Kept()
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    level = root.level
    root.addHandler(handler)
    root.setLevel("INFO")
    yield lines
    root.removeHandler(handler)
    root.setLevel(level)


# What the code gets


def test_the_code_finds_what_was_sent_as_variables(hooked: Serve) -> None:
    sent_id = new_id("msg")
    app = hooked(HOOK, shared=True, main=PRINT)
    payload, headers, delivery = found(app.post("orders", BODY, standard(BODY, id=sent_id)))
    assert payload == json.loads(BODY)
    assert headers == {"webhook-id": sent_id}
    assert delivery == {"id": sent_id, "hook": "orders"}


def test_the_code_of_a_github_hook_finds_its_event_and_no_signature(hooked: Serve) -> None:
    sent_id = new_id("delivery")
    app = hooked(PUSH, shared=True, main=PRINT)
    payload, headers, delivery = found(app.post("push", b'{"ref": "main"}', github(b'{"ref": "main"}', id=sent_id)))
    assert payload == {"ref": "main"}
    assert headers == {"x-github-event": "push", "x-github-delivery": sent_id, "x-github-hook-id": "1"}
    assert delivery == {"id": sent_id, "hook": "push", "event": "push"}


HARD_VALUES = [
    "quotes ' \" ''' \"\"\" \\ and a newline\n",
    "'''\nimport os; os.abort()\n'''",
    '"""); raise SystemExit #',
    "\0 \x01 \x7f \u2028 \u2029 \ufeff",
    "{payload} %s $x `id`",
    "\ud800 and \udfff alone",
    "🐍 Zoë",
    10**400,
    -(10**4000),
    0.1,
    1e308,
    5e-324,
    -0.0,
    True,
    None,
    [],
    {},
    {"": {"__class__": "x", "payload": 1, "import": 2}},
]


def test_a_payload_arrives_exactly_and_is_never_code(hooked: Serve) -> None:
    nested: Any = "deep"
    for _ in range(49):
        nested = [{"a": nested}]
    nested = [nested]  # with the list around it the deepest that is taken
    payload = [*HARD_VALUES, nested]
    body = json.dumps(payload).encode()
    code = "import json, sys\nsys.set_int_max_str_digits(0)\nprint(json.dumps([type(payload).__name__, payload]))\n"
    app = hooked(HOOK, shared=True, main=code)
    kind, arrived = found(app.post("orders", body, standard(body)))
    assert kind == "list"
    assert repr(arrived) == repr(payload)


def test_a_payload_need_not_be_an_object(hooked: Serve) -> None:
    app = hooked(HOOK, shared=True, main=PRINT)
    for text in ("7", '"text"', "null", "true", "[]"):
        assert found(app.post("orders", text.encode(), standard(text.encode())))[0] == json.loads(text)


def test_a_form_of_github_is_taken(hooked: Serve) -> None:
    app = hooked(PUSH, shared=True, main=PRINT)
    payload = {"ref": "a&b=c+d %41 ä", "quotes": "'\""}
    body = urlencode({"payload": json.dumps(payload, ensure_ascii=False)}).encode()
    headers = {**github(body), "Content-Type": "application/x-www-form-urlencoded"}
    assert found(app.post("push", body, headers))[0] == payload


# Sessions


def test_each_delivery_has_a_session_of_its_own_that_ends_with_it(hooked: Serve) -> None:
    app = hooked(HOOK.replace('{ fixed = "orders" }', '"delivery"'), main=COUNT)
    assert [said(app.post("orders", BODY, standard(BODY))) for _ in range(2)] == ["run 1\n", "run 1\n"]
    assert app.sessions() == []


def test_a_fixed_session_keeps_its_variables(hooked: Serve) -> None:
    app = hooked(HOOK, main=COUNT)
    assert [said(app.post("orders", BODY, standard(BODY))) for _ in range(2)] == ["run 1\n", "run 2\n"]
    assert app.sessions() == ["orders"]


def test_a_key_of_the_payload_names_the_session(hooked: Serve) -> None:
    app = hooked(PUSH.replace('fixed = "builds"', 'key = "repository.full_name"'), main=COUNT)
    sessions = []
    for name in ("octo/hello", "octo-hello", "octo/hello"):
        body = json.dumps({"repository": {"full_name": name}}).encode()
        reply = app.post("push", body, github(body))
        sessions.append((reply.json()["session"], said(reply)))
    assert sessions == [
        (readable_id("octo/hello"), "run 1\n"),
        ("octo-hello", "run 1\n"),
        (readable_id("octo/hello"), "run 2\n"),
    ]


@pytest.mark.parametrize("body", [b"{}", b'{"repository": "x"}', b'{"repository": {"full_name": null}}', b"[]", b"7"])
def test_a_payload_without_the_key_runs_nothing(hooked: Serve, body: bytes) -> None:
    app = hooked(PUSH.replace('fixed = "builds"', 'key = "repository.full_name"'), main=COUNT)
    reply = app.post("push", body, github(body))
    assert failure(reply) == (422, "no_session_key")
    assert "'repository.full_name'" in reply.json()["error"]["message"]
    assert app.sessions() == []


def test_a_context_of_its_own_keeps_variables_apart(hooked: Serve) -> None:
    app = hooked(HOOK + 'context = "other"\n' + HOOK.replace('"orders"', '"second"', 1), main=COUNT)
    assert said(app.post("orders", BODY, standard(BODY))) == "run 1\n"
    assert said(app.post("second", BODY, standard(BODY))) == "run 1\n"
    assert said(app.post("orders", BODY, standard(BODY))) == "run 2\n"


# Answers


def test_a_hook_answers_at_once_and_its_code_goes_on(hooked: Serve) -> None:
    sent_id = new_id("msg")
    app = hooked(ACCEPTED, shared=True, main=COUNT)
    reply = app.post("orders", BODY, standard(BODY, id=sent_id))
    assert reply.status_code == 202
    assert reply.json() == {
        "id": sent_id,
        "accepted": True,
        "result_event_id": event_digest("/webhooks/orders", sent_id),
    }
    (execution,) = app.executions("orders")
    outputs = app.outputs("orders", execution["id"])
    assert [output["text"] for output in outputs if output["type"] == "stream"] == ["run 1\n"]


def test_a_result_that_takes_longer_than_the_hook_waits_comes_later(hooked: Serve) -> None:
    code = "import os, time\nwhile not os.path.exists('go.txt'): time.sleep(0.01)\nprint('gone on')\n"
    sent_id = new_id("msg")
    app = hooked(HOOK.replace("wait_s = 200", "wait_s = 0.1"), shared=True, main=code)
    headers = standard(BODY, id=sent_id)
    reply = app.post("orders", BODY, headers)
    assert (reply.status_code, reply.json()["accepted"]) == (202, True)
    (execution,) = app.executions("orders")
    app.put("orders", "go.txt")
    outputs = app.outputs("orders", execution["id"])
    assert [output["text"] for output in outputs if output["type"] == "stream"] == ["gone on\n"]


def test_with_a_sink_a_result_goes_there_too_and_a_late_one_is_left_to_it(hooked: Serve) -> None:
    sink = Heard()
    hooks = HOOK + HOOK.replace('"orders"', '"late"', 1).replace("wait_s = 200", "wait_s = 0.1")
    code = (
        "import os, time\n"
        "while delivery['hook'] == 'late' and not os.path.exists('late.txt'): time.sleep(0.01)\n"
        "print('done')\n"
    )
    app = hooked(hooks, sink=sink, shared=True, main=code)
    answered = app.post("orders", BODY, standard(BODY))
    assert said(answered) == "done\n"
    finished = sink.next_of(EXECUTION_FINISHED)
    assert json.loads(finished.data or b"") == answered.json()
    late = app.post("late", BODY, standard(BODY))
    assert late.status_code == 202
    requested = sink.next_of(EXECUTION_REQUESTED)
    assert (requested.source, requested.id) == ("/webhooks/late", late.json()["id"])
    app.put("orders", "late.txt")


def test_code_that_raises_is_a_result_too(hooked: Serve) -> None:
    app = hooked(HOOK, shared=True, main="1 / 0\n")
    reply = app.post("orders", BODY, standard(BODY))
    assert (reply.status_code, reply.json()["status"]) == (200, "error")
    assert "ZeroDivisionError" in reply.json()["text"]


def test_code_that_takes_too_long_is_interrupted(hooked: Serve) -> None:
    app = hooked(HOOK + "timeout_s = 0.2\n", shared=True, main="import time\nwhile True: time.sleep(0.01)\n")
    reply = app.post("orders", BODY, standard(BODY))
    assert (reply.status_code, reply.json()["status"]) == (200, "timeout")


def test_with_a_sink_the_request_is_sent_there_and_nothing_runs_here(hooked: Serve) -> None:
    sink = Heard()
    app = hooked(ACCEPTED, sink=sink, main=COUNT)
    reply = app.post("orders", BODY, standard(BODY, id="msg_1"))
    assert reply.status_code == 202
    ((event, principal),) = sink.events
    assert (event.type, event.source, event.id) == (EXECUTION_REQUESTED, "/webhooks/orders", "msg_1")
    assert principal == app.principal
    data = json.loads(event.data or b"")
    assert data["code"] == COUNT
    assert data["variables"]["payload"] == json.loads(BODY)
    assert app.sessions() == []
    assert reply.json()["result_event_id"] == event_digest(event.source, event.id)


def test_a_sink_that_refuses_makes_the_sender_try_again_also_with_the_same_bytes(hooked: Serve) -> None:
    sink = Heard()
    sink.refusals = 1
    app = hooked(ACCEPTED, sink=sink, main=COUNT)
    headers = standard(BODY)
    assert failure(app.post("orders", BODY, headers)) == (503, "sink_unavailable")
    assert app.post("orders", BODY, headers).status_code == 202
    assert failure(app.post("orders", BODY, headers)) == (401, "invalid_signature")
    assert len(sink.events) == 1


# Once and no more


def test_the_very_same_attempt_is_taken_once(hooked: Serve) -> None:
    app = hooked(HOOK, shared=True, main=COUNT)
    headers = standard(BODY)
    assert said(app.post("orders", BODY, headers)) == "run 1\n"
    again = {**headers, "webhook-signature": f"v1,AAAA {headers['webhook-signature']}"}
    for repeated in (headers, again):
        assert failure(app.post("orders", BODY, repeated)) == (401, "invalid_signature")
    assert len(app.executions("orders")) == 1


def test_one_of_many_that_send_the_same_attempt_at_once_is_taken(hooked: Serve) -> None:
    app = hooked(HOOK, shared=True, main=COUNT)
    headers = standard(BODY)
    statuses: list[int] = []

    def send() -> None:
        statuses.append(app.post("orders", BODY, headers).status_code)

    senders = [threading.Thread(target=send) for _ in range(8)]
    for sender in senders:
        sender.start()
    for sender in senders:
        sender.join()
    assert sorted(statuses) == [200] + [401] * 7
    assert len(app.executions("orders")) == 1


@pytest.mark.parametrize("session", ['{ fixed = "orders" }', '"delivery"'])
def test_a_retry_with_a_new_time_gets_the_same_result_and_runs_nothing_again(hooked: Serve, session: str) -> None:
    sent_id = new_id("msg")
    app = hooked(
        HOOK.replace('{ fixed = "orders" }', session), shared=True, main=COUNT + "import uuid\nprint(uuid.uuid4())\n"
    )
    first = app.post("orders", BODY, standard(BODY, id=sent_id))
    second = app.post("orders", BODY, standard(BODY, id=sent_id, sent_s=app.clock.now_s() - 60))
    assert said(first).startswith("run 1\n")
    assert second.json() == first.json()


def test_a_redelivery_of_github_gets_the_same_result_and_runs_nothing_again(hooked: Serve) -> None:
    sent_id = new_id("delivery")
    app = hooked(PUSH, shared=True, main=COUNT)
    headers = github(BODY, id=sent_id)
    first, second = app.post("push", BODY, headers), app.post("push", BODY, {**headers, "User-Agent": "new"})
    assert said(first) == "run 1\n"
    assert second.json() == first.json()
    assert len(app.executions("builds")) == 1


def test_an_id_that_comes_again_with_another_payload_is_refused(hooked: Serve) -> None:
    sent_id = new_id("msg")
    app = hooked(HOOK, shared=True, main=COUNT)
    assert said(app.post("orders", BODY, standard(BODY, id=sent_id))) == "run 1\n"
    other = b'{"another": "payload"}'
    assert app.post("orders", other, standard(other, id=sent_id)).status_code == 422
    assert len(app.executions("orders")) == 1


def test_two_hooks_may_get_deliveries_with_the_same_id(hooked: Serve) -> None:
    app = hooked(HOOK + HOOK.replace('"orders"', '"second"', 1), shared=True, main=COUNT)
    headers = standard(BODY)
    assert said(app.post("orders", BODY, headers)) == "run 1\n"
    assert said(app.post("second", BODY, headers)) == "run 2\n"


# Rotation


def test_during_a_rotation_both_secrets_are_good(hooked: Serve) -> None:
    sent_id = new_id("msg")
    app = hooked(HOOK.replace('["HOOK_SECRET"]', '["HOOK_SECRET", "NEW_SECRET"]'), shared=True, main=COUNT)
    old, new = standard(BODY, id=sent_id), standard(BODY, id=sent_id, secret=NEW_SECRET)
    both = {**old, "webhook-signature": f"{old['webhook-signature']} {new['webhook-signature']}"}
    sent = [standard(BODY), standard(BODY, secret=NEW_SECRET), both]
    assert [said(app.post("orders", BODY, headers)) for headers in sent] == ["run 1\n", "run 2\n", "run 3\n"]


def test_after_a_rotation_the_old_secret_is_good_no_more(hooked: Serve) -> None:
    app = hooked(HOOK.replace('["HOOK_SECRET"]', '["NEW_SECRET"]'), shared=True, main=COUNT)
    assert failure(app.post("orders", BODY, standard(BODY))) == (401, "invalid_signature")
    assert said(app.post("orders", BODY, standard(BODY, secret=NEW_SECRET))) == "run 1\n"


# Refused, and nothing run


def without(headers: dict[str, str], name: str) -> dict[str, str]:
    return {key: value for key, value in headers.items() if key != name}


def bad_attempts(app: Hooked) -> dict[str, tuple[bytes, dict[str, str]]]:
    """Return what a hook of Standard Webhooks must refuse, by what is wrong with it."""
    good = standard(BODY)
    now_s = app.clock.now_s()
    return {
        "unsigned": (BODY, {}),
        "without an id": (BODY, without(good, "webhook-id")),
        "without a time": (BODY, without(good, "webhook-timestamp")),
        "without a signature": (BODY, without(good, "webhook-signature")),
        "of another secret": (BODY, standard(BODY, secret=NEW_SECRET)),
        "of another body": (BODY + b" ", good),
        "of an empty body": (b"", good),
        "of another id": (BODY, {**good, "webhook-id": "msg_2"}),
        "of another time": (BODY, {**good, "webhook-timestamp": str(int(now_s) - 1)}),
        "old": (BODY, standard(BODY, sent_s=now_s - 310)),
        "of the future": (BODY, standard(BODY, sent_s=now_s + 310)),
        "with no number for a time": (BODY, {**good, "webhook-timestamp": "now"}),
        "with a signature cut off": (BODY, {**good, "webhook-signature": good["webhook-signature"][:-4]}),
        "with a signature of another version": (BODY, {**good, "webhook-signature": "v2,AAAA"}),
        "as github signs": (BODY, github(BODY, secret=SECRET)),
    }


def test_what_is_not_signed_rightly_gets_one_answer_and_runs_nothing(
    hooked: Serve, log_lines: list[dict[str, Any]]
) -> None:
    app = hooked(HOOK, main=COUNT)
    told = set()
    attempts = bad_attempts(app)
    for body, headers in attempts.values():
        reply = app.post("orders", body, headers)
        assert failure(reply) == (401, "invalid_signature")
        told.add(reply.json()["error"]["message"])
    assert len(told) == 1
    assert "secret" in told.pop()
    assert app.sessions() == []
    reasons = [line["reason"] for line in log_lines if line["message"] == "webhook refused"]
    assert len(reasons) == len(attempts)
    assert {"webhook-id is missing", "webhook-timestamp is missing", "webhook-signature is missing"} < set(reasons)
    assert any("s old" in reason for reason in reasons)
    assert any("in the future" in reason for reason in reasons)


def test_what_github_did_not_sign_gets_401_and_runs_nothing(hooked: Serve) -> None:
    app = hooked(PUSH, main=COUNT)
    good = github(BODY)
    for body, headers in (
        (BODY, {}),
        (BODY, without(good, "X-Hub-Signature-256")),
        (BODY, without(good, "X-GitHub-Delivery")),
        (BODY, github(BODY, secret="another secret of enough length")),
        (BODY + b"\n", good),
        (BODY, {**good, "X-Hub-Signature-256": good["X-Hub-Signature"]}),
        (BODY, standard(BODY)),
    ):
        assert failure(app.post("push", body, headers)) == (401, "invalid_signature")
    assert app.sessions() == []


def test_an_attempt_that_was_good_is_too_old_five_minutes_later(hooked: Serve) -> None:
    app = hooked(HOOK, shared=True, main=COUNT)
    headers = standard(BODY)
    app.clock.offset_s = 302
    assert failure(app.post("orders", BODY, headers)) == (401, "invalid_signature")
    app.clock.offset_s = 0
    assert said(app.post("orders", BODY, headers)) == "run 1\n"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"not json",
        b"{'a': 1}",
        b'{"a": NaN}',
        b"[Infinity]",
        b"[1e400]",
        b'{"a": 1} x',
        b'"\xff"',
        b'"\xed\xa0\x80"',
        b"[" * 101 + b"]" * 101,
        b'{"a":' * 101 + b"1" + b"}" * 101,
        b"[" * 200_000,
        b"9" * 5000,
        b"\x00",
    ],
)
def test_a_signed_payload_that_is_not_json_gets_400_and_runs_nothing(hooked: Serve, body: bytes) -> None:
    app = hooked(PUSH, main=COUNT)
    assert failure(app.post("push", body, github(body))) == (400, "invalid_json")
    assert app.sessions() == []


@pytest.mark.parametrize("body", [b"", b"payload", b"a=1", b"payload=1&payload=2", b"payload=%ff", b"payload=\xff"])
def test_a_signed_form_without_a_payload_gets_400_and_runs_nothing(hooked: Serve, body: bytes) -> None:
    app = hooked(PUSH, main=COUNT)
    reply = app.post("push", body, {**github(body), "Content-Type": "application/x-www-form-urlencoded"})
    assert failure(reply) == (400, "invalid_form")
    assert app.sessions() == []


@pytest.mark.parametrize("media_type", ["text/plain", "application/xml", "multipart/form-data; boundary=x"])
def test_a_signed_body_of_another_type_gets_415_and_runs_nothing(hooked: Serve, media_type: str) -> None:
    app = hooked(HOOK, main=COUNT)
    reply = app.post("orders", BODY, {**standard(BODY), "Content-Type": media_type})
    assert failure(reply) == (415, "unsupported_type")
    form = {"Content-Type": "application/x-www-form-urlencoded"}
    assert failure(app.post("orders", BODY, {**standard(BODY), **form})) == (415, "unsupported_type")
    assert app.sessions() == []


@pytest.mark.parametrize("event", [None, "Push!", "x" * 65])
def test_a_delivery_of_github_without_the_name_of_an_event_gets_400(hooked: Serve, event: str | None) -> None:
    app = hooked(PUSH, main=COUNT)
    headers = without(github(BODY), "X-GitHub-Event") | ({"X-GitHub-Event": event} if event else {})
    assert failure(app.post("push", BODY, headers)) == (400, "invalid_field")
    assert app.sessions() == []


def test_a_body_over_the_limit_is_refused_before_it_is_read(hooked: Serve) -> None:
    app = hooked(HOOK + "max_bytes = 100\n", shared=True, main=COUNT)
    body = b'"' + b"x" * 99 + b'"'
    assert failure(app.post("orders", body, standard(body))) == (413, "too_large")
    assert failure(app.client.post("/webhooks/orders", content=iter([body, body]))) == (413, "too_large")
    whole = b'"' + b"x" * 98 + b'"'
    assert said(app.post("orders", whole, standard(whole))) == "run 1\n"


def test_ten_megabytes_are_refused(hooked: Serve) -> None:
    app = hooked(HOOK, main=COUNT)
    body = b'"' + b"x" * 10_000_000 + b'"'
    assert failure(app.post("orders", body, standard(body))) == (413, "too_large")
    assert app.sessions() == []


def test_code_and_payload_together_have_a_limit_too(hooked: Serve) -> None:
    app = hooked(HOOK, env={"CAESARION_MAX_BODY_BYTES": "2048"}, main=COUNT + "#" * 1800)
    assert failure(app.post("orders", BODY, standard(BODY))) == (413, "too_large")
    assert app.sessions() == []


@pytest.mark.parametrize("name", ["nope", "Orders", "orders%2F", "..%2Forders", "made", "x" * 300])
def test_a_name_that_no_hook_has_gets_404(hooked: Serve, name: str) -> None:
    event_hook = '[[hooks]]\nname = "made"\nkind = "event"\nfilter = { exact = { type = "x" } }\ncode = "main.py"\n'
    app = hooked(HOOK + event_hook, main=COUNT)
    assert app.post(name, BODY, standard(BODY)).status_code == 404
    assert app.sessions() == []


@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "HEAD"])
def test_a_hook_takes_post_alone(hooked: Serve, method: str) -> None:
    app = hooked(HOOK, main=COUNT)
    reply = app.client.request(method, "/webhooks/orders")
    assert (reply.status_code, reply.headers["allow"]) == (405, "POST")


# GitHub's events


def test_a_ping_is_answered_and_runs_nothing(hooked: Serve) -> None:
    app = hooked(PUSH + 'events = ["push"]\n', main=COUNT)
    reply = app.post(
        "push", b'{"zen": "Keep it logically awesome."}', github(b'{"zen": "Keep it logically awesome."}', event="ping")
    )
    assert (reply.status_code, reply.json()["accepted"]) == (200, False)
    assert app.sessions() == []


def test_an_event_that_the_hook_does_not_want_is_dropped(hooked: Serve) -> None:
    app = hooked(PUSH + 'events = ["push", "release"]\n', shared=True, main=COUNT)
    reply = app.post("push", BODY, github(BODY, event="issues"))
    assert (reply.status_code, reply.json()["accepted"]) == (202, False)
    assert "push, release" in reply.json()["reason"]
    assert app.executions("builds") == []
    assert said(app.post("push", BODY, github(BODY, event="release"))) == "run 1\n"


# Keys, names and logs


def test_the_signature_is_the_key(hooked: Serve) -> None:
    digest = "alice:" + "0" * 64
    app = hooked(HOOK, env={"CAESARION_API_KEYS": digest}, shared=True, main=COUNT)
    assert said(app.post("orders", BODY, {**standard(BODY), "X-Forwarded-For": "203.0.113.7"})) == "run 1\n"
    assert failure(app.post("orders", BODY, {}))[0] == 401


def test_a_page_may_not_send_webhooks_from_a_browser(hooked: Serve) -> None:
    app = hooked(HOOK, main=COUNT)
    assert failure(app.post("orders", BODY, {**standard(BODY), "Origin": "https://evil.example"}))[0] == 403
    assert app.sessions() == []


def test_neither_payload_nor_id_nor_secret_is_logged(hooked: Serve, log_lines: list[dict[str, Any]]) -> None:
    sent_id, github_id = new_id("msg"), new_id("delivery")
    app = hooked(HOOK + PUSH, shared=True, main="print(payload)\n")
    body = b'{"password": "hunter2"}'
    app.post("orders", body, standard(body, id=sent_id))
    app.post("orders", body, standard(body, id=sent_id, secret=NEW_SECRET))
    app.post("push", body, github(body, id=github_id))
    app.post("push", b"hunter2", github(b"hunter2"))
    written = json.dumps(log_lines)
    for text in ("hunter2", sent_id, github_id, SECRET, GITHUB_SECRET, "v1,"):
        assert text not in written
    accepted = [line for line in log_lines if line["message"] == "webhook accepted"]
    assert {line["hook"] for line in accepted} == {"orders", "push"}
    assert accepted[0]["delivery"] == event_digest("/webhooks/orders", sent_id)
    assert accepted[0]["size_bytes"] == len(body)
