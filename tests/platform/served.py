"""The product as a process of its own: `caesarion serve`, or the execute function under functions-framework."""

import asyncio
import contextlib
import os
import secrets
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import httpx

from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.local_record import start_ticks
from caesarion.adapters.store import open_store
from caesarion_execute.settings import Settings

ROOT = Path(__file__).parents[2]
BIN = ROOT / ".venv" / "bin"
SERVE = (str(BIN / "caesarion"), "serve")
NO_POOL = {"CAESARION_POOL_SIZE": "0"}  # for tests that need no more sandboxes than their sessions have
END_DEADLINE_S = 200.0
PORTS = range(20_000, 32_000)  # below those of ip_local_port_range


@dataclass(frozen=True)
class Served:
    """A process that serves, and a client of it."""

    process: subprocess.Popen[str]
    client: httpx.Client

    def end(self, signum: int = signal.SIGTERM) -> tuple[int, str]:
        """Send a signal, and return the exit status and what was written to stderr once the process is gone."""
        os.killpg(self.process.pid, signum)
        _, errors = self.process.communicate(timeout=END_DEADLINE_S)
        return self.process.returncode, errors


@dataclass(frozen=True)
class Home:
    """A CAESARION_HOME for one test, and what is alive in it."""

    path: Path

    def env(self, **more: str) -> dict[str, str]:
        """Return the environment of a process that uses this home."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith("CAESARION_")}
        python = str(ROOT / ".venv-sandbox" / "bin" / "python")
        common = {"CAESARION_HOME": str(self.path), "CAESARION_SANDBOX_PYTHON": python, "CAESARION_POOL_SIZE": "1"}
        return {**kept, **common, "CAESARION_CLAIM_TIMEOUT_S": "200", "PORT": "0", **more}

    def sandboxes(self) -> list[str]:
        """Return the names of the sandboxes whose folders are there."""
        folder = self.path / "sandboxes"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []

    def processes(self) -> dict[int, int | None]:
        """Return the processes of all sandboxes, kernels included: their start times by process ids."""
        folder = str(self.path / "sandboxes").encode()
        found = [int(path.parent.name) for path in Path("/proc").glob("[0-9]*/cmdline") if folder in _read(path)]
        for pid in found:
            found += [child for path in Path(f"/proc/{pid}/task").glob("*/children") for child in _numbers(path)]
        return {pid: start_ticks(pid) for pid in found}

    @contextlib.contextmanager
    def serve(self, **env: str) -> Iterator[Served]:
        """Run `caesarion serve` until the end of the block, and its sandboxes too."""
        process = start(SERVE, self.env(**env))
        with _ended(process):
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line.startswith("ready http://127.0.0.1:"), line + (process.stderr.read() if process.stderr else "")
            with httpx.Client(base_url=line.split()[1], timeout=200) as client:
                yield Served(process, client)

    @contextlib.contextmanager
    def framework(self, function: str = "execute", **env: str) -> Iterator[Served]:
        """Run a function under functions-framework until the end of the block; its sandboxes stay."""
        port = free_port()
        with (self.path / f"{function}-{port}.log").open("w", encoding="utf-8") as log:  # a pipe would fill
            process = start(framework(function), self.env(HOST="127.0.0.1", PORT=str(port), **env), stdout=log)
        with _ended(process), httpx.Client(base_url=f"http://127.0.0.1:{port}", timeout=200) as client:
            while not listens(port):
                assert process.poll() is None, process.communicate()
                time.sleep(0.01)
            assert client.get("/health/live").status_code == 200
            yield Served(process, client)


def framework(function: str) -> tuple[str, ...]:
    """Return the command that starts a function as Knative does."""
    source = str(ROOT / "functions" / function / "main.py")
    return (str(BIN / "functions-framework"), "--asgi", "--source", source, "--target", function)


def start(
    command: tuple[str, ...], env: dict[str, str], *, stdout: IO[str] | int = subprocess.PIPE
) -> subprocess.Popen[str]:
    """Start a process in a group of its own, as a terminal would."""
    return subprocess.Popen(
        command, env=env, cwd="/", stdout=stdout, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def still_alive(processes: dict[int, int | None]) -> list[int]:
    """Return those of the processes that are there still, a moment later: bubblewrap ends just after what it held."""
    for pid, ticks in processes.items():
        if ticks is not None and start_ticks(pid) == ticks:
            with contextlib.suppress(ProcessLookupError):
                ending = os.pidfd_open(pid)
                select.select([ending], [], [], END_DEADLINE_S)
                os.close(ending)
    return [pid for pid, ticks in processes.items() if ticks is not None and start_ticks(pid) == ticks]


@contextlib.contextmanager
def home() -> Iterator[Home]:
    """Give a fresh home, and remove it with all sandboxes that are left in it."""
    path = Path(tempfile.mkdtemp(prefix="cz-", dir="/tmp"))
    try:
        yield Home(path)
    finally:
        settings = Settings.from_env(Home(path).env())
        store = open_store(settings.store, settings.local.home)
        asyncio.run(LocalSandboxes(settings.sandbox, settings.local, store).shutdown(keep=False))
        shutil.rmtree(path)


def free_port() -> int:
    """Return a port on which nobody listens, and which the system gives to nobody who asks for any."""
    while True:
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with contextlib.suppress(ConnectionRefusedError), socket.create_connection(("127.0.0.1", port)):
        return True
    return False


@contextlib.contextmanager
def _ended(process: subprocess.Popen[str]) -> Iterator[None]:
    try:
        yield
    finally:
        if process.poll() is None:
            process.terminate()
        with contextlib.suppress(ValueError):
            process.communicate(timeout=END_DEADLINE_S)


def _read(path: Path) -> bytes:
    with contextlib.suppress(OSError):
        return path.read_bytes()
    return b""


def _numbers(path: Path) -> list[int]:
    return [int(word) for word in _read(path).split()]
