"""The zygote of the sandboxes as a plain process: kernels of the product's kind without the product around them.

The packets on its connection are described in sandbox_server/zygote.py.
"""

import asyncio
import contextlib
import json
import signal
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

from bench.product import SANDBOX_PYTHON, Unexpected, ended, environment

MAX_PACKET_BYTES = 200_000
DEADLINE_S = 60.0
ASKED_AGAIN_S = 0.01


class Zygote:
    """A running zygote."""

    def __init__(self, pid: int, link: socket.socket) -> None:
        self.pid = pid
        self._link = link

    async def fork(self, connection: dict[str, Any]) -> int:
        """Fork a kernel for a Jupyter connection and return its pid."""
        await self._send({"op": "fork", "id": "bare", "connection": connection, "env": {}, "may_write": True})
        return int((await self.event("forked"))["pid"])

    async def kill(self, pid: int) -> None:
        """End a kernel and return when it is gone."""
        await self._send({"op": "signal", "pid": pid, "signum": signal.SIGKILL})
        await self.event("exited")

    async def _send(self, request: dict[str, Any]) -> None:
        await asyncio.get_running_loop().sock_sendall(self._link, json.dumps(request).encode())

    async def event(self, name: str) -> dict[str, Any]:
        """Return the next event. Raises Unexpected when it is another than `name`."""
        async with asyncio.timeout(DEADLINE_S):
            event: dict[str, Any] = json.loads(
                await asyncio.get_running_loop().sock_recv(self._link, MAX_PACKET_BYTES) or b'{"event": "its end"}'
            )
        if event["event"] != name:
            raise Unexpected(f"the zygote told {event['event']} instead of {name}")
        return event


@contextlib.asynccontextmanager
async def running_zygote(folder: Path) -> AsyncIterator[Zygote]:
    """Start a zygote that keeps what it needs in `folder`, and end it."""
    for name in ("home", "ipc", "files", "packages"):
        (folder / name).mkdir()
    places = {f"{name}_dir": str(folder / name) for name in ("ipc", "files", "packages")}
    process = await asyncio.create_subprocess_exec(
        *(str(SANDBOX_PYTHON), "-X", "frozen_modules=on", "-m", "sandbox_server.zygote"),
        env=environment({"HOME": str(folder / "home")}),
        stdin=asyncio.subprocess.PIPE,
        cwd=folder,
    )
    try:
        assert process.stdin is not None
        process.stdin.write(json.dumps({**places, "network": "none", "rlimits": {}}).encode())
        process.stdin.close()
        with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as link:
            link.setblocking(False)
            await _connected(link, folder / "ipc" / "zygote.sock", process)
            zygote = Zygote(process.pid, link)
            await zygote.event("ready")
            yield zygote
    finally:
        await ended(process)


async def _connected(link: socket.socket, path: Path, process: asyncio.subprocess.Process) -> None:
    async with asyncio.timeout(DEADLINE_S):
        while True:
            try:
                await asyncio.get_running_loop().sock_connect(link, str(path))
                return
            except (FileNotFoundError, ConnectionRefusedError):
                if process.returncode is not None:
                    raise Unexpected(f"the zygote ended with {process.returncode}") from None
            await asyncio.sleep(ASKED_AGAIN_S)
