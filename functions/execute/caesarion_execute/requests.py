"""What the routes of a session read from a request."""

import keyword
import re
from typing import Any

from starlette.requests import Request

from caesarion.adapters.asgi.bodies import Fields
from caesarion.adapters.asgi.facts import principal_of
from caesarion.errors import InvalidRequest
from caesarion.ids import ContextName, ExecutionId, SessionId, SessionKey, checked_id, keyed_execution_id, new_id
from caesarion.logs import bind
from caesarion.ports import SessionSpec
from caesarion.settings import SandboxSettings

MAX_IDLE_TIMEOUT_S = 7 * 86_400.0
MAX_ENV_BYTES = 64 * 1024
MAX_SEQ = 10**14
MIN_TIMEOUT_S = 0.001
SPEC_FIELDS = ("idle_timeout_s", "env")
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,127}")
_IDEMPOTENCY_KEY = re.compile(r"[\x21-\x7e]{1,255}")


def key_of(request: Request) -> SessionKey:
    """Return the session that the path names, as one of the principal that asks."""
    session = SessionId(checked_id(request.path_params["session"], what="The session's id"))
    bind(session=session)
    return SessionKey(principal_of(request), session)


def context_of(request: Request) -> ContextName:
    """Return the context that the path names."""
    return ContextName(checked_id(request.path_params["name"], what="The context's name"))


def execution_of(request: Request) -> ExecutionId:
    """Return the execution that the path names."""
    execution = ExecutionId(checked_id(request.path_params["execution"], what="The execution's id"))
    bind(execution=execution)
    return execution


def wanted_execution(request: Request) -> ExecutionId:
    """Return the id under which code is to run: that of its `Idempotency-Key`, or a new one."""
    given = request.headers.get("idempotency-key")
    if given is not None and not _IDEMPOTENCY_KEY.fullmatch(given):
        raise InvalidRequest("Idempotency-Key must be 1 to 255 visible ASCII characters.", code="invalid_field")
    execution = keyed_execution_id(given) if given is not None else ExecutionId(new_id("e"))
    bind(execution=execution)
    return execution


def after_of(request: Request) -> int:
    """Return the sequence number after which outputs are wanted, 0 for all.

    It is the larger of `after` and `Last-Event-ID`: a browser that comes again sends the latter to the same address.
    """
    given = (request.query_params.get("after"), request.headers.get("last-event-id"))
    return max(_seq(text) if text else 0 for text in given)


def _seq(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,15}", text) or int(text) > MAX_SEQ:
        raise InvalidRequest(
            f"`after` (or Last-Event-ID) must be a sequence number from 0, got {text[:40]!r}.", code="invalid_field"
        )
    return int(text)


def timeout_of(fields: Fields, limits: SandboxSettings) -> float | None:
    """Return the time that code is to have, or None where the request does not say."""
    return fields.number("timeout_s", low=MIN_TIMEOUT_S, high=limits.max_execution_timeout_s)


def variables_of(fields: Fields) -> dict[str, Any]:
    """Return the variables that code is to find, by name; empty where the request has none."""
    variables = fields.values("variables")
    for name in variables:
        if not name.isidentifier() or keyword.iskeyword(name):
            raise InvalidRequest(
                f"`variables` must have names that Python takes as such, got {name[:80]!r}.", code="invalid_field"
            )
    return variables


def spec_of(fields: Fields, *, default_idle_timeout_s: float) -> SessionSpec:
    """Return what a session asks for when it is made."""
    env = fields.texts("env")
    for name, value in env.items():
        if not _VARIABLE.fullmatch(name) or "\0" in value:
            raise InvalidRequest(
                f"`env` must have names of variables (A-Z a-z 0-9 _) and values without NUL, got {name[:80]!r}.",
                code="invalid_field",
            )
    if sum(len(name) + len(value) for name, value in env.items()) > MAX_ENV_BYTES:
        raise InvalidRequest(f"`env` must not have more than {MAX_ENV_BYTES} bytes in all.", code="invalid_field")
    idle_timeout_s = fields.number("idle_timeout_s", low=1, high=max(MAX_IDLE_TIMEOUT_S, default_idle_timeout_s))
    return SessionSpec(default_idle_timeout_s if idle_timeout_s is None else idle_timeout_s, env)
