"""The judge of chat streams, against a server that sends what a test says: it passes what is right and nothing else."""

import contextlib
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import httpx
import pytest

from tests.chat.ui import Chunk, chunks_of, judged, judging

DEADLINE_S = 200.0
STREAM = {"content-type": "text/event-stream", "x-vercel-ai-ui-message-stream": "v1"}
START: list[Chunk] = [{"type": "start", "messageId": "m1", "messageMetadata": {"turn": "t1"}}, {"type": "start-step"}]
SAID: list[Chunk] = [
    {"type": "text-start", "id": "1"},
    {"type": "text-delta", "id": "1", "delta": "Hel"},
    {"type": "text-delta", "id": "1", "delta": "lo"},
    {"type": "text-end", "id": "1"},
]
RAN: list[Chunk] = [
    {"type": "tool-input-start", "toolCallId": "c1", "toolName": "python"},
    {"type": "tool-input-delta", "toolCallId": "c1", "inputTextDelta": '{"code": "1"}'},
    *[{"type": "tool-input-available", "toolCallId": "c1", "toolName": "python", "input": {"code": "1"}}],
    {"type": "tool-output-available", "toolCallId": "c1", "output": {"status": "running"}, "preliminary": True},
    {"type": "tool-output-available", "toolCallId": "c1", "output": {"status": "ok"}},
    {"type": "data-notice", "data": {"text": "that was all"}},
]
FINISH: list[Chunk] = [{"type": "finish-step"}, {"type": "finish", "finishReason": "stop"}]
GOOD = [*START, *SAID, *RAN, *FINISH]

Answer = Callable[[BaseHTTPRequestHandler], None]


def frames(chunks: list[Chunk], end: str = "data: [DONE]\n\n") -> bytes:
    return ("".join(f"data: {json.dumps(chunk)}\n\n" for chunk in chunks) + end).encode()


def sending(body: bytes, status: int = 200, headers: dict[str, str] = STREAM) -> Answer:
    def answer(to: BaseHTTPRequestHandler) -> None:
        to.send_response(status)
        for name, value in headers.items():
            to.send_header(name, value)
        to.end_headers()
        to.wfile.write(body)

    return answer


@contextlib.contextmanager
def serving(answer: Answer, requests: list[Any] | None = None) -> Iterator[str]:
    """Serve this answer on every path, keep (path, body) of the requests, and give the address."""

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["content-length"])))
            if requests is not None:
                requests.append((self.path, body))
            answer(self)

        def do_GET(self) -> None:
            if requests is not None:
                requests.append((self.path, None))
            answer(self)

        def log_message(self, *args: Any) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = False

    with Server(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()


def test_a_good_stream_passes_and_gives_the_page_its_message() -> None:
    requests: list[Any] = []
    with serving(sending(frames(GOOD)), requests) as url:
        found = judged(url, "s1", "hi")
    assert (found.errors, found.status, found.chunks) == ([], 200, GOOD)
    assert found.text == "Hello" and found.types[-1] == "finish"
    assert found.message is not None and found.message["metadata"] == {"turn": "t1"}
    assert [part["type"] for part in found.message["parts"]] == ["step-start", "text", "tool-python", "data-notice"]
    path, body = requests[0]
    assert (path, body["id"], body["trigger"]) == ("/api/chat", "s1", "submit-message")
    assert body["messages"][-1]["parts"] == [{"type": "text", "text": "hi"}]


@pytest.mark.parametrize("end", [{"type": "error", "errorText": "no model"}, {"type": "abort", "reason": "stopped"}])
def test_a_turn_that_fails_or_stops_properly_passes(end: Chunk) -> None:
    with serving(sending(frames([*START, *SAID, end]))) as url:
        found = judged(url, "s1", "hi")
    assert found.errors == [] and found.chunks[-1] == end


@pytest.mark.parametrize(
    ("chunks", "problem"),
    [
        pytest.param([*START, {"type": "surprise"}, *FINISH], "surprise", id="an unknown type"),
        pytest.param([*START, {"type": "finish", "finishReason": None}], "finishReason", id="null"),
        pytest.param([*START, *SAID], "0 chunks of type finish", id="no end"),
        pytest.param([*GOOD, *FINISH], "2 chunks of type finish", id="two ends"),
        pytest.param([*GOOD, {"type": "start-step"}], "chunks come after finish", id="more after the end"),
        pytest.param([*START, SAID[1], *FINISH], "text-start", id="a delta of a text that has not begun"),
        pytest.param([*START, *SAID[:-1], *FINISH], "text part is still streaming", id="a text that has no end"),
        pytest.param([*START, *RAN[:3], *FINISH], "tool-python part is still", id="a tool that has no output"),
    ],
)
def test_a_stream_that_a_page_would_stumble_over_is_reported(chunks: list[Chunk], problem: str) -> None:
    with serving(sending(frames(chunks))) as url:
        found = judged(url, "s1", "hi")
    assert problem in "\n".join(found.errors)


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        pytest.param(sending(frames(GOOD, end="")), "[DONE]", id="no done"),
        pytest.param(sending(frames(GOOD), headers={"content-type": "text/event-stream"}), "v1", id="no version"),
        pytest.param(sending(frames(GOOD), headers={**STREAM, "content-type": "text/plain"}), "plain", id="not sse"),
        pytest.param(sending(b'{"error": "turn_running"}', 409), "turn_running", id="refused"),
    ],
)
def test_a_bad_frame_of_the_stream_is_reported(answer: Answer, problem: str) -> None:
    with serving(answer) as url:
        found = judged(url, "s1", "hi")
    assert problem in "\n".join(found.errors)


def test_a_page_that_comes_back_when_nothing_runs_finds_nothing() -> None:
    requests: list[Any] = []
    with serving(sending(b"", 204), requests) as url:
        found = judged(url, "s1", mode="resume")
    assert (found.status, found.chunks, found.message, found.errors) == (204, [], None, [])
    assert requests == [("/api/chat/s1/stream", None)]


def test_a_page_that_comes_back_reads_the_running_turn() -> None:
    with serving(sending(frames(GOOD))) as url:
        assert judged(url, "s1", mode="resume").chunks == GOOD


def test_chunks_are_seen_as_they_arrive() -> None:
    gate = threading.Event()

    def answer(to: BaseHTTPRequestHandler) -> None:
        sending(frames(GOOD[:3], end=""))(to)
        assert gate.wait(DEADLINE_S)
        to.wfile.write(frames(GOOD[3:]))

    with serving(answer) as url, judging(url, "s1", "hi") as judge:
        arriving = iter(judge)
        assert [next(arriving) for _ in range(3)] == GOOD[:3]
        gate.set()
        assert [*arriving] == GOOD[3:]
        assert judge.result().errors == []


def test_a_page_may_leave_in_mid_stream() -> None:
    left = threading.Event()

    def answer(to: BaseHTTPRequestHandler) -> None:
        sending(frames(GOOD[:5], end=""))(to)
        to.connection.settimeout(DEADLINE_S)
        with contextlib.suppress(ConnectionResetError):
            assert to.connection.recv(1) == b""
        left.set()

    with serving(answer) as url:
        found = judged(url, "s1", "hi", leave_after_chunks=4)
        assert left.wait(DEADLINE_S)
    assert found.errors == [] and len(found.chunks) >= 4


def test_frames_are_read_without_a_page() -> None:
    body = b": keep-alive\n\n" + frames(GOOD)
    with serving(sending(body)) as url, httpx.stream("GET", url) as response:
        assert [*chunks_of(response)] == GOOD


@pytest.mark.parametrize(
    ("body", "problem"),
    [
        (frames(GOOD, end=""), "without"),
        (frames(GOOD) + frames(GOOD), "after"),
        (b"data: {}\nid: 1\n\n", "more than one line"),
        (b"event: x\n\n", "neither data nor a comment"),
        (frames(GOOD) + b"data: ", "without its end"),
    ],
)
def test_bad_frames_fail_without_a_page(body: bytes, problem: str) -> None:
    with serving(sending(body)) as url, httpx.stream("GET", url) as response:
        with pytest.raises(AssertionError, match=problem):
            list(chunks_of(response))
