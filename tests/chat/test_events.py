"""Turns that events ask for: each runs once, however often its event comes, and every delivery gets the same result."""

import json
import signal
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
from cloudevents.http import CloudEvent, from_http

from caesarion.events import Event, event_digest
from caesarion.ids import new_id
from caesarion.principals import key_digest
from caesarion_chat.event_turns import bounded, decode_chat_request
from caesarion_chat.transcript import folded
from tests.chat.conftest import Chat, chat_product, says, shows, told, until
from tests.chat.scripted_model import Call, CallTools, Fail, Hang, Say, ScriptedModel, Step, scripted
from tests.conftest import ProductServer
from tests.platform.conftest import failure, gate
from tests.platform.served import NO_POOL, Home, Served, home

REQUESTED = "dev.caesarion.chat.requested"
WAITS = f"print('begun', flush=True)\n{gate('go')}print('went on')"
COUNTS = "open('runs.txt', 'a').write('run ')\nprint(len(open('runs.txt').read()))\n"
COUNTED = COUNTS + WAITS
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
KEYS = {"alice": "cz_alice", "bob": "cz_bob"}


@dataclass(frozen=True, slots=True)
class Asked:
    """An event that asks for a turn, to be delivered as often as a test likes."""

    message: object
    id: str = field(default_factory=lambda: new_id("event"))
    source: str = "/tests"
    subject: str | None = None
    more: dict[str, Any] = field(default_factory=dict)

    @property
    def own_session(self) -> str:
        """The name of the session that the event gets when it names none."""
        return f"ev-{event_digest(self.source, self.id)}"

    def deliver(self, client: httpx.Client, **headers: str) -> httpx.Response:
        """Deliver it in binary mode, as a broker does."""
        attributes = {"ce-specversion": "1.0", "ce-id": self.id, "ce-source": self.source, "ce-type": REQUESTED}
        if self.subject is not None:
            attributes["ce-subject"] = self.subject
        content = json.dumps({"message": self.message, **self.more}).encode()
        all_headers = {"content-type": "application/json", **attributes, **headers}
        return client.post("/events/chat", content=content, headers=all_headers)


def result(reply: httpx.Response) -> CloudEvent:
    """Return the result event of a delivery, as a client that nobody here wrote reads it."""
    assert reply.status_code == 200, reply.text
    return from_http(dict(reply.headers), reply.content)


def ran(chat: Chat) -> list[str]:
    """Return the ids of what ran in a session."""
    listed = chat.client.get(f"/sessions/{chat.id}/executions").raise_for_status().json()["executions"]
    return [execution["id"] for execution in listed]


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as made:
        yield made


@pytest.fixture
def beside() -> Iterator[ThreadPoolExecutor]:
    """Threads for deliveries that take a while."""
    with ThreadPoolExecutor(16) as threads:
        yield threads


def model_env(model: ScriptedModel) -> dict[str, str]:
    return {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test", **NO_POOL}


def kill(served: Served) -> None:
    """Kill a function at once, the framework's worker too."""
    served.end(signal.SIGKILL)


def test_an_event_is_answered_with_what_the_assistant_said_and_ran(server: ProductServer) -> None:
    steps: list[Step] = [CallTools([Call("python", {"code": "6 * 7"})], text="Let me see."), Say("It is 42.")]
    with chat_product(server, steps) as product:
        chat = product.chat()
        asked = Asked("what is it?", more={"session": chat.id})
        finished = result(asked.deliver(chat.client))
        assert finished["type"] == "dev.caesarion.chat.finished"
        assert finished["subject"] == chat.id
        assert finished.data == {
            "session": chat.id,
            "text": "Let me see.\n\nIt is 42.",
            "finish_reason": "stop",
            "executions": ran(chat),
            "request": {"source": asked.source, "id": asked.id},
        }
        assert len(finished.data["executions"]) == 1
        assert told(product, 0) == [("user", "what is it?")]


def test_an_event_goes_on_with_the_conversation_of_its_session(server: ProductServer) -> None:
    with chat_product(server, [Say("one"), Say("two"), Say("three")]) as product:
        chat = product.chat()
        chat.ask("first")
        result(Asked("second", subject=chat.id).deliver(chat.client))
        chat.ask("third")
        assert [content for _, content in told(product, 2)] == ["first", "one", "second", "two", "third"]


def test_an_event_without_a_session_leaves_none(server: ProductServer) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": "1"})]), Say("done")]) as product:
        chat = product.chat()
        asked = Asked("do it")
        first = asked.deliver(chat.client)
        finished = result(first)
        assert finished.data["session"] == finished["subject"] == asked.own_session
        assert chat.client.get(f"/sessions/{asked.own_session}").status_code == 404
        again = asked.deliver(product.replica())
        assert (again.content, again.headers["ce-id"]) == (first.content, first.headers["ce-id"])
        assert again.headers["ce-time"] == first.headers["ce-time"]
        assert chat.client.get(f"/sessions/{asked.own_session}").status_code == 404


@pytest.mark.parametrize("named", [True, False])
def test_many_deliveries_at_once_and_in_disorder_run_each_turn_once(
    server: ProductServer, beside: ThreadPoolExecutor, *, named: bool
) -> None:
    turns = 3
    steps: list[Step] = [Say("said") for _ in range(turns)]
    with chat_product(server, steps) as product:
        replicas = [product.replica(), product.replica()]
        chats = [product.chat(replicas[0]) for _ in range(turns)]
        events = [Asked("say it", subject=chat.id if named else None) for chat in chats]
        deliveries = [(number * 7) % (turns * 10) for number in range(turns * 10)]
        replies = list(
            beside.map(lambda number: events[number % turns].deliver(replicas[number // turns % 2]), deliveries)
        )
        seen: dict[int, set[tuple[bytes, str, str]]] = {}
        for number, reply in zip(deliveries, replies, strict=True):
            finished = result(reply)
            seen.setdefault(number % turns, set()).add((reply.content, finished["id"], finished["time"]))
        assert sorted(map(len, seen.values())) == [1] * turns
        assert len(product.model.requests) == turns
        if not named:
            listed = replicas[0].get("/sessions").json()["sessions"]
            assert not {session["id"] for session in listed} & {event.own_session for event in events}


def test_a_delivery_that_comes_while_the_turn_runs_gets_its_result(
    server: ProductServer, beside: ThreadPoolExecutor
) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": COUNTED})]), Say("done")]) as product:
        chat = product.chat()
        asked = Asked("go", subject=chat.id)
        replies = [beside.submit(asked.deliver, chat.client)]
        waits_for(chat, "begun")
        replies += [beside.submit(asked.deliver, client) for client in (chat.client, product.replica())]
        chat.open_gate("go")
        assert len({reply.result().content for reply in replies}) == 1
        assert chat.file("runs.txt") == "run "


def test_a_late_delivery_changes_nothing_whatever_was_said_since(server: ProductServer) -> None:
    with chat_product(server, [Say("one"), Say("two"), Say("three")]) as product:
        chat = product.chat()
        asked = Asked("first", subject=chat.id)
        first = asked.deliver(chat.client)
        chat.ask("second", message_id="second")
        assert asked.deliver(product.replica()).content == first.content
        chat.ask("third", trigger="submit-message", messageId=f"ev-{event_digest(asked.source, asked.id)}")
        assert asked.deliver(product.replica()).content == first.content
        chat.client.delete(f"/sessions/{chat.id}")
        assert asked.deliver(product.replica()).content == first.content
        assert chat.client.get(f"/sessions/{chat.id}").status_code == 404


def test_attributes_of_the_request_and_its_mode_come_back(server: ProductServer) -> None:
    with chat_product(server, [Say("hello")]) as product:
        client = product.replica()
        asked = Asked("hi")
        finished = result(asked.deliver(client, **{"ce-tenant": "blue", "traceparent": TRACE}))
        assert (finished["tenant"], finished["traceparent"]) == ("blue", TRACE)
        event = {"specversion": "1.0", "id": asked.id, "source": asked.source, "type": REQUESTED}
        body = json.dumps({**event, "data": {"message": "hi"}}).encode()
        reply = client.post("/events/chat", content=body, headers={"content-type": "application/cloudevents+json"})
        assert reply.headers["content-type"] == "application/cloudevents+json"
        again = result(reply)
        assert (again["id"], again["time"], again.data) == (finished["id"], finished["time"], finished.data)


def test_another_turn_of_the_session_has_the_broker_come_again(server: ProductServer) -> None:
    steps: list[Step] = [CallTools([Call("python", {"code": WAITS})]), Say("mine"), Say("the event's")]
    with chat_product(server, steps) as product:
        chat = product.chat()
        asked = Asked("and now?", subject=chat.id)
        with chat.asking("go") as running:
            until(running, shows("begun"))
            for client in (chat.client, product.replica()):
                refused = asked.deliver(client)
                assert failure(refused) == (503, "turn_running")
                assert int(refused.headers["retry-after"]) > 0
            chat.open_gate("go")
            list(running)
        assert result(asked.deliver(chat.client)).data["text"] == "the event's"


def test_a_user_who_stops_the_turn_ends_it_for_good(server: ProductServer, beside: ThreadPoolExecutor) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": WAITS})], text="Let me see.")]) as product:
        chat = product.chat()
        asked = Asked("go", subject=chat.id)
        reply = beside.submit(asked.deliver, chat.client)
        waits_for(chat, "begun")
        chat.stop()
        finished = result(reply.result())
        assert (finished.data["finish_reason"], finished.data["text"]) == ("stopped", "Let me see.")
        assert asked.deliver(chat.client).content == reply.result().content


def test_a_session_that_is_closed_in_the_middle_ends_the_event(
    server: ProductServer, beside: ThreadPoolExecutor
) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": WAITS})])]) as product:
        chat = product.chat()
        reply = beside.submit(Asked("go", subject=chat.id).deliver, chat.client)
        waits_for(chat, "begun")
        chat.client.delete(f"/sessions/{chat.id}").raise_for_status()
        assert failure(reply.result()) == (422, "session_closed")


def test_a_model_that_fails_is_asked_again_with_what_was_done(server: ProductServer) -> None:
    busy = [Fail(500, "out of order") for _ in range(3)]  # the SDK tries three times
    steps: list[Step] = [CallTools([Call("python", {"code": COUNTS})]), *busy, Say("It ran.")]
    with chat_product(server, steps) as product:
        chat = product.chat()
        asked = Asked("count", subject=chat.id)
        refused = asked.deliver(chat.client)
        assert failure(refused) == (502, "model_error")
        assert int(refused.headers["retry-after"]) > 0
        finished = result(asked.deliver(product.replica()))
        assert (finished.data["text"], finished.data["executions"]) == ("It ran.", ran(chat))
        assert chat.file("runs.txt") == "run "
        assert [role for role, _ in told(product, 4)] == ["user", "assistant", "tool"]


@pytest.mark.parametrize(("status", "code"), [(401, "model_key"), (404, "model_unknown"), (400, "model_refused")])
def test_a_model_that_refuses_ends_the_event_until_it_is_sent_again(
    server: ProductServer, status: int, code: str
) -> None:
    with chat_product(server, [Fail(status, "no"), Say("yes")]) as product:
        client = product.replica()
        asked = Asked("please")
        assert failure(asked.deliver(client)) == (422, code)
        assert result(asked.deliver(client)).data["text"] == "yes"


def test_events_of_two_principals_never_meet(server: ProductServer) -> None:
    keys = ",".join(f"{name}:{key_digest(key)}" for name, key in KEYS.items())
    with chat_product(server, [Say("for alice"), Say("for bob")]) as product:
        client = product.replica(CAESARION_API_KEYS=keys)
        asked = Asked("hello")
        replies = {name: asked.deliver(client, authorization=f"Bearer {key}") for name, key in KEYS.items()}
        assert {name: result(reply).data["text"] for name, reply in replies.items()} == {
            "alice": "for alice",
            "bob": "for bob",
        }
        assert failure(asked.deliver(client)) == (401, "unauthorized")


def test_an_event_that_comes_again_with_other_words_is_refused(
    server: ProductServer, beside: ThreadPoolExecutor
) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": WAITS})]), Say("done")]) as product:
        chat = product.chat()
        asked = Asked("go", subject=chat.id)
        other = Asked("something else", id=asked.id, subject=chat.id)
        reply = beside.submit(asked.deliver, chat.client)
        waits_for(chat, "begun")
        chat.open_gate("go")
        result(reply.result())
        assert failure(other.deliver(chat.client)) == (422, "event_changed")


@pytest.mark.parametrize("named", [True, False])
def test_a_turn_whose_function_is_killed_while_code_runs_is_taken_up_again(
    place: Home, beside: ThreadPoolExecutor, *, named: bool
) -> None:
    steps: list[Step] = [CallTools([Call("python", {"code": COUNTED})], text="Let me see."), Say("It went on.")]
    with scripted(steps) as model, place.framework("execute", **NO_POOL) as execute:
        asked = Asked("go", subject="work" if named else None)
        session = asked.subject or asked.own_session
        with place.framework("chat", **model_env(model)) as first:
            lost = beside.submit(asked.deliver, first.client)
            code_has_begun(place)
            kill(first)
            with pytest.raises(httpx.HTTPError):
                lost.result()
        with (
            place.framework("chat", **model_env(model)) as second,
            place.framework("chat", **model_env(model)) as third,
        ):
            replies = [beside.submit(asked.deliver, served.client) for served in (second, third, second)]
            Chat(session, execute.client).open_gate("go")
            [content] = {reply.result().content for reply in replies}
            data = result(replies[0].result()).data
            assert (data["text"], data["finish_reason"]) == ("Let me see.\n\nIt went on.", "stop")
            assert len(data["executions"]) == 1
            results = [m["content"] for m in model.requests[1].body["messages"] if m["role"] == "tool"]
            assert results == ["4\nbegun\nwent on\n"]
            assert asked.deliver(third.client).content == content
            assert execute.client.get(f"/sessions/{session}").status_code == (200 if named else 404)


def test_a_turn_whose_function_is_killed_while_the_model_speaks_runs_no_code_again(
    place: Home, beside: ThreadPoolExecutor
) -> None:
    silent = Hang(text="Once ")
    steps: list[Step] = [CallTools([Call("python", {"code": COUNTS})]), silent, Say("It ran.")]
    with scripted(steps) as model, place.framework("execute", **NO_POOL) as execute:
        asked = Asked("go", subject="work")
        with place.framework("chat", **model_env(model)) as first:
            lost = beside.submit(asked.deliver, first.client)
            silent.reached.wait()
            with Chat("work", first.client).resuming() as seen:
                until(seen, says("Once "))
            kill(first)
            with pytest.raises(httpx.HTTPError):
                lost.result()
        with place.framework("chat", **model_env(model)) as second:
            reply = asked.deliver(second.client)
            data = result(reply).data
            assert (data["text"], data["finish_reason"]) == ("It ran.", "stop")
            assert Chat("work", execute.client).file("runs.txt") == "run "
            assert asked.deliver(second.client).content == reply.content


def test_a_replica_that_waits_takes_the_turn_up_when_the_one_that_drove_it_is_killed(
    place: Home, beside: ThreadPoolExecutor
) -> None:
    steps: list[Step] = [CallTools([Call("python", {"code": COUNTED})]), Say("It went on.")]
    with scripted(steps) as model, place.framework("execute", **NO_POOL) as execute:
        asked = Asked("go", subject="work")
        with place.framework("chat", **model_env(model)) as second:
            with place.framework("chat", **model_env(model)) as first:
                lost = beside.submit(asked.deliver, first.client)
                code_has_begun(place)
                waiting: Future[httpx.Response] = beside.submit(asked.deliver, second.client)
                kill(first)
                with pytest.raises(httpx.HTTPError):
                    lost.result()
            chat = Chat("work", execute.client)
            chat.open_gate("go")
            assert result(waiting.result()).data["text"] == "It went on."
            assert chat.file("runs.txt") == "run "


def test_a_type_that_nobody_handles_is_dropped(server: ProductServer) -> None:
    with chat_product(server, []) as product:
        reply = Asked("hi").deliver(product.replica(), **{"ce-type": "com.example.other"})
        assert (reply.status_code, reply.content) == (202, b"")


@pytest.mark.parametrize(
    ("headers", "content", "status", "code"),
    [
        ({}, b"", 400, "invalid_data"),
        ({}, b"[]", 400, "invalid_data"),
        ({}, b"{nope", 400, "invalid_data"),
        ({"content-type": "text/plain"}, b"hi", 400, "invalid_data"),
        ({}, b"{}", 400, "invalid_field"),
        ({}, b'{"message": 7}', 400, "invalid_field"),
        ({}, b'{"message": " "}', 400, "invalid_field"),
        ({}, b'{"message": "\\ud800"}', 400, "invalid_field"),
        ({}, b'{"message": "hi", "files": []}', 400, "unknown_field"),
        ({}, b'{"message": "hi", "session": "a/b"}', 400, "invalid_id"),
        ({"ce-subject": "a/b"}, b'{"message": "hi"}', 400, "invalid_id"),
        ({}, b'{"message": "hi", "model": "gpt-9"}', 400, "model_not_found"),
        ({}, b'{"message": "hi", "model": ["gpt-9"]}', 400, "model_not_found"),
        ({}, b'{"message": "%s"}' % (b"x" * 200_001), 413, "too_large"),
        ({}, b" " * 10_000_000, 413, "too_large"),
        ({"ce-specversion": "2.0"}, b'{"message": "hi"}', 400, "invalid_event"),
        ({"ce-id": ""}, b'{"message": "hi"}', 400, "invalid_event"),
    ],
)
def test_an_event_that_cannot_be_a_turn_is_refused_for_good(
    server: ProductServer, headers: dict[str, str], content: bytes, status: int, code: str
) -> None:
    attributes = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/tests", "ce-type": REQUESTED}
    all_headers = {"content-type": "application/json", **attributes, **headers}
    with httpx.Client(base_url=server.url, timeout=200) as client:
        assert failure(client.post("/events/chat", content=content, headers=all_headers)) == (status, code)


def test_the_session_of_the_data_goes_before_the_subject() -> None:
    data = {"message": "hi", "session": "named"}
    event = Event("1", "/tests", REQUESTED, subject="subject", data=json.dumps(data).encode())
    assert decode_chat_request(event, ("m",), max_message_chars=10).session == "named"


def test_a_text_keeps_its_beginning_and_its_end_within_the_limit() -> None:
    assert bounded("short", 1024) == "short"
    cut = bounded("begin" + "ä" * 5000 + "end", 1024)
    assert len(cut.encode()) <= 1024
    assert cut.startswith("beginä")
    assert cut.endswith("äend")
    assert "left out" in cut


def test_a_turn_says_which_of_its_calls_ran_code_and_whether_the_model_has_said_its_last() -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "python", "arguments": "{}"}}
    records: list[dict[str, Any]] = [
        {"type": "turn", "turn": "t", "message": {"id": "m", "text": "hi"}},
        {"type": "message", "turn": "t", "message": {"role": "assistant", "content": "So.", "tool_calls": [call]}},
        {
            "type": "message",
            "turn": "t",
            "message": {"role": "tool", "tool_call_id": "c1", "content": "1"},
            "shown": {"c1": {"execution": "e1"}},
        },
    ]
    [running] = folded(records)
    assert (running.ran, running.said, running.answered) == (["e1"], "So.", False)
    last = {"type": "message", "turn": "t", "message": {"role": "assistant", "content": "Done."}}
    [answered] = folded([*records, last])
    assert (answered.said, answered.answered, answered.reason) == ("So.\n\nDone.", True, None)
    why = {"code": "model_error", "message": "no", "retryable": True}
    [failed] = folded([*records, {"type": "end", "turn": "t", "at": "now", "reason": "error", "failure": why}])
    assert failed.failure is not None
    assert (failed.ended_at, failed.failure.code, failed.failure.retryable) == ("now", "model_error", True)


def waits_for(chat: Chat, text: str) -> None:
    """Wait until the turn that runs in this session shows a text; there may be neither turn nor session yet."""
    while True:
        with chat.client.stream("GET", f"/api/chat/{chat.id}/stream") as reply:
            if reply.status_code != 200:
                time.sleep(0.01)
                continue
            for line in reply.iter_lines():
                if text in line and '"tool-output-available"' in line:
                    return


def code_has_begun(place: Home) -> None:
    """Wait until code that counts its runs has begun in the one session of this home."""
    while not list(place.path.glob("sandboxes/*/files/runs.txt")):
        time.sleep(0.01)
