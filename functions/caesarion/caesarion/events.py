"""CloudEvents 1.0 as values, and the events that we send and take. Pure; the wire is `caesarion.adapters.events`.

Source: CloudEvents spec v1.0.2, "Context Attributes"; shapes of `data`: the HTTP surface, part "Events".
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

EXECUTION_REQUESTED = "dev.caesarion.execution.requested"
EXECUTION_FINISHED = "dev.caesarion.execution.finished"
CHAT_REQUESTED = "dev.caesarion.chat.requested"
CHAT_FINISHED = "dev.caesarion.chat.finished"
SESSION_CLOSED = "dev.caesarion.session.closed"
SANDBOX_CLAIMED = "dev.caesarion.sandbox.claimed"
SANDBOX_SUSPENDED = "dev.caesarion.sandbox.suspended"
SANDBOX_REMOVED = "dev.caesarion.sandbox.removed"
CLEANUP_FINISHED = "dev.caesarion.cleanup.finished"
PING = "dev.knative.sources.ping"
TYPES = frozenset(
    {
        EXECUTION_REQUESTED, EXECUTION_FINISHED, CHAT_REQUESTED, CHAT_FINISHED, SESSION_CLOSED, SANDBOX_CLAIMED,
        SANDBOX_SUSPENDED, SANDBOX_REMOVED, CLEANUP_FINISHED, PING,
    }
)  # fmt: skip

JSON_TYPE = "application/json"
NO_EXTENSIONS: Mapping[str, str] = MappingProxyType({})


@dataclass(frozen=True, slots=True)
class Event:
    """One event. `time` is RFC 3339 as it came; `data` the bytes of a body of the type `datacontenttype`.

    `extensions` are all other attributes, `traceparent` among them; their names are lower case letters and digits.
    """

    id: str
    source: str
    type: str
    subject: str | None = None
    time: str | None = None
    datacontenttype: str | None = None
    dataschema: str | None = None
    extensions: Mapping[str, str] = field(default_factory=lambda: NO_EXTENSIONS)
    data: bytes | None = field(default=None, repr=False)


def told_type(kind: str) -> str:
    """Return a type as metrics tell it: one that we know, or `other`, as anybody may send any."""
    return kind if kind in TYPES else "other"


def event_digest(source: str, event_id: str) -> str:
    """Return 40 hexadecimal digits that stand for an event: it is the same event when source and id are the same."""
    return hashlib.sha256(f"{source}\0{event_id}".encode("utf-8", "surrogatepass")).hexdigest()[:40]
