"""From exceptions to the one JSON shape of failures."""

import asyncio
import contextlib
import json
import math
from http import HTTPStatus

from starlette.exceptions import HTTPException
from starlette.types import Receive, Scope, Send

from caesarion.adapters.asgi.facts import facts_of
from caesarion.errors import CaesarionError, InvalidRequest, MethodNotAllowed, NotFound, Unauthorized, error_body

DRAIN_DEADLINE_S = 5.0
DEFAULT_RETRY_AFTER_S = 1.0
UNKNOWN = "The platform failed. The details stand in its log under this id."


def as_error(exc: Exception, scope: Scope) -> CaesarionError:
    """Return what a client is told of `exc`. What is not meant for clients becomes `internal`, without its text."""
    if isinstance(exc, CaesarionError):
        return exc
    if isinstance(exc, HTTPException):
        match exc.status_code:
            case 404:
                return NotFound(
                    f"There is no such path for {scope['method']}; /openapi.json lists those there are.",
                    code="route_not_found",
                )
            case 405:
                allowed = (exc.headers or {}).get("Allow", "")
                return MethodNotAllowed(f"This path does not take {scope['method']}; it takes {allowed}.")
            case status if status < 500:
                return InvalidRequest(f"The request cannot be understood: {HTTPStatus(status).phrase}.")
    return CaesarionError(UNKNOWN)


async def send_failure(exc: Exception, scope: Scope, receive: Receive, send: Send) -> None:
    """Answer with the failure's JSON.

    A client that is still sending its body has to be heard out for a while: were the connection closed at once, many
    would never see the answer. One that asked first (`Expect`) has sent nothing and is told at once.
    """
    error = as_error(exc, scope)
    facts = facts_of(scope)
    facts.code = error.code
    body = json.dumps(error_body(error, facts.id)).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
    if error.retryable or error.retry_after_s is not None:
        headers.append((b"retry-after", str(math.ceil(error.retry_after_s or DEFAULT_RETRY_AFTER_S)).encode()))
    if error.code == Unauthorized.code:
        headers.append((b"www-authenticate", b"Bearer"))
    if isinstance(exc, HTTPException) and exc.headers and "Allow" in exc.headers:
        headers.append((b"allow", ", ".join(sorted(exc.headers["Allow"].split(", "))).encode()))
    unread = not facts.body_read and _has_body(scope)
    if unread:
        headers.append((b"connection", b"close"))
    await send({"type": "http.response.start", "status": error.status, "headers": headers})
    await send({"type": "http.response.body", "body": body, "more_body": True})
    if unread and not _asked_first(scope):
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_DEADLINE_S):
                while not facts.body_read and (await receive())["type"] == "http.request":
                    pass
    await send({"type": "http.response.body", "body": b"", "more_body": False})


def _has_body(scope: Scope) -> bool:
    return any(
        name == b"transfer-encoding" or (name == b"content-length" and value != b"0")
        for name, value in scope["headers"]
    )


def _asked_first(scope: Scope) -> bool:
    return any(name == b"expect" for name, _ in scope["headers"])
