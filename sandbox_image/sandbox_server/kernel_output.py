"""What a kernel says, kept in bounds on its side: nothing is dropped on the way, and no message is larger than ours.

ipykernel publishes as fast as user code prints and zmq drops what a subscriber does not take in time. Here the code
that prints waits instead, with little of it in memory.
"""

import threading
from collections.abc import Iterator
from typing import Any

import zmq
from ipykernel.iostream import IOPubThread, OutStream
from jupyter_client.session import Session

from sandbox_server.kernel_rules import MAX_MESSAGE_BYTES, too_large_to_show

PIECE_CHARS = 64 * 1024
UNSENT_CHARS = 4 * 1024**2
UNSENT_BYTES = 8 * 1024**2
WAIT_AT_MOST_S = 30.0  # for a server that is busy; one that is gone ends this process anyway


class BoundedOutStream(OutStream):
    """Standard output or error: long texts go in pieces, and who writes faster than they go waits."""

    _unsent_chars = 0

    def write(self, string: str) -> int | None:
        written: int | None = super().write(
            string if not isinstance(string, str) or string.isascii() else mended(string)
        )
        self._unsent_chars += len(string)
        if self._unsent_chars > UNSENT_CHARS and self._is_master_process():
            self._unsent_chars = 0
            self.flush()
        return written

    def flush(self) -> None:
        thread = self.pub_thread
        if thread is None or not thread.thread.is_alive() or threading.current_thread() is thread.thread:
            self._flush()
            return
        thread.schedule(self._flush)
        wait_for(thread)

    def _flush_buffers(self) -> Iterator[tuple[dict[str, Any], str]]:
        self._unsent_chars = 0
        for parent, text in super()._flush_buffers():
            for start in range(0, len(text), PIECE_CHARS):
                yield parent, text[start : start + PIECE_CHARS]


class BoundedSession(Session):
    """Leaves out of a message the forms of an output that are too large, and says so."""

    def serialize(self, msg: dict[str, Any], ident: list[bytes] | bytes | None = None) -> list[bytes]:
        try:
            parts: list[bytes] = super().serialize(msg, ident)
        except UnicodeEncodeError:
            return self.serialize({**msg, "content": mended(msg["content"])}, ident)
        size_bytes = sum(map(len, parts))
        if size_bytes <= MAX_MESSAGE_BYTES:
            return parts
        shortened: list[bytes] = super().serialize(
            {**msg, "content": self._shortened(msg["content"], size_bytes)}, ident
        )
        return shortened

    def _shortened(self, content: dict[str, Any], size_bytes: int) -> dict[str, Any]:
        if "data" not in content:
            notice = too_large_to_show(size_bytes)
            return {**content, "evalue": notice, "traceback": [notice]} if "evalue" in content else {"status": "error"}
        forms = {name: form for name, form in content["data"].items() if len(self.pack(form)) <= MAX_MESSAGE_BYTES // 4}
        return {**content, "data": {"text/plain": too_large_to_show(size_bytes), **forms}}


def mended(value: Any) -> Any:
    """Return JSON's values with a question mark for each lone surrogate, which no UTF-8 can carry."""
    match value:
        case str():
            return value.encode("utf-8", "replace").decode()
        case dict():
            return {mended(key): mended(item) for key, item in value.items()}
        case list() | tuple():
            return [mended(item) for item in value]
    return value


def hold_back(thread: IOPubThread) -> None:
    """Let whoever publishes wait while a lot is on its way, and zmq wait for its subscriber instead of dropping."""
    send = thread.send_multipart
    unsent_bytes = 0

    def send_held_back(parts: list[bytes], *args: Any, **kwargs: Any) -> None:
        nonlocal unsent_bytes
        if threading.current_thread() is thread.thread:  # which may not wait for itself, and has nothing before this
            thread._really_send(parts, *args, **kwargs)
            return
        send(parts, *args, **kwargs)
        unsent_bytes += sum(map(len, parts))
        if unsent_bytes > UNSENT_BYTES:
            unsent_bytes = 0
            wait_for(thread)

    thread.schedule(lambda: thread.socket.setsockopt(zmq.XPUB_NODROP, 1))
    thread.send_multipart = send_held_back


def wait_for(thread: IOPubThread) -> None:
    """Return once the thread has done all that it was given before.

    It is a bare lock because an interrupt may come at any point: one that meets `threading.Event.wait` can leave the
    event's own lock held, and the thread that sets the event then waits for ever.
    """
    passed = threading.Lock()
    passed.acquire()
    thread.schedule(passed.release)
    passed.acquire(timeout=WAIT_AT_MOST_S)
