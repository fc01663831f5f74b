"""What the routes of every function stand on: sessions, executions and quotas, with one owner for what they hold."""

import contextlib
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from typing import Any

from starlette.applications import Starlette
from starlette.routing import BaseRoute

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.asgi.routes import function_app, standard_routes
from caesarion.adapters.background import Background
from caesarion.adapters.quotas import Slots
from caesarion.adapters.runs import Runs
from caesarion.adapters.sandbox_http import SandboxClients
from caesarion.adapters.sessions import Sessions
from caesarion.ports import Sandboxes
from caesarion.settings import QuotaSettings, ServingSettings


class Platform:
    """The parts, for one function or for several that share a process. `sandboxes` stay open when it is closed."""

    def __init__(self, sandboxes: Sandboxes, serving: ServingSettings, quotas: QuotaSettings) -> None:
        self.metrics = Metrics()
        self.background = Background()
        self._serving = serving
        self._clients = SandboxClients()
        self._closing: list[Callable[[], Any]] = []
        slots = Slots(quotas.max_executions, queue_timeout_s=quotas.queue_timeout_s)
        self.metrics.gauge("caesarion_executions_running", "Executions that hold a slot.", lambda: slots.in_use)
        self.sessions = Sessions(
            sandboxes,
            self._clients,
            self.background,
            max_sessions=quotas.max_sessions,
            claim_timeout_s=serving.claim_timeout_s,
        )
        self.runs = Runs(self.sessions, slots, self.background, self.metrics)

    def on_close(self, close: Callable[[], Any]) -> None:
        """Have `close` awaited when the platform is closed."""
        self._closing.append(close)

    async def aclose(self) -> None:
        """End tasks and connections."""
        await self.background.aclose()
        for close in self._closing:
            await close()
        await self._clients.aclose()

    def app(self, routes: Sequence[BaseRoute], keys: Keys, document: Callable[[], dict[str, Any]]) -> Starlette:
        """Return the app of these routes and those that every function has. Its lifespan, if any, closes this."""

        async def checks() -> Mapping[str, str | None]:
            return {"sandboxes": await self.sessions.check()}

        @contextlib.asynccontextmanager
        async def lifespan(app: Starlette) -> AsyncIterator[None]:
            try:
                yield
            finally:
                await self.aclose()

        return function_app(
            [*routes, *standard_routes(self.metrics, checks, document)],
            settings=self._serving,
            keys=keys,
            metrics=self.metrics,
            lifespan=lifespan,
        )
