"""The variables of a context as files, as the server handles them: it never reads what is in them.

They lie in the folder that server and kernels share, where user code may do to them what it likes; so they are opened
without following links, and are gone from the folder as soon as they are open.
"""

import asyncio
import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from sandbox_server.config import Limits
from sandbox_server.kernel import Kernel

MAX_LOST = 1001
MAX_LOST_CHARS = 200
LOST_SHOWN = 20
ALL = "*"

Loss = dict[str, str]


@dataclass(slots=True)
class SavedNamespace:
    """Descriptors of the two files, unless all is lost, and what is lost (`name`, `type`, `reason`)."""

    lost: list[Loss]
    fds: list[int] = field(default_factory=list)

    def close(self) -> None:
        """Let go of the files, which have no name any more."""
        while self.fds:
            os.close(self.fds.pop())


async def save_namespace(kernel: Kernel | None, folder: str, limits: Limits, unwanted: asyncio.Event) -> SavedNamespace:
    """Have a kernel write its variables. One that is stuck or gone loses them, and so does one that is interrupted as
    they are `unwanted` meanwhile."""
    if kernel is None or kernel.ended.done():
        return SavedNamespace([all_lost("the kernel had ended")])
    with shared_paths(folder) as paths:
        timeout_s = limits.namespace_timeout_s
        request = {**paths, "timeout_s": timeout_s, "max_bytes": limits.memory_bytes}
        reply = await _answer(kernel, "save", request, timeout_s + limits.interrupt_grace_s, limits, unwanted)
        if reply is None:
            return SavedNamespace([all_lost("the kernel did not answer")])
        saved = SavedNamespace(losses_of(reply))
        if reply.get("saved") is True:
            try:
                for path in paths.values():
                    saved.fds.append(_opened(path))
            except OSError:
                saved.close()
                saved.lost = [all_lost("their file was gone")]
        return saved


async def load_namespace(
    kernel: Kernel, paths: dict[str, str], limits: Limits, *, execution_count: int
) -> list[Loss] | None:
    """Have a kernel read variables; return those that are lost, or None when it did not answer and must be replaced."""
    request = {**paths, "execution_count": execution_count}
    reply = await _answer(kernel, "load", request, limits.namespace_load_timeout_s, limits)
    return losses_of(reply) if reply is not None else None


def all_lost(reason: str) -> Loss:
    """Return the loss of all variables of a context."""
    return {"name": ALL, "type": "", "reason": reason}


def told_as_text(lost: list[Loss]) -> str:
    """Return what the session is told of its losses."""
    if any(loss["name"] == ALL and not loss["type"] for loss in lost):
        reasons = "; ".join(loss["reason"] for loss in lost if loss["name"] == ALL)
        return f"[the session was suspended and is back; the variables of this context are lost ({reasons})]\n"
    named = [f"{loss['name']} ({loss['type']}: {loss['reason']})" for loss in lost[:LOST_SHOWN]]
    more = f" and {len(lost) - LOST_SHOWN} more" if len(lost) > LOST_SHOWN else ""
    return (
        "[the session was suspended and is back with its variables, except for these, which could not be kept: "
        f"{', '.join(named)}{more}]\n"
    )


@contextlib.contextmanager
def shared_paths(folder: str) -> Iterator[dict[str, str]]:
    """Give names for the two files in the folder that kernels share; what is there at the end is removed."""
    name = os.path.join(folder, f"ns-{uuid.uuid4().hex}")
    paths = {"objects_path": f"{name}-objects", "buffers_path": f"{name}-buffers"}
    try:
        yield paths
    finally:
        for path in paths.values():
            with contextlib.suppress(OSError):
                os.unlink(path)


async def _answer(
    kernel: Kernel,
    kind: str,
    request: dict[str, Any],
    timeout_s: float,
    limits: Limits,
    unwanted: asyncio.Event | None = None,
) -> dict[str, Any] | None:
    """Return the reply's content, or None when the kernel ends or gives none, not even when it is interrupted.

    It is interrupted when the time is over, or the answer `unwanted`.
    """
    reply = kernel.ask_namespace(kind, request)
    either: set[asyncio.Future[Any]] = {reply, asyncio.shield(kernel.ended)}
    stop = asyncio.ensure_future((unwanted or asyncio.Event()).wait())
    try:
        await asyncio.wait({*either, stop}, timeout=timeout_s, return_when=asyncio.FIRST_COMPLETED)
    finally:
        stop.cancel()
    if not reply.done() and not kernel.ended.done():
        await kernel.interrupt()
        await asyncio.wait(either, timeout=limits.interrupt_grace_s, return_when=asyncio.FIRST_COMPLETED)
    return reply.result() if reply.done() and not reply.cancelled() else None


def losses_of(reply: dict[str, Any]) -> list[Loss]:
    """Return what a reply says is lost, in the shape and size that it should have; user code may have made it."""
    found = reply.get("lost")
    return [
        {key: str(loss.get(key, ""))[:MAX_LOST_CHARS] for key in ("name", "type", "reason")}
        for loss in (found if isinstance(found, list) else [])[:MAX_LOST]
        if isinstance(loss, dict)
    ]


def _opened(path: str) -> int:
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError("no regular file")
    return fd
