"""Local sandboxes that wait started for a session, and what makes and removes them."""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence

from caesarion.adapters.checkpoints import to_the_end
from caesarion.adapters.local_locks import Locks
from caesarion.adapters.local_machine import Machine
from caesarion.adapters.local_record import Claim, Home, Record
from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.errors import CaesarionError, SandboxUnavailable
from caesarion.ports import Endpoint, Start

logger = logging.getLogger(__name__)

STARTS_AT_ONCE = 2
START_DEADLINE_S = 180.0
BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
HEARTBEAT_S = 60.0


class Pool:
    """The sandboxes of one home that belong to no session yet; `size` of them are kept waiting.

    Whoever makes or removes a sandbox holds the lock of its name, so that nobody removes what is only being made.
    """

    def __init__(self, home: Home, machine: Machine, locks: Locks, size: int) -> None:
        self._home = home
        self._machine = machine
        self._locks = locks
        self._size = size
        self._wanted = asyncio.Event()
        self._changed = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None
        self.starts = asyncio.Semaphore(STARTS_AT_ONCE)

    async def start(self) -> None:
        """Clear away what a crash left half-made, and fill the pool in the background. Idempotent."""
        if self._task is None:
            self._task = asyncio.create_task(self._keep())
            await asyncio.sleep(0)

    async def stop(self) -> None:
        """Stop filling the pool. Idempotent."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def ready(self) -> None:
        """Return when a session could be given a sandbox at once. Raises what kept the last one from starting."""
        while self._size and not await self._offered():
            changed = self._changed
            await changed.wait()
            if self._failure is not None:
                raise self._failure

    async def give(self, slot: str, deadline_s: float) -> tuple[str, Start]:
        """Write a sandbox into a slot and return its name: one that waits or else the next one that is ready.

        With it comes which of them it was.
        """
        name = await asyncio.to_thread(self._home.take, slot, self._machine.template)
        self._wanted.set()
        if name is not None:
            return name, "warm"
        async with self.starts:
            name = await asyncio.to_thread(self._home.take, slot, self._machine.template)
            if name is not None:
                return name, "waited"
            async with self._made(deadline_s) as record:
                await asyncio.to_thread(self._home.write_claim, slot, Claim(record.name))
                return record.name, "cold"

    async def discard(self, name: str) -> None:
        """End a sandbox and remove its files, wherever it is. Idempotent."""
        async with self._locks.held(name):
            await to_the_end(self._discard(name))

    async def discard_unowned(self, name: str) -> bool:
        """Discard a sandbox that no session has, that does not wait for one and is not being made.

        Returns whether it was discarded.
        """
        async with self._locks.held(name, wait=False) as held:
            if not held or not await asyncio.to_thread(self._is_unowned, name):
                return False
            await to_the_end(self._discard(name))
            self._wanted.set()  # it may have waited here until somebody took it out
            return True

    def endpoint(self, name: str) -> Endpoint:
        """Return where the server of a sandbox listens."""
        return Endpoint(self._home.token(name), socket_path=str(self._home.folder(name) / "run" / "control.sock"))

    @contextlib.asynccontextmanager
    async def _made(self, deadline_s: float) -> AsyncIterator[Record]:
        """Give a new sandbox that runs, to be offered or claimed before the end."""
        name = self._home.new_name()
        async with self._locks.held(name):
            try:
                record = await to_the_end(asyncio.to_thread(self._create, name))
                started = await self._machine.start(record, deadline_s=deadline_s)
            except BaseException:
                await asyncio.to_thread(self._home.remove, name)
                raise
            yield started

    def _create(self, name: str) -> Record:
        return self._home.create(name, self._machine.template, uid_range=self._machine.uid_range)

    async def _discard(self, name: str) -> None:
        await asyncio.to_thread(self._home.withdraw, name)
        record = await asyncio.to_thread(self._home.record, name)
        if record is not None:
            await self._machine.end(record)
        await asyncio.to_thread(self._home.remove, name)

    def _is_unowned(self, name: str) -> bool:
        """Whether a sandbox is there for nobody. They go from the pool to sessions, so this order misses none."""
        return (
            self._home.folder(name).exists()
            and name not in self._home.pooled()
            and name not in self._home.claimed_names()
        )

    async def _keep(self) -> None:
        """Own the pool: remove what is dead, start what is missing, and back off while starting fails."""
        failures = 0
        await asyncio.to_thread(self._home.remove_unfinished)
        while True:
            try:
                await self._sweep()
                self._wanted.clear()
                while await self._missing() > 0:
                    async with self.starts, self._made(START_DEADLINE_S) as record:
                        await asyncio.to_thread(self._home.offer, record.name)
                    self._moved()
                    failures = 0
            except Exception as exc:  # whatever it is: without this task no session would have a sandbox any more
                expected = isinstance(exc, CaesarionError | OSError)
                logger.error("the pool could not be filled", extra={"reason": str(exc)}, exc_info=not expected)
                self._failure = exc
                self._moved()
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._wanted.wait()

    def _moved(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _missing(self) -> int:
        return self._size - len(await self._offered())

    async def _offered(self) -> Sequence[str]:
        return await asyncio.to_thread(self._home.offered, self._machine.template)

    async def _sweep(self) -> None:
        """Remove sandboxes that belong to nobody.

        Those are dead ones of the pool, those that wait for nobody as their starter is gone and we start others, and
        those whose starter died before they were offered.
        """
        names = await asyncio.to_thread(self._home.names)
        pooled = set(await asyncio.to_thread(self._home.pooled))
        claimed = await asyncio.to_thread(self._home.claimed_names)
        for name in names:
            record = await asyncio.to_thread(self._home.record, name)
            if name in claimed or record is None:
                continue
            ours = record.template == self._machine.template
            if name not in pooled:
                await self.discard_unowned(name)
            elif record.alive and (ours or (record.starter is not None and record.starter.alive)):
                await self._care_for(name)
            elif await asyncio.to_thread(self._home.withdraw, name):
                await self.discard(name)

    async def _care_for(self, name: str) -> None:
        """Ask a waiting sandbox for its status; one that nobody asks for ends itself."""
        client = SandboxClient(self.endpoint(name))
        try:
            await client.call("GET", "/v1/status")
        except SandboxUnavailable:
            if await asyncio.to_thread(self._home.withdraw, name):
                await self.discard(name)
        finally:
            await client.aclose()
