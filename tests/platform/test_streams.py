"""Outputs on their way: three forms, resumed, read by many, and left."""

import json
import socket
from collections.abc import AsyncGenerator

import anyio
import httpx
import pytest

from caesarion.ids import LOCAL_PRINCIPAL, SessionId, SessionKey
from caesarion_execute.streams import as_events
from tests.conftest import ProductServer
from tests.platform.conftest import Output, Session, client_of, failure, gate, shape, temporary_session, text_of

NDJSON, EVENTS, DOCUMENT = "application/x-ndjson", "text/event-stream", "application/json"
FORMS = (NDJSON, EVENTS, DOCUMENT)
RICH = """
import sys
from IPython.display import clear_output, display
print('out')
print('err', file=sys.stderr)
shown = display(1, display_id='d')
shown.update(2)
clear_output(wait=True)
'result'
"""


def read(reply: httpx.Response) -> list[Output]:
    """Return the outputs of an answer in whatever form it has."""
    form = reply.headers["content-type"].partition(";")[0]
    if form == DOCUMENT:
        return list(reply.json()["outputs"])
    if form == NDJSON:
        assert reply.text.endswith("\n") or not reply.text
        return [json.loads(line) for line in reply.text.splitlines()]
    events = [dict(line.split(": ", 1) for line in event.split("\n")) for event in reply.text.split("\n\n") if event]
    outputs = [json.loads(event["data"]) for event in events]
    assert [int(event["id"]) for event in events] == [output["seq"] for output in outputs]
    return outputs


@pytest.fixture(scope="module")
def replayed(session: Session) -> list[Output]:
    """The outputs of an execution that has ended."""
    return session.run(RICH)


def outputs_path(session: Session, outputs: list[Output]) -> str:
    return f"{session.executions}/{outputs[0]['execution']}/outputs"


@pytest.mark.parametrize("form", FORMS)
def test_outputs_come_in_the_form_asked_for_and_name_their_execution(session: Session, form: str) -> None:
    reply = session.client.post(session.executions, json={"code": RICH}, headers={"Accept": form})
    outputs = read(reply)
    assert (reply.status_code, reply.headers["content-type"].partition(";")[0]) == (200, form)
    assert reply.headers["x-execution-id"] == outputs[0]["execution"]
    assert reply.headers["cache-control"] == "no-store"
    assert [output["seq"] for output in outputs] == list(range(1, len(outputs) + 1))
    assert shape(outputs) == [
        "started", "stream", "stream", "display_data", "update_display_data", "clear_output", "execute_result",
        "finished",
    ]  # fmt: skip
    if form == DOCUMENT:
        last = outputs[-1]
        told = {name: last[name] for name in ("status", "execution_count", "duration_ms")}
        assert reply.json() == {"id": outputs[0]["execution"], **told, "outputs": outputs}


ACCEPTED = {
    "": NDJSON,
    "*/*": NDJSON,
    "text/html": NDJSON,
    "application/json": DOCUMENT,
    "APPLICATION/JSON": DOCUMENT,
    "text/event-stream": EVENTS,
    "text/*": EVENTS,
    "application/json;q=0.5, text/event-stream": EVENTS,
    "text/event-stream;q=0.1, */*;q=0.2": NDJSON,
    "application/json;q=0": NDJSON,
    "application/json;q=x, ;;,": DOCUMENT,
}


@pytest.mark.parametrize("accept", ACCEPTED)
def test_the_form_preferred_is_the_form_given(session: Session, replayed: list[Output], accept: str) -> None:
    reply = session.client.get(outputs_path(session, replayed), headers={"Accept": accept})
    assert reply.headers["content-type"].partition(";")[0] == ACCEPTED[accept]
    assert read(reply) == replayed


def test_the_first_output_is_there_while_the_code_runs(session: Session) -> None:
    for number, form in enumerate((NDJSON, EVENTS)):
        code = f"print('first', flush=True)\n{gate(f'first{number}')}print('last')"
        with session.client.stream("POST", session.executions, json={"code": code}, headers={"Accept": form}) as reply:
            chunks = reply.iter_text()
            seen = ""
            while "first" not in seen:
                seen += next(chunks)
            assert "last" not in seen
            session.open_gate(f"first{number}")
            assert "last" in "".join(chunks)


RESUMED: list[tuple[dict[str, str], dict[str, str]]] = [
    ({"after": "2"}, {}),
    ({}, {"Last-Event-ID": "2"}),
    ({"after": "1"}, {"Last-Event-ID": "2"}),
    ({"after": "2"}, {"Last-Event-ID": ""}),
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize(("query", "headers"), RESUMED)
def test_a_reader_resumes_after_the_last_output_it_saw(
    session: Session, replayed: list[Output], form: str, query: dict[str, str], headers: dict[str, str]
) -> None:
    reply = session.client.get(outputs_path(session, replayed), params=query, headers={**headers, "Accept": form})
    assert read(reply) == replayed[2:]


def test_code_sent_again_with_its_key_resumes_too(session: Session) -> None:
    keyed = {"Idempotency-Key": "resumed-by-post", "Accept": EVENTS}
    whole = read(session.client.post(session.executions, json={"code": RICH}, headers=keyed))
    keyed["Last-Event-ID"] = "3"
    assert read(session.client.post(session.executions, json={"code": RICH}, headers=keyed)) == whole[3:]


def test_an_event_source_is_told_that_nothing_is_left(session: Session, replayed: list[Output]) -> None:
    path, last = outputs_path(session, replayed), str(replayed[-1]["seq"])
    reply = session.client.get(path, headers={"Accept": EVENTS, "Last-Event-ID": last})
    assert (reply.status_code, reply.headers["x-execution-id"]) == (204, replayed[0]["execution"])
    assert session.client.get(path, params={"after": last}).text == ""
    assert session.client.get(path, params={"after": "9" * 14}).text == ""


@pytest.mark.parametrize("after", ["-1", "x", "1.5", "9" * 16, "²", "1e3", " 1"])
def test_a_number_that_no_output_has_is_refused(session: Session, replayed: list[Output], after: str) -> None:
    reply = session.client.get(outputs_path(session, replayed), params={"after": after})
    assert failure(reply) == (400, "invalid_field")


def test_an_event_id_that_no_output_has_is_refused(session: Session, replayed: list[Output]) -> None:
    reply = session.client.get(outputs_path(session, replayed), headers={"Last-Event-ID": "x"})
    assert failure(reply) == (400, "invalid_field")


def test_readers_who_come_while_it_runs_see_the_same_lines(session: Session) -> None:
    code = f"print('one', flush=True)\n{gate('readers')}display('two')"
    with session.begun(code) as first:
        seen = [next(first.outputs) for _ in range(2)]
        with session.following(first.id) as second, session.following(first.id, after=1) as third:
            assert [next(second.outputs) for _ in range(2)] == seen
            assert next(third.outputs) == seen[1]
            session.open_gate("readers")
            rest = list(first.outputs)
            assert rest[-1]["status"] == "ok"
            assert list(second.outputs) == list(third.outputs) == rest


@pytest.mark.parametrize("form", [NDJSON, EVENTS])
def test_a_client_that_leaves_does_not_stop_the_code_and_another_takes_over(session: Session, form: str) -> None:
    name = f"left{FORMS.index(form)}"
    code = f"print('one', flush=True)\n{gate(name)}print('two')"
    with session.client.stream("POST", session.executions, json={"code": code}, headers={"Accept": form}) as reply:
        execution = reply.headers["x-execution-id"]
        next(reply.iter_text())
    with session.following(execution) as running:
        session.open_gate(name)
        outputs = list(running.outputs)
    assert (text_of(outputs), outputs[-1]["status"]) == ("one\ntwo\n", "ok")


def test_a_client_that_leaves_before_its_document_comes_does_not_stop_the_code(session: Session) -> None:
    code = f"{gate('document')}left = 'ran on'"
    body = json.dumps({"code": code}).encode()
    url = session.client.base_url
    head = (
        f"POST {session.executions} HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: {len(body)}\r\nAccept: {DOCUMENT}"
    )
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode() + body)
        while not (known := session.client.get(session.executions).json()["executions"]) or (
            known[-1]["status"] != "running"
        ):
            pass
    session.open_gate("document")
    assert session.said("print(left)") == "ran on\n"
    assert session.client.get(f"{session.executions}/{known[-1]['id']}").json()["status"] == "ok"


def test_head_tells_of_a_running_execution_without_waiting_for_it(session: Session) -> None:
    with session.begun(gate("head")) as running, client_of(str(session.client.base_url)) as one_connection:
        next(running.outputs)
        for form in (NDJSON, EVENTS):
            path = f"{session.executions}/{running.id}/outputs"
            reply = one_connection.head(path, headers={"Accept": form})
            assert (reply.status_code, reply.headers["x-execution-id"]) == (200, running.id)
            assert reply.headers["content-type"].startswith(form)
            assert one_connection.get(session.path).json()["state"] == "busy"
        session.open_gate("head")
        assert list(running.outputs)[-1]["status"] == "ok"


def test_an_execution_that_is_not_there_is_not_found(session: Session) -> None:
    for method, path in (("GET", ""), ("DELETE", ""), ("GET", "/outputs")):
        reply = session.client.request(method, f"{session.executions}/e_unknown{path}")
        assert failure(reply) == (404, "execution_not_found")


def test_a_stream_ends_honestly_when_its_sandbox_does(client: httpx.Client, product_server: ProductServer) -> None:
    with temporary_session(client) as session:
        with session.begun("print('begun', flush=True)\nwhile True: pass") as running:
            begun = [next(running.outputs) for _ in range(2)]
            product_server.kill_sandbox(SessionKey(LOCAL_PRINCIPAL, SessionId(session.id)))
            outputs = begun + list(running.outputs)
        assert shape(outputs) == ["started", "stream", "error", "finished"]
        assert [output["seq"] for output in outputs] == list(range(1, len(outputs) + 1))
        assert (outputs[-2]["ename"], outputs[-1]["status"]) == ("SandboxEnded", "died")
        with session.following(running.id) as again:
            assert list(again.outputs) == outputs

        with session.begun("print('begun', flush=True)\nwhile True: pass") as running:
            begun = [next(running.outputs) for _ in range(2)]
            client.delete(session.path).raise_for_status()
            outputs = begun + list(running.outputs)
        assert shape(outputs) == ["started", "stream", "error", "finished"]
        assert [output["seq"] for output in outputs] == list(range(1, len(outputs) + 1))
        assert outputs[-1]["status"] == "died"


@pytest.mark.anyio
async def test_an_event_stream_says_something_while_the_code_says_nothing() -> None:
    go_on = anyio.Event()

    async def blocks() -> AsyncGenerator[bytes, None]:
        await go_on.wait()
        yield b'{"seq": 1}\n{"seq": 2}\n'

    events = as_events(blocks(), heartbeat_s=0.01)
    assert (await anext(events)).startswith(b":")
    go_on.set()
    while (event := await anext(events)).startswith(b":"):
        pass
    assert event == b'id: 1\ndata: {"seq": 1}\n\nid: 2\ndata: {"seq": 2}\n\n'
    assert await anext(events, None) is None
