"""Events that go out: to `K_SINK` over HTTP, and lifecycle events that nobody waits for."""

import asyncio
import importlib
import logging
import sys
from collections import deque
from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from caesarion.adapters import tracing
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.background import Background
from caesarion.adapters.events import binary
from caesarion.errors import CaesarionError, SandboxUnavailable
from caesarion.events import Event, told_type
from caesarion.ids import PrincipalId
from caesarion.ports import Sink
from caesarion.settings import EventSettings

if TYPE_CHECKING:
    import aiohttp

logger = logging.getLogger(__name__)

SEND_TIMEOUT_S = 10.0
MAX_WAITING = 1000
RETRY_DELAYS_S = (0.5, 2.0)


class HttpSink:
    """Sends events to an address in binary mode, as Knative's senders do. To be used from one event loop."""

    def __init__(self, settings: EventSettings, metrics: Metrics) -> None:
        self._url = settings.sink
        self._sent = metrics.counter(
            "caesarion_events_sent", "Attempts to send an event to the sink.", "type", "result"
        )
        self._overrides = settings.overrides
        self._session: aiohttp.ClientSession | None = None

    async def send(self, event: Event, principal: PrincipalId) -> None:
        """Have an event accepted: any 2xx. Raises SandboxUnavailable for any other answer, and for none in time."""
        if "aiohttp" not in sys.modules:
            await asyncio.to_thread(importlib.import_module, "aiohttp")
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=SEND_TIMEOUT_S), cookie_jar=aiohttp.DummyCookieJar()
            )
        event = traced(event)
        event = replace(event, extensions={**event.extensions, **self._overrides})
        headers, body = binary(event)
        above = {name: event.extensions[name] for name in tracing.HEADERS if name in event.extensions}
        attributes = {"cloudevents.event_id": event.id, "cloudevents.event_type": event.type}
        with tracing.span("send event", attributes, kind="producer", parent=above):
            headers |= tracing.handed_on()
            try:
                await self._post(self._session, headers, body)
            except SandboxUnavailable:
                self._sent[told_type(event.type), "failed"] += 1
                raise
            self._sent[told_type(event.type), "accepted"] += 1

    async def _post(self, session: "aiohttp.ClientSession", headers: Mapping[str, str], body: bytes) -> None:
        import aiohttp

        try:
            async with session.post(self._url, data=body, headers=headers, allow_redirects=False) as answer:
                status = answer.status
        except (aiohttp.ClientError, OSError, TimeoutError) as exc:
            raise SandboxUnavailable("The sink for events cannot be reached.", code="sink_unavailable") from exc
        if not 200 <= status < 300:
            raise SandboxUnavailable(f"The sink for events answered with status {status}.", code="sink_unavailable")

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()


def traced(event: Event) -> Event:
    """Return an event with the trace in which it came to be, where it has none (CloudEvents, distributed tracing)."""
    if "traceparent" in event.extensions or not (trace := tracing.handed_on()):
        return event
    return replace(event, extensions=dict(sorted({**event.extensions, **trace}.items())))


class Announcer:
    """Tells lifecycle events to the sink, in order, while requests go on. What it cannot tell is logged and dropped."""

    def __init__(self, sink: Sink | None, background: Background, *, max_waiting: int = MAX_WAITING) -> None:
        self._sink = sink
        self._background = background
        self._max_waiting = max_waiting
        self._waiting: deque[tuple[Event, PrincipalId]] = deque()
        self._sending: asyncio.Task[None] | None = None

    @property
    def heard(self) -> bool:
        """Whether there is a sink at all."""
        return self._sink is not None

    def announce(self, event: Event, principal: PrincipalId) -> None:
        """Have an event sent soon; returns at once and never fails."""
        if self._sink is None:
            return
        if len(self._waiting) >= self._max_waiting:
            _dropped(event, "too many wait")
            return
        self._waiting.append((traced(event), principal))
        if self._sending is None or self._sending.done():
            self._sending = self._background.start(self._send_all(self._sink), name="announce")

    async def _send_all(self, sink: Sink) -> None:
        while self._waiting:
            event, principal = self._waiting.popleft()
            try:
                await _sent(sink, event, principal)
            except Exception as exc:
                _dropped(event, repr(exc)[:200])


async def _sent(sink: Sink, event: Event, principal: PrincipalId) -> None:
    for delay_s in RETRY_DELAYS_S:
        try:
            return await sink.send(event, principal)
        except CaesarionError:
            await asyncio.sleep(delay_s)
    await sink.send(event, principal)


def _dropped(event: Event, reason: str) -> None:
    logger.warning("event not announced", extra={"event_type": event.type, "event_id": event.id, "reason": reason})
