"""Sandboxes as confined processes of this machine, with a pool of them that wait started.

They outlive the functions' process: what is known of them is on disk (`local_record`), so the next process finds them.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from types import TracebackType

from caesarion.adapters.background import Background
from caesarion.adapters.checkpoints import Checkpoints, largest_bytes, to_the_end, unseal
from caesarion.adapters.local_locks import Locks
from caesarion.adapters.local_machine import Machine
from caesarion.adapters.local_pool import START_DEADLINE_S, Pool
from caesarion.adapters.local_presence import Presence
from caesarion.adapters.local_record import NOBODY, WAKING, Claim, Home, Record, this_process
from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.clock import parse_rfc3339, rfc3339
from caesarion.errors import SandboxUnavailable, SessionNotFound
from caesarion.ids import PrincipalId, SandboxName, SessionId, SessionKey
from caesarion.ports import Endpoint, ObjectStore, Orphan, Sandbox, SandboxState, SessionSpec, Start
from caesarion.settings import LocalSettings, SandboxSettings

logger = logging.getLogger(__name__)

REMOVALS_AT_ONCE = 16
WAKING_DEADLINE_S = 900.0


class LocalSandboxes:
    """The `Sandboxes` port on this machine. Use it as a context manager, or call `start` and `shutdown`.

    What is suspended is kept in `store`, which stays open.
    """

    def __init__(self, sandbox: SandboxSettings, local: LocalSettings, store: ObjectStore) -> None:
        self._home = Home(local.home)
        self._machine = Machine(self._home, sandbox, local)
        self._presence = Presence(self._home.path / "locks" / "open")
        self._locks = Locks(self._home)
        self._pool = Pool(self._home, self._machine, self._locks, local.pool_size)
        self._checkpoints = Checkpoints(store, limit_bytes=largest_bytes(sandbox))
        self._background = Background()
        self._wakings: dict[str, asyncio.Task[Sandbox | None]] = {}

    async def __aenter__(self) -> "LocalSandboxes":
        await self.start()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.shutdown(keep=False)

    async def start(self) -> None:
        """Clear away what a crash left half-made, and fill the pool in the background. Idempotent."""
        await self._pool.start()

    async def ready(self) -> None:
        """Return when a session could be given a sandbox at once. Raises what kept the last one from starting."""
        await self.start()
        await self._pool.ready()

    async def claim(self, key: SessionKey, spec: SessionSpec | None = None, *, deadline_s: float) -> Sandbox:
        await self.start()
        try:
            async with asyncio.timeout(deadline_s):
                while True:
                    sandbox = await self._claim_once(key, spec, deadline_s)
                    if sandbox is not None:
                        return sandbox
        except TimeoutError as exc:
            raise SandboxUnavailable(f"No sandbox was ready within {deadline_s:g} s.", retry_after_s=5) from exc

    async def get(self, key: SessionKey) -> Sandbox | None:
        return await asyncio.to_thread(self._look_up, key)

    async def list(self, principal: PrincipalId | None) -> Sequence[Sandbox]:
        return await asyncio.to_thread(self._listed, principal)

    async def suspend(self, key: SessionKey, *, unused_since: datetime | None = None) -> bool:
        async with self._locks.held(key.digest, wait=unused_since is None) as held:
            claim = await asyncio.to_thread(self._home.claim, key.digest) if held else None
            if claim is None or not claim.session:
                return False
            if claim.suspended_at:
                return unused_since is None
            record = await asyncio.to_thread(self._home.record, claim.name)
            if record is None:
                return False
            if not record.alive:
                try:
                    await self._machine.end(record)
                except OSError as exc:
                    _warn_of_rest(claim.name, exc)
                await self._write(key, replace(claim, suspended_at=_now(), suspending=None))
                return True
            return await self._suspend_running(key, claim, unused_since)

    async def release(self, key: SessionKey, *, suspended_since: datetime | None = None) -> bool:
        waking = self._wakings.get(key.digest)
        if waking is not None and suspended_since is None:
            waking.cancel()
            await asyncio.wait({waking})
        async with self._locks.held(key.digest, wait=suspended_since is None) as held:
            claim = await asyncio.to_thread(self._home.claim, key.digest) if held else None
            if not held or (claim is not None and suspended_since is not None and not _still(claim, suspended_since)):
                return False
            await to_the_end(self._forget(key, claim))
            return True

    async def orphans(self) -> Sequence[Orphan]:
        kept = await self._checkpoints.kept()
        return await asyncio.to_thread(self._orphans, kept)

    async def remove_orphan(self, orphan: Orphan) -> bool:
        match orphan.kind:
            case "sandbox":
                return await self._remove_sandbox(orphan.name)
            case "session":
                async with self._locks.held(orphan.name, wait=False) as held:
                    claim = await asyncio.to_thread(self._home.claim, orphan.name) if held else None
                    if claim is None or not claim.session or await asyncio.to_thread(self._is_whole, claim):
                        return False
                    await asyncio.to_thread(self._home.drop_claim, orphan.name)
                    return True
            case "checkpoint":
                async with self._locks.held(orphan.name, wait=False) as held:
                    claim = await asyncio.to_thread(self._home.claim, orphan.name) if held else None
                    if not held or (claim is not None and claim.session):
                        return False
                    if not await self._checkpoints.exists(orphan.name):
                        return False
                    await self._checkpoints.remove(orphan.name)
                    return True

    async def aclose(self) -> None:
        await self.shutdown(keep=True)

    async def shutdown(self, *, keep: bool) -> None:
        """Stop filling the pool; unless `keep`, end every session and sandbox of this CAESARION_HOME with its files.

        While another process has this CAESARION_HOME open, sandboxes and sessions are left to it.
        """
        await self._background.aclose()
        await self._pool.stop()
        if not keep and await asyncio.to_thread(self._presence.last):
            await self._forget_all()
            names = await asyncio.to_thread(self._home.names)
            await asyncio.gather(*(self._pool.discard(name) for name in names))
        await asyncio.to_thread(self._presence.leave)

    async def _claim_once(self, key: SessionKey, spec: SessionSpec | None, deadline_s: float) -> Sandbox | None:
        """Return the session's ready sandbox, or None when what became of it has to be looked at again."""
        found, marked = await asyncio.to_thread(lambda: (self._look_up(key), self._is_marked(key)))
        if found is not None and found.state == "ready" and not marked:
            return found
        if found is None and spec is None:
            raise _not_found(key)
        if key.digest not in self._wakings:
            async with self._locks.held(key.digest):
                sandbox = await self._claim_locked(key, spec, deadline_s)
            if sandbox is not None:
                return sandbox
        waking = self._waking_begun(key)
        await asyncio.wait({waking})
        if waking.cancelled():
            raise SandboxUnavailable("The session was not restored, as it was closed or the functions are being ended.")
        return waking.result()

    def _waking_begun(self, key: SessionKey) -> "asyncio.Task[Sandbox | None]":
        """Return the one waking of this session that is under way here. It outlives who asked for it."""
        task = self._wakings.get(key.digest)
        if task is None:
            task = self._wakings[key.digest] = self._background.start(self._wake(key), name="waking")
            task.add_done_callback(lambda _: self._wakings.pop(key.digest, None))
        return task

    async def _wake(self, key: SessionKey) -> Sandbox | None:
        """Restore a session, and return its sandbox unless it was not suspended any more."""
        try:
            async with asyncio.timeout(WAKING_DEADLINE_S), self._locks.held(key.digest):
                await self._drop_waking(key.digest)
                claim = await asyncio.to_thread(self._home.claim, key.digest)
                if claim is None or not claim.stored:
                    return None
                return await self._settled(key, await self._restore(key, claim), "woken")
        except TimeoutError as exc:
            message = f"The session could not be restored within {WAKING_DEADLINE_S:g} s."
            raise SandboxUnavailable(message, retry_after_s=5) from exc

    async def _claim_locked(self, key: SessionKey, spec: SessionSpec | None, deadline_s: float) -> Sandbox | None:
        """Return the session's sandbox, made or started again if need be, or None when it has to be restored."""
        await self._drop_waking(key.digest)
        claim = await asyncio.to_thread(self._home.claim, key.digest)
        start: Start = "woken"
        if claim is None or not claim.session:
            if spec is None:
                raise _not_found(key)
            if claim is not None:  # taken from the pool by somebody who ended before it was handed over
                name, start = claim.name, "waited"
            else:
                name, start = await self._pool.give(key.digest, deadline_s)
            claim = Claim(name, key.principal, key.session, _now(), spec.idle_timeout_s, dict(spec.env))
        elif claim.stored:
            return None
        else:
            await self._revive(key, claim, deadline_s)
        await self._hand_over(claim)
        return await self._settled(key, claim, start)

    async def _settled(self, key: SessionKey, claim: Claim, start: Start) -> Sandbox:
        """Write down that the sandbox of this claim is in use, and return it; `start` is how it was come by."""
        claim = replace(claim, suspended_at="", suspending=None)
        await self._write(key, claim, synced=claim.checkpoint)
        if claim.checkpoint:
            await self._remove_checkpoint(key, claim)
        sandbox = await asyncio.to_thread(self._look_up, key)
        if sandbox is None or sandbox.endpoint is None:
            raise SandboxUnavailable("The session's sandbox ended while it was claimed.", retry_after_s=1)
        return replace(sandbox, start=start)

    async def _revive(self, key: SessionKey, claim: Claim, deadline_s: float) -> None:
        """Have the sandbox of a claim run and answer, where its processes ended or a suspension was cut short."""
        record = await asyncio.to_thread(self._home.record, claim.name)
        if record is None:
            await asyncio.to_thread(self._home.drop_claim, key.digest)
            raise SandboxUnavailable("The session's sandbox was removed. Make the session again.")
        if not record.alive:
            async with self._pool.starts:
                await self._machine.end(record)
                fresh = replace(record, template=self._machine.template, starter=this_process(), processes=())
                await self._machine.start(fresh, deadline_s=deadline_s)
        elif claim.suspending is not None:
            async with self._asked(claim.name) as client:
                await unseal(client)

    async def _restore(self, key: SessionKey, claim: Claim) -> Claim:
        """Return the claim of a suspended session on a sandbox that its checkpoint was restored in."""
        waking = key.digest + WAKING
        name, _ = await self._pool.give(waking, START_DEADLINE_S)
        claimed = replace(claim, name=name, stored=False, suspended_at="")
        try:
            async with self._locks.held(name):  # for a moment it is told by two files of which one changes and one goes
                async with self._asked(name) as client:
                    await self._checkpoints.restore(key.digest, client)
                await self._hand_over(claimed)
                await self._write(key, claimed)
                await asyncio.to_thread(self._home.drop_claim, waking)
        except BaseException:
            await to_the_end(self._drop_waking(key.digest))
            raise
        return claimed

    async def _drop_waking(self, digest: str) -> None:
        """Discard the sandbox of a restoration that came to nothing."""
        waking = await asyncio.to_thread(self._home.claim, digest + WAKING)
        if waking is None:
            return
        claim = await asyncio.to_thread(self._home.claim, digest)
        if claim is None or claim.sandbox != waking.name:
            await self._pool.discard(waking.name)
        await asyncio.to_thread(self._home.drop_claim, digest + WAKING)

    async def _suspend_running(self, key: SessionKey, claim: Claim, unused_since: datetime | None) -> bool:
        marked = replace(claim, suspending=this_process(), checkpoint=True)
        await self._write(key, marked)
        async with self._asked(claim.name) as client:
            try:
                if not await self._checkpoints.save(key.digest, client, unused_since=unused_since):
                    await self._write(key, replace(claim, suspending=None))
                    return False
                suspended = replace(marked, suspended_at=_now(), stored=True, suspending=None)
                await self._write(key, suspended, synced=True)
            except BaseException as exc:
                await to_the_end(self._go_on(key, marked, client))
                if isinstance(exc, OSError):
                    raise SandboxUnavailable("The session could not be suspended; no file could be written.") from exc
                raise
        await to_the_end(self._end_suspended(marked.name))
        return True

    async def _go_on(self, key: SessionKey, marked: Claim, client: SandboxClient) -> None:
        """Leave a session as it was. If its sandbox may be sealed still a mark says so to the next claim."""
        unsealed = await unseal(client)
        await self._write(key, replace(marked, suspending=None if unsealed else NOBODY))

    async def _end_suspended(self, name: str) -> None:
        """Remove the sandbox of a session that is in the store; what is not removed here is an orphan."""
        try:
            await self._pool.discard(name)
        except OSError as exc:
            _warn_of_rest(name, exc)

    async def _remove_checkpoint(self, key: SessionKey, claim: Claim) -> None:
        """Remove what a session in use does not need any more; if that fails it is left until the session ends."""
        with contextlib.suppress(SandboxUnavailable):
            await self._checkpoints.remove(key.digest)
            await self._write(key, replace(claim, checkpoint=False))

    async def _forget(self, key: SessionKey, claim: Claim | None) -> None:
        await self._drop_waking(key.digest)
        if claim is None:
            return
        if claim.checkpoint:
            await self._checkpoints.remove(key.digest)
        await asyncio.to_thread(self._home.drop_claim, key.digest)
        if claim.sandbox is not None:
            await self._pool.discard(claim.sandbox)

    async def _forget_all(self) -> None:
        """Forget all claims, with their checkpoints as far as the store can be reached."""
        at_once = asyncio.Semaphore(REMOVALS_AT_ONCE)

        async def forget(slot: str, claim: Claim) -> None:
            async with at_once:
                if claim.checkpoint:
                    with contextlib.suppress(SandboxUnavailable):
                        await self._checkpoints.remove(slot)
                await asyncio.to_thread(self._home.drop_claim, slot)

        slots = await asyncio.to_thread(self._home.slots)
        await asyncio.gather(*(forget(slot, claim) for slot, claim in slots.items()))

    async def _hand_over(self, claim: Claim) -> None:
        document = {"session": claim.session, "idle_timeout_s": claim.idle_timeout_s, "env": claim.env}
        async with self._asked(claim.name) as client:
            await client.call("POST", "/v1/claim", document=document)

    @contextlib.asynccontextmanager
    async def _asked(self, name: str) -> AsyncIterator[SandboxClient]:
        client = SandboxClient(self._pool.endpoint(name))
        try:
            yield client
        finally:
            await client.aclose()

    async def _write(self, key: SessionKey, claim: Claim, *, synced: bool = False) -> None:
        await to_the_end(asyncio.to_thread(self._home.write_claim, key.digest, claim, synced=synced))

    def _is_marked(self, key: SessionKey) -> bool:
        """Whether a suspension of this session is under way or was cut short."""
        claim = self._home.claim(key.digest)
        return claim is not None and claim.suspending is not None

    def _look_up(self, key: SessionKey) -> Sandbox | None:
        claim = self._home.claim(key.digest)
        while claim is not None and (found := self._sandbox(claim)) is None:
            seen, claim = claim, self._home.claim(key.digest)
            if claim == seen:
                return None
        return found if claim is not None else None

    def _listed(self, principal: PrincipalId | None) -> Sequence[Sandbox]:
        claims = [claim for claim in self._home.claims() if principal is None or claim.principal == principal]
        found = [self._sandbox(claim) or self._look_up(_key(claim)) for claim in claims]
        return [sandbox for sandbox in found if sandbox is not None]

    def _sandbox(self, claim: Claim) -> Sandbox | None:
        """Return the session's sandbox, or None when it was never handed over, is gone, or was just suspended."""
        if not claim.session:
            return None
        state: SandboxState = "suspended"
        endpoint: Endpoint | None = None
        if not claim.stored:
            record = self._home.record(claim.name)
            if record is None:
                return None
            state = self._state(claim, record)
            try:
                endpoint = self._pool.endpoint(claim.name) if state == "ready" else None
            except FileNotFoundError:
                return None
        suspended_at = parse_rfc3339(claim.suspended_at) if claim.suspended_at and state == "suspended" else None
        created_at = parse_rfc3339(claim.created_at)
        name = SandboxName(claim.name)
        stored = claim.stored and suspended_at is not None
        return Sandbox(name, _key(claim), state, created_at, claim.idle_timeout_s, endpoint, suspended_at, stored)

    def _state(self, claim: Claim, record: Record) -> SandboxState:
        if claim.suspending is not None and claim.suspending.alive:
            at_it = record.alive or self._home.is_locked(_key(claim).digest)
            return "starting" if at_it else "suspended"
        return "ready" if record.alive else "starting" if record.starting else "suspended"

    def _orphans(self, kept: Mapping[str, datetime]) -> Sequence[Orphan]:
        names = self._home.names()
        pooled = set(self._home.pooled())
        slots = self._home.slots()
        sessions = {slot: claim for slot, claim in slots.items() if claim.session}
        owned = pooled | {claim.sandbox for claim in sessions.values()}
        half_given = {claim.name: slot for slot, claim in slots.items() if not claim.session}
        found = [
            Orphan("sandbox", name, self._home.changed_at(half_given[name]))
            if name in half_given
            else Orphan("sandbox", name, self._home.made_at(name))
            for name in names
            if name not in owned
        ]
        found += [Orphan("checkpoint", digest, since) for digest, since in kept.items() if digest not in sessions]
        found += [
            Orphan("session", digest, self._home.changed_at(digest))
            for digest, claim in sessions.items()
            if not self._is_whole(claim)
        ]
        return sorted(found, key=lambda orphan: orphan.since)

    def _is_whole(self, claim: Claim) -> bool:
        """Whether there is more of a session than its claim. A store without its checkpoint may be the wrong one."""
        return claim.stored or self._home.record(claim.name) is not None

    async def _remove_sandbox(self, name: str) -> bool:
        """Remove a sandbox that belongs to nobody, also one that was taken for a session and never handed over."""
        for slot, half in (await asyncio.to_thread(self._home.slots)).items():
            if half.session or half.name != name:
                continue
            async with self._locks.held(slot.removesuffix(WAKING), wait=False) as held:
                claim = await asyncio.to_thread(self._home.claim, slot) if held else None
                if claim is None or claim.session or claim.name != name:
                    return False
                await asyncio.to_thread(self._home.drop_claim, slot)
        return await self._pool.discard_unowned(name)


def _key(claim: Claim) -> SessionKey:
    return SessionKey(PrincipalId(claim.principal), SessionId(claim.session))


def _warn_of_rest(name: str, error: OSError) -> None:
    logger.warning("a suspended sandbox was not removed", extra={"sandbox": name, "reason": str(error)})


def _still(claim: Claim, suspended_since: datetime) -> bool:
    """Whether a session has been suspended without a break since then."""
    return bool(claim.suspended_at) and parse_rfc3339(claim.suspended_at) <= suspended_since


def _now() -> str:
    return rfc3339(datetime.now(UTC))


def _not_found(key: SessionKey) -> SessionNotFound:
    return SessionNotFound(f"There is no session {key.session!r}. Make it with POST /sessions or .../initialize.")
