"""A served app with a broker and one subscriber beside it, behind the same access check as the product."""

import asyncio
import contextlib
import json
import os
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from starlette.routing import BaseRoute

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.broker_routes import broker_routes
from caesarion.adapters.asgi.event_routes import event_route
from caesarion.adapters.asgi.facts import principal_of
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.asgi.routes import function_app
from caesarion.adapters.broker import Broker
from caesarion.adapters.broker_store import BrokerStore
from caesarion.adapters.key_file import KeyFile
from caesarion.errors import InvalidRequest
from caesarion.settings import ServingSettings
from caesarion.triggers import Trigger
from tests.broker.conftest import served

ROOT = Path(__file__).parents[2]


@dataclass(frozen=True, slots=True)
class Finished:
    """How a command ended."""

    code: int
    out: str
    err: str


class Served:
    """The address of the app, a client of it, and what its subscriber got. It refuses events while `refusing`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.got: list[tuple[str, Any]] = []
        self.refusing = False
        self.url = ""
        self._started: list[asyncio.subprocess.Process] = []

    def client(self, key: str | None = None) -> httpx.AsyncClient:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        return httpx.AsyncClient(base_url=self.url, headers=headers, timeout=60)

    async def run(self, *arguments: str, given: bytes = b"", env: Mapping[str, str] | None = None) -> Finished:
        """Run a command to its end."""
        process = await self.started(*arguments, env=env)
        out, err = await process.communicate(given)
        return Finished(process.returncode or 0, out.decode(), err.decode())

    async def started(self, *arguments: str, env: Mapping[str, str] | None = None) -> asyncio.subprocess.Process:
        """Start a command."""
        known = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "LANG": "C.UTF-8", "CAESARION_URL": self.url}
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "tests.broker.command",
            *arguments,
            cwd=ROOT,
            env={**known, "CAESARION_HOME": str(self.folder), **(env or {})},
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._started.append(process)
        return process

    async def end_commands(self) -> None:
        """End what a test that failed left running."""
        for process in self._started:
            if process.returncode is None:
                process.kill()
                await process.wait()


@contextlib.asynccontextmanager
async def product(folder: Path, triggers: Sequence[Trigger]) -> AsyncIterator[Served]:
    """Serve a broker with these triggers and a subscriber at /events/execute."""
    place = Served(folder)

    async def take(request: Any, event: Any) -> None:
        place.got.append((principal_of(request), json.loads(event.data or b"null")))
        if place.refusing:
            raise InvalidRequest("Not this one.")

    store = BrokerStore(folder / "broker.sqlite3")
    broker = Broker(store, triggers, max_event_bytes=10_000)
    routes: list[BaseRoute] = [
        *broker_routes(lambda: broker, max_body_bytes=20_000, heartbeat_s=0.01),
        event_route("/events/execute", take, max_bytes=20_000),
    ]
    keys = Keys(KeyFile(folder / "keys.json"))
    app = function_app(routes, settings=ServingSettings(), keys=keys, metrics=Metrics())
    async with served(app) as url:
        place.url = url
        await broker.start(app)
        try:
            yield place
        finally:
            await place.end_commands()
            await broker.aclose()
            await store.aclose()
