"""One kernel as the server sees it: started from the zygote, spoken to by jupyter_client over ipc.

It hands every message of the IOPub channel to `on_message` in the order they came, and tells its end by `ended`.
"""

import asyncio
import contextlib
import hmac
import itertools
import json
import logging
import os
import signal
import uuid
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import zmq
from jupyter_client.asynchronous.client import AsyncKernelClient
from jupyter_client.kernelspec import KernelSpec, KernelSpecManager
from jupyter_client.manager import AsyncKernelManager

from sandbox_server.kernel_rules import MAX_MESSAGE_BYTES
from sandbox_server.provisioner import KernelRefused, ZygoteLink

logger = logging.getLogger(__name__)

CHANNELS = ("shell", "iopub", "stdin", "hb", "control")
WELCOME_DEADLINE_S = 30.0
ODD_MESSAGES_LOGGED = 20
MESSAGES_AT_ONCE = 8
SOCKET_OPTIONS = {
    zmq.RECONNECT_IVL: 1,  # in ms: we connect before the fork has bound its sockets; the default would wait 100 ms
    zmq.RCVHWM: 64,  # messages that wait here; the rest wait in the kernel, whose memory is limited
    zmq.MAXMSGSIZE: 2 * MAX_MESSAGE_BYTES,  # a kernel of ours sends less; one that was tampered with is cut off
}
MessageSink = Callable[[dict[str, Any]], None]


@dataclass(frozen=True, slots=True)
class KernelLaunch:
    """What a kernel is started with: the folder of its sockets, variables of its environment, and whether it may write
    to files."""

    ipc_dir: str
    env: dict[str, str]
    may_write: bool


class _OneSpec(KernelSpecManager):
    """The only kernel there is; nothing is looked up on disk."""

    def get_kernel_spec(self, kernel_name: str) -> KernelSpec:
        metadata = {"kernel_provisioner": {"provisioner_name": "zygote"}}
        return KernelSpec(argv=[], display_name="Python", language="python", metadata=metadata)


class Kernel:
    """A running kernel. Make it with `start`; end it with `kill`."""

    def __init__(self, manager: AsyncKernelManager, client: AsyncKernelClient, on_message: MessageSink) -> None:
        self._manager = manager
        self._client = client
        self._on_message = on_message
        self._odd_messages = 0
        self._replies: dict[str, asyncio.Future[dict[str, Any]]] = {}
        self._tasks: list[asyncio.Task[None]] = []
        self.ended: asyncio.Future[int] = asyncio.get_running_loop().create_future()

    @classmethod
    async def start(cls, link: ZygoteLink, launch: KernelLaunch, on_message: MessageSink) -> "Kernel":
        """Fork a kernel and return it once its IOPub channel has greeted us. Raises KernelRefused or ZygoteGone."""
        manager = AsyncKernelManager(
            kernel_spec_manager=_OneSpec(),
            transport="ipc",
            ip=os.path.join(launch.ipc_dir, f"k-{uuid.uuid4().hex[:12]}"),
        )
        for option, value in SOCKET_OPTIONS.items():
            manager.context.setsockopt(option, value)
        for number, channel in enumerate(CHANNELS, 1):
            setattr(manager, f"{channel}_port", number)
        await manager.start_kernel(link=link, launch=launch)
        client: AsyncKernelClient = manager.client()
        client.start_channels(hb=False, stdin=False)
        kernel = cls(manager, client, on_message)
        try:
            await kernel._greeted_or_ended()
        except BaseException:
            await manager.provisioner.kill()
            manager.context.destroy(linger=0)
            raise
        kernel._tasks = [
            asyncio.create_task(kernel._pump_iopub()),
            asyncio.create_task(kernel._pump_shell()),
            asyncio.create_task(kernel._watch_end()),
        ]
        return kernel

    def execute(
        self, code: str, *, variables_json: str = "", silent: bool = False
    ) -> tuple[str, asyncio.Future[dict[str, Any]]]:
        """Send code, and variables to set before it runs; return the message id and the future of the reply's content.

        Source: Jupyter messaging, "Execute"; `variables_json` is ours and read by `SandboxKernel`.
        """
        content = {"code": code, "silent": silent, "store_history": not silent, "user_expressions": {}}
        content |= {"allow_stdin": False, "stop_on_error": False}
        return self._ask("execute_request", content | ({"variables_json": variables_json} if variables_json else {}))

    async def complete(self, code: str, cursor_pos: int | None) -> dict[str, Any]:
        """Return the content of Jupyter's complete_reply."""
        return await self._expect(self._client.complete(code, cursor_pos))

    async def is_complete(self, code: str) -> dict[str, Any]:
        """Return the content of Jupyter's is_complete_reply."""
        return await self._expect(self._client.is_complete(code))

    def ask_namespace(self, kind: str, content: dict[str, Any]) -> asyncio.Future[dict[str, Any]]:
        """Have the variables saved or loaded; return the future of the reply's content (`namespace.answer_...`)."""
        return self._ask(f"namespace_{kind}_request", content)[1]

    async def interrupt(self) -> None:
        """Send SIGINT to the kernel's process group."""
        await self._manager.provisioner.send_signal(signal.SIGINT)

    async def kill(self) -> None:
        """End the kernel and all that it started, and return when it is gone."""
        await self._manager.provisioner.kill()
        await asyncio.shield(self.ended)

    def _ask(self, kind: str, content: dict[str, Any]) -> tuple[str, asyncio.Future[dict[str, Any]]]:
        message = self._client.session.msg(kind, content)
        self._client.shell_channel.send(message)
        msg_id: str = message["header"]["msg_id"]
        return msg_id, self._expect(msg_id)

    def _expect(self, msg_id: str) -> asyncio.Future[dict[str, Any]]:
        reply: asyncio.Future[dict[str, Any]] = asyncio.get_running_loop().create_future()
        self._replies[msg_id] = reply
        return reply

    async def _greeted_or_ended(self) -> None:
        greeted = asyncio.ensure_future(self._greeted())
        ended = asyncio.ensure_future(self._manager.provisioner.wait())
        try:
            await asyncio.wait({greeted, ended}, return_when=asyncio.FIRST_COMPLETED)
            if not greeted.done():
                raise KernelRefused("the kernel ended at its start")
            greeted.result()
        except TimeoutError as exc:
            raise KernelRefused(f"the kernel was not there within {WELCOME_DEADLINE_S:g} s") from exc
        finally:
            greeted.cancel()
            ended.cancel()

    async def _greeted(self) -> None:
        """Wait for `iopub_welcome`: from then on no output can be missed (Jupyter messaging 5.4)."""
        async with asyncio.timeout(WELCOME_DEADLINE_S):
            while True:
                message = await self._received(self._client.iopub_channel)
                if message["msg_type"] == "iopub_welcome":
                    return

    async def _received(self, channel: Any) -> dict[str, Any]:
        """Return the type, parent and content of a channel's next message. Raises ValueError or KeyError for a bad one.

        jupyter_client's `get_msg` asks first whether there is one and makes dates of all texts that look like some,
        which costs an execution half a millisecond. Source: Jupyter messaging, "The wire protocol".
        """
        session = self._client.session
        _, parts = session.feed_identities(await channel.socket.recv_multipart())
        signature, header, parent, _, content = parts[:5]
        if not hmac.compare_digest(signature, session.sign(parts[1:5])):
            raise ValueError("the message has a wrong signature")
        msg_type = json.loads(header)["msg_type"]
        return {"msg_type": msg_type, "parent_header": json.loads(parent), "content": json.loads(content)}

    async def _pump_iopub(self) -> None:
        for number in itertools.count(1):
            try:
                self._on_message(await self._received(self._client.iopub_channel))
            except Exception:
                self._note_odd_message()
            if number % MESSAGES_AT_ONCE == 0:  # a receive that need not wait gives nobody else a turn
                await asyncio.sleep(0)

    async def _pump_shell(self) -> None:
        while True:
            try:
                message = await self._received(self._client.shell_channel)
                reply = self._replies.pop(message["parent_header"].get("msg_id", ""), None)
                if reply is not None and not reply.done():
                    reply.set_result(message["content"])
            except Exception:
                self._note_odd_message()

    def _note_odd_message(self) -> None:
        """Log that a message was left out: user code holds the socket and may send anything, but not fill our log."""
        self._odd_messages += 1
        if self._odd_messages <= ODD_MESSAGES_LOGGED:
            logger.warning("a message of the kernel was left out", exc_info=True)

    async def _watch_end(self) -> None:
        status = await self._manager.provisioner.wait()
        self.ended.set_result(status if status is not None else 0)
        for task in self._tasks[:2]:
            task.cancel()
        for reply in self._replies.values():
            reply.cancel()
        self._client.stop_channels()
        self._manager.context.destroy(
            linger=0
        )  # the manager's own socket too, which would look for its kernel for ever
        for path in Path(self._manager.ip).parent.glob(f"{Path(self._manager.ip).name}-*"):
            with contextlib.suppress(OSError):  # user code owns the folder too
                path.unlink()
