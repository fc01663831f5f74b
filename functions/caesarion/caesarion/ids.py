"""Names of sessions, sandboxes, executions and principals, and how one is made from another."""

import hashlib
import re
import secrets
from dataclasses import dataclass
from typing import NewType

from caesarion.errors import InvalidRequest

SessionId = NewType("SessionId", str)
PrincipalId = NewType("PrincipalId", str)
ExecutionId = NewType("ExecutionId", str)
SandboxName = NewType("SandboxName", str)
ContextName = NewType("ContextName", str)

DEFAULT_CONTEXT = ContextName("default")
LOCAL_PRINCIPAL = PrincipalId("local")

_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


@dataclass(frozen=True, slots=True)
class SessionKey:
    """A session of one principal. Two principals may use the same session id and never meet."""

    principal: PrincipalId
    session: SessionId

    @property
    def digest(self) -> str:
        """40 hexadecimal digits that stand for this key where a short, safe name is needed (labels, files)."""
        return hashlib.sha256(f"{self.principal}\0{self.session}".encode()).hexdigest()[:40]


def checked_id(value: object, *, what: str) -> str:
    """Return `value` when it is an id that a client may choose; `what` names it in the error."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        shown = repr(value)[:80]
        raise InvalidRequest(
            f"{what} must be 1 to 64 of the characters A-Z a-z 0-9 _ -, got {shown}.", code="invalid_id"
        )
    return value


def new_id(prefix: str) -> str:
    """Return an unguessable id with 160 random bits, for example ``s_3fk…`` for the prefix ``s``."""
    return f"{prefix}_{secrets.token_hex(20)}"


def keyed_execution_id(idempotency_key: str) -> ExecutionId:
    """Return the execution id that an idempotency key stands for within its session."""
    return ExecutionId("k_" + hashlib.sha256(idempotency_key.encode()).hexdigest()[:40])
