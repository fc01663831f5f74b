"""A model that fails, in each of the ways in which models fail: its user is told in words, and nobody else notices."""

import json
import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from caesarion.ids import new_id
from tests.chat.conftest import SHARED, Chat, Chunk, chat_product, outputs_of, said
from tests.chat.scripted_model import Call, CallTools, Cut, Fail, Hang, Say, Step
from tests.conftest import ProductServer
from tests.platform.conftest import LogLines, client_of, log_lines

__all__ = ["log_lines"]

KEY = "sk-of-the-test"
ONE_CHAT = new_id(SHARED)  # failures leave nothing behind, so they can all happen in one
TRIES = 3
SILENCE = {"CAESARION_MODEL_TIMEOUT_S": "3"}
NEVER_SHOWN = ("Traceback", 'File "', "openai.", "httpx", "aiohttp", KEY)


def told_failure(chunks: list[Chunk]) -> str:
    """Return what the user is told of a turn that failed, which is in words and stands at the end, once."""
    last = chunks[-1]
    assert last["type"] == "error", last
    assert [chunk["type"] for chunk in chunks].count("error") == 1
    text = last["errorText"]
    assert isinstance(text, str) and 10 < len(text) < 800 and text.rstrip().endswith("."), text
    assert not any(word in json.dumps(chunks) for word in NEVER_SHOWN), chunks
    return text


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        pytest.param([Fail(401, f"Incorrect API key provided: {KEY}.")], "Check OPENAI_API_KEY", id="wrong key"),
        pytest.param([Fail(403, "Not your country")], "Check OPENAI_API_KEY", id="not allowed"),
        pytest.param([Fail(404, "no such model")], "Check CAESARION_MODEL", id="unknown model"),
        pytest.param([Fail(400, "maximum context length is 8192 tokens")], "8192 tokens", id="too long"),
        pytest.param([Fail(422, "x" * 100_000)], "xxx", id="a refusal of many words"),
        pytest.param([Fail(429, "slow down", retry_after_s=0.01)] * TRIES, "Try again in", id="busy for ever"),
        pytest.param([Fail(500, "overheated")] * TRIES, "failed (500): overheated", id="broken for ever"),
        pytest.param([Fail(500, "overheated", after="I th")], "mid-answer: overheated", id="breaks in mid-stream"),
        pytest.param([Cut("I th")], "broke off", id="cuts its answer"),
        pytest.param([Cut()], "broke off", id="cuts its answer before a word"),
        pytest.param([Say("")], "empty answer", id="says nothing"),
        pytest.param([Say("", reasoning="hm")], "empty answer", id="thinks and says nothing"),
    ],
)
def test_a_failure_is_told_in_words_and_the_next_message_works(
    server: ProductServer, steps: list[Step], words: str
) -> None:
    with chat_product(server, [*steps, Say("Better.")]) as product:
        chat = Chat(ONE_CHAT, product.replica(OPENAI_API_KEY=KEY))
        assert words in told_failure(chat.ask("hi"))
        assert said(chat.ask("again")) == "Better."


@pytest.mark.parametrize("hang", [Hang(), Hang(head=False), Hang(text="I th")], ids=["head", "nothing", "words"])
def test_a_model_that_hangs_is_given_up(server: ProductServer, hang: Hang) -> None:
    with chat_product(server, [hang, Say("Better.")]) as product:
        chat = Chat(ONE_CHAT, product.replica(**SILENCE))
        assert "did not go on for 3 s" in told_failure(chat.ask("hi"))
        assert product.model.requests[0].left.wait(200)
        assert said(chat.at(product.replica()).ask("again")) == "Better."


@pytest.mark.parametrize(
    "steps",
    [
        pytest.param([Fail(429, "slow down", retry_after_s=0.01)], id="busy"),
        pytest.param([Fail(500, "overheated")], id="broken"),
        pytest.param([Fail(503, "starting"), Fail(429, "slow down", retry_after_s=0.01)], id="both"),
    ],
)
def test_what_passes_by_itself_is_not_noticed(server: ProductServer, steps: list[Step]) -> None:
    with chat_product(server, [*steps, Say("Fine.")]) as product:
        chunks = Chat(ONE_CHAT, product.replica()).ask("hi")
        assert (said(chunks), chunks[-1]["type"]) == ("Fine.", "finish")


def test_the_time_to_wait_is_the_endpoints(server: ProductServer) -> None:
    with chat_product(server, [Fail(429, "the quota is used up", retry_after_s=3600)]) as product:
        text = told_failure(Chat(ONE_CHAT, product.replica()).ask("hi"))
        assert "the quota is used up" in text and "in 3600 s" in text


def test_silence_after_code_that_showed_something_is_no_failure(server: ProductServer) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": "print(1)"})]), Say("")]) as product:
        chunks = product.chat().ask("show 1")
        assert outputs_of(chunks)[0]["outputs"][0]["text"] == "1\n"
        assert chunks[-1]["type"] == "finish"


def test_a_failure_after_code_ran_leaves_its_outputs_and_variables(server: ProductServer) -> None:
    steps = [
        CallTools([Call("python", {"code": "x = 6\nprint(x)"})]),
        Fail(400, "no"),
        CallTools([Call("python", {"code": "print(x)"})]),
        Say("6."),
    ]
    with chat_product(server, steps) as product:
        chat = product.chat()
        chunks = chat.ask("set x")
        told_failure(chunks)
        assert outputs_of(chunks)[0]["outputs"][0]["text"] == "6\n"
        assert outputs_of(chat.ask("show x"))[0]["outputs"][0]["text"] == "6\n"
        known = [message["role"] for message in product.model.requests[2].body["messages"]]
        assert known == ["system", "user", "assistant", "tool", "user"]


def test_a_call_that_breaks_off_is_not_run(server: ProductServer) -> None:
    gone = threading.Event()
    broken = CallTools([Call("python", ['{"code": "open(', gone, "'ran.txt', 'w')\"}"])], finish="tool_calls")
    with chat_product(server, [broken, Say("Better.")]) as product:
        chat = product.chat(product.replica(**SILENCE))
        told_failure(chat.ask("hi"))
        gone.set()
        assert said(chat.at(product.replica()).ask("again")) == "Better."
        assert chat.client.get(f"/sessions/{chat.id}/executions").json()["executions"] == []


ODD_ANSWERS = {
    "nothing": (b"", "text/event-stream"),
    "a page": (b"<html><body>Sign in to the hotel's network</body></html>", "text/html"),
    "text": (b"hello", "text/plain"),
    "a json that is no chunk": (b'{"hello": "world"}', "application/json"),
    "an event that is not json": (b"data: hello\n\ndata: [DONE]\n\n", "text/event-stream"),
    "an event that is no chunk": (b'data: {"hello": "world"}\n\ndata: [DONE]\n\n', "text/event-stream"),
    "an event that is a list": (b"data: [1]\n\ndata: [DONE]\n\n", "text/event-stream"),
    "an event with odd fields": (b'data: {"choices": [{"delta": null}]}\n\ndata: [DONE]\n\n', "text/event-stream"),
    "bytes": (b"data: \xff\xfe\n\n", "text/event-stream"),
    "an end without an answer": (b"data: [DONE]\n\n", "text/event-stream"),
}


@pytest.mark.parametrize("answer", ODD_ANSWERS)
def test_an_answer_that_is_not_a_models_is_told_in_words(server: ProductServer, answer: str) -> None:
    with answering(*ODD_ANSWERS[answer]) as url:
        told_failure(asked_at(server, url))


def test_an_endpoint_that_sends_elsewhere_does_not_get_the_key_sent_there(server: ProductServer) -> None:
    got: list[str | None] = []
    with answering(b"", "text/plain", got=got) as elsewhere:
        with answering(b"", "text/plain", status=307, headers={"Location": f"{elsewhere}/chat/completions"}) as url:
            told_failure(asked_at(server, url))
    assert KEY not in json.dumps(got)


def test_nobody_at_the_address_is_told_in_words(server: ProductServer) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    text = told_failure(asked_at(server, f"http://127.0.0.1:{port}/v1"))
    assert "cannot be reached" in text and "OPENAI_BASE_URL" in text


def test_a_neighbour_goes_on_while_a_model_hangs_and_fails(server: ProductServer) -> None:
    hang = Hang(text="I th")
    steps: list[Step] = [hang, CallTools([Call("python", {"code": "print(6 * 7)"})]), Say("42."), Say("So.")]
    with chat_product(server, steps) as product:
        client = product.replica()
        unlucky, neighbour = product.chat(client), product.chat(client)
        with unlucky.asking("hi") as chunks:
            assert hang.reached.wait(200)
            found = neighbour.ask("6 times 7?")
            assert outputs_of(found)[0]["outputs"][0]["text"] == "42\n"
            assert (said(found), found[-1]["type"]) == ("42.", "finish")
            unlucky.stop()
            assert list(chunks)[-1]["type"] == "abort"
        assert said(unlucky.ask("again")) == "So."


SECRET_CODE = "print('output' + '-of-the-test')  # code-of-the-test"
SECRETS = ("code-of-the-test", "output-of-the-test", "question-of-the-test", "words-of-the-model", KEY)


@pytest.mark.parametrize("end", [Say("words-of-the-model"), Fail(400, "words-of-the-model"), Cut("words-of-the-model")])
def test_the_log_tells_of_turns_and_not_of_what_was_said(server: ProductServer, log_lines: LogLines, end: Step) -> None:
    with chat_product(server, [CallTools([Call("python", {"code": SECRET_CODE})]), end]) as product:
        chat = Chat(ONE_CHAT, product.replica(OPENAI_API_KEY=KEY))
        chunks = chat.ask("question-of-the-test")
        assert outputs_of(chunks)[0]["outputs"][0]["text"] == "output-of-the-test\n"
    mine = log_lines.having(session=chat.id)
    assert not any(secret in json.dumps(log_lines) for secret in SECRETS)
    assert not any("Traceback" in json.dumps(line) for line in mine)


def asked_at(server: ProductServer, model_url: str) -> list[Chunk]:
    """Ask a product whose model is at this address, and return the chunks."""
    url = server.serve({"OPENAI_BASE_URL": model_url, "OPENAI_API_KEY": KEY})
    with client_of(url) as client:
        return Chat(ONE_CHAT, client).ask("hi")


@contextmanager
def answering(
    body: bytes,
    media_type: str,
    *,
    status: int = 200,
    headers: dict[str, str] | None = None,
    got: list[str | None] | None = None,
) -> Iterator[str]:
    """Serve this answer to everything, and give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            if got is not None:
                got.append(self.headers["Authorization"])
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            for name, value in {
                "Content-Type": media_type,
                "Content-Length": str(len(body)),
                **(headers or {}),
            }.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        serving = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
        serving.start()
        try:
            yield f"http://127.0.0.1:{httpd.server_address[1]}/v1"
        finally:
            httpd.shutdown()
            serving.join()
