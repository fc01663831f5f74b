"""The ports `Sandboxes` and `ObjectStore` in memory and in simulated time, by the ports' contracts.

Calls that take time on a real platform give way to other tasks in their middle, so that sweeps and users meet there.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count

from caesarion.errors import NotFound, SandboxUnavailable, SessionNotFound
from caesarion.ids import PrincipalId, SandboxName, SessionId, SessionKey
from caesarion.ports import Endpoint, Orphan, Sandbox, SandboxState, SessionSpec, StoredObject
from caesarion_cleanup.rules import Use


class Clock:
    """A clock that goes when it is told to, also backwards."""

    def __init__(self, now: datetime = datetime(2026, 3, 1, tzinfo=UTC)) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def go(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


@dataclass
class Session:
    """A session, and what is in its sandbox."""

    key: SessionKey
    spec: SessionSpec
    name: SandboxName
    created_at: datetime
    last_activity_at: datetime
    alive: bool = True
    starting: bool = False
    suspended_at: datetime | None = None
    running: int = 0
    readers: int = 0
    moved: asyncio.Event | None = None  # set once it is suspended, while that goes on
    variables: dict[str, int] = field(default_factory=dict)


class SimulatedSandboxes:
    """The port, and what users and accidents do. `between` is called each time something was looked up."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.sessions: dict[SessionKey, Session] = {}
        self.orphaned: dict[str, Orphan] = {}
        self.adopted: set[str] = set()
        self.silent: set[SessionKey] = set()
        self.broken: set[SessionKey | str] = set()
        self.endless: set[SessionKey] = set()  # whose suspension does not end before `end`
        self.end = asyncio.Event()
        self.suspending: list[SessionKey] = []  # whose suspension is under way
        self.changed = asyncio.Event()
        self.asked: list[SessionKey] = []
        self.suspended: list[tuple[SessionKey, float]] = []
        self.removed: list[tuple[SessionKey, float]] = []
        self.between: Callable[[], None] = lambda: None
        self._numbers = count(1)

    async def claim(self, key: SessionKey, spec: SessionSpec | None = None, *, deadline_s: float) -> Sandbox:
        session = await self._still(key)
        if session is None:
            if spec is None:
                raise SessionNotFound("There is no such session.")
            session = self.make(key, spec.idle_timeout_s)
        if not session.alive:
            self._wake(session)
        session.last_activity_at = self.clock()
        return _told(session)

    async def get(self, key: SessionKey) -> Sandbox | None:
        session = self.sessions.get(key)
        return None if session is None else _told(session)

    async def list(self, principal: PrincipalId | None) -> Sequence[Sandbox]:
        if "list" in self.broken:
            raise SandboxUnavailable("The sandboxes cannot be listed.")
        listed = [_told(one) for one in self.sessions.values() if principal in (None, one.key.principal)]
        self.between()
        await asyncio.sleep(0)
        return sorted(listed, key=lambda sandbox: sandbox.created_at)

    async def suspend(self, key: SessionKey, *, unused_since: datetime | None = None) -> bool:
        session = self.sessions.get(key) if unused_since is not None else await self._still(key)
        if session is None or session.starting or session.moved is not None:
            return False
        if session.suspended_at is not None:
            return unused_since is None
        used_since = unused_since is not None and (self._in_use(session) or session.last_activity_at > unused_since)
        if session.alive and used_since:
            return False
        session.moved = asyncio.Event()
        self.suspending.append(key)
        self.changed.set()
        try:
            await (self.end.wait() if key in self.endless else asyncio.sleep(0))
        finally:
            self.suspending.remove(key)
            self.changed.set()
            session.moved.set()
            session.moved = None
        if key in self.broken:
            raise SandboxUnavailable("No checkpoint could be written.")
        self.suspended.append((key, self._age_s(session.last_activity_at)))
        session.alive, session.suspended_at = False, self.clock()
        return True

    async def release(self, key: SessionKey, *, suspended_since: datetime | None = None) -> bool:
        session = await self._still(key)
        if session is None:
            return True
        if suspended_since is not None and not _suspended_by(session, suspended_since):
            return False
        await asyncio.sleep(0)
        if key in self.broken:
            raise SandboxUnavailable("The session's files could not be removed.")
        if self.sessions.get(key) is not session:
            return True
        if suspended_since is not None and not _suspended_by(session, suspended_since):
            return False
        del self.sessions[key]
        self.removed.append((key, self._age_s(session.suspended_at or self.clock())))
        return True

    async def orphans(self) -> Sequence[Orphan]:
        if "orphans" in self.broken:
            raise RuntimeError("orphans cannot be listed")
        found = sorted(self.orphaned.values(), key=lambda orphan: orphan.since)
        await asyncio.sleep(0)
        return found

    async def remove_orphan(self, orphan: Orphan) -> bool:
        await asyncio.sleep(0)
        if orphan.name in self.broken:
            raise SandboxUnavailable("The orphan could not be removed.")
        return orphan.name not in self.adopted and self.orphaned.pop(orphan.name, None) is not None

    async def aclose(self) -> None:
        pass

    async def ask(self, endpoint: Endpoint) -> Use:
        """What a sandbox's server says."""
        key = _key(endpoint)
        self.asked.append(key)
        await asyncio.sleep(0)
        session = self.sessions.get(key)
        if session is None or not session.alive or session.name != endpoint.token or key in self.silent:
            raise SandboxUnavailable("The sandbox does not answer.")
        if self._in_use(session):
            session.last_activity_at = self.clock()
        told = session.last_activity_at.replace(microsecond=session.last_activity_at.microsecond // 1000 * 1000)
        use = Use(session.running > 0, told)
        self.between()
        return use

    async def until(self, so: Callable[[], bool]) -> None:
        """Wait until suspensions that begin and end have made something so."""
        while not so():
            self.changed.clear()
            await self.changed.wait()

    def make(self, key: SessionKey, idle_timeout_s: float = 3600) -> Session:
        """Make a session that runs."""
        now, name = self.clock(), SandboxName(f"sb-{next(self._numbers)}")
        session = Session(key, SessionSpec(idle_timeout_s), name, now, now)
        self.sessions[key] = session
        return session

    def use(self, key: SessionKey) -> Session:
        """Let a user come to the session, which is woken if need be."""
        session = self.sessions[key]
        if not session.alive:
            self._wake(session)
        session.last_activity_at = self.clock()
        return session

    def _wake(self, session: Session) -> None:
        session.alive, session.suspended_at = True, None

    def _in_use(self, session: Session) -> bool:
        return session.alive and (session.running > 0 or session.readers > 0)

    def _age_s(self, moment: datetime) -> float:
        return (self.clock() - moment).total_seconds()

    async def _still(self, key: SessionKey) -> Session | None:
        while (session := self.sessions.get(key)) is not None and session.moved is not None:
            await session.moved.wait()
        return session


class SimulatedStore:
    """The store in memory; objects are as old as the clock says. Paths in `broken` cannot be removed or listed."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self.objects: dict[str, tuple[bytes, StoredObject]] = {}
        self.broken: set[str] = set()

    async def put(self, path: str, content: AsyncIterator[bytes]) -> int:
        whole = b"".join([piece async for piece in content])
        self.objects[path] = (whole, StoredObject(path, len(whole), self._clock()))
        return len(whole)

    async def create(self, path: str, content: bytes) -> bool:
        return self.objects.setdefault(path, (content, StoredObject(path, len(content), self._clock())))[0] is content

    async def read(self, path: str) -> AsyncIterator[bytes]:
        if path not in self.objects:
            raise NotFound("There is no such object.")
        yield self.objects[path][0]

    async def delete(self, path: str) -> None:
        await asyncio.sleep(0)
        if path in self.broken:
            raise SandboxUnavailable("The object could not be removed.")
        self.objects.pop(path, None)

    async def list(self, folder: str) -> Sequence[StoredObject]:
        if folder in self.broken:
            raise SandboxUnavailable("The store cannot be listed.")
        found = [stored for path, (_, stored) in self.objects.items() if path.startswith(f"{folder}/")]
        await asyncio.sleep(0)
        return found

    async def aclose(self) -> None:
        pass


def key_of(session: str, principal: str = "alice") -> SessionKey:
    """Return the key of a session."""
    return SessionKey(PrincipalId(principal), SessionId(session))


def _told(session: Session) -> Sandbox:
    state: SandboxState = "starting" if session.starting or session.moved else "ready" if session.alive else "suspended"
    address = f"http://{session.key.principal}/{session.key.session}"
    endpoint = Endpoint(session.name, base_url=address) if state == "ready" else None
    return Sandbox(
        session.name, session.key, state, session.created_at, session.spec.idle_timeout_s, endpoint,
        session.suspended_at if state == "suspended" else None,
    )  # fmt: skip


def _suspended_by(session: Session, moment: datetime) -> bool:
    return session.suspended_at is not None and session.suspended_at <= moment


def _key(endpoint: Endpoint) -> SessionKey:
    principal, _, session = (endpoint.base_url or "").removeprefix("http://").partition("/")
    return key_of(session, principal)
