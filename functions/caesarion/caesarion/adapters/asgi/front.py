"""The outermost stage of every function: an id, a log line, a count and, when something fails, the one error shape."""

import logging
import time
from collections.abc import Mapping
from typing import Any

from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caesarion.adapters import tracing
from caesarion.adapters.asgi.facts import Facts, put_facts
from caesarion.adapters.asgi.failures import send_failure
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.errors import CaesarionError
from caesarion.ids import new_id
from caesarion.logs import bound, milliseconds

logger = logging.getLogger(__name__)

LEFT = 499
UNTRACED = ("/health/", "/metrics")
OWN_TRACE = {name.encode(): name for name in tracing.HEADERS}
TRACE_OF_EVENT = {f"ce-{name}".encode(): name for name in tracing.HEADERS}
HEADERS_OF_ALL = ((b"x-content-type-options", b"nosniff"), (b"cache-control", b"no-store"))


class Front:
    """Takes every request first. Nothing that fails behind it reaches the server as an exception."""

    def __init__(self, app: ASGIApp, *, metrics: Metrics) -> None:
        self._app = app
        self._metrics = metrics
        self._events = metrics.counter(
            "caesarion_events", "Events taken, by type and by what became of them.", "type", "result"
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        facts = Facts(new_id("r"))
        put_facts(scope, facts)
        began_s = time.perf_counter()
        span = _span(scope, facts)

        async def receive_counted() -> Message:
            message = await receive()
            facts.received_bytes += len(message.get("body", b""))
            facts.body_read = facts.body_read or not message.get("more_body", False)
            return message

        async def send_noted(message: Message) -> None:
            if message["type"] == "http.response.start":
                facts.status = message["status"]
                message = {**message, "headers": _completed(message.get("headers", ()), facts)}
            facts.sent_bytes += len(message.get("body", b""))
            await send(message)

        self._metrics.requests_in_flight += 1
        with span.current(), bound(request=facts.id, **_trace()):
            try:
                await self._answered(scope, receive_counted, send_noted, facts)
            finally:
                self._metrics.requests_in_flight -= 1
                self._note(scope, facts, time.perf_counter() - began_s, span)

    async def _answered(self, scope: Scope, receive: Receive, send: Send, facts: Facts) -> None:
        try:
            await self._app(scope, receive, send)
        except ClientDisconnect:
            facts.status = LEFT
        except Exception as exc:
            if not isinstance(exc, CaesarionError | HTTPException):
                logger.error("request failed unexpectedly", exc_info=exc)
            elif isinstance(exc, CaesarionError) and exc.status >= 500:
                logger.warning("request failed", extra={"reason": exc.message[:500]})
            if facts.status is None:
                await send_failure(exc, scope, receive, send)

    def _note(self, scope: Scope, facts: Facts, duration_s: float, span: tracing.Span) -> None:
        route = getattr(scope.get("route"), "path", "(none)")
        status = facts.status or LEFT
        self._metrics.count_request(scope["method"], route, status, duration_s)
        self._events.update(facts.events)
        span.name(f"{scope['method']} {route}")
        span.set({"http.route": route, "http.response.status_code": status, "enduser.id": facts.principal})
        if status >= 500:
            span.fail(facts.code or str(status))
        span.end()
        logger.log(
            logging.DEBUG if route.startswith("/health/") else logging.INFO,
            "request",
            extra={
                "method": scope["method"],
                "route": route,
                "status": status,
                "duration_ms": milliseconds(duration_s),
                "received_bytes": facts.received_bytes,
                "sent_bytes": facts.sent_bytes,
                "principal": facts.principal,
                **({"code": facts.code} if facts.code is not None else {}),
            },
        )


def _completed(headers: Any, facts: Facts) -> list[tuple[bytes, bytes]]:
    given = list(headers)
    names = {name for name, _ in given}
    given += [header for header in HEADERS_OF_ALL if header[0] not in names]
    return [*given, *facts.headers, (b"x-request-id", facts.id.encode())]


def _span(scope: Scope, facts: Facts) -> tracing.Span:
    """Return the span of a request, below that of who sent it; probes and scrapes have none."""
    if scope["path"].startswith(UNTRACED):
        return tracing.NO_SPAN
    above = _sent(scope, OWN_TRACE) or _sent(scope, TRACE_OF_EVENT)
    attributes = {"http.request.method": scope["method"], "caesarion.request": facts.id}
    return tracing.start(scope["method"], attributes, kind="server", parent=above)


def _sent(scope: Scope, names: Mapping[bytes, str]) -> dict[str, str]:
    """Return the headers of a trace that a request came with; an event may have them as its own attributes alone."""
    sent = {names[name]: value.decode("latin-1") for name, value in scope["headers"] if name in names}
    return sent if tracing.trace_of(sent) else {}


def _trace() -> dict[str, str]:
    """Return the trace's id as log lines have it, if there is a trace."""
    trace = tracing.trace_of(tracing.handed_on())
    return {"trace": trace} if trace else {}
