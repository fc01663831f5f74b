"""The cleanup function as an ASGI app: a tick or a request comes in, a sweep is made, its report goes out.

It also takes what a broker of Knative could not deliver to anybody, so that there is a log line of it.
"""

import asyncio
import logging
from dataclasses import asdict
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.bodies import read_fields
from caesarion.adapters.asgi.event_routes import event_route, unhandled
from caesarion.adapters.asgi.responses import JsonResponse
from caesarion.adapters.asgi.routes import resource
from caesarion.adapters.background import Background, joined
from caesarion.adapters.events import json_bytes
from caesarion.adapters.platform import Platform
from caesarion.adapters.store import open_store
from caesarion.clock import rfc3339
from caesarion.events import CLEANUP_FINISHED, JSON_TYPE, PING, Event, event_digest
from caesarion.ports import Sandboxes
from caesarion_cleanup.settings import Settings
from caesarion_cleanup.sweep import Report, Sweeper

logger = logging.getLogger(__name__)


def build_app(sandboxes: Sandboxes, settings: Settings, keys: Keys) -> Starlette:
    """Return the app. Its connections and tasks end with its lifespan, where there is one; `sandboxes` stay open."""
    store = open_store(settings.store, settings.local.home)
    platform = Platform(sandboxes, settings.serving, settings.quotas, store=store, events=settings.events)
    return platform.app(cleanup_routes(platform, settings), keys, document)


def cleanup_routes(platform: Platform, settings: Settings) -> list[BaseRoute]:
    """Return the routes of this function, for an app of their own or beside those of others."""
    sweeper = Sweeper(platform.sandboxes, platform.store, platform.announcer, platform.metrics, settings.sweep)
    platform.on_close(sweeper.aclose)
    return SweepRoutes(sweeper, platform.background, max_bytes=settings.serving.max_body_bytes).routes()


class SweepRoutes:
    """Sweeps asked for by a request, and by a tick. They do what is due for every principal, whoever asks."""

    def __init__(self, sweeper: Sweeper, background: Background, *, max_bytes: int) -> None:
        self._sweeper = sweeper
        self._background = background
        self._max_bytes = max_bytes
        self._sweeping = asyncio.Lock()
        self._next: asyncio.Task[Report] | None = None

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            resource("/sweep", POST=self.sweep),
            event_route("/events/cleanup", self.tick, max_bytes=self._max_bytes),
            event_route("/events/dead", dead, max_bytes=self._max_bytes),
        ]

    async def sweep(self, request: Request) -> Response:
        """A sweep now, and what it did."""
        await read_fields(request, (), max_bytes=self._max_bytes, may_be_empty=True)
        return JsonResponse(asdict(await self._swept()))

    async def tick(self, request: Request, event: Event) -> Event | None:
        """A sweep for a tick, whatever its data; the reply is its report. Sweeping again for one tick is harmless."""
        if event.type != PING:
            unhandled(event)
            return None
        report = await self._swept()
        return Event(
            id=event_digest(event.source, event.id),
            source="/cleanup",
            type=CLEANUP_FINISHED,
            time=rfc3339(self._sweeper.now()),
            datacontenttype=JSON_TYPE,
            data=json_bytes(asdict(report)),
        )

    async def _swept(self) -> Report:
        """Return the report of a sweep that begins from now on. One runs at a time, and all who wait share the next."""
        if self._next is None:
            self._next = self._background.start(self._swept_alone(), name="sweep")
        return await joined(self._next)

    async def _swept_alone(self) -> Report:
        async with self._sweeping:
            self._next = None
            return await self._sweeper.sweep()


async def dead(request: Request, event: Event) -> None:
    """An event that a broker could not deliver, with what Knative says of its last attempt. It is logged, no more."""
    told = {name: event.extensions.get(f"knativeerror{name}", "")[:200] for name in ("dest", "code")}
    ids = {"event_source": event.source[:200], "event_id": event.id[:200]}
    logger.error("event not delivered", extra={"event_type": event.type[:200], **ids, **told})


def document() -> dict[str, Any]:
    """Return the OpenAPI document of this function."""
    from caesarion_cleanup.openapi import document

    return document()
