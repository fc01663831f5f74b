"""The functions over HTTP, as the commands need them: the one place that knows paths, errors and how to resume.

httpx is imported when the first client is made.
"""

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from caesarion.ids import DEFAULT_CONTEXT, new_id
from caesarion.settings import Secret, is_loopback
from caesarion_cli.failures import Failure

if TYPE_CHECKING:
    import httpx

STARTS_WAITED_FOR = 3  # each for as long as the server waits, a minute
CONNECT_TIMEOUT_S = 10.0
ANSWER_TIMEOUT_S = 90.0
CLOSE_TIMEOUT_S = 15.0
QUIET_S = 60.0
TRIES = 7  # with the pauses between them: 12.6 s, in which the product may have been started again
FIRST_PAUSE_S = 0.2
BLOCK_BYTES = 256 * 1024


class Api:
    """A connection to the functions at `url`. Its methods raise Failure. May be used from several threads."""

    def __init__(self, url: str, key: Secret) -> None:
        import httpx

        parts = urlsplit(url)
        self.url = url.rstrip("/")
        self._has_key = bool(key)
        # A proxy of the environment is for others, not for this machine; and where no TLS is spoken the system's
        # certificates need not be read, which takes longer than a request.
        self._http = httpx.Client(
            headers={
                "Accept-Encoding": "identity",
                "User-Agent": "caesarion-cli",
                **({"Authorization": f"Bearer {key.reveal()}"} if key else {}),
            },
            timeout=httpx.Timeout(ANSWER_TIMEOUT_S, connect=CONNECT_TIMEOUT_S),
            trust_env=not is_loopback(parts.hostname or ""),
            verify=ssl.create_default_context() if parts.scheme == "https" else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT),
        )

    def close(self) -> None:
        """Close the connections."""
        self._http.close()

    def initialize(self, session: str) -> Mapping[str, Any]:
        """Make or wake a session and return it, ready unless its start takes minutes: then its first use waits on."""
        for _ in range(STARTS_WAITED_FOR):
            document: Mapping[str, Any] = self.call("POST", f"{_session(session)}/initialize")
            if document["state"] != "starting":
                break
        return document

    def new_session(self, *, idle_timeout_s: float | None) -> Mapping[str, Any]:
        """Return a new session, ready."""
        wanted = {} if idle_timeout_s is None else {"idle_timeout_s": idle_timeout_s}
        document: Mapping[str, Any] = self.call("POST", "/sessions", document=wanted)
        return document

    def session(self, session: str) -> Mapping[str, Any]:
        """Return a session as it is."""
        document: Mapping[str, Any] = self.call("GET", _session(session))
        return document

    def sessions(self) -> Any:
        """Return the document with all sessions."""
        return self.call("GET", "/sessions")

    def close_session(self, session: str) -> None:
        """End a session, its variables and files. One that is not there is as good."""
        self.call("DELETE", _session(session), timeout_s=CLOSE_TIMEOUT_S)

    def add_context(self, session: str, context: str) -> None:
        """See to it that a session has this context."""
        if context != DEFAULT_CONTEXT:
            self.call("POST", f"{_session(session)}/contexts", document={"name": context})

    def complete(self, session: str, context: str, code: str, cursor_pos: int, *, timeout_s: float) -> Any:
        """Return what could stand at the cursor, in the words of Jupyter's complete_reply."""
        path = f"{_session(session)}/contexts/{quote(context, safe='')}/complete"
        return self.call("POST", path, document={"code": code, "cursor_pos": cursor_pos}, timeout_s=timeout_s)

    def is_complete(self, session: str, context: str, code: str, *, timeout_s: float) -> Any:
        """Return whether code would run as it is, in the words of Jupyter's is_complete_reply."""
        path = f"{_session(session)}/contexts/{quote(context, safe='')}/is_complete"
        return self.call("POST", path, document={"code": code}, timeout_s=timeout_s)

    def interrupt(self, session: str, execution: str) -> None:
        """Interrupt an execution; variables stay."""
        self.call("DELETE", f"{_session(session)}/executions/{quote(execution, safe='')}", timeout_s=CLOSE_TIMEOUT_S)

    def files(self, session: str) -> Any:
        """Return the document with all files of a session."""
        return self.call("GET", f"{_session(session)}/files")

    def upload(self, session: str, name: str, blocks: Iterable[bytes], size_bytes: int | None) -> Any:
        """Store a file in place of its namesake, as `blocks` come, and return what the list of files says of it."""
        headers = {"Content-Type": "application/octet-stream"}
        if size_bytes is not None:
            headers["Content-Length"] = str(size_bytes)
        with self._failures_named():
            response = self._http.put(self.url + _file(session, name), content=iter(blocks), headers=headers)
            return self._decoded(response)

    def delete_file(self, session: str, name: str) -> None:
        """Remove a file."""
        self.call("DELETE", _file(session, name))

    @contextmanager
    def file(self, session: str, name: str) -> Iterator["Download"]:
        """Give a file to be read. Raises Failure when it is not there or breaks off."""
        with self._download(_file(session, name), {}) as download:
            yield download

    @contextmanager
    def notebook(self, session: str, context: str) -> Iterator["Download"]:
        """Give the notebook of a context to be read."""
        with self._download(f"{_session(session)}/notebook.ipynb", {"context": context}) as download:
            yield download

    def call(self, method: str, path: str, *, document: object = None, timeout_s: float = ANSWER_TIMEOUT_S) -> Any:
        """Send a request and return its decoded answer, or None for an empty one."""
        import httpx

        timeout = httpx.Timeout(timeout_s, connect=min(timeout_s, CONNECT_TIMEOUT_S))
        with self._failures_named():
            return self._decoded(self._http.request(method, self.url + path, json=document, timeout=timeout))

    @contextmanager
    def outputs(
        self, method: str, path: str, *, document: object = None, headers: Mapping[str, str] | None = None
    ) -> Iterator["httpx.Response"]:
        """Give the answer with an execution's outputs; what breaks while it is read comes out as httpx raises it."""
        import httpx

        timeout = httpx.Timeout(QUIET_S, connect=CONNECT_TIMEOUT_S)
        accept = {"Accept": "application/x-ndjson", **(headers or {})}
        with self._http.stream(method, self.url + path, json=document, headers=accept, timeout=timeout) as response:
            if response.is_error:
                response.read()
                raise self._refusal(response)
            yield response

    def unreachable(self, exc: Exception) -> Failure:
        """Return the failure that a broken or refused connection stands for."""
        import httpx

        if isinstance(exc, httpx.ConnectError | httpx.ConnectTimeout):
            return Failure(
                f"Nothing answers at {self.url}. Start the product with `caesarion serve`, or say where it is with "
                "--url or CAESARION_URL.",
                code="unreachable",
            )
        if isinstance(exc, httpx.TimeoutException):
            return Failure(f"{self.url} did not answer in time.", code="no_answer")
        return Failure(f"The connection to {self.url} broke: {exc or type(exc).__name__}.", code="connection_lost")

    @contextmanager
    def _download(self, path: str, params: Mapping[str, str]) -> Iterator["Download"]:
        with self._failures_named(), self._http.stream("GET", self.url + path, params=params) as response:
            if response.is_error:
                response.read()
                raise self._refusal(response)
            size = response.headers.get("Content-Length")
            yield Download(response.iter_raw(BLOCK_BYTES), int(size) if size is not None else None)

    @contextmanager
    def _failures_named(self) -> Iterator[None]:
        import httpx

        try:
            yield
        except httpx.TransportError as exc:
            raise self.unreachable(exc) from exc

    def _decoded(self, response: "httpx.Response") -> Any:
        if response.is_error:
            raise self._refusal(response)
        if response.status_code == 204:
            return None
        try:
            return response.json()
        except ValueError:
            raise self._foreign(response) from None

    def _refusal(self, response: "httpx.Response") -> Failure:
        try:
            body = response.json()
        except ValueError:
            body = None
        match body:
            case {"error": {"code": str(code), "message": str(message), **rest}}:
                if code == "unauthorized" and not self._has_key:
                    message = f"{message} Put your key into CAESARION_API_KEY."
                error_id = rest.get("id")
                known_id = error_id if isinstance(error_id, str) else None
                return Failure(message, code=code, error_id=known_id, status=response.status_code)
        return self._foreign(response)

    def _foreign(self, response: "httpx.Response") -> Failure:
        return Failure(
            f"{self.url} answered with status {response.status_code} in a form that is not Caesarion's. Is it the "
            "right --url?",
            code="unexpected_answer",
            status=response.status_code,
        )


class Download:
    """A body as it comes."""

    def __init__(self, blocks: Iterator[bytes], size_bytes: int | None) -> None:
        self.blocks = blocks
        self.size_bytes = size_bytes


class Execution:
    """Code that is run once, whatever happens to the connection, and followed to its end."""

    def __init__(
        self,
        api: Api,
        session: str,
        code: str,
        *,
        context: str = DEFAULT_CONTEXT,
        timeout_s: float | None = None,
        noted: Callable[[str], None] = lambda text: None,
    ) -> None:
        self._api = api
        self._session = session
        self._document: dict[str, object] = {"code": code, "context": context}
        if timeout_s is not None:
            self._document["timeout_s"] = timeout_s
        self._noted = noted
        self._key = new_id("run")
        self._id: str | None = None
        self._interrupt_wanted = False
        self._interrupting: threading.Thread | None = None

    def outputs(self) -> Iterator[tuple[bytes, Mapping[str, Any]]]:
        """Yield each output once, as its line (without the newline) and decoded; the last is `finished`.

        A connection that breaks is made again a few times: what was seen is not asked for again, and the key under
        which the code was sent keeps it from running twice. Raises Failure when it is refused or nothing helps.
        """
        import httpx

        last_seq = 0
        tried = 0
        while True:
            answered = False
            try:
                with self._opened(last_seq) as response:
                    answered = True
                    for line in _lines(response.iter_raw()):
                        record = json.loads(line)
                        if record["seq"] <= last_seq:
                            continue
                        last_seq, tried = record["seq"], 0
                        yield line, record
                        if record["type"] == "finished":
                            return
                problem = Failure(f"{self._api.url} stopped before the execution's end.", code="connection_lost")
            except httpx.ReadTimeout as exc:
                if answered:  # Nothing came for a while: the code is quiet, or the connection is dead without a sign.
                    continue
                problem = self._api.unreachable(exc)
            except httpx.TransportError as exc:
                problem = self._api.unreachable(exc)
            except Failure as failure:
                if self._id is None or not failure.may_pass:
                    raise
                problem = failure
            tried += 1
            if tried == TRIES:
                raise problem
            if tried == 1:
                self._noted("The connection broke. Asking again for what is missing.")
            time.sleep(FIRST_PAUSE_S * 2 ** (tried - 1))

    def interrupt(self) -> None:
        """Interrupt the code without waiting; when it is not known to run yet, as soon as it is."""
        self._interrupt_wanted = True
        if self._id is not None:
            self._interrupting = threading.Thread(target=self._interrupt, args=(self._id,), daemon=True)
            self._interrupting.start()

    def interrupt_sent(self) -> None:
        """Wait until an interrupt that was asked for is answered, at most as long as an answer may take."""
        if self._interrupting is not None:
            self._interrupting.join(CLOSE_TIMEOUT_S)

    def _interrupt(self, execution: str) -> None:
        with contextlib.suppress(Failure):
            self._api.interrupt(self._session, execution)

    @contextmanager
    def _opened(self, after: int) -> Iterator["httpx.Response"]:
        executions = f"{_session(self._session)}/executions"
        if self._id is not None:
            with self._api.outputs("GET", f"{executions}/{self._id}/outputs?after={after}") as response:
                yield response
            return
        sent = {"Idempotency-Key": self._key}
        with self._api.outputs("POST", executions, document=self._document, headers=sent) as response:
            self._id = response.headers.get("X-Execution-Id")
            if self._interrupt_wanted:
                self.interrupt()
            yield response


def _lines(blocks: Iterable[bytes]) -> Iterator[bytes]:
    """Yield whole lines; one that breaks off is left out."""
    held: list[bytes] = []
    for block in blocks:
        *whole, rest = block.split(b"\n")
        for line in whole:
            held.append(line)
            yield b"".join(held)
            held = []
        held.append(rest)


def _session(session: str) -> str:
    return f"/sessions/{quote(session, safe='')}"


def _file(session: str, name: str) -> str:
    return f"{_session(session)}/files/{quote(name, safe='/')}"
