"""All functions in one process: `caesarion serve`, which is what `make run` starts."""

import asyncio
import logging
import os
import signal
import socket
import sys
from pathlib import Path

import uvicorn

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.key_file import KeyFile
from caesarion.adapters.local import LocalSandboxes
from caesarion.errors import CaesarionError, ConfigError
from caesarion.logs import configure
from caesarion.principals import records_from_env
from caesarion.settings import check_binding
from caesarion_execute.app import build_app
from caesarion_execute.settings import Settings

logger = logging.getLogger(__name__)

PLATFORM_FAILED = 3


def main() -> int:
    """Serve until SIGINT or SIGTERM and return the exit status. Problems of the settings or the machine are told."""
    configure(sys.stderr, os.environ.get("CAESARION_LOG_LEVEL", "WARNING"))
    try:
        settings = Settings.from_env(os.environ)
        with asyncio.Runner() as runner:
            runner.run(serve(settings))
    except CaesarionError as error:
        print(f"caesarion: {error.message}", file=sys.stderr)
        return PLATFORM_FAILED
    return 0


async def serve(settings: Settings) -> None:
    """Serve until told to stop, and end what was started. Raises ConfigError or SandboxUnavailable."""
    serving = settings.serving
    key_file = KeyFile(Path(settings.local.home) / "keys.json", records_from_env(serving.api_keys.reveal()))
    check_binding(serving.host, has_keys=bool(key_file.load()))
    listening = _listen(serving.host, serving.port)
    sandboxes = LocalSandboxes(settings.sandbox, settings.local)
    server = _Server(
        uvicorn.Config(
            build_app(sandboxes, settings, Keys(key_file)),
            log_config=None,
            access_log=False,
            timeout_graceful_shutdown=2,
        )
    )
    try:
        await sandboxes.ready()
        async with asyncio.TaskGroup() as tasks:
            stopping = asyncio.Event()
            for signum in (signal.SIGINT, signal.SIGTERM):
                asyncio.get_running_loop().add_signal_handler(signum, stopping.set)
            serving_task = tasks.create_task(server.serve([listening]))
            await server.listening.wait()
            host, port = listening.getsockname()[:2]
            print(f"ready http://{host}:{port}", flush=True)
            await stopping.wait()
            server.should_exit = True
            await serving_task
    finally:
        listening.close()
        await sandboxes.shutdown(keep=settings.local.keep_sandboxes)


class _Server(uvicorn.Server):
    """Tells when it listens, and leaves signals to us."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def serve(self, sockets: list[socket.socket] | None = None) -> None:
        await self._serve(sockets)

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


def _listen(host: str, port: int) -> socket.socket:
    try:
        return socket.create_server((host, port), backlog=1024)
    except OSError as exc:
        raise ConfigError(f"Cannot listen on {host}:{port} ({exc.strerror}). Choose another port with PORT=.") from exc
