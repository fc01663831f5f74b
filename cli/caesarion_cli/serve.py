"""All functions and the page in one process: `caesarion serve`, which is what `make run` starts."""

import asyncio
import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Coroutine, Iterator
from typing import Any

import uvicorn
import uvloop
from starlette.types import ASGIApp

from caesarion.adapters import tracing
from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.serving import ListeningServer
from caesarion.adapters.key_file import key_file_of
from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.store import open_store
from caesarion.errors import CaesarionError, ConfigError
from caesarion.logs import configure
from caesarion.settings import check_binding
from caesarion_cli.all_in_one import Settings, automation_of, build_app, with_page
from caesarion_cli.automation import Automation

logger = logging.getLogger(__name__)

PLATFORM_FAILED = 3
GRACEFUL_SHUTDOWN_S = 2


def main() -> int:
    """Serve until SIGINT or SIGTERM and return the exit status. Problems of the settings or the machine are told."""
    configure(sys.stderr, "WARNING")
    try:
        settings = Settings.from_env(os.environ)
        logging.getLogger().setLevel(settings.serving.log_level or "WARNING")
        tracing.configure(os.environ)
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(settings, automation_of(settings, os.environ)))
    except CaesarionError as error:
        print(f"caesarion: {error.message}", file=sys.stderr)
        return PLATFORM_FAILED
    return 0


async def serve(settings: Settings, automation: Automation) -> None:
    """Serve until told to stop, and end what was started. Raises ConfigError or SandboxUnavailable."""
    stopping = asyncio.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
    serving = settings.serving
    key_file = key_file_of(settings.local, serving)
    with _home_told():
        check_binding(serving.host, has_keys=bool(key_file.load()))
    with _listen(serving.host, serving.port) as listening:
        with _home_told():
            store = open_store(settings.execute.store, settings.local.home)
            sandboxes = await asyncio.to_thread(LocalSandboxes, settings.sandbox, settings.local, store)
        try:
            if await _done_before(stopping, sandboxes.ready()):
                functions = build_app(sandboxes, settings, Keys(key_file), automation)
                await _serve(with_page(functions, settings), listening, stopping)
        finally:
            await sandboxes.shutdown(keep=settings.local.keep_sandboxes)


async def _serve(app: ASGIApp, listening: socket.socket, stopping: asyncio.Event) -> None:
    server = ListeningServer(
        uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=GRACEFUL_SHUTDOWN_S)
    )
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(server.serve([listening]))
        await server.listening.wait()
        print(f"ready {_url(listening)}", flush=True)
        await stopping.wait()
        server.should_exit = True


async def _done_before(stopping: asyncio.Event, work: Coroutine[Any, Any, None]) -> bool:
    """Await `work` and return True, or give it up when told to stop, whatever came of it, and return False."""
    working, told = asyncio.ensure_future(work), asyncio.ensure_future(stopping.wait())
    try:
        await asyncio.wait({working, told}, return_when=asyncio.FIRST_COMPLETED)
        if stopping.is_set():
            return False
        working.result()
        return True
    finally:
        working.cancel()
        told.cancel()
        await asyncio.wait({working, told})


@contextlib.contextmanager
def _home_told() -> Iterator[None]:
    try:
        yield
    except OSError as exc:
        raise ConfigError(f"CAESARION_HOME cannot be used: {exc.strerror}, {exc.filename}. Name another.") from exc


def _listen(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=1024)
    except OSError as exc:
        reason = str(exc.strerror).partition(" (")[0]
        raise ConfigError(f"Cannot listen on {host}:{port} ({reason}). Choose another port with PORT=.") from exc


def _url(listening: socket.socket) -> str:
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
