"""Routes that take events: decoded, handed on, and answered with an event or with nothing.

A broker delivers again what gets 404, 408, 409, 429 or 5xx, and gives up on other statuses; so a status here says
whether a further delivery can help (`told_to_broker`).
"""

import asyncio
import logging
import re
from collections.abc import Awaitable, Callable
from dataclasses import replace

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caesarion.adapters.asgi.bodies import read_limited
from caesarion.adapters.asgi.facts import facts_of
from caesarion.adapters.asgi.routes import resource
from caesarion.adapters.events import BATCH, STRUCTURED, Mode, at_index, batch, binary, decode, structured
from caesarion.errors import (
    CaesarionError,
    Conflict,
    InvalidRequest,
    MethodNotAllowed,
    NotFound,
    SandboxUnavailable,
    Unprocessable,
)
from caesarion.events import Event, event_digest, told_type
from caesarion.logs import bound

logger = logging.getLogger(__name__)

Handle = Callable[[Request, Event], Awaitable[Event | None]]
Check = Callable[[Event], None]

TRACE = ("traceparent", "tracestate")
AT_ONCE = 8
_TRACEPARENT = re.compile(r"[0-9a-f]{2}-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
TURN_RETRY_AFTER_S = 2.0


def event_route(
    path: str, handle: Handle, *, max_bytes: int, check: Check | None = None, carries: bool = True
) -> Route:
    """Return the route of a function's events.

    `handle` gives the reply to an event, or None for none; for a type that it does not know it returns
    `unhandled(event)`. It may meet the same event again, also at once. `check` raises for an event that cannot be
    handled: all of a batch are checked before the first is handled. With `carries` the reply gets the extension
    attributes of the request, else it has them already.
    """

    async def receive(request: Request) -> Response:
        received = decode(request.headers, await read_limited(request, max_bytes))
        events = [_traced(request, event) for event in received.events]
        for index, event in enumerate(events):
            try:
                if check is not None:
                    check(event)
            except CaesarionError as exc:
                error = told_to_broker(exc)
                _note(request, event, "refused")
                raise (at_index(error, index) if received.mode == "batch" else error) from exc
        replies = await _handled(request, events, handle, in_batch=received.mode == "batch")
        if carries:
            replies = [reply and carried(event, reply) for event, reply in zip(events, replies, strict=True)]
        return _response([reply for reply in replies if reply is not None], received.mode)

    async def options(request: Request) -> Response:
        return handshake(request)

    return resource(path, POST=receive, OPTIONS=options)


def unhandled(event: Event) -> None:
    """Note an event of a type that nobody handles; it is answered with 202, as it would only come again."""
    logger.warning("event dropped", extra={"event_type": event.type[:200], "reason": "nobody handles this type"})


def carried(event: Event, reply: Event) -> Event:
    """Return the reply with the extension attributes of the event, where it has none of these names."""
    return replace(reply, extensions=dict(sorted({**event.extensions, **reply.extensions}.items())))


def told_to_broker(error: CaesarionError) -> CaesarionError:
    """Return the failure with a status that makes a broker deliver again only where that may help."""
    match error:
        case Conflict(code="turn_running"):
            return SandboxUnavailable(
                error.message, code=error.code, retry_after_s=error.retry_after_s or TURN_RETRY_AFTER_S
            )
        case Conflict() | NotFound() | MethodNotAllowed():
            return Unprocessable(error.message, code=error.code)
    return error


def handshake(request: Request) -> Response:
    """Answer who asks whether it may send events here (CloudEvents HTTP webhooks, "Abuse Protection"): it may."""
    origin = request.headers.get("webhook-request-origin")
    headers = {"Allow": "OPTIONS, POST"}
    if origin is not None:
        if not (origin.isascii() and origin.isprintable() and 0 < len(origin) <= 255):
            raise InvalidRequest("WebHook-Request-Origin must be the name of a system, as a DNS name.")
        headers |= {"WebHook-Allowed-Origin": origin, "WebHook-Allowed-Rate": "*"}
    return Response(status_code=200, headers=headers)


async def _handled(request: Request, events: list[Event], handle: Handle, *, in_batch: bool) -> list[Event | None]:
    """Return the replies in order. All are handled to the end; then the failure that a retry may mend comes first."""
    at_once = asyncio.Semaphore(AT_ONCE)

    async def one(event: Event) -> Event | None:
        async with at_once:
            result = "failed"
            try:
                with bound(event=event_digest(event.source, event.id), event_type=event.type[:200]):
                    reply = await handle(request, event)
                result = "replied" if reply is not None else "accepted"
                return reply
            except CaesarionError as exc:
                result = "failed" if told_to_broker(exc).retryable else "refused"
                raise
            finally:
                _note(request, event, result)

    if not in_batch:
        try:
            return [await one(event) for event in events]
        except CaesarionError as exc:
            raise told_to_broker(exc) from exc
    outcomes = await asyncio.gather(*map(one, events), return_exceptions=True)
    failures: list[CaesarionError] = []
    for index, outcome in enumerate(outcomes):
        if isinstance(outcome, CaesarionError):
            failures.append(at_index(told_to_broker(outcome), index))
        elif isinstance(outcome, BaseException):
            raise outcome
    if failures:
        raise max(failures, key=lambda error: error.retryable)
    return [outcome for outcome in outcomes if not isinstance(outcome, BaseException)]


def _note(request: Request, event: Event, result: str) -> None:
    facts_of(request.scope).events.append((told_type(event.type), result))


def _response(replies: list[Event], mode: Mode) -> Response:
    if not replies:
        return Response(status_code=202)
    if mode == "batch":
        return Response(batch(replies), media_type=BATCH)
    if mode == "structured":
        return Response(structured(replies[0]), media_type=STRUCTURED)
    headers, body = binary(replies[0])
    return Response(body, headers=headers)


def _traced(request: Request, event: Event) -> Event:
    """Return the event with the trace of its request, where it has none of its own."""
    if "traceparent" in event.extensions or not _TRACEPARENT.fullmatch(request.headers.get("traceparent", "")):
        return event
    trace = {name: request.headers[name] for name in TRACE if name in request.headers}
    return replace(event, extensions=dict(sorted({**event.extensions, **trace}.items())))
