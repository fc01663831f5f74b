"""What the server holds: contexts, executions, files and records of one sandbox, and what ends them."""

import asyncio
import contextlib
import json
import logging
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caesarion.clock import parse_rfc3339, rfc3339
from caesarion.errors import Conflict, InvalidRequest, NotFound, QuotaExceeded
from caesarion.ids import DEFAULT_CONTEXT
from sandbox_server.config import ServerConfig
from sandbox_server.contexts import Context
from sandbox_server.disk import DiskUse
from sandbox_server.execution import Execution, Variables
from sandbox_server.files import Files
from sandbox_server.journal import Executions
from sandbox_server.provisioner import KernelRefused, ZygoteLink
from sandbox_server.records import Records
from sandbox_server.saved_namespace import Loss
from sandbox_server.seal import Seal, in_use
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
        self.executions = self._read_executions()
        self.records = Records(config.journal_dir)
        self.seal = Seal(timeout_s=config.seal_timeout_s)
        self.started_at = datetime.now(UTC)
        self.claimed = False
        self.idle_timeout_s = config.unclaimed_timeout_s
        self._generation_path = Path(config.journal_dir) / "generation.json"
        self.generation = self._read_generation()
        self._variables_lost()
        self.checkpointing = False
        self.spoiled = False
        self.restored: dict[str, Any] | None = None
        self._env_given: dict[str, str] = {}
        self._room_bytes = 0
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

    def close_seal(self, unused_since: datetime | None) -> None:
        """Seal the sandbox unless it is in use, or was after `unused_since`. Raises Conflict. Idempotent."""
        if self.seal.sealed:
            return
        if self.busy:
            raise in_use("code runs or waits")
        if self.records.readers or any(execution.readers for execution in self.executions.all()):
            raise in_use("somebody reads from it")
        last_activity = rfc3339(self._last_activity)  # as the status tells it
        if unused_since is not None and parse_rfc3339(last_activity) > unused_since:
            raise in_use(f"it was last used at {last_activity}")
        self.seal.close()

    def note_care(self) -> None:
        """Note that somebody cares for this sandbox; one that waits unclaimed ends when nobody does."""
        self._last_asked_s = time.monotonic()

    def touch(self) -> None:
        """Note that somebody used the session."""
        self._last_activity = datetime.now(UTC)

    async def claim(self, idle_timeout_s: float, env: dict[str, str]) -> None:
        """Make this the sandbox of a session: its variables reach every kernel. Idempotent.

        Of those given before, also before a restore, only what is not what it was: code may have changed the others.
        """
        if self.spoiled:
            raise Conflict("A checkpoint that was broken has been put here. Take another sandbox.")
        self.claimed = True
        self.idle_timeout_s = idle_timeout_s
        self._env.update(env)
        self.touch()
        changed = {name: value for name, value in env.items() if self._env_given.get(name) != value}
        for context in list(self._contexts.values()):
            await context.set_env(changed)
        self._env_given.update(changed)

    def submit(
        self,
        code: str,
        context: str,
        timeout_s: float | None,
        wanted_id: str | None,
        variables: Variables,
    ) -> Execution:
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
        execution, new = self.executions.admit(code, context, wanted_s, wanted_id, variables)
        if new:
            target.submit(execution)
            self._became_busy.set()
        self.touch()
        return execution

    def all_contexts(self) -> list[Context]:
        """Return the contexts."""
        return list(self._contexts.values())

    @property
    def env(self) -> dict[str, str]:
        """The variables that every kernel is started with."""
        return dict(self._env)

    @contextlib.contextmanager
    def room_for_namespaces(self) -> Iterator[None]:
        """Allow for variables on the disk, beside what the session has there, within the block."""
        self._room_bytes = self.config.limits.memory_bytes
        try:
            yield
        finally:
            self._room_bytes = 0

    async def become(self, manifest: dict[str, Any], paths: dict[str, dict[str, str]]) -> list[Loss]:
        """Become the sandbox of a checkpoint whose folders are here already; `paths` are its contexts' variables.

        Returns what was lost, with the name of its context each.
        """
        self.executions = self._read_executions()
        self.records = Records(self.config.journal_dir)
        self._env.update(manifest["env"])
        self._env_given = dict(manifest["env"])
        generation = self._read_generation()
        restoring = []
        for kept in manifest["contexts"]:
            context = self.add_context(kept["name"])
            restoring.append(self._restore(context, kept, manifest["env"], paths.get(context.name, {})))
        lost = [loss for found in await asyncio.gather(*restoring) for loss in found]
        self._set_generation(generation + bool(lost))
        self.restored = {"at": rfc3339(datetime.now(UTC)), "lost": lost}
        self.note_care()
        self.touch()
        return lost

    async def _restore(
        self, context: Context, kept: dict[str, Any], env: dict[str, str], paths: dict[str, str]
    ) -> list[Loss]:
        with contextlib.suppress(KernelRefused):  # which the next step meets too, and tells
            await context.set_env(env)
        return [{"context": context.name, **loss} for loss in await context.restore(kept, paths)]

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
        self.note_care()
        limits = self.config.limits
        shown: dict[str, Any] = {
            "state": "busy" if self.busy else "ready",
            "claimed": self.claimed,
            "sealed": self.seal.sealed,
            "started_at": rfc3339(self.started_at),
            "last_activity_at": rfc3339(self._activity()),
            "idle_timeout_s": self.idle_timeout_s,
            "generation": self.generation,
            "memory_limit_bytes": limits.memory_bytes,
            "disk_bytes": await self.disk.measure(at_most_s=STATUS_WALK_S),
            "disk_limit_bytes": limits.disk_bytes,
            "contexts": self.contexts(),
        }
        if self.restored is not None:
            shown["restored"] = self.restored
        apart = self.config.kernels_apart
        memory_bytes = await self._link.memory_used_bytes() if apart else memory_used_bytes()
        if memory_bytes is not None:
            shown["memory_bytes"] = memory_bytes
        return shown

    async def watch(self) -> str:
        """Hold the disk limit, and return why the sandbox should end once nobody is there any more."""
        while True:
            await self._check_due()
            await self._hold_disk_limit()
            if (why := self._why_end(datetime.now(UTC))) is not None:
                return why

    def _why_end(self, now: datetime) -> str | None:
        """Return why nobody is there any more, if so. The time that a machine sleeps is no time without a sweep."""
        unasked_s = time.monotonic() - self._last_asked_s
        if not self.claimed:
            return "unclaimed" if unasked_s > self.config.unclaimed_timeout_s else None
        grace_s = self.config.abandoned_grace_s
        if self.seal.sealed or unasked_s <= grace_s:
            return None
        idle_s = (now - self._activity()).total_seconds()
        return "abandoned" if idle_s > self.idle_timeout_s + grace_s else None

    async def _check_due(self) -> None:
        """Wait for the next check's time, which comes at once when code begins to run after a rest."""
        if not self.busy:
            self._became_busy.clear()
            with contextlib.suppress(TimeoutError):
                shortest_s = min(IDLE_CHECK_S, self.config.abandoned_grace_s, self.config.unclaimed_timeout_s)
                await asyncio.wait_for(self._became_busy.wait(), max(BUSY_CHECK_S, shortest_s))
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
        room_bytes = self._room_bytes  # of the time when the walk begins, which may meet what goes meanwhile
        used_bytes = await self.disk.measure()
        return used_bytes > self.config.limits.disk_bytes + max(room_bytes, self._room_bytes)

    def _variables_lost(self) -> None:
        """Count a loss of variables, by the restart or end of a kernel or by a new life of the sandbox; from 1."""
        self._set_generation(self.generation + 1)

    def _read_executions(self) -> Executions:
        limits = self.config.limits
        return Executions(
            self.config.journal_dir, max_output_bytes=limits.max_output_bytes, journal_bytes=limits.journal_bytes
        )

    def _read_generation(self) -> int:
        if not self._generation_path.exists():
            return 0
        return int(json.loads(self._generation_path.read_text(encoding="utf-8")))

    def _set_generation(self, generation: int) -> None:
        self.generation = generation
        temporary = self._generation_path.with_suffix(".new")
        temporary.write_text(json.dumps(self.generation), encoding="utf-8")
        os.replace(temporary, self._generation_path)

    def _activity(self) -> datetime:
        reading = self.records.readers or any(execution.readers for execution in self.executions.all())
        if self.busy or reading:
            self.touch()
        return self._last_activity
