"""The tests' scripted model as a process of its own, so that it shares no interpreter with those who read.

Run as `python -m bench.chat_model`; it prints its address. What it answers goes by the last message: SHORT, LONG, CALL
and HOLD as they say, RELEASE lets all that HOLD go on. Other messages, tool results among them, are answered briefly.
"""

import signal
import threading
import time
from typing import Any

from tests.chat.scripted_model import Call, CallTools, Hang, Say, Step, scripted_always

SHORT, LONG, HOLD, RELEASE = "short", "long", "hold", "release"
CALL = "call "
LONG_PIECES = 200
CALLED_AT = "# called at "


def main() -> None:
    """Answer until ended."""
    gate = threading.Event()

    def step_of(body: dict[str, Any]) -> Step:
        last = body["messages"][-1]
        said = str(last["content"]) if last["role"] == "user" else ""
        if said == LONG:
            return Say([f" word{number}" for number in range(LONG_PIECES)])
        if said == HOLD:
            return Hang(until=gate, text="held")
        if said == RELEASE:
            gate.set()
        if said.startswith(CALL):
            code = f"{said.removeprefix(CALL)}\n{CALLED_AT}{time.perf_counter()}\n"
            return CallTools([Call("python", {"code": code})], chunk_chars=len(code) * 2)
        return Say(["a ", "short ", "answer"])

    ending = (signal.SIGINT, signal.SIGTERM)
    signal.pthread_sigmask(signal.SIG_BLOCK, ending)
    with scripted_always(step_of) as model:
        print(f"ready {model.url}", flush=True)
        signal.sigwait(ending)
        gate.set()


if __name__ == "__main__":
    main()
