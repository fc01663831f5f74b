"""Traces as an operator's collector gets them, from functions as Knative starts them."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.chat.scripted_model import Call, CallTools, Fail, Say, Step, scripted
from tests.chat.ui import chunks_of
from tests.platform.otlp_receiver import Receiver, receiving
from tests.platform.served import NO_POOL, Home, framework, home, start

TRACE, ABOVE = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"
TRACEPARENT = f"00-{TRACE}-{ABOVE}-01"
SERVER, CLIENT, PRODUCER = 2, 3, 4
SECRET = "never_to_be_told"
ALONE = {"DEBUG": "1", **NO_POOL}  # one process of uvicorn, as in the images, and not gunicorn's


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as made:
        yield made


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as made:
        yield made


def log_lines(place: Home) -> list[dict[str, object]]:
    texts = [path.read_text(encoding="utf-8") for path in Path(place.path).glob("*.log")]
    return [json.loads(line) for text in texts for line in text.splitlines() if line.startswith("{")]


def test_a_turn_is_one_trace_from_the_request_to_the_first_output(place: Home, receiver: Receiver) -> None:
    steps: list[Step] = [CallTools([Call("python", {"code": f"print('{SECRET}')"})]), Say(SECRET)]
    with scripted(steps) as model:
        env = {
            "OPENAI_BASE_URL": model.url,
            "OPENAI_API_KEY": f"sk-{SECRET}",
            "OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url,
            "K_SERVICE": "chat",
            "K_SINK": f"{receiver.url}/sink",
            **ALONE,
        }
        with place.framework("chat", **env) as served:
            body = {"id": "s", "messages": [{"id": "u", "role": "user", "parts": [{"type": "text", "text": SECRET}]}]}
            headers = {"traceparent": TRACEPARENT}
            with served.client.stream("POST", "/api/chat", json=body, headers=headers) as reply:
                assert list(chunks_of(reply))[-1]["type"] == "finish"
            served.end()  # what waits to be told is told at the end
    assert {span.service for span in receiver.spans} == {"chat"}
    assert {span.trace for span in receiver.spans} == {TRACE}

    request, turn, tool = receiver.one("POST /api/chat"), receiver.one("turn"), receiver.one("tool python")
    execution = receiver.one("execution")
    assert (request.kind, request.parent) == (SERVER, ABOVE)
    assert (turn.parent, tool.parent, execution.parent) == (request.id, turn.id, tool.id)
    assert execution.events == ["first output"]
    assert execution.attributes["caesarion.status"] == "ok"
    calls = receiver.named("chat gpt-4.1")
    assert [(call.kind, call.parent, call.events) for call in calls] == [(CLIENT, turn.id, ["first token"])] * 2
    assert {claim.trace for claim in receiver.named("claim")} == {TRACE}
    sent = receiver.named("send event")[0]
    assert sent.kind == PRODUCER
    announced = receiver.posted[0]
    assert announced["traceparent"].split("-")[1:3] == [sent.trace, sent.id]
    assert announced["ce-traceparent"].split("-")[1:3] == [sent.trace, sent.parent], "that of what the event tells of"

    assert SECRET not in repr(receiver.spans)
    told = [line for line in log_lines(place) if line["message"] in ("claimed", "execution ended", "turn ended")]
    assert [line["message"] for line in told] == ["claimed", "execution ended", "turn ended"]
    assert {line["trace"] for line in told} == {TRACE}
    assert SECRET not in json.dumps(log_lines(place))


def test_what_fails_is_a_failed_span_and_a_log_line(place: Home, receiver: Receiver) -> None:
    with scripted([Fail(401, "no such key")]) as model:
        env = {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test", **ALONE}
        with place.framework("chat", OTEL_EXPORTER_OTLP_ENDPOINT=receiver.url, **env) as served:
            body = {"model": "gpt-4.1", "messages": [{"role": "user", "content": "hello"}]}
            assert served.client.post("/v1/chat/completions", json=body).status_code >= 400
            served.end()
    assert receiver.one("chat gpt-4.1").failed
    assert receiver.one("turn").attributes["error.type"] == "model_key"
    (line,) = (line for line in log_lines(place) if line["message"] == "model call failed")
    assert (line["code"], line["model"], line["trace"]) == ("model_key", "gpt-4.1", receiver.one("turn").trace)


def test_probes_and_scrapes_are_not_traced(place: Home, receiver: Receiver) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": receiver.url, "OTEL_SERVICE_NAME": "mine", **ALONE}
    with place.framework("cleanup", **env) as served:
        for path in ("/health/ready", "/metrics", "/openapi.json"):
            served.client.get(path).raise_for_status()
        served.end()
    assert [(span.service, span.name) for span in receiver.spans] == [("mine", "GET /openapi.json")]


def test_another_protocol_is_refused_at_the_start(place: Home) -> None:
    env = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}
    process = start(framework("execute"), place.env(HOST="127.0.0.1", **env))
    _, errors = process.communicate(timeout=200)
    assert process.returncode == 1
    assert "http/protobuf" in errors
