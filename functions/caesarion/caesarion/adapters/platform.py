"""What the routes of every function stand on: sessions, executions and quotas, with one owner for what they hold."""

import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.asgi.routes import function_app, standard_routes
from caesarion.adapters.background import Background
from caesarion.adapters.quotas import Slots
from caesarion.adapters.results import Results
from caesarion.adapters.runs import Runs
from caesarion.adapters.sandbox_http import SandboxClients
from caesarion.adapters.sessions import Sessions
from caesarion.adapters.sink import Announcer, HttpSink
from caesarion.ids import PrincipalId
from caesarion.ports import ObjectStore, Sandboxes, Sink
from caesarion.settings import EventSettings, QuotaSettings, ServingSettings


class Platform:
    """The parts, for one function or for several that share a process. `sandboxes` stay open when it is closed.

    Events go to `sink`, or to the address that the settings name; where neither is, nobody hears of them. `store` is
    closed with the platform.
    """

    def __init__(
        self,
        sandboxes: Sandboxes,
        serving: ServingSettings,
        quotas: QuotaSettings,
        *,
        store: ObjectStore,
        events: EventSettings,
        sink: Sink | None = None,
    ) -> None:
        self.metrics = Metrics()
        self.background = Background()
        self._serving = serving
        self._clients = SandboxClients()
        self._sources: list[tuple[Callable[[Starlette], Awaitable[None]], Callable[[], Awaitable[None]]]] = []
        self._closing: list[Callable[[], Awaitable[None]]] = []
        self.sandboxes = sandboxes
        self.events = events
        self.store = store
        self.results = Results(store)
        self.sink = sink if sink is not None else self._sink_of_settings()
        self.announcer = Announcer(self.sink, self.background)
        slots = Slots(quotas.max_executions, queue_timeout_s=quotas.queue_timeout_s)
        self.metrics.gauge("caesarion_executions_running", "Executions that hold a slot.", lambda: slots.in_use)
        self.sessions = Sessions(
            sandboxes,
            self._clients,
            self.background,
            self.metrics,
            max_sessions=quotas.max_sessions,
            max_kept_sessions=quotas.max_kept_sessions,
            claim_timeout_s=serving.claim_timeout_s,
            announcer=self.announcer,
        )
        self.runs = Runs(self.sessions, slots, self.background, self.metrics)

    def source(self, start: Callable[[Starlette], Awaitable[None]], stop: Callable[[], Awaitable[None]]) -> None:
        """Have something that sends requests to the app started with it, where it has a lifespan.

        It is stopped before anything else is, so that nothing begins while this ends.
        """
        self._sources.append((start, stop))

    def on_close(self, close: Callable[[], Awaitable[None]]) -> None:
        """Have `close` awaited when the platform is closed."""
        self._closing.append(close)

    async def aclose(self) -> None:
        """End tasks and connections."""
        for _, stop in self._sources:
            await stop()
        await self.background.aclose()
        for close in self._closing:
            await close()
        await self._clients.aclose()
        await self.store.aclose()

    def app(self, routes: Sequence[BaseRoute], keys: Keys, document: Callable[[], dict[str, Any]]) -> Starlette:
        """Return the app of these routes and those that every function has. Its lifespan, if any, closes this."""

        async def checks() -> Mapping[str, str | None]:
            return {"sandboxes": await self.sessions.check()}

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            try:
                for start, _ in self._sources:
                    await start(app)
                yield
            finally:
                await self.aclose()

        return function_app(
            [*routes, *standard_routes(self.metrics, checks, document)],
            settings=self._serving,
            keys=keys,
            metrics=self.metrics,
            lifespan=lifespan,
            events_principal=PrincipalId(self.events.principal) if self.events.principal else None,
        )

    def _sink_of_settings(self) -> Sink | None:
        if not self.events.sink:
            return None
        sink = HttpSink(self.events, self.metrics)
        self._closing.append(sink.aclose)
        return sink
