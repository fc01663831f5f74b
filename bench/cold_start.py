"""A function's process from its start to its first answer, beside a bare interpreter and an empty function."""

import asyncio
import contextlib
import socket
import sys
import tempfile
import time
from pathlib import Path

from bench.loads import sequential
from bench.product import ROOT, SANDBOX_PYTHON, Unexpected, ended, environment
from bench.report import Part, figure, measured
from bench.statistics import p50_under

NAME = "a function's process, from exec to first answer"
EMPTY = Path(__file__).with_name("empty_function.py")
EXECUTE = ROOT / "functions" / "execute" / "main.py"
LIMIT_MS = 600
ANSWER_DEADLINE_S = 60.0
ASKED_AGAIN_S = 0.002


async def measure(*, quick: bool) -> Part:
    """Start each process anew; a first start before the measurement leaves bytecode and disk warm."""
    count = 1 if quick else 20
    with tempfile.TemporaryDirectory(prefix="cf-", dir="/tmp") as home:

        async def interpreter() -> float:
            began_s = time.perf_counter()
            process = await asyncio.create_subprocess_exec(sys.executable, "-c", "pass", env=environment({}))
            await process.wait()
            return (time.perf_counter() - began_s) * 1000

        async def empty() -> float:
            return await _first_answer_ms(EMPTY, "empty", home)

        async def execute() -> float:
            return await _first_answer_ms(EXECUTE, "execute", home)

        for warm_up in (interpreter, empty, execute):
            await warm_up()
        bare = measured(await sequential(interpreter, count))
        nothing = measured(await sequential(empty, count))
        ours = measured(await sequential(execute, count))
    figures = (
        figure(
            "execute under functions-framework", "ms", ours, "an empty function", nothing,
            [p50_under(ours.samples, LIMIT_MS)],
        ),
        figure("an empty function", "ms", nothing, "a bare interpreter, to its end", bare),
    )  # fmt: skip
    return Part(NAME, figures, ("functions-framework --asgi with its own server; the answer is that of /health/live",))


async def _first_answer_ms(source: Path, target: str, home: str) -> float:
    port = _free_port()
    env = environment(
        {
            "CAESARION_HOME": home,
            "CAESARION_SANDBOX_PYTHON": str(SANDBOX_PYTHON),
            "CAESARION_POOL_SIZE": "0",
            "HOST": "127.0.0.1",
            "PORT": str(port),
        }
    )
    framework = Path(sys.executable).with_name("functions-framework")
    began_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(str(framework), "--source", str(source), "--target", target, "--asgi"),
        env=env,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(ANSWER_DEADLINE_S):
            while not await _answered(port):
                if process.returncode is not None:
                    raise Unexpected(f"functions-framework ended with {process.returncode}")
                await asyncio.sleep(ASKED_AGAIN_S)
        return (time.perf_counter() - began_s) * 1000
    finally:
        await ended(process)


async def _answered(port: int) -> bool:
    """Whether somebody answers; nobody listens until the function is there. Raises Unexpected for a failure."""
    try:
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionError:
        return False
    try:
        writer.write(b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\nConnection: close\r\n\r\n")
        status = await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()
    if status and b" 200 " not in status:
        raise Unexpected(f"the function answered {status!r}")
    return bool(status)


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        return int(listening.getsockname()[1])
