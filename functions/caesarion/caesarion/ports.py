"""The one door to sandboxes. Two implementations, local processes and Kubernetes, pass one contract suite."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal, Protocol

from caesarion.ids import PrincipalId, SandboxName, SessionKey

SandboxState = Literal["starting", "ready", "suspended"]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a sandbox's server listens (one of `socket_path` and `base_url`) and the bearer token it wants."""

    token: str = field(repr=False)
    socket_path: str | None = None
    base_url: str | None = None


@dataclass(frozen=True, slots=True)
class SessionSpec:
    """What a session asks for when it is made. `env` are variables for the user's code."""

    idle_timeout_s: float
    env: dict[str, str] = field(default_factory=dict, repr=False)


@dataclass(frozen=True, slots=True)
class Sandbox:
    """A session's sandbox as its platform knows it. `endpoint` is there unless it is suspended."""

    name: SandboxName
    key: SessionKey
    state: SandboxState
    created_at: datetime
    idle_timeout_s: float
    endpoint: Endpoint | None


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

    async def list(self, principal: PrincipalId) -> Sequence[Sandbox]:
        """Return all sandboxes of this principal, oldest first."""
        ...

    async def suspend(self, key: SessionKey) -> None:
        """End this session's processes: variables go, files and journal stay until it is woken. Idempotent."""
        ...

    async def release(self, key: SessionKey) -> None:
        """End this session: its sandbox, variables and files are gone when this returns. Idempotent."""
        ...

    async def aclose(self) -> None:
        """Let go of what this process holds. Sandboxes in use live on for the next process."""
        ...
