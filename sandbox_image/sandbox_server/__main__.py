"""`python -m sandbox_server`: read the configuration from standard input and serve until there is no reason to."""

import asyncio
import json
import logging
import os
import socket
import sys
from typing import Any

import uvicorn
import uvloop

from sandbox_server.app import build_app
from sandbox_server.config import ServerConfig, config_from_json
from sandbox_server.provisioner import ZygoteLink
from sandbox_server.sandbox import Sandbox

logger = logging.getLogger("sandbox_server")

ZYGOTE_DEADLINE_S = 120.0


def main() -> None:
    """Serve the sandbox that standard input describes."""
    run(json.load(sys.stdin))


def run(configuration: dict[str, Any]) -> None:
    """Serve one sandbox. Exits when the zygote is gone or nobody is there any more."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s %(message)s")
    logging.getLogger("uvicorn.access").setLevel(logging.WARNING)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(serve(config_from_json(configuration)))


class _Server(uvicorn.Server):
    """Tells when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        self.listening.set()


async def serve(config: ServerConfig) -> None:
    """Run the server and its contexts until the first of them ends."""
    link = await ZygoteLink.connect(config.sockets_dir or config.ipc_dir, deadline_s=ZYGOTE_DEADLINE_S)
    async with asyncio.TaskGroup() as tasks:
        events = tasks.create_task(link.serve())
        sandbox = Sandbox(config, link, tasks)
        await sandbox.context("default").ready()  # who gets an answer of /health/ready may send code
        server = _Server(
            uvicorn.Config(
                build_app(sandbox), uds=config.socket_path, host=config.host or "127.0.0.1", port=config.port or 0,
                lifespan="off", log_config=None, access_log=False, timeout_graceful_shutdown=1,
            )
        )  # fmt: skip
        serving = tasks.create_task(server.serve())
        await server.listening.wait()
        if config.ready_fd is not None:
            os.write(config.ready_fd, b"ready\n")
            os.close(config.ready_fd)
        watching = tasks.create_task(sandbox.watch())
        await asyncio.wait({events, serving, watching}, return_when=asyncio.FIRST_COMPLETED)
        logger.info("ending: %s", watching.result() if watching.done() else "the zygote or the server ended")
        os._exit(0)


if __name__ == "__main__":
    main()
