"""Kernels from the zygote, as a jupyter_client KernelProvisioner.

Source of the interface: jupyter_client, "Kernel provisioning". Nothing of it touches the process table here: the
kernels may live in another pid namespace, so forking, signals and ends all go over the zygote's connection.
"""

import asyncio
import json
import signal
import socket
import uuid
from typing import Any

from jupyter_client.provisioning import KernelProvisionerBase

from sandbox_server.zygote import MAX_PACKET_BYTES, socket_address

_CONNECT_POLL_S = 0.01
_USAGE_DEADLINE_S = 1.0


class ZygoteGone(Exception):
    """The zygote's connection closed: no kernel lives and none can be made."""


class KernelRefused(Exception):
    """A kernel could not be started now, for example because user code holds all the processes that it may have."""


class ZygoteLink:
    """The server's end of the zygote's connection."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self._forks: dict[str, asyncio.Future[int]] = {}
        self._exits: dict[int, asyncio.Future[int]] = {}
        self._usages: dict[str, asyncio.Future[int | None]] = {}
        self.gone = asyncio.Event()

    @classmethod
    async def connect(cls, folder: str, *, deadline_s: float) -> "ZygoteLink":
        """Connect and wait until the zygote has imported its stack. Raises TimeoutError after `deadline_s`."""
        loop = asyncio.get_running_loop()
        connection = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        connection.setblocking(False)
        async with asyncio.timeout(deadline_s):
            while True:
                try:
                    await loop.sock_connect(connection, socket_address(folder))
                    break
                except (FileNotFoundError, ConnectionRefusedError):
                    await asyncio.sleep(_CONNECT_POLL_S)
            await loop.sock_recv(connection, MAX_PACKET_BYTES)
        return cls(connection)

    async def serve(self) -> None:
        """Hand out the zygote's events until its connection closes; then every waiting call fails with ZygoteGone."""
        loop = asyncio.get_running_loop()
        try:
            while packet := await loop.sock_recv(self._connection, MAX_PACKET_BYTES):
                event = json.loads(packet)
                if event["event"] == "forked":
                    self._exits[event["pid"]] = loop.create_future()
                    forked = self._forks.pop(event["id"])
                    if forked.done():  # nobody waits for it any more
                        await self.signal(event["pid"], signal.SIGKILL)
                    else:
                        forked.set_result(event["pid"])
                elif event["event"] == "refused":
                    refused = self._forks.pop(event["id"])
                    if not refused.done():
                        refused.set_exception(KernelRefused(f"no process could be started ({event['reason']})"))
                elif event["event"] == "usage":
                    asked = self._usages.pop(event["id"], None)
                    if asked is not None and not asked.done():
                        asked.set_result(event["memory_bytes"])
                elif event["event"] == "exited":
                    self._exits[event["pid"]].set_result(event["status"])
        except ConnectionError:
            pass
        finally:
            self.gone.set()
            for waiting in self._forks.values():
                if not waiting.done():
                    waiting.set_exception(ZygoteGone("the zygote ended"))
            for ended in self._exits.values():
                if not ended.done():
                    ended.set_result(-int(signal.SIGKILL))
            self._connection.close()

    async def fork(self, connection: dict[str, Any], env: dict[str, str], *, may_write: bool) -> int:
        """Return the pid (in the zygote's namespace) of a new kernel process. Raises KernelRefused or ZygoteGone."""
        if self.gone.is_set():
            raise ZygoteGone("the zygote ended")
        request = uuid.uuid4().hex
        forked: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        self._forks[request] = forked
        await self._send({"op": "fork", "id": request, "connection": connection, "env": env, "may_write": may_write})
        return await forked

    async def memory_used_bytes(self) -> int | None:
        """Return the memory in use where the zygote is, or None where that is not known or not said in time."""
        request = uuid.uuid4().hex
        usage: asyncio.Future[int | None] = asyncio.get_running_loop().create_future()
        self._usages[request] = usage
        try:
            async with asyncio.timeout(_USAGE_DEADLINE_S):
                await self._send({"op": "usage", "id": request})
                return await usage
        except (TimeoutError, OSError):
            return None
        finally:
            self._usages.pop(request, None)

    async def signal(self, pid: int, signum: int) -> None:
        """Send a signal to the process group of a kernel; one that ended is left alone."""
        if not self.gone.is_set() and not self._exits[pid].done():
            await self._send({"op": "signal", "pid": pid, "signum": int(signum)})

    def exit_of(self, pid: int) -> asyncio.Future[int]:
        """Return the future of a kernel's exit code: negative is the signal that ended it."""
        return self._exits[pid]

    async def _send(self, request: dict[str, Any]) -> None:
        await asyncio.get_running_loop().sock_sendall(self._connection, json.dumps(request).encode())


class ZygoteProvisioner(KernelProvisionerBase):
    """One kernel forked from the zygote. `link` and `launch` come as arguments of `start_kernel`."""

    link: ZygoteLink | None = None
    pid: int | None = None

    @property
    def has_process(self) -> bool:
        return self.pid is not None

    async def pre_launch(self, **kwargs: Any) -> dict[str, Any]:
        self.connection_info = self.parent.get_connection_info()
        return {**kwargs, "cmd": []}

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> Any:
        link: ZygoteLink = kwargs["link"]
        connection = dict(self.connection_info)
        key = connection["key"]
        connection["key"] = key.decode() if isinstance(key, bytes) else key
        self.link = link
        self.pid = await link.fork(connection, kwargs["launch"].env, may_write=kwargs["launch"].may_write)
        return self.connection_info

    async def poll(self) -> int | None:
        ended = self._exit()
        return ended.result() if ended is not None and ended.done() else None

    async def wait(self) -> int | None:
        ended = self._exit()
        return None if ended is None else await asyncio.shield(ended)

    async def send_signal(self, signum: int) -> None:
        if self.link is not None and self.pid is not None:
            await self.link.signal(self.pid, signum)

    async def kill(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGKILL)

    async def terminate(self, restart: bool = False) -> None:
        await self.send_signal(signal.SIGTERM)

    async def cleanup(self, restart: bool = False) -> None:
        self.pid = None

    def _exit(self) -> asyncio.Future[int] | None:
        return self.link.exit_of(self.pid) if self.link is not None and self.pid is not None else None
