"""The real command as a user has it, with a home and a working directory of its own, against the running product."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pytest

from caesarion.ids import new_id
from tests.cli.person import Person
from tests.conftest import ProductServer

COMMAND = str(Path(sys.executable).with_name("caesarion"))
DEADLINE_S = 200


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    code: int
    output: bytes
    errors: bytes

    @property
    def out(self) -> str:
        return self.output.decode()

    @property
    def err(self) -> str:
        return self.errors.decode()

    @property
    def lines(self) -> list[Any]:
        """What it printed, a JSON document a line."""
        return [json.loads(line) for line in self.output.splitlines()]

    @property
    def error(self) -> dict[str, str]:
        """What a failure told in JSON."""
        told: dict[str, str] = json.loads(self.errors)["error"]
        return told


class Running:
    """A command that has not ended."""

    def __init__(self, process: "subprocess.Popen[bytes]") -> None:
        self._process = process

    def next_line(self) -> str:
        """Wait for a further line of its output."""
        assert self._process.stdout is not None
        return self._process.stdout.readline().decode()

    def press_ctrl_c(self) -> None:
        """Send what Ctrl-C sends."""
        self._process.send_signal(signal.SIGINT)

    def stop_reading(self) -> None:
        """Close the other end of its output, as `| head` does when it has enough."""
        assert self._process.stdout is not None
        self._process.stdout.close()

    def terminate(self) -> None:
        """Ask it to end."""
        self._process.terminate()

    def finished(self) -> Finished:
        """Wait for its end."""
        output, errors = self._process.communicate(timeout=DEADLINE_S)
        return Finished(self._process.returncode, output, errors)


class Caesarion:
    """Runs the command."""

    def __init__(self, url: str, folder: Path) -> None:
        self.url = url
        self.home = folder / "home"
        self.folder = folder / "work"
        self.home.mkdir()
        self.folder.mkdir()
        self._env = {
            "PATH": os.environ["PATH"],
            "HOME": str(self.home),
            "LANG": "C.UTF-8",
            "CAESARION_URL": url,
            "CAESARION_HOME": str(self.home / "caesarion"),
        }

    def __call__(self, *args: str, given: str | bytes = "", env: dict[str, str] | None = None) -> Finished:
        """Run the command to its end with `given` as its standard input."""
        process = subprocess.run(
            [COMMAND, *args],
            input=given.encode() if isinstance(given, str) else given,
            capture_output=True,
            cwd=self.folder,
            env={**self._env, **(env or {})},
            timeout=DEADLINE_S,
            check=False,
        )
        return Finished(process.returncode, process.stdout, process.stderr)

    @contextlib.contextmanager
    def started(self, *args: str, env: dict[str, str] | None = None) -> Iterator[Running]:
        """Start the command; one that has not ended by the end of the block is killed."""
        with subprocess.Popen(
            [COMMAND, *args],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=self.folder,
            env={**self._env, **(env or {})},
        ) as process:
            try:
                yield Running(process)
            finally:
                process.kill()

    @contextlib.contextmanager
    def at_terminal(self, *args: str, env: dict[str, str] | None = None) -> Iterator[Person]:
        """Start the command at a terminal."""
        given = {**self._env, "TERM": "xterm-256color", "PROMPT_TOOLKIT_NO_CPR": "1", **(env or {})}
        with Person.at([COMMAND, *args], given, self.folder) as person:
            yield person

    def script(self, code: str, name: str = "script.py") -> str:
        """Write a file of code and return its name."""
        (self.folder / name).write_text(code, encoding="utf-8")
        return name


@pytest.fixture
def caesarion(product_server: ProductServer, tmp_path: Path) -> Caesarion:
    return Caesarion(product_server.url, tmp_path)


class Session:
    """A session of the product as its owner sees it without the command."""

    def __init__(self, client: httpx.Client, session: str) -> None:
        self._client = client
        self.id = session

    def put(self, name: str, content: bytes) -> None:
        """Store a file."""
        self._client.put(f"/sessions/{self.id}/files/{name}", content=content).raise_for_status()

    def file(self, name: str) -> bytes:
        """Return a file's content."""
        return self._client.get(f"/sessions/{self.id}/files/{name}").raise_for_status().content

    def exists(self) -> bool:
        """Whether the product knows it."""
        return self._client.get(f"/sessions/{self.id}").status_code == 200


@pytest.fixture(scope="session")
def shared_session(product_server: ProductServer) -> str:
    session = new_id("s")
    httpx.post(f"{product_server.url}/sessions/{session}/initialize", timeout=DEADLINE_S).raise_for_status()
    return session


@pytest.fixture
def fresh(shared_session: str, product_server: ProductServer) -> Iterator[tuple[str, ...]]:
    """Options for a kernel without variables, in a session that all tests share because a new one takes longer."""
    context = new_id("c")
    yield ("--session", shared_session, "--context", context)
    httpx.delete(f"{product_server.url}/sessions/{shared_session}/contexts/{context}", timeout=DEADLINE_S)


@pytest.fixture
def client(product_server: ProductServer) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=product_server.url, timeout=200) as client:
        yield client


@pytest.fixture
def known(client: httpx.Client, shared_session: str) -> Session:
    """That session, for tests that leave nothing running in it and do not look at its files or at what was said."""
    return Session(client, shared_session)


@pytest.fixture
def session(client: httpx.Client) -> Iterator[Session]:
    """A session that is there already, and closed after the test."""
    session = new_id("s")
    client.post(f"/sessions/{session}/initialize").raise_for_status()
    yield Session(client, session)
    client.delete(f"/sessions/{session}").raise_for_status()
