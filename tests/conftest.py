"""The product as users meet it: the real app on a real port, with real sandboxes, once for all tests of a process."""

import asyncio
import os
import shutil
import signal
import socket
import tempfile
import threading
from collections.abc import AsyncIterator, Coroutine, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import httpx
import pytest
import uvicorn

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.serving import ListeningServer
from caesarion.adapters.key_file import key_file_of
from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.local_record import Home
from caesarion.adapters.store import open_store
from caesarion.ids import SessionKey
from caesarion_cli.all_in_one import Settings, automation_of, build_app

SANDBOX_PYTHON = Path(__file__).parents[1] / ".venv-sandbox" / "bin" / "python"
START_DEADLINE_S = 200.0
T = TypeVar("T")

# A shell that runs the tests in the background has them ignore Ctrl-C, and what they start would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


class ProductServer:
    """An event loop in a thread of its own with one set of sandboxes, and as many apps before it as tests need."""

    def __init__(self) -> None:
        self.home = Path(tempfile.mkdtemp(prefix="cz-", dir="/tmp"))
        self._env = {
            "CAESARION_HOME": str(self.home),
            "CAESARION_SANDBOX_PYTHON": str(SANDBOX_PYTHON),
            "CAESARION_POOL_SIZE": "1",
            "CAESARION_MAX_SESSIONS": "0",
            "CAESARION_MAX_KEPT_SESSIONS": "0",
            "CAESARION_CLAIM_TIMEOUT_S": "200",
        }
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="product")
        self._servers: list[tuple[ListeningServer, asyncio.Task[None]]] = []
        self._thread.start()
        settings = Settings.from_env(self._env)
        self.store = open_store(settings.execute.store, settings.local.home)
        self.sandboxes = LocalSandboxes(settings.sandbox, settings.local, self.store)
        self.url = self.serve({})

    def serve(self, env: Mapping[str, str]) -> str:
        """Start an app with these variables besides the common ones, and return its address."""
        return self.run(self._serve({**self._env, **env}))

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run `work` on the product's loop and return its result."""
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(START_DEADLINE_S)

    def kill_sandbox(self, key: SessionKey) -> None:
        """End the processes of a session's sandbox as a crash would."""
        sandbox = self.run(self.sandboxes.get(key))
        record = Home(str(self.home)).record(sandbox.name) if sandbox is not None else None
        assert record is not None
        for process in record.processes:
            os.kill(process.pid, signal.SIGKILL)

    def stop(self) -> None:
        """End the apps and all sandboxes."""
        try:
            self.run(self._stop())
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()
            shutil.rmtree(self.home)

    async def _serve(self, env: Mapping[str, str]) -> str:
        settings = Settings.from_env(env)
        file = key_file_of(settings.local, settings.serving)
        app = build_app(self.sandboxes, settings, Keys(file), automation_of(settings, env))
        listening = socket.create_server(("127.0.0.1", 0), backlog=128)
        config = uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1)
        server = ListeningServer(config)
        self._servers.append((server, asyncio.create_task(server.serve([listening]))))
        await server.listening.wait()
        return f"http://127.0.0.1:{listening.getsockname()[1]}"

    @property
    def apps(self) -> int:
        """How many apps there are."""
        return len(self._servers)

    def end_apps(self, after: int) -> None:
        """End all apps but the first ones."""
        self.run(self._end_apps(after))

    async def _end_apps(self, after: int) -> None:
        ending, self._servers = self._servers[after:], self._servers[:after]
        for server, _ in ending:
            server.should_exit = True
        await asyncio.gather(*(task for _, task in ending))

    async def _stop(self) -> None:
        await self._end_apps(0)
        await self.sandboxes.shutdown(keep=False)


@dataclass(frozen=True, slots=True)
class Product:
    """The running product: its address, a client of it, and the server behind it."""

    url: str
    client: httpx.AsyncClient
    server: ProductServer


@pytest.fixture(scope="session")
def product_server() -> Iterator[ProductServer]:
    server = ProductServer()
    yield server
    server.stop()


@pytest.fixture(autouse=True)
def apps_end_with_their_test(request: pytest.FixtureRequest) -> Iterator[None]:
    """End the apps that a test started: each asks for the home's broker and sweeps as long as it is there."""
    if "product_server" not in request.fixturenames:
        yield
        return
    server: ProductServer = request.getfixturevalue("product_server")
    before = server.apps
    yield
    server.end_apps(before)


@pytest.fixture
async def product(product_server: ProductServer) -> AsyncIterator[Product]:
    async with httpx.AsyncClient(base_url=product_server.url, timeout=200) as client:
        yield Product(product_server.url, client, product_server)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
