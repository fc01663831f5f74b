"""The doors to the outside: sandboxes, objects that are kept, and events that are told.

`Sandboxes` is the one door to sandboxes: two implementations, local processes and Kubernetes, pass one contract suite.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from caesarion.events import Event
from caesarion.ids import PrincipalId, SandboxName, SessionKey

OrphanKind = Literal["sandbox", "session", "checkpoint"]
SandboxState = Literal["starting", "ready", "suspended"]
Start = Literal["own", "warm", "waited", "cold", "woken"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a sandbox's server listens (one of `socket_path` and `base_url`) and the bearer token it wants."""

    token: str = field(repr=False)
    socket_path: str | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a session asks for when it is made. `env` are variables for the user's code.

    `new` says that the session's id was made for it just now, so that nobody needs to look whether it exists.
    """

    idle_timeout_s: float
    env: dict[str, str] = field(default_factory=dict, repr=False)
    new: bool = False


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A session's sandbox as its platform knows it. `endpoint` is there unless it is suspended.

    `suspended_at` is when it was suspended; until somebody does that, one whose processes ended by themselves has none.
    `stored`: a checkpoint of it was, so that its variables come back too. `start` is how a claim came by it: it was the
    session's `own`, or waited ready (`warm`) or nearly (`waited`), or had to be made (`cold`), or was `woken`.
    """

    name: SandboxName
    key: SessionKey
    state: SandboxState
    created_at: datetime
    idle_timeout_s: float
    endpoint: Endpoint | None
    suspended_at: datetime | None = None
    stored: bool = False
    start: Start = field(default="own", compare=False)


@dataclass(frozen=True, slots=True)
class Orphan:
    """Something that belongs to nothing, and since when.

    That is a sandbox that no session has and the pool does not offer, a session that is not suspended and whose sandbox
    is gone, or a checkpoint of no session. What is only being made looks the same, so it counts once it is old. A
    suspended session is none even if its checkpoint is not in the store, which may be the wrong one.
    """

    kind: OrphanKind
    name: str
    since: datetime


class Sandboxes(Protocol):
    """Sandboxes, one per session at most. Which session has which is written on the sandbox itself."""

    async def claim(self, key: SessionKey, spec: SessionSpec | None = None, *, deadline_s: float) -> Sandbox:
        """Return this session's ready sandbox: its own, a suspended one woken, or (with a `spec`) a new one.

        Idempotent: two concurrent calls for a session, in whatever process, return the same sandbox, and a session
        that exists keeps the spec it was made with.
        Raises SessionNotFound when there is none and `spec` is None, and SandboxUnavailable when none is ready within
        `deadline_s` seconds.
        """
        ...

    async def get(self, key: SessionKey) -> Sandbox | None:
        """Return this session's sandbox as it is, without waking it."""
        ...

    async def list(self, principal: PrincipalId | None) -> Sequence[Sandbox]:
        """Return all sessions' sandboxes of this principal, or of everybody for None, oldest first."""
        ...

    async def suspend(self, key: SessionKey, *, unused_since: datetime | None = None) -> bool:
        """End this session's processes after a checkpoint of its files, journal and variables; a claim restores it.

        Only if it runs nothing and nobody reads from it, and with `unused_since` if it was not used after that moment
        either: else it is left as it is and this returns False, with `unused_since` also when it is being woken or
        suspended by somebody else. Requests that come in meanwhile wait for the end of this and wake it. Idempotent.
        Raises SandboxUnavailable when no checkpoint could be written; then the session goes on as it was.
        """
        ...

    async def release(self, key: SessionKey, *, suspended_since: datetime | None = None) -> bool:
        """End this session: its sandbox, variables, files and checkpoint are gone when this returns. Idempotent.

        With `suspended_since` only if it is suspended since then still; returns whether it is gone.
        """
        ...

    async def orphans(self) -> Sequence[Orphan]:
        """Return what belongs to nothing, oldest first."""
        ...

    async def remove_orphan(self, orphan: Orphan) -> bool:
        """Remove an orphan unless it belongs to something by now; returns whether it was removed. Idempotent."""
        ...

    async def aclose(self) -> None:
        """Let go of what this process holds. Sandboxes in use live on for the next process."""
        ...


@dataclass(frozen=True, slots=True)
class StoredObject:
    """An object that is kept: its path with slashes, relative to the store."""

    path: str
    size_bytes: int
    modified_at: datetime


class ObjectStore(Protocol):
    """Objects kept outside of sandboxes: a folder, or a bucket of S3, Google Cloud or Azure. All replicas share it.

    Every method raises SandboxUnavailable when the store cannot be reached.
    """

    async def put(self, path: str, content: AsyncIterator[bytes]) -> int:
        """Write an object, whole or not at all, in place of one that is there; return its size in bytes."""
        ...

    async def create(self, path: str, content: bytes) -> bool:
        """Write a small object unless there is one; of several that do so at once one gets True."""
        ...

    def read(self, path: str) -> AsyncIterator[bytes]:
        """Yield an object's content in pieces. Raises NotFound before the first when there is none."""
        ...

    async def delete(self, path: str) -> None:
        """Remove an object. Idempotent."""
        ...

    async def list(self, folder: str) -> Sequence[StoredObject]:
        """Return all objects whose path begins with `folder` and a slash, in no order."""
        ...

    async def aclose(self) -> None:
        """Let go of connections."""
        ...


class Sink(Protocol):
    """Where events go: Knative's `K_SINK`, or the broker in the same process."""

    async def send(self, event: Event, principal: PrincipalId) -> None:
        """Have an event accepted; it is safe with the sink when this returns.

        `principal` is whom the event is about; a broker of the same process delivers it in that name.
        Raises SandboxUnavailable when the sink does not accept it.
        """
        ...
