"""The chat's streams as a chat page meets them: judged by the AI SDK in Node, or read here as server-sent events."""

import contextlib
import functools
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import httpx

ROOT = Path(__file__).parents[2]
JUDGE = ROOT / "frontend" / "tests" / "judge.mjs"
MIN_NODE = 20
DEADLINE_S = 200.0

Chunk = dict[str, Any]


@dataclass(frozen=True)
class Judged:
    """What the AI SDK made of one stream. `errors` is empty when a page could show all of it.

    A turn that failed properly, with an `error` chunk, has no errors; a status that is not 2xx is one, with the
    body as its text. `message` is the assistant's message as the page holds it at the end.
    """

    status: int | None
    headers: dict[str, str]
    chunks: list[Chunk]
    message: dict[str, Any] | None
    errors: list[str]

    @property
    def types(self) -> list[str]:
        """The chunks' types, in order."""
        return [chunk["type"] for chunk in self.chunks]

    @property
    def text(self) -> str:
        """All the text that the model said."""
        return "".join(chunk["delta"] for chunk in self.chunks if chunk["type"] == "text-delta")


class Judging:
    """A judge at work. Iterating gives each chunk as it arrives; `result` waits for the end."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._judged: Judged | None = None

    def __iter__(self) -> Iterator[Chunk]:
        assert self._process.stdout is not None
        for line in self._process.stdout:
            found = json.loads(line)
            if "chunk" not in found:
                self._judged = Judged(**found)
                return
            yield found["chunk"]

    def result(self) -> Judged:
        """Read what is left of the stream and return the verdict."""
        for _ in self:
            pass
        assert self._judged is not None, "the judge ended without a verdict, or its deadline passed"
        return self._judged


@functools.cache
def node() -> str:
    """Return the path of Node 20 or newer: that on PATH, else that which scripts/setup has installed."""
    for found in (shutil.which("node"), str(ROOT / ".tools" / "bin" / "node")):
        with contextlib.suppress(OSError, ValueError):
            if found and int(_version(found).removeprefix("v").split(".")[0]) >= MIN_NODE:
                return found
    raise FileNotFoundError(f"Node {MIN_NODE} or newer is needed; run scripts/setup")


@contextlib.contextmanager
def judging(
    url: str,
    session: str,
    text: str = "",
    *,
    mode: Literal["send", "resume"] = "send",
    messages: Sequence[Mapping[str, Any]] | None = None,
    headers: Mapping[str, str] | None = None,
    leave_after_chunks: int | None = None,
    deadline_s: float = DEADLINE_S,
    **more: Any,
) -> Iterator[Judging]:
    """Judge one stream of the server at `url` while the block acts on it; the judge ends with the block.

    Sends `messages`, or one message with `text`; "resume" asks for the running turn. `leave_after_chunks` makes the
    page go away in mid-stream. `more` are fields of the job as judge.mjs knows them.
    """
    asked = {"api": f"{url}/api/chat", "id": session, "mode": mode, "text": text, "messages": messages}
    job = {**asked, "headers": headers, "abortAfterChunks": leave_after_chunks, "live": True, **more}
    with subprocess.Popen([node(), JUDGE], stdin=subprocess.PIPE, stdout=subprocess.PIPE, encoding="utf-8") as process:
        deadline = threading.Timer(deadline_s, process.kill)
        deadline.start()
        try:
            assert process.stdin is not None
            process.stdin.write(json.dumps(job))
            process.stdin.close()
            yield Judging(process)
        finally:
            deadline.cancel()
            process.kill()
            deadline.join()


def judged(url: str, session: str, text: str = "", **more: Any) -> Judged:
    """Judge one stream to its end, or until the page leaves; arguments as for `judging`."""
    with judging(url, session, text, **more) as judge:
        return judge.result()


def chunks_of(response: httpx.Response) -> Iterator[Chunk]:
    """Yield a stream's chunks as they arrive, and assert that all frames are as the protocol has them.

    A frame is one `data:` line or one comment, and an empty line; `data: [DONE]` is the last.
    """
    assert response.headers["content-type"].startswith("text/event-stream"), response.headers["content-type"]
    assert response.headers["x-vercel-ai-ui-message-stream"] == "v1"
    rest = ""
    done = False
    for text in response.iter_text():
        *frames, rest = (rest + text).split("\n\n")
        for frame in frames:
            assert not done, f"a frame after [DONE]: {frame!r}"
            assert "\n" not in frame, f"a frame of more than one line: {frame!r}"
            if frame.startswith(":"):
                continue
            assert frame.startswith("data: "), f"neither data nor a comment: {frame!r}"
            done = frame == "data: [DONE]"
            if not done:
                chunk = json.loads(frame.removeprefix("data: "))
                assert isinstance(chunk, dict) and isinstance(chunk.get("type"), str), chunk
                yield chunk
    assert done, "the stream ended without [DONE]"
    assert rest == "", f"a frame without its end: {rest!r}"


def _version(path: str) -> str:
    return subprocess.run([path, "--version"], capture_output=True, text=True, check=True).stdout
