"""A session of Kubernetes sandboxes as it is written down: one Secret, named after the session. Pure.

Of several processes that make, wake, suspend or close a session at once, the one whose write of it succeeds has
done it. So it is the one place that says which pod is the session's. A Secret, as variables of the user's code may
be secrets.
"""

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from caesarion.clock import parse_rfc3339, rfc3339
from caesarion.ids import PrincipalId, SessionId, SessionKey
from caesarion.pods import DOMAIN, NAME_LABEL, PRINCIPAL_LABEL, SESSION_LABEL, Manifest, principal_label

SESSION_NAME = "caesarion-session"
SECRET_TYPE = f"{DOMAIN}/session"
_PREFIX = f"{DOMAIN}/"


@dataclass(frozen=True, slots=True)
class Suspending:
    """Who is making a checkpoint, and when that one was last heard of."""

    by: str
    heard_at: datetime


@dataclass(frozen=True, slots=True)
class PodSession:
    """A session: its pod, or the checkpoint that it is. `life` is of the pod's processes that know the variables.

    `version` is of the object it was read from; a change is refused when that is not the last one any more.
    """

    key: SessionKey
    created_at: datetime
    idle_timeout_s: float
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    pod: str = ""
    pod_uid: str = ""
    life: str = ""
    suspending: Suspending | None = None
    suspended_at: datetime | None = None
    checkpoint: str = ""
    version: str = ""

    @property
    def stored(self) -> bool:
        """Whether its checkpoint is all there is of it."""
        return self.suspended_at is not None


def secret_name(digest: str) -> str:
    """Return the name of the Secret of the session with this digest: at most 63 characters, as DNS-1123 wants it."""
    return f"{SESSION_NAME}-{digest}"


def secret(session: PodSession) -> Manifest:
    """Return the Secret that says what a session is."""
    noted = {
        "principal": session.key.principal,
        "session": session.key.session,
        "created-at": rfc3339(session.created_at),
        "idle-timeout-s": repr(session.idle_timeout_s),
        "pod": session.pod,
        "pod-uid": session.pod_uid,
        "life": session.life,
        "checkpoint": session.checkpoint,
    }
    if session.suspended_at is not None:
        noted["suspended-at"] = rfc3339(session.suspended_at)
    if session.suspending is not None:
        noted["suspending"] = f"{rfc3339(session.suspending.heard_at)} {session.suspending.by}"
    metadata: Manifest = {
        "name": secret_name(session.key.digest),
        "labels": {
            NAME_LABEL: SESSION_NAME,
            SESSION_LABEL: session.key.digest,
            PRINCIPAL_LABEL: principal_label(session.key.principal),
        },
        "annotations": {f"{_PREFIX}{name}": value for name, value in noted.items() if value},
    }
    if session.version:
        metadata["resourceVersion"] = session.version
    encoded = base64.b64encode(json.dumps(dict(session.env)).encode()).decode()
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "type": SECRET_TYPE,
        "metadata": metadata,
        "data": {"env": encoded},
    }


def session_of(found: Mapping[str, Any]) -> PodSession:
    """Return the session that a Secret, or its metadata alone, says. Raises KeyError or ValueError for another one."""
    metadata = found["metadata"]
    noted = {name.removeprefix(_PREFIX): value for name, value in metadata.get("annotations", {}).items()}
    encoded = found.get("data", {}).get("env")
    suspending = None
    if "suspending" in noted:
        heard_at, _, by = noted["suspending"].partition(" ")
        suspending = Suspending(by, parse_rfc3339(heard_at))
    return PodSession(
        key=SessionKey(PrincipalId(noted["principal"]), SessionId(noted["session"])),
        created_at=parse_rfc3339(noted["created-at"]),
        idle_timeout_s=float(noted["idle-timeout-s"]),
        env=json.loads(base64.b64decode(encoded)) if encoded else {},
        pod=noted.get("pod", ""),
        pod_uid=noted.get("pod-uid", ""),
        life=noted.get("life", ""),
        suspending=suspending,
        suspended_at=parse_rfc3339(noted["suspended-at"]) if "suspended-at" in noted else None,
        checkpoint=noted.get("checkpoint", ""),
        version=metadata["resourceVersion"],
    )
