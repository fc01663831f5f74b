"""Kernels without the product: a bare jupyter_client and kernels of the sandboxes' interpreter."""

import asyncio
import contextlib
import json
import secrets
import shutil
import tempfile
import time
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient

from bench.product import SANDBOX_PYTHON, Unexpected, environment
from bench.zygote import running_zygote
from caesarion.adapters.cgroups import Cgroups, GroupLimits, find_cgroups
from caesarion.settings import SandboxSettings

CHANNELS = ("shell", "iopub", "stdin", "control", "hb")
GREETING_DEADLINE_S = 30.0
REPLY_DEADLINE_S = 300.0
RECONNECT_IVL_MS = 1  # the client connects before the kernel listens; zmq's default would wait 100 ms and more


class BareKernel:
    """A client of a kernel, with what jupyter_client gives and nothing else."""

    def __init__(self, connection: dict[str, Any]) -> None:
        self._client = AsyncKernelClient()
        self._client.context.setsockopt(zmq.RECONNECT_IVL, RECONNECT_IVL_MS)
        self._client.load_connection_info({**connection, "key": connection["key"].encode()})
        self._client.start_channels(hb=False, stdin=False)

    async def greeted(self) -> None:
        """Return once no output can be missed any more (Jupyter messaging, `iopub_welcome`)."""
        async with asyncio.timeout(GREETING_DEADLINE_S):
            while (await self._client.get_iopub_msg())["msg_type"] != "iopub_welcome":
                pass

    async def run(self, code: str) -> int:
        """Run code to its end and return how many characters it printed. Raises Unexpected unless it ended well."""
        printed = 0
        async with asyncio.timeout(REPLY_DEADLINE_S):
            msg_id = self._client.execute(code, allow_stdin=False)
            while True:
                message = await self._client.get_iopub_msg()
                if message["parent_header"].get("msg_id") != msg_id:
                    continue
                content = message["content"]
                if message["msg_type"] == "stream":
                    printed += len(content["text"])
                elif message["msg_type"] == "status" and content["execution_state"] == "idle":
                    break
            reply = await self._client.get_shell_msg()
        if reply["content"]["status"] != "ok":
            raise Unexpected(f"a bare kernel answered {reply['content']!r}")
        return printed

    async def first_reply(self, code: str) -> None:
        """Run code and return at its reply, whether or not its outputs could be seen."""
        async with asyncio.timeout(REPLY_DEADLINE_S):
            reply = await self._client.execute(code, allow_stdin=False, reply=True)
        if reply["content"]["status"] != "ok":
            raise Unexpected(f"a bare kernel answered {reply['content']!r}")

    def close(self) -> None:
        """Let go of the kernel."""
        self._client.stop_channels()


@dataclass(frozen=True, slots=True)
class ForkedKernel:
    """A kernel forked from a zygote as the product's are, and what its processor time is limited to, if at all."""

    kernel: BareKernel
    cpus: float | None


@contextlib.asynccontextmanager
async def forked_kernel() -> AsyncIterator[ForkedKernel]:
    """Give a kernel like a sandbox's (interpreter, zygote, limits), but not confined and with no server before it."""
    folder = Path(tempfile.mkdtemp(prefix="ck-", dir="/tmp"))
    try:
        with _limited_group(folder.name) as group:
            async with running_zygote(folder) as zygote:
                group.add(zygote.pid)
                connection = _connection(str(folder / "kernel"))
                pid = await zygote.fork(connection)
                kernel = BareKernel(connection)
                try:
                    await kernel.greeted()
                    yield ForkedKernel(kernel, group.limit())
                finally:
                    kernel.close()
                    await zygote.kill(pid)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


class _LimitedGroup:
    """A control group with the limits of a sandbox, or nothing where none may be written."""

    def __init__(self, cgroups: Cgroups | None, name: str) -> None:
        self._cgroups = cgroups
        self._name = name
        self._cpus = SandboxSettings().cpus

    def add(self, pid: int) -> None:
        """Put a process and all that it will start into the group."""
        if self._cgroups is not None:
            self._cgroups.add(self._name, pid)

    def limit(self) -> float | None:
        """Limit processor time from now on, as is done with a sandbox that is ready. Return to how many cores."""
        if self._cgroups is None:
            return None
        self._cgroups.limit_cpu(self._name, self._cpus)
        return self._cpus


@contextlib.contextmanager
def _limited_group(name: str) -> Iterator[_LimitedGroup]:
    limits, cgroups = SandboxSettings(), find_cgroups()
    try:
        if cgroups is not None:
            cgroups.make(name, GroupLimits(limits.memory_bytes, limits.processes, limits.cpus))
        yield _LimitedGroup(cgroups, name)
    finally:
        if cgroups is not None:
            cgroups.remove(name)


async def plain_start_ms(code: str) -> float:
    """Start a kernel with `python -m ipykernel_launcher` and return when it had run `code`. It is ended afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="cp-", dir="/tmp"))
    connection = _connection(str(folder / "kernel"))
    file = folder / "connection.json"
    file.write_text(json.dumps(connection), encoding="utf-8")
    began_s = time.perf_counter()
    process = await asyncio.create_subprocess_exec(
        *(str(SANDBOX_PYTHON), "-m", "ipykernel_launcher", "-f", str(file)),
        env=environment({"HOME": str(folder)}),
        cwd=folder,
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    kernel = BareKernel(connection)
    try:
        await kernel.first_reply(code)
        return (time.perf_counter() - began_s) * 1000
    finally:
        kernel.close()
        process.kill()
        await process.wait()
        shutil.rmtree(folder, ignore_errors=True)


def _connection(ip: str) -> dict[str, Any]:
    ports = {f"{channel}_port": number for number, channel in enumerate(CHANNELS, 1)}
    return {"transport": "ipc", "ip": ip, "key": secrets.token_hex(16), "signature_scheme": "hmac-sha256", **ports}
