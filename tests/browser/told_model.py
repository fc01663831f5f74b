"""The scripted model, told by each story what to answer: a story posts its script before its user speaks.

    POST /answers {"said": "Plot it", "steps": [{"type": "say", "pieces": ["Done."]}]}   see `_step`
    POST /gates {"name": "half"}       lets an answer that holds {"gate": "half"} among its pieces go on
    POST /reset                        forgets all, and answers with what went otherwise since the last time

What is asked goes by the last message of the user. Each request takes the next step of that message's script.
"""

import contextlib
import json
import threading
from collections import deque
from collections.abc import Iterator, Sequence
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.chat.scripted_model import Call, CallTools, Cut, Fail, Piece, Say, ScriptedModel, Step

Body = dict[str, Any]


class ToldModel:
    """The running model. `url` is what products are given, `control_url` where stories tell it what to say."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._steps: dict[str, deque[Step]] = {}
        self._gates: dict[str, threading.Event] = {}
        self._problems: list[str] = []
        self._model = ScriptedModel(self._step_of)
        self._control = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._thread = threading.Thread(target=self._control.serve_forever, name="told model")

    @property
    def url(self) -> str:
        return self._model.url

    @property
    def control_url(self) -> str:
        return f"http://127.0.0.1:{self._control.server_address[1]}"

    @contextlib.contextmanager
    def serving(self) -> Iterator[None]:
        """Serve until the end of the block."""
        self._thread.start()
        try:
            with self._model.serving():
                yield
                self.reset()
        finally:
            self._control.shutdown()
            self._thread.join()
            self._control.server_close()

    def told(self, path: str, body: Body) -> Any:
        """Do what a story asks for and return the answer."""
        match path:
            case "/answers":
                with self._lock:
                    steps = [self._step(step) for step in body["steps"]]
                    self._steps.setdefault(body["said"], deque()).extend(steps)
            case "/gates":
                self._gate(body["name"]).set()
            case "/reset":
                return self.reset()
        return None

    def reset(self) -> list[str]:
        """Forget the scripts, let all that waits go on, and return what went otherwise since the last time."""
        with self._lock:
            problems = self._problems
            problems += [f"{len(left)} steps of {said!r} were not used" for said, left in self._steps.items() if left]
            gates = self._gates
            self._steps, self._gates, self._problems = {}, {}, []
        for gate in gates.values():
            gate.set()
        return problems

    def _step_of(self, body: Body) -> Step:
        said = _said(body)
        with self._lock:
            left = self._steps.get(said)
            if left:
                return left.popleft()
            problem = f"the model was asked {said[:200]!r}, for which no step is left"
            self._problems.append(problem)
        return Fail(400, problem)

    def _step(self, told: Body) -> Step:
        match told["type"]:
            case "say":
                return Say(self._pieces(told["pieces"]))
            case "python":
                code = {"code": told["code"]}
                return CallTools([Call("python", code)], text=self._pieces(told["pieces"]), chunk_chars=4096)
            case "fail":
                return Fail(told["status"], told["message"], after=self._pieces(told["pieces"]))
            case "cut":
                return Cut(self._pieces(told["pieces"]))
        raise ValueError(f"no such step: {told['type']}")

    def _pieces(self, told: Sequence[str | Body]) -> list[Piece]:
        return [piece if isinstance(piece, str) else self._gate(piece["gate"]) for piece in told]

    def _gate(self, name: str) -> threading.Event:
        return self._gates.setdefault(name, threading.Event())


def _said(body: Body) -> str:
    """Return what the user said last. Pictures that code made come in the user's name too, but not as plain text."""
    said = [message["content"] for message in body["messages"] if message["role"] == "user"]
    return next((content for content in reversed(said) if isinstance(content, str)), "")


def _handler(model: ToldModel) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers.get("content-length") or 0)) or b"{}")
            answer = json.dumps(model.told(self.path, body)).encode()
            self.send_response(200)
            self.send_header("content-type", "application/json")
            self.send_header("content-length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: Any) -> None:
            """Say nothing."""

    return Handler
