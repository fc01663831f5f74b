"""Sandboxes as confined processes of this machine, with a pool of them that wait started.

They outlive the functions' process: what is known of them is on disk (`local_record`), so the next process finds them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType

from caesarion.adapters.local_machine import Machine
from caesarion.adapters.local_presence import Presence
from caesarion.adapters.local_record import Claim, Home, Record, this_process
from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.clock import parse_rfc3339, rfc3339
from caesarion.errors import CaesarionError, SandboxUnavailable, SessionNotFound
from caesarion.ids import PrincipalId, SandboxName, SessionId, SessionKey
from caesarion.ports import Endpoint, Sandbox, SandboxState, SessionSpec
from caesarion.settings import LocalSettings, SandboxSettings

logger = logging.getLogger(__name__)

STARTS_AT_ONCE = 2
START_DEADLINE_S = 180.0
BACKOFF_S = (1.0, 2.0, 5.0, 10.0, 30.0)
HEARTBEAT_S = 60.0


class LocalSandboxes:
    """The `Sandboxes` port on this machine. Use it as a context manager, or call `start` and `shutdown`."""

    def __init__(self, sandbox: SandboxSettings, local: LocalSettings) -> None:
        self._pool_size = local.pool_size
        self._home = Home(local.home)
        self._machine = Machine(self._home, sandbox, local)
        self._presence = Presence(self._home.path / "locks" / "open")
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE)
        self._waiting_claims = 0
        self._claim_locks: dict[str, asyncio.Lock] = {}
        self._pool_wanted = asyncio.Event()
        self._pool_changed = asyncio.Event()
        self._pool_task: asyncio.Task[None] | None = None
        self._failure: Exception | None = None

    async def __aenter__(self) -> "LocalSandboxes":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown(keep=False)

    async def start(self) -> None:
        """Clear away what a crash left half-made, and fill the pool in the background. Idempotent."""
        if self._pool_task is None:
            self._pool_task = asyncio.create_task(self._keep_pool())
            await asyncio.sleep(0)

    async def ready(self) -> None:
        """Return when a session could be given a sandbox at once. Raises what kept the last one from starting."""
        await self.start()
        while self._pool_size and not await self._offered():
            changed = self._pool_changed
            await changed.wait()
            if self._failure is not None:
                raise self._failure

    async def claim(self, key: SessionKey, spec: SessionSpec | None = None, *, deadline_s: float) -> Sandbox:
        await self.start()
        found = await asyncio.to_thread(self._look_up, key)
        if found is not None and found.state == "ready":
            return found
        if found is None and spec is None:
            raise _not_found(key)
        try:
            async with asyncio.timeout(deadline_s), self._locked(key):
                return await self._claim_locked(key, spec, deadline_s)
        except TimeoutError as exc:
            raise SandboxUnavailable(f"No sandbox was ready within {deadline_s:g} s.", retry_after_s=5) from exc

    async def get(self, key: SessionKey) -> Sandbox | None:
        return await asyncio.to_thread(self._look_up, key)

    async def list(self, principal: PrincipalId) -> Sequence[Sandbox]:
        claims = await asyncio.to_thread(self._home.claims)
        keys = [SessionKey(principal, SessionId(claim.session)) for claim in claims if claim.principal == principal]
        found = [await asyncio.to_thread(self._look_up, key) for key in keys]
        return [sandbox for sandbox in found if sandbox is not None]

    async def suspend(self, key: SessionKey) -> None:
        async with self._locked(key):
            claim = await asyncio.to_thread(self._home.claim, key)
            record = await asyncio.to_thread(self._home.record, claim.name) if claim is not None else None
            if record is not None:
                await self._machine.end(record)

    async def release(self, key: SessionKey) -> None:
        async with self._locked(key):
            claim = await asyncio.to_thread(self._home.claim, key)
            if claim is not None:
                await asyncio.to_thread(self._home.drop_claim, key)
                await self._discard(claim.name)

    async def aclose(self) -> None:
        await self.shutdown(keep=True)

    async def shutdown(self, *, keep: bool) -> None:
        """Stop filling the pool; unless `keep`, end every sandbox of this CAESARION_HOME and remove its files.

        While another process has this CAESARION_HOME open, sandboxes and sessions are left to it.
        """
        if self._pool_task is not None:
            self._pool_task.cancel()
            await asyncio.gather(self._pool_task, return_exceptions=True)
            self._pool_task = None
        if not keep and await asyncio.to_thread(self._presence.last):
            for claim in await asyncio.to_thread(self._home.claims):
                key = SessionKey(PrincipalId(claim.principal), SessionId(claim.session))
                await asyncio.to_thread(self._home.drop_claim, key)
            names = await asyncio.to_thread(self._home.names)
            await asyncio.gather(*(self._discard(name) for name in names))
        await asyncio.to_thread(self._presence.leave)

    async def _claim_locked(self, key: SessionKey, spec: SessionSpec | None, deadline_s: float) -> Sandbox:
        claim = await asyncio.to_thread(self._home.claim, key)
        if claim is None or not claim.session:
            if spec is None:
                raise _not_found(key)
            name = claim.name if claim is not None else await self._new_for(key, deadline_s)
            claim = Claim(
                name, key.principal, key.session, rfc3339(datetime.now(UTC)), spec.idle_timeout_s, dict(spec.env)
            )
        record = await asyncio.to_thread(self._home.record, claim.name)
        if record is None:
            await asyncio.to_thread(self._home.drop_claim, key)
            raise SandboxUnavailable("The session's sandbox was removed. Make the session again.")
        if not record.alive:
            async with self._starts:
                await self._machine.end(record)
                fresh = replace(record, template=self._machine.template, starter=this_process(), processes=())
                await self._machine.start(fresh, deadline_s=deadline_s)
        await self._hand_over(claim)
        await asyncio.to_thread(self._home.write_claim, key, claim)
        sandbox = await asyncio.to_thread(self._look_up, key)
        if sandbox is None or sandbox.endpoint is None:
            raise SandboxUnavailable("The session's sandbox ended while it was claimed.", retry_after_s=1)
        return sandbox

    async def _new_for(self, key: SessionKey, deadline_s: float) -> str:
        """Return the name of a sandbox from the pool or, when that is empty, of the next one that is ready."""
        name = await asyncio.to_thread(self._home.take, key, self._machine.template)
        self._pool_wanted.set()
        if name is not None:
            return name
        self._waiting_claims += 1
        try:
            async with self._starts:
                name = await asyncio.to_thread(self._home.take, key, self._machine.template)
                if name is not None:
                    return name
                record = await self._start_new(deadline_s)
        finally:
            self._waiting_claims -= 1
        await asyncio.to_thread(self._home.write_claim, key, Claim(record.name))
        return record.name

    async def _start_new(self, deadline_s: float) -> Record:
        record = await asyncio.to_thread(
            lambda: self._home.create(self._machine.template, uid_range=self._machine.uid_range)
        )
        try:
            return await self._machine.start(record, deadline_s=deadline_s)
        except BaseException:
            await asyncio.to_thread(self._home.remove, record.name)
            raise

    async def _hand_over(self, claim: Claim) -> None:
        client = SandboxClient(self._endpoint(claim.name))
        document = {"session": claim.session, "idle_timeout_s": claim.idle_timeout_s, "env": claim.env}
        try:
            await client.call("POST", "/v1/claim", document=document)
        finally:
            await client.aclose()

    async def _discard(self, name: str) -> None:
        await asyncio.to_thread(self._home.withdraw, name)
        record = await asyncio.to_thread(self._home.record, name)
        if record is not None:
            await self._machine.end(record)
        await asyncio.to_thread(self._home.remove, name)

    async def _keep_pool(self) -> None:
        """Own the pool: remove what is dead, start what is missing, and back off while starting fails."""
        failures = 0
        while True:
            try:
                await self._sweep()
                self._pool_wanted.clear()
                while await self._missing() > 0:
                    async with self._starts:
                        record = await self._start_new(START_DEADLINE_S)
                    await asyncio.to_thread(self._home.offer, record.name)
                    self._pool_moved()
                    failures = 0
            except Exception as exc:  # whatever it is: without this task no session would have a sandbox any more
                expected = isinstance(exc, CaesarionError | OSError)
                logger.error("the pool could not be filled", extra={"reason": str(exc)}, exc_info=not expected)
                self._failure = exc
                self._pool_moved()
                await asyncio.sleep(BACKOFF_S[min(failures, len(BACKOFF_S) - 1)])
                failures += 1
                continue
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(HEARTBEAT_S):
                    await self._pool_wanted.wait()

    def _pool_moved(self) -> None:
        self._pool_changed.set()
        self._pool_changed = asyncio.Event()

    async def _missing(self) -> int:
        return self._pool_size - len(await self._offered())

    async def _offered(self) -> Sequence[str]:
        return await asyncio.to_thread(self._home.offered, self._machine.template)

    async def _sweep(self) -> None:
        """Remove sandboxes that belong to nobody.

        Those are dead ones of the pool, those that wait for nobody as their starter is gone and we start others, and
        those whose starter died before they were offered.
        """
        claimed = await asyncio.to_thread(self._home.claimed_names)
        pooled = set(await asyncio.to_thread(self._home.pooled))
        for name in await asyncio.to_thread(self._home.names):
            record = await asyncio.to_thread(self._home.record, name)
            if name in claimed or record is None:
                continue
            if name not in pooled and record.starter is not None and record.starter.alive:
                continue
            ours = record.template == self._machine.template
            if name in pooled and record.alive and (ours or (record.starter is not None and record.starter.alive)):
                await self._care_for(name)
            elif not await self._claimed_meanwhile(name):
                await self._discard(name)

    async def _claimed_meanwhile(self, name: str) -> bool:
        return name in await asyncio.to_thread(self._home.claimed_names)

    async def _care_for(self, name: str) -> None:
        """Ask a waiting sandbox for its status; one that nobody asks for ends itself."""
        client = SandboxClient(self._endpoint(name))
        try:
            await client.call("GET", "/v1/status")
        except SandboxUnavailable:
            if await asyncio.to_thread(self._home.withdraw, name):
                await self._discard(name)
        finally:
            await client.aclose()

    def _endpoint(self, name: str) -> Endpoint:
        return Endpoint(self._home.token(name), socket_path=str(self._home.folder(name) / "run" / "control.sock"))

    def _look_up(self, key: SessionKey) -> Sandbox | None:
        claim = self._home.claim(key)
        if claim is None or not claim.session:
            return None
        record = self._home.record(claim.name)
        if record is None:
            return None
        state: SandboxState = "ready" if record.alive else "starting" if record.starting else "suspended"
        endpoint = self._endpoint(claim.name) if state == "ready" else None
        created_at = parse_rfc3339(claim.created_at)
        return Sandbox(SandboxName(claim.name), key, state, created_at, claim.idle_timeout_s, endpoint)

    @contextlib.asynccontextmanager
    async def _locked(self, key: SessionKey) -> AsyncIterator[None]:
        """Hold the session's lock against other tasks here and other processes."""
        lock = self._claim_locks.setdefault(key.digest, asyncio.Lock())
        async with lock:
            held = self._home.locked(key.digest)
            await asyncio.to_thread(held.__enter__)
            try:
                yield
            finally:
                held.__exit__(None, None, None)
        if not lock.locked():
            self._claim_locks.pop(key.digest, None)


def _not_found(key: SessionKey) -> SessionNotFound:
    return SessionNotFound(f"There is no session {key.session!r}. Make it with POST /sessions or .../initialize.")
