"""A context: a named kernel, and the queue of executions that it runs one after the other."""

import asyncio
import contextlib
import json
import logging
import signal
from collections import deque
from collections.abc import Callable
from typing import Any

from caesarion.outputs import Error, ExecutionStatus, Queued, Started, Stream
from sandbox_server.config import ServerConfig
from sandbox_server.execution import Execution
from sandbox_server.kernel import Kernel, KernelLaunch
from sandbox_server.messages import output_of, pages_of
from sandbox_server.provisioner import KernelRefused, ZygoteLink
from sandbox_server.saved_namespace import (
    Loss,
    SavedNamespace,
    all_lost,
    load_namespace,
    save_namespace,
    told_as_text,
)

logger = logging.getLogger(__name__)

HELD_BYTES = 64 * 1024
DRAIN_DEADLINE_S = 2.0
YOUNG_S = 1.0


class Context:
    """Runs executions in order. `generation` grows each time variables were lost."""

    def __init__(
        self,
        name: str,
        link: ZygoteLink,
        config: ServerConfig,
        env: dict[str, str],
        *,
        may_write: bool,
        on_lost: Callable[[], None],
    ) -> None:
        self.name = name
        self.may_write = may_write
        self.generation = 1
        self.execution_count = 0
        self._on_lost = on_lost
        self._link = link
        self._config = config
        self._env = env
        self._kernel: Kernel | None = None
        self._waiting: deque[Execution] = deque()
        self._arrived = asyncio.Event()
        self._running: Execution | None = None
        self._msg_id = ""
        self._idle = asyncio.Event()
        self._messages_heard = 0
        self._has_spoken = False
        self._by_msg_id: dict[str, str] = {}
        self._held: deque[Stream] = deque()
        self._lock = asyncio.Lock()
        self._killed_for: Error | None = None

    @property
    def busy(self) -> bool:
        return self._running is not None or bool(self._waiting)

    @property
    def queued(self) -> int:
        return len(self._waiting)

    def describe(self) -> dict[str, Any]:
        """Return the context as the API lists it."""
        state = "busy" if self.busy else "idle" if self._kernel is not None else "starting"
        return {
            "name": self.name,
            "state": state,
            "execution_count": self.execution_count,
            "generation": self.generation,
        }

    def submit(self, execution: Execution) -> None:
        """Put an execution at the end of the queue."""
        if self.busy:
            execution.record(Queued(len(self._waiting) + 1))
        self._waiting.append(execution)
        self._arrived.set()

    def withdraw(self, execution: Execution) -> bool:
        """Take an execution out of the queue, so that it never runs; return whether it was there."""
        if execution not in self._waiting:
            return False
        self._waiting.remove(execution)
        execution.finish("interrupted")
        return True

    async def serve(self) -> None:
        """Run executions as they come, for ever. Raises ZygoteGone when no kernel can be had any more."""
        with contextlib.suppress(KernelRefused):  # then the first execution tries, and says so
            await self.ready()
        while True:
            await self._some_wait()
            execution = self._waiting.popleft()
            self._running = execution
            try:
                await self._run(execution)
            finally:
                self._running = None
                execution.finish("died", self._killed_for or _lost("the sandbox ended while this ran"))

    async def _some_wait(self) -> None:
        """Return once executions wait. A kernel that ends meanwhile is replaced at once."""
        while not self._waiting:
            self._arrived.clear()
            arrived = asyncio.ensure_future(self._arrived.wait())
            ended = self._kernel.ended if self._kernel is not None else asyncio.get_running_loop().create_future()
            either: set[asyncio.Future[Any]] = {arrived, asyncio.shield(ended)}
            try:
                await asyncio.wait(either, return_when=asyncio.FIRST_COMPLETED)
            finally:
                arrived.cancel()
            if ended.done():
                with contextlib.suppress(KernelRefused):  # then the next execution tries, and says so
                    await self.ready()

    async def ready(self) -> Kernel:
        """Return this context's living kernel, starting one when there is none. Raises KernelRefused."""
        async with self._lock:
            if self._kernel is not None and self._kernel.ended.done():
                self._count_loss()
                why = _why_ended(self._kernel.ended.result(), self._config.limits.memory_bytes)
                self._held.append(Stream("stderr", f"[while nothing ran here {_lost(why).evalue}]\n"))
                self._kernel = None
            if self._kernel is None:
                launch = KernelLaunch(
                    self._config.sockets_dir or self._config.ipc_dir, self._env, may_write=self.may_write
                )
                self._kernel = await Kernel.start(self._link, launch, self._on_message)
            return self._kernel

    async def restart(self, reason: str, *, may_write: bool) -> None:
        """End the kernel and start another; what runs or waits ends, variables are lost."""
        self.may_write = may_write
        self.stop_all(reason)
        await self._replace_kernel()

    async def close(self, reason: str) -> None:
        """End the kernel for good; what runs or waits ends."""
        self.stop_all(reason)
        async with self._lock:
            if self._kernel is not None:
                await self._kernel.kill()

    async def exceeded_disk(self, limit_bytes: int) -> None:
        """End this context's kernel because the session's files grew past the limit; the next one may not write."""
        self.may_write = False
        text = (
            f"the session's files took more than {limit_bytes // 2**20} MiB, so the kernel was ended. Delete some, "
            "then restart this context: until then its code can read and delete files but not write any"
        )
        if self._running is not None:
            self._killed_for = _lost(text)
            if self._kernel is not None:
                await self._kernel.kill()
        elif self._kernel is not None:
            await self._replace_kernel()

    def stop_all(self, reason: str) -> None:
        """Let what runs end as "died" for `reason`, and what waits as "interrupted"."""
        self._killed_for = _lost(reason)
        while self._waiting:
            self._waiting.popleft().finish("interrupted")

    async def set_env(self, env: dict[str, str]) -> None:
        """Give variables to this kernel's `os.environ` and to those that follow it."""
        self._env = {**self._env, **env}
        if env:
            kernel = await self.ready()
            code = (
                f"import json as _j, os as _o; _o.environ.update(_j.loads({json.dumps(json.dumps(env))})); del _j, _o"
            )
            await kernel.execute(code, silent=True)[1]

    def kept(self) -> dict[str, Any]:
        """Return what a checkpoint tells of this context besides its variables."""
        return {
            "name": self.name,
            "execution_count": self.execution_count,
            "generation": self.generation,
            "may_write": self.may_write,
            "held": [[held.name, held.text, held.origin] for held in self._held],
        }

    async def save(self, unwanted: asyncio.Event) -> SavedNamespace:
        """Have the kernel write the variables to files, or stop doing so once they are `unwanted`."""
        return await save_namespace(self._kernel, self._config.ipc_dir, self._config.limits, unwanted)

    async def restore(self, kept: dict[str, Any], paths: dict[str, str]) -> list[Loss]:
        """Become the context that `kept` tells of, with the variables at `paths` if any; return what is lost of them.

        The first execution here begins with what was lost.
        """
        lost = list(kept["lost"])
        if self.may_write and not kept["may_write"]:
            self.may_write = False
            await self._replace_kernel()
        try:
            kernel = await self.ready()
            limits = self._config.limits
            found = await load_namespace(kernel, paths, limits, execution_count=kept["execution_count"])
            if found is None:
                await kernel.kill()
                await self.ready()
                found = [all_lost("the kernel ended or took too long while it read them")]
        except KernelRefused as exc:
            found = [all_lost(str(exc))]
        lost += found
        self.execution_count = kept["execution_count"]
        self.generation = kept["generation"] + bool(lost)
        self._held = deque(Stream(name, text, origin) for name, text, origin in kept["held"])
        if lost:
            self._held.append(Stream("stderr", told_as_text(lost)))
        return lost

    async def complete(self, code: str, cursor_pos: int | None) -> dict[str, Any]:
        """Return Jupyter's complete_reply for this context's variables."""
        return await (await self.ready()).complete(code, cursor_pos)

    async def is_complete(self, code: str) -> dict[str, Any]:
        """Return Jupyter's is_complete_reply."""
        return await (await self.ready()).is_complete(code)

    async def _replace_kernel(self) -> None:
        async with self._lock:
            old, self._kernel = self._kernel, None
            self._count_loss()
        if old is None:
            await self.ready()
            return
        try:
            await asyncio.gather(old.kill(), self.ready())
        except KernelRefused:  # the old one may hold all the processes that there may be
            await old.kill()
            await self.ready()

    def _count_loss(self) -> None:
        self.generation += 1
        self.execution_count = 0
        self._on_lost()

    async def _run(self, execution: Execution) -> None:
        self._killed_for = None
        try:
            kernel = await self.ready()
        except KernelRefused as exc:
            execution.finish("died", _lost(f"{exc}, so the code did not run"))
            return
        self._idle.clear()
        self._has_spoken = False
        self._msg_id, reply = kernel.execute(execution.code, variables_json=execution.variables.json)
        execution.start()
        self._by_msg_id = {**dict(list(self._by_msg_id.items())[-50:]), self._msg_id: execution.id}
        done = asyncio.ensure_future(self._done(execution, reply))
        try:
            status = await self._supervise(execution, kernel, reply, done)
        finally:
            done.cancel()
        if status is not None:
            execution.finish(status)
            return
        error = self._killed_for or _lost(
            _why_ended(await asyncio.shield(kernel.ended), self._config.limits.memory_bytes)
        )
        execution.finish("died", error)
        if not self._link.gone.is_set() and self._kernel is kernel:
            with contextlib.suppress(KernelRefused):  # then the next execution tries, and says so
                await self._replace_kernel()

    async def _done(self, execution: Execution, reply: asyncio.Future[dict[str, Any]]) -> str:
        """Return the reply's status once the outputs before it are here too."""
        content = await reply
        self.execution_count = content.get("execution_count", self.execution_count)
        while not self._idle.is_set():
            heard = self._messages_heard
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._idle.wait(), DRAIN_DEADLINE_S)
            if self._messages_heard == heard:
                break
        for page in pages_of(content):
            execution.record(page)
        return str(content["status"])

    async def _supervise(
        self, execution: Execution, kernel: Kernel, reply: asyncio.Future[dict[str, Any]], done: asyncio.Future[str]
    ) -> ExecutionStatus | None:
        """Return how the execution ended, or None when its kernel did, by itself or because it ignored SIGINT.

        Code has ended with its `reply`, and is `done` once its outputs are here too.
        """
        ended = asyncio.shield(kernel.ended)
        stop = asyncio.ensure_future(execution.stop_requested.wait())
        try:
            first: set[asyncio.Future[Any]] = {done, ended, stop}
            await asyncio.wait(first, timeout=execution.timeout_s, return_when=asyncio.FIRST_COMPLETED)
            if not done.done() and not kernel.ended.done():
                execution.stop("timeout")
                await self._interrupt(execution, kernel, reply)
                if reply.done():
                    last: set[asyncio.Future[Any]] = {done, ended}
                    await asyncio.wait(last, return_when=asyncio.FIRST_COMPLETED)
        finally:
            stop.cancel()
        if not done.done() or done.cancelled():
            if not kernel.ended.done():
                grace_s = self._config.limits.interrupt_grace_s
                self._killed_for = _lost(f"the code ignored the interrupt for {grace_s:g} s, so its kernel was ended")
                await kernel.kill()
            return None
        if execution.stop_reason is not None:
            return execution.stop_reason
        return "ok" if done.result() == "ok" else "error"

    async def _interrupt(self, execution: Execution, kernel: Kernel, reply: asyncio.Future[dict[str, Any]]) -> None:
        """Send SIGINT and wait until the code has ended or the grace time is over.

        One that comes while the code is only about to begin may meet the kernel's own code, which swallows it, so it is
        sent again; code that has run for a while or has shown something gets one, and may clean up.
        """
        begun = self._has_spoken or (execution.execution_count is not None and execution.age_s > YOUNG_S)
        rounds = 1 if begun else 5
        for _ in range(rounds):
            await kernel.interrupt()
            both: set[asyncio.Future[Any]] = {reply, asyncio.shield(kernel.ended)}
            timeout = self._config.limits.interrupt_grace_s / rounds
            await asyncio.wait(both, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if reply.done() or kernel.ended.done():
                return

    def _on_message(self, message: dict[str, Any]) -> None:
        self._messages_heard += 1
        parent = message["parent_header"].get("msg_id", "")
        execution = self._running
        if execution is not None and parent == self._msg_id:
            self._on_own(execution, message)
        elif (output := output_of(message)) is not None and isinstance(output, Stream):
            self._on_late(Stream(output.name, output.text, self._by_msg_id.get(parent)))

    def _on_own(self, execution: Execution, message: dict[str, Any]) -> None:
        kind = message["msg_type"]
        if kind == "execute_input":
            execution.execution_count = message["content"]["execution_count"]
            execution.record(Started(execution.id, self.name, execution.execution_count))
            while self._held:
                execution.record(self._held.popleft())
        elif kind == "status" and message["content"]["execution_state"] == "idle":
            self._idle.set()
        elif (output := output_of(message)) is not None:
            self._has_spoken = True
            execution.record(output)

    def _on_late(self, output: Stream) -> None:
        """What a thread or process of a finished execution prints belongs to the one that runs, or to the next one."""
        if self._running is not None and self._running.execution_count is not None:
            self._running.record(output)
            return
        self._held.append(output)
        while sum(len(held.text) for held in self._held) > HELD_BYTES and len(self._held) > 1:
            self._held.popleft()


def _lost(reason: str) -> Error:
    text = f"{reason}; the variables of this context are lost, its files are not."
    return Error("KernelDied", text, [f"KernelDied: {text}"])


def _why_ended(status: int, memory_bytes: int) -> str:
    if status == -signal.SIGKILL:
        return f"the kernel was ended by SIGKILL, most likely at the memory limit of {memory_bytes // 2**20} MiB"
    if status < 0:
        with contextlib.suppress(ValueError):
            return f"the kernel was ended by {signal.Signals(-status).name}"
    return f"the kernel ended with exit status {status}"
