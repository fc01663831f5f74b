"""A turn of the chat over HTTP: sent once, followed to its end whatever happens to the connection, and stopped."""

import contextlib
import json
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from caesarion_cli.client import CLOSE_TIMEOUT_S, FIRST_PAUSE_S, TRIES, Api
from caesarion_cli.failures import Failure

if TYPE_CHECKING:
    import httpx

ENDS = frozenset({"finish", "error", "abort"})
_STREAM = {"Accept": "text/event-stream"}


class Turn:
    """One turn: a new one that `document` asks for, or without it the one that runs already.

    A request that is sent again gives the same turn while it runs and after it, unless it asks for another answer.
    """

    def __init__(
        self,
        api: Api,
        chat: str,
        document: Mapping[str, object] | None = None,
        *,
        noted: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._api = api
        self._path = f"/api/chat/{quote(chat, safe='')}"
        self._document = document
        self._noted = noted
        self._id: str | None = None
        self._asking = document is not None
        self._stop_wanted = False
        self._stopping: threading.Thread | None = None

    def chunks(self) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
        """Yield each chunk as its JSON and decoded; the last is `finish`, `error` or `abort`.

        After a connection that broke they come once more from the first one, `start`, also when the turn has ended
        meanwhile. Nothing comes when no turn was asked for and none runs. Raises Failure when it is refused or nothing
        helps.
        """
        import httpx

        tried = 0
        while True:
            try:
                with self._opened() as response:
                    if response.status_code == 204:
                        if self._document is None and self._id is None:
                            return
                        raise self._lost()
                    for line in _events(response.iter_raw()):
                        if line == b"[DONE]":
                            break
                        chunk = _decoded(line, self._api.url)
                        if chunk["type"] == "start":
                            self._started(chunk)
                        tried = 0
                        yield line, chunk
                        if chunk["type"] in ENDS:
                            return
                problem = Failure(f"{self._api.url} stopped before the turn's end.", code="connection_lost")
            except httpx.TransportError as exc:
                problem = self._api.unreachable(exc)
                if self._id is None and tried == 0 and isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
                    raise problem from exc
            except Failure as failure:
                first = self._id is None and tried == 0
                again = not first and failure.code == "turn_running"  # What runs is what was asked for before.
                if not again and (first or not failure.may_pass or failure.code == "turn_lost"):
                    raise
                self._asking = self._asking and not again
                problem = failure
            tried += 1
            if tried == TRIES:
                raise problem
            if tried == 1:
                self._noted("The connection broke. Asking again for what is missing.")
            time.sleep(FIRST_PAUSE_S * 2 ** (tried - 1))

    def stop(self) -> None:
        """Stop the turn without waiting; when its id is not known yet, as soon as it is."""
        self._stop_wanted = True
        if self._id is not None:
            self._stopping = threading.Thread(target=self._stop, args=(self._id,), daemon=True)
            self._stopping.start()

    def stop_sent(self) -> None:
        """Wait until a stop that was asked for is answered, at most as long as an answer may take."""
        if self._stopping is not None:
            self._stopping.join(CLOSE_TIMEOUT_S)

    def _stop(self, turn: str) -> None:
        with contextlib.suppress(Failure):
            self._api.call("POST", f"{self._path}/stop", document={"turn": turn}, timeout_s=CLOSE_TIMEOUT_S)

    def _started(self, chunk: Mapping[str, Any]) -> None:
        match chunk:
            case {"messageMetadata": {"turn": str(turn)}}:
                first = self._id is None
                self._id = turn
                if first and self._stop_wanted:
                    self.stop()

    def _lost(self) -> Failure:
        return Failure(
            "The turn is not there any more, so what it said after the connection broke cannot be shown. Its session "
            "may have been closed. Ask again.",
            code="turn_lost",
        )

    @contextmanager
    def _opened(self) -> "Iterator[httpx.Response]":
        """Ask for the turn by its id; until that is known, by its document, or for the one that runs."""
        if self._asking and self._id is None:
            self._asking = self._document is not None and self._document.get("trigger") != "regenerate-message"
            request = self._api.outputs("POST", "/api/chat", document=self._document, headers=_STREAM)
        else:
            named = "" if self._id is None else f"?turn={quote(self._id, safe='')}"
            request = self._api.outputs("GET", f"{self._path}/stream{named}", headers=_STREAM)
        with request as response:
            yield response


def content_at(api: Api, path: str) -> bytes:
    """Return what the product has at a path that it named. Raises Failure."""
    import httpx

    if not path.startswith("/"):
        raise Failure(f"{path!r} is not a path of {api.url}.", code="unexpected_answer")
    try:
        with api.outputs("GET", path, headers={"Accept": "*/*"}) as response:
            return response.read()
    except httpx.TransportError as exc:
        raise api.unreachable(exc) from exc


def _decoded(line: bytes, url: str) -> Mapping[str, Any]:
    try:
        chunk = json.loads(line)
    except ValueError:
        chunk = None
    if not isinstance(chunk, dict) or not isinstance(chunk.get("type"), str):
        raise Failure(
            f"{url} answered in a form that is not Caesarion's. Is it the right --url?", code="unexpected_answer"
        )
    return chunk


def _events(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the data of whole server-sent events; comments and one that breaks off are left out."""
    data: list[bytes] = []
    for line in _lines(blocks):
        if line.startswith(b"data:"):
            data.append(line[5:].removeprefix(b" "))
        elif not line and data:
            yield b"\n".join(data)
            data = []


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    held = b""
    for block in blocks:
        *whole, held = (held + block).split(b"\n")
        for line in whole:
            yield line.removesuffix(b"\r")
