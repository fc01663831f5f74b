"""A real sandbox server with a real zygote and kernels, not confined: the server's own behaviour is told here."""

import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import groupby
from pathlib import Path
from typing import Any

import httpx
import pytest

ROOT = Path(__file__).parents[2]
PYTHON = ROOT / ".venv-sandbox" / "bin" / "python"
LIMITS = {
    "max_output_bytes": 1_000_000,
    "max_upload_bytes": 2_000_000,
    "interrupt_grace_s": 3.0,
    "disk_bytes": 50_000_000,
}


class Server:
    """A running sandbox server and a client for it."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self._settings = settings
        self._processes: list[subprocess.Popen[bytes]] = []
        self.client = httpx.Client(
            transport=httpx.HTTPTransport(uds=str(folder / "run" / "control.sock")),
            base_url="http://sandbox",
            headers={"Authorization": "Bearer secret"},
            timeout=200,
        )

    def start(self) -> None:
        """Start zygote and server and return when the default kernel answers."""
        folder = self.folder
        sources = os.pathsep.join(str(ROOT / name) for name in ("sandbox_image", "functions/caesarion"))
        home = {"HOME": str(folder / "home"), "PATH": os.environ["PATH"], "PYTHONPATH": sources}
        shared = {f"{name}_dir": str(folder / name) for name in ("ipc", "files", "packages")} | {"network": "none"}
        zygote = {**shared, "rlimits": {"nofile": 1024}}
        ready_read, ready_write = os.pipe()
        server = {
            **shared,
            "token": "secret",
            "journal_dir": str(folder / "journal"),
            "socket_path": str(folder / "run" / "control.sock"),
            "ready_fd": ready_write,
            "limits": LIMITS,
            **self._settings,
        }
        with open(folder / "log", "ab") as log:
            for module, config, fds in (
                ("sandbox_server.zygote", zygote, ()),
                ("sandbox_server", server, (ready_write,)),
            ):
                command = [str(PYTHON), "-m", module]
                process = subprocess.Popen(
                    command,
                    stdin=subprocess.PIPE,
                    stdout=log,
                    stderr=log,
                    env=home,
                    pass_fds=fds,
                    start_new_session=True,
                )
                assert process.stdin is not None
                process.stdin.write(json.dumps(config).encode())
                process.stdin.close()
                self._processes.append(process)
        os.close(ready_write)
        told = os.read(ready_read, 100)
        os.close(ready_read)
        assert told == b"ready\n", (folder / "log").read_text()

    @property
    def pid(self) -> int:
        """The server's process."""
        return self._processes[-1].pid

    def wait(self) -> None:
        """Return once the server has ended by itself."""
        self._processes[-1].wait(timeout=200)

    def stop(self) -> None:
        """End the server; the zygote and its kernels follow by themselves."""
        for process in reversed(self._processes):
            process.kill() if process is self._processes[-1] else None
            process.wait(timeout=200)
        self._processes.clear()

    def outputs(self, code: str, **fields: Any) -> list[dict[str, Any]]:
        """Run code and return all its outputs."""
        reply = self.client.post("/v1/executions", json={"code": code, **fields})
        assert reply.status_code == 200, reply.text
        return [json.loads(line) for line in reply.text.splitlines()]


def text_of(outputs: list[dict[str, Any]], name: str = "stdout") -> str:
    """Return all that was written to a stream."""
    return "".join(output["text"] for output in outputs if output["type"] == "stream" and output["name"] == name)


def only(outputs: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    """Return the outputs of one type; what earlier tests left may stand before them."""
    found = [output for output in outputs if output["type"] == kind]
    assert found, outputs
    return found


def shape(outputs: list[dict[str, Any]]) -> list[str]:
    """Return the types of outputs in order. Text may come in any number of pieces, so texts in a row count once."""
    return [kind for (kind, _), _ in groupby(outputs, lambda output: (output["type"], output.get("name")))]


@contextmanager
def new_server(**settings: Any) -> Iterator[Server]:
    """Run a server with a folder of its own until the end of the block."""
    folder = Path(tempfile.mkdtemp(prefix="cz-", dir="/tmp"))
    for name in ("files", "home", "ipc", "journal", "packages", "run"):
        (folder / name).mkdir()
    running = Server(folder, **settings)
    try:
        running.start()
        yield running
    finally:
        running.client.close()
        running.stop()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    with new_server() as running:
        yield running
