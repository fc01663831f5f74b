"""The product as users start it, `caesarion serve` with a home of its own, and a client with kept connections."""

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import aiohttp

ROOT = Path(__file__).resolve().parents[1]
SANDBOX_PYTHON = ROOT / ".venv-sandbox" / "bin" / "python"
SERVE = (str(Path(sys.executable).with_name("caesarion")), "serve")
START_DEADLINE_S = 90.0
END_DEADLINE_S = 120.0
FILL_DEADLINE_S = 600.0
WATCH_INTERVAL_S = 0.02
NOT_YET_OUTPUT = ("queued", "started")


class Unexpected(Exception):
    """The product answered otherwise than it should."""


@dataclass(frozen=True, slots=True)
class Memory:
    """A process's memory now and at its peak, in bytes."""

    now_bytes: int
    peak_bytes: int


class Product:
    """A running product, and a client of it."""

    def __init__(self, url: str, pid: int, home: Path, pool_size: int, http: aiohttp.ClientSession) -> None:
        self.url = url
        self._pid = pid
        self._home = home
        self._pool_size = pool_size
        self._http = http

    async def pool_full(self) -> None:
        """Return when as many sandboxes wait as are wanted. Raises TimeoutError."""
        async with asyncio.timeout(FILL_DEADLINE_S):
            while True:
                waiting = [path for path in (self._home / "pool").iterdir() if path.suffix != ".new"]
                if len(waiting) >= self._pool_size:
                    return
                await asyncio.sleep(WATCH_INTERVAL_S)

    async def healthy(self) -> None:
        """Ask for the cheapest answer there is."""
        await self.call("GET", "/health/live")

    async def open_session(self) -> str:
        """Make a session and return its id."""
        return str((await self.call("POST", "/sessions"))["id"])

    async def close_session(self, session: str) -> None:
        """End a session."""
        await self.call("DELETE", f"/sessions/{session}")

    async def call(self, method: str, path: str, document: object = None) -> Any:
        """Send a request and return its decoded answer, None for an empty one. Raises Unexpected for a failure."""
        async with self._http.request(method, self.url + path, json=document) as answer:
            body = await answer.read()
            if answer.status >= 300:
                raise Unexpected(f"{method} {path} gave {answer.status}: {body[:200]!r}")
            return json.loads(body) if body else None

    async def run(self, session: str, code: str, context: str = "default") -> float:
        """Run code to its end and return when its first output came (time.perf_counter).

        Raises Unexpected unless it ended well.
        """
        first_s: float | None = None
        line = b""
        async with self._execution(session, code, context) as answer:
            async for line in answer.content:
                if first_s is None and json.loads(line)["type"] not in NOT_YET_OUTPUT:
                    first_s = time.perf_counter()
        _check_finished(line)
        if first_s is None:
            raise Unexpected("there was no output")
        return first_s

    async def read_outputs(self, session: str, code: str) -> int:
        """Run code and return how many bytes its outputs took, keeping none of them."""
        size_bytes, tail = 0, b""
        async with self._execution(session, code, "default") as answer:
            async for chunk in answer.content.iter_any():
                size_bytes += len(chunk)
                tail = (tail + chunk)[-4096:]
        _check_finished(tail.splitlines()[-1])
        return size_bytes

    def memory(self) -> Memory:
        """Return the serving process's own memory."""
        text = Path(f"/proc/{self._pid}/status").read_text(encoding="utf-8")
        fields = dict(line.split(":", 1) for line in text.splitlines())
        now, peak = (int(fields[name].split()[0]) * 1024 for name in ("VmRSS", "VmHWM"))
        return Memory(now, peak)

    def forget_peak(self) -> None:
        """Let the peak of memory count from now on, where the kernel lets us (proc(5), clear_refs)."""
        with contextlib.suppress(OSError):
            Path(f"/proc/{self._pid}/clear_refs").write_text("5", encoding="ascii")

    @contextlib.asynccontextmanager
    async def _execution(self, session: str, code: str, context: str) -> AsyncIterator[aiohttp.ClientResponse]:
        document = {"code": code, "context": context}
        async with self._http.post(f"{self.url}/sessions/{session}/executions", json=document) as answer:
            if answer.status != 200:
                raise Unexpected(f"the execution gave {answer.status}: {(await answer.read())[:200]!r}")
            yield answer


@contextlib.asynccontextmanager
async def running_product(*, pool_size: int, settings: Mapping[str, str] | None = None) -> AsyncIterator[Product]:
    """Start the product with these settings and a full pool, and end it with all that it started."""
    home = Path(tempfile.mkdtemp(prefix="cb-", dir="/tmp"))
    env = environment(
        {
            "CAESARION_HOME": str(home),
            "CAESARION_SANDBOX_PYTHON": str(SANDBOX_PYTHON),
            "CAESARION_POOL_SIZE": str(pool_size),
            "CAESARION_MAX_SESSIONS": "0",
            "CAESARION_MAX_KEPT_SESSIONS": "0",
            "CAESARION_MAX_EXECUTIONS": "0",
            "PORT": "0",
            **(settings or {}),
        }
    )
    process = await asyncio.create_subprocess_exec(*SERVE, stdout=asyncio.subprocess.PIPE, env=env)
    try:
        url = await address(process)
        timeout = aiohttp.ClientTimeout(total=300)
        async with aiohttp.ClientSession(timeout=timeout, connector=aiohttp.TCPConnector(limit=0)) as http:
            product = Product(url, process.pid, home, pool_size, http)
            await product.pool_full()
            yield product
    finally:
        await ended(process)
        shutil.rmtree(home, ignore_errors=True)


def environment(variables: Mapping[str, str]) -> dict[str, str]:
    """Return what a process gets: no settings of ours but `variables`, and bytecode is kept as it is for users."""
    unwanted = ("CAESARION_", "PYTHONDONTWRITEBYTECODE", "COVERAGE", "PORT", "HOST")
    own = {name: value for name, value in os.environ.items() if not name.startswith(unwanted)}
    return {**own, **variables}


async def address(process: asyncio.subprocess.Process) -> str:
    """Return the address that a server tells once it is ready. Raises Unexpected when it says something else."""
    assert process.stdout is not None
    async with asyncio.timeout(START_DEADLINE_S):
        line = (await process.stdout.readline()).decode()
    if not line.startswith("ready "):
        raise Unexpected(f"a server said {line!r} instead of being ready")
    return line.split()[1]


async def ended(process: asyncio.subprocess.Process) -> None:
    """End a process with SIGTERM, or with SIGKILL when it does not listen."""
    if process.returncode is None:
        process.send_signal(signal.SIGTERM)
        try:
            await asyncio.wait_for(process.wait(), END_DEADLINE_S)
        except TimeoutError:
            process.kill()
            await process.wait()


def _check_finished(line: bytes) -> None:
    last = json.loads(line)
    if last.get("status") != "ok":
        raise Unexpected(f"the execution ended with {line[:200]!r}")
