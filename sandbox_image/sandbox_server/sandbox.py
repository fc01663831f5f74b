"""What the server holds: contexts, executions, files and records of one sandbox, and what ends them."""

import asyncio
import contextlib
import json
import logging
import os
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caesarion.clock import rfc3339
from caesarion.errors import InvalidRequest, NotFound, QuotaExceeded
from caesarion.ids import DEFAULT_CONTEXT
from sandbox_server.config import ServerConfig
from sandbox_server.contexts import Context
from sandbox_server.disk import DiskUse
from sandbox_server.execution import Execution
from sandbox_server.files import Files
from sandbox_server.journal import Executions
from sandbox_server.provisioner import ZygoteLink
from sandbox_server.records import Records
from sandbox_server.usage import memory_used_bytes

logger = logging.getLogger(__name__)

MAX_CONTEXTS = 8
BUSY_CHECK_S = 0.5
STATUS_WALK_S = 0.5
IDLE_CHECK_S = 2.0
WALK_PAUSE, LONGEST_PAUSE_S = 10, 5.0  # times as long as the last walk took, so that many files cost little processor


class Sandbox:
    """One session's sandbox from the inside."""

    def __init__(self, config: ServerConfig, link: ZygoteLink, tasks: asyncio.TaskGroup) -> None:
        self.config = config
        limits = config.limits
        self.disk = DiskUse((config.files_dir, config.packages_dir, config.ipc_dir))
        self.files = Files(
            config.files_dir,
            self.disk,
            types=config.upload_types,
            max_upload_bytes=limits.max_upload_bytes,
            disk_bytes=limits.disk_bytes,
        )
        self.files.remove_partial()
        self.executions = Executions(
            config.journal_dir, max_output_bytes=limits.max_output_bytes, journal_bytes=limits.journal_bytes
        )
        self.records = Records(config.journal_dir)
        self.started_at = datetime.now(UTC)
        self.claimed = False
        self.idle_timeout_s = config.unclaimed_timeout_s
        self._generation_path = Path(config.journal_dir) / "generation.json"
        self.generation = 0
        if self._generation_path.exists():
            self.generation = int(json.loads(self._generation_path.read_text(encoding="utf-8")))
        self._variables_lost()
        self._link = link
        self._tasks = tasks
        self._env: dict[str, str] = {}
        self._contexts: dict[str, Context] = {}
        self._serving: dict[str, asyncio.Task[None]] = {}
        self._became_busy = asyncio.Event()
        self._last_activity = datetime.now(UTC)
        self._last_asked_s = time.monotonic()
        self.add_context(DEFAULT_CONTEXT)

    @property
    def busy(self) -> bool:
        return any(context.busy for context in self._contexts.values())

    def touch(self) -> None:
        """Note that somebody used the session."""
        self._last_activity = datetime.now(UTC)

    async def claim(self, idle_timeout_s: float, env: dict[str, str]) -> None:
        """Make this the sandbox of a session: its variables reach every kernel. Idempotent."""
        self.claimed = True
        self.idle_timeout_s = idle_timeout_s
        self._env.update(env)
        self.touch()
        for context in list(self._contexts.values()):
            await context.set_env(env)

    def submit(self, code: str, context: str, timeout_s: float | None, wanted_id: str | None) -> Execution:
        """Admit code and queue it; an id that is known gives the execution it stands for."""
        limits = self.config.limits
        wanted_s = limits.execution_timeout_s if timeout_s is None else timeout_s
        if not 0 < wanted_s <= limits.max_execution_timeout_s:
            raise InvalidRequest(
                f"timeout_s must be more than 0 and at most {limits.max_execution_timeout_s:g}, got {wanted_s!r}."
            )
        target = self.context(context)
        if wanted_id is None or not self.executions.knows(wanted_id):
            if target.queued >= limits.max_queued:
                raise QuotaExceeded(f"{limits.max_queued} executions wait in this context already.", retry_after_s=1)
        execution, new = self.executions.admit(code, context, wanted_s, wanted_id)
        if new:
            target.submit(execution)
            self._became_busy.set()
        self.touch()
        return execution

    def interrupt(self, execution_id: str) -> None:
        """Have an execution end, also one that still waits; one that has ended is left alone. Raises NotFound."""
        execution = self.executions.get(execution_id)
        context = self._contexts.get(execution.context)
        if context is None or not context.withdraw(execution):
            execution.stop("interrupted")

    def context(self, name: str) -> Context:
        """Return a context. Raises NotFound."""
        if name not in self._contexts:
            raise NotFound(
                f"There is no context {name!r} in this session. Make it with POST contexts.", code="context_not_found"
            )
        return self._contexts[name]

    def contexts(self) -> list[dict[str, Any]]:
        """Return the contexts as the API lists them."""
        return [context.describe() for context in self._contexts.values()]

    def add_context(self, name: str) -> Context:
        """Make a context, or return the one of this name."""
        if name not in self._contexts:
            if len(self._contexts) >= MAX_CONTEXTS:
                raise QuotaExceeded(f"A session has at most {MAX_CONTEXTS} contexts. Delete one first.")
            may_write = all(other.may_write for other in self._contexts.values())
            context = Context(
                name, self._link, self.config, dict(self._env), may_write=may_write, on_lost=self._variables_lost
            )
            self._contexts[name] = context
            self._serving[name] = self._tasks.create_task(context.serve())
        return self._contexts[name]

    async def remove_context(self, name: str) -> None:
        """End a context and its kernel."""
        if name == DEFAULT_CONTEXT:
            raise InvalidRequest("The context 'default' is always there. Restart it instead.")
        context = self.context(name)
        del self._contexts[name]
        await context.close("the context was deleted")
        self._serving.pop(name).cancel()

    async def status(self) -> dict[str, Any]:
        """Return the state of the sandbox; asking for it is a sign that somebody cares for it, not that it is used."""
        self._last_asked_s = time.monotonic()
        limits = self.config.limits
        shown = {
            "state": "busy" if self.busy else "ready",
            "claimed": self.claimed,
            "started_at": rfc3339(self.started_at),
            "last_activity_at": rfc3339(self._activity()),
            "idle_timeout_s": self.idle_timeout_s,
            "generation": self.generation,
            "memory_limit_bytes": limits.memory_bytes,
            "disk_bytes": await self.disk.measure(at_most_s=STATUS_WALK_S),
            "disk_limit_bytes": limits.disk_bytes,
            "contexts": self.contexts(),
        }
        memory_bytes = memory_used_bytes()
        if memory_bytes is not None:
            shown["memory_bytes"] = memory_bytes
        return shown

    async def watch(self) -> str:
        """Hold the disk limit, and return why the sandbox should end once nobody is there any more."""
        while True:
            await self._check_due()
            await self._hold_disk_limit()
            now = datetime.now(UTC)
            if not self.claimed and time.monotonic() - self._last_asked_s > self.config.unclaimed_timeout_s:
                return "unclaimed"
            if (
                self.claimed
                and (now - self._activity()).total_seconds() > self.idle_timeout_s + self.config.abandoned_grace_s
            ):
                return "abandoned"

    async def _check_due(self) -> None:
        """Wait for the next check's time, which comes at once when code begins to run after a rest."""
        if not self.busy:
            self._became_busy.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._became_busy.wait(), IDLE_CHECK_S)
        if self.busy:
            await asyncio.sleep(min(LONGEST_PAUSE_S, max(BUSY_CHECK_S, WALK_PAUSE * self.disk.took_s)))

    async def restart(self, name: str) -> Context:
        """Give a context a kernel without variables, which may write files if the session has room for them."""
        context = self.context(name)
        await context.restart("the kernel was restarted on request", may_write=not await self._disk_is_full())
        self.touch()
        return context

    async def _hold_disk_limit(self) -> None:
        """End kernels that may write while the disk is full. Those after them may only read and delete."""
        if not await self._disk_is_full():
            return
        for context in list(self._contexts.values()):
            if context.may_write:
                logger.warning("disk limit reached", extra={"context": context.name})
                await context.exceeded_disk(self.config.limits.disk_bytes)

    async def _disk_is_full(self) -> bool:
        return await self.disk.measure() > self.config.limits.disk_bytes

    def _variables_lost(self) -> None:
        """Count a loss of variables, by the restart or end of a kernel or by a new life of the sandbox; from 1."""
        self.generation += 1
        temporary = self._generation_path.with_suffix(".new")
        temporary.write_text(json.dumps(self.generation), encoding="utf-8")
        os.replace(temporary, self._generation_path)

    def _activity(self) -> datetime:
        reading = self.records.readers or any(execution.readers for execution in self.executions.all())
        if self.busy or reading:
            self.touch()
        return self._last_activity
