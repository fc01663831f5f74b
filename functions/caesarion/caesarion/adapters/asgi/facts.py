"""What is known of a request while it is answered; `Front` makes it, later stages add to it."""

from dataclasses import dataclass, field

from starlette.requests import HTTPConnection
from starlette.types import Scope

from caesarion.ids import PrincipalId

_KEY = "caesarion"


@dataclass(slots=True)
class Facts:
    """Facts of one request. `id` is the error's id too, and `code` its name; `headers` go out with any answer.

    `events` are those it brought, by type and by what became of each.
    """

    id: str
    principal: PrincipalId | None = None
    headers: list[tuple[bytes, bytes]] = field(default_factory=list)
    body_read: bool = False
    status: int | None = None
    code: str | None = None
    sent_bytes: int = 0
    received_bytes: int = 0
    events: list[tuple[str, str]] = field(default_factory=list)


def put_facts(scope: Scope, facts: Facts) -> None:
    """Attach facts to a request."""
    scope[_KEY] = facts


def facts_of(scope: Scope) -> Facts:
    """Return the facts of a request that came through `Front`."""
    facts: Facts = scope[_KEY]
    return facts


def principal_of(request: HTTPConnection) -> PrincipalId:
    """Return who asks. `Access` has let the request through, so somebody does."""
    principal = facts_of(request.scope).principal
    if principal is None:
        raise RuntimeError("a route that needs a principal was reached without one")
    return principal
