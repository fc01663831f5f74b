"""What is outside of the product, as a program for a pod: a model that does what it is told, and a receiver of events.

The model runs what stands behind "Run: " in the user's message, and then says what came of it. Each event is written
to standard output as one line of JSON.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.chat.scripted_model import Call, CallTools, Say, Step, scripted_always

MODEL_PORT, EVENTS_PORT = 8081, 8082
RUN = "Run: "


def step_of(body: dict[str, Any]) -> Step:
    """Return what the model does."""
    last = body["messages"][-1]
    if last["role"] == "tool":
        return Say(f"It said: {last['content']}", chunk_chars=16)
    said = str(last["content"])
    if said.startswith(RUN):
        return CallTools([Call("python", {"code": said.removeprefix(RUN)})])
    return Say(f"You said: {said}", chunk_chars=16)


class Receiver(BaseHTTPRequestHandler):
    """Takes events in binary mode."""

    def do_POST(self) -> None:
        data = self.rfile.read(int(self.headers.get("content-length") or 0))
        event = {
            name.lower().removeprefix("ce-"): value for name, value in self.headers.items() if name.lower()[:3] == "ce-"
        }
        sys.stdout.write(json.dumps({**event, "data": json.loads(data or b"null")}) + "\n")
        self.send_response(202)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


if __name__ == "__main__":
    with scripted_always(step_of, host="0.0.0.0", port=MODEL_PORT):
        ThreadingHTTPServer(("0.0.0.0", EVENTS_PORT), Receiver).serve_forever()
