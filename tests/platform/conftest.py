"""Sessions of the running product, and what its log says."""

import contextlib
import json
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import httpx
import pytest

from caesarion.logs import JsonFormatter
from caesarion.principals import key_digest
from tests.conftest import ProductServer

Output = dict[str, Any]
KEYS = {"alice": "cz_alice", "bob": "cz_bob"}


@dataclass(frozen=True, slots=True)
class Running:
    """An execution whose outputs are being read."""

    id: str
    outputs: Iterator[Output]


@dataclass(frozen=True, slots=True)
class Session:
    """A session of the product, and its user."""

    id: str
    client: httpx.Client

    @property
    def path(self) -> str:
        return f"/sessions/{self.id}"

    @property
    def executions(self) -> str:
        return f"{self.path}/executions"

    def run(self, code: str, *, headers: dict[str, str] | None = None, **fields: Any) -> list[Output]:
        """Run code to its end and return its outputs."""
        with self.begun(code, headers=headers, **fields) as running:
            return list(running.outputs)

    def said(self, code: str, **fields: Any) -> str:
        """Run code to its end and return what it printed."""
        return text_of(self.run(code, **fields))

    @contextlib.contextmanager
    def begun(self, code: str, *, headers: dict[str, str] | None = None, **fields: Any) -> Iterator[Running]:
        """Run code, and leave it at the end of the block."""
        body = {"code": code, **fields}
        with self.client.stream("POST", self.executions, json=body, headers=headers) as reply:
            yield _running(reply)

    @contextlib.contextmanager
    def following(self, execution: str, after: int = 0) -> Iterator[Running]:
        """Read an execution's outputs until the end of the block."""
        with self.client.stream("GET", f"{self.executions}/{execution}/outputs", params={"after": after}) as reply:
            yield _running(reply)

    def interrupt(self, execution: str) -> None:
        """Interrupt an execution."""
        assert self.client.delete(f"{self.executions}/{execution}").status_code == 204

    def open_gate(self, name: str) -> None:
        """Let code that waits for `gate(name)` go on."""
        assert self.client.put(f"{self.path}/files/{name}.txt", content=b"go").status_code == 201


def gate(name: str) -> str:
    """Return code that waits until `Session.open_gate` is called."""
    return f"import os, time\nwhile not os.path.exists('{name}.txt'): time.sleep(0.01)\n"


def text_of(outputs: list[Output], name: str = "stdout") -> str:
    """Return all that was written to a stream."""
    return "".join(output["text"] for output in outputs if output["type"] == "stream" and output["name"] == name)


def only(outputs: list[Output], kind: str) -> list[Output]:
    """Return the outputs of one type; what earlier tests left may stand before them."""
    found = [output for output in outputs if output["type"] == kind]
    assert found, outputs
    return found


def shape(outputs: list[Output]) -> list[str]:
    """Return the types of outputs in order. Text may come in any number of pieces, so texts in a row count once."""
    return [kind for (kind, _), _ in groupby(outputs, lambda output: (output["type"], output.get("name")))]


def failure(reply: httpx.Response) -> tuple[int, str]:
    """Return the status and code of a failure, which has the one shape."""
    assert reply.headers["content-type"] == "application/json", reply.text
    told = reply.json()
    assert set(told) == {"error"}
    assert set(told["error"]) == {"code", "message", "id"}
    assert all(isinstance(text, str) and text for text in told["error"].values())
    assert told["error"]["id"] == reply.headers["x-request-id"]
    return reply.status_code, told["error"]["code"]


def new_session(client: httpx.Client, **spec: Any) -> Session:
    """Make a session."""
    reply = client.post("/sessions", json=spec)
    assert reply.status_code == 201, reply.text
    return Session(reply.json()["id"], client)


@contextlib.contextmanager
def temporary_session(client: httpx.Client, **spec: Any) -> Iterator[Session]:
    """Give a session of its own for the block."""
    session = new_session(client, **spec)
    try:
        yield session
    finally:
        assert client.delete(session.path).status_code == 204


@contextlib.contextmanager
def client_of(url: str, key: str | None = None) -> Iterator[httpx.Client]:
    """Give a client of an app, with this API key."""
    headers = {"Authorization": f"Bearer {key}"} if key else {}
    with httpx.Client(base_url=url, timeout=200, headers=headers) as client:
        yield client


@pytest.fixture(scope="session")
def client(product_server: ProductServer) -> Iterator[httpx.Client]:
    with client_of(product_server.url) as client:
        yield client


@pytest.fixture(scope="session")
def session(client: httpx.Client) -> Session:
    """A session that tests share: they leave nothing running in it, and expect no variable of another."""
    return new_session(client)


@pytest.fixture(scope="session")
def neighbour(client: httpx.Client) -> Session:
    """Another session, in which nothing bad happens."""
    return new_session(client)


@pytest.fixture(scope="session")
def keyed_url(product_server: ProductServer) -> str:
    """The address of an app that wants a key."""
    return product_server.serve({"CAESARION_API_KEYS": ",".join(f"{n}:{key_digest(k)}" for n, k in KEYS.items())})


@pytest.fixture(scope="session")
def alice(keyed_url: str) -> Iterator[httpx.Client]:
    with client_of(keyed_url, KEYS["alice"]) as client:
        yield client


@pytest.fixture(scope="session")
def bob(keyed_url: str) -> Iterator[httpx.Client]:
    with client_of(keyed_url, KEYS["bob"]) as client:
        yield client


@pytest.fixture(scope="session")
def alices(alice: httpx.Client) -> Session:
    """A session of alice."""
    return new_session(alice)


class LogLines(list[dict[str, Any]]):
    """The lines logged so far."""

    def having(self, count: int = 1, **fields: Any) -> list[dict[str, Any]]:
        """Wait until this many lines have these fields, and return all that have them.

        The line of a request is written after the last byte of its answer, so a client may be ahead of it.
        """
        while len(found := [line for line in list(self) if fields.items() <= line.items()]) < count:
            time.sleep(0.01)
        return found


@pytest.fixture
def log_lines() -> Iterator[LogLines]:
    """What the product logs during the test, as the JSON it writes."""
    kept = _Kept()
    root = logging.getLogger()
    level = root.level
    root.addHandler(kept)
    root.setLevel("INFO")
    yield kept.lines
    root.removeHandler(kept)
    root.setLevel(level)


class _Kept(logging.Handler):
    def __init__(self) -> None:
        super().__init__()
        self.lines = LogLines()
        self.setFormatter(JsonFormatter())

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(json.loads(self.format(record)))


def _running(reply: httpx.Response) -> Running:
    if reply.status_code != 200:
        raise AssertionError(reply.read())
    return Running(reply.headers["x-execution-id"], _outputs(reply))


def _outputs(reply: httpx.Response) -> Iterator[Output]:
    """Yield the outputs as their lines come. Only a newline ends one; other separators may stand in a text."""
    held = b""
    for chunk in reply.iter_bytes():
        *lines, held = (held + chunk).split(b"\n")
        yield from map(json.loads, lines)
    assert not held
