"""A sealed sandbox changes no more, so that what is written of it is what it was: only its checkpoint is served.

Who seals it is a function that suspends the session. A seal ends by itself some time after that one was last heard of.
"""

import asyncio
import contextlib
import logging
import time
from collections.abc import Iterator

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from caesarion.errors import Conflict, SandboxUnavailable
from sandbox_server.answers import told

logger = logging.getLogger(__name__)

ALWAYS_SERVED = ("/v1/status", "/v1/seal", "/v1/checkpoint")


class Seal:
    """Whether the sandbox is sealed, and how many requests are being answered that keep it from being so.

    `number` grows with each new sealing, so who sealed it can tell whether it held. It begins at the time, so that no
    number of an earlier server comes again.
    """

    def __init__(self, *, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._sealed_by = 0
        self._timer: asyncio.TimerHandle | None = None
        self.sealed = False
        self.number = int(time.time())
        self.opened = asyncio.Event()
        self.in_flight = 0

    def close(self) -> None:
        """Seal the sandbox. Raises Conflict while requests are being answered. Idempotent."""
        if self.in_flight and not self.sealed:
            raise in_use(f"{self.in_flight} requests are being answered")
        if not self.sealed:
            self.number += 1
            self.opened = asyncio.Event()
        self.sealed = True

    def open(self) -> None:
        """Serve all requests again. Idempotent."""
        self.sealed = False
        self.opened.set()

    @contextlib.contextmanager
    def kept(self) -> Iterator[None]:
        """Count a request of the one who sealed it; the seal's time runs from the end of the last one."""
        self._sealed_by += 1
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        try:
            yield
        finally:
            self._sealed_by -= 1
            if self.sealed and not self._sealed_by:
                self._timer = asyncio.get_running_loop().call_later(self._timeout_s, self._expire)

    def _expire(self) -> None:
        if self.sealed:
            logger.warning("nobody came back to a sealed sandbox within %g s: it is opened again", self._timeout_s)
        self.open()


class SealedDoor:
    """Counts the requests being answered, and refuses them while the sandbox is sealed."""

    def __init__(self, app: ASGIApp, seal: Seal) -> None:
        self._app = app
        self._seal = seal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope.get("path", "")
        if scope["type"] != "http" or path.startswith("/health/") or path == "/v1/status":
            await self._app(scope, receive, send)
        elif path in ALWAYS_SERVED:
            with self._seal.kept():
                await self._app(scope, receive, send)
        elif self._seal.sealed:
            error = SandboxUnavailable("The session is being suspended. Ask again.", code="suspending", retry_after_s=1)
            await told(error)(scope, receive, send)
        else:
            await self._counted(scope, receive, send)

    async def _counted(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Count a request until its answer's last piece is sent, as its client then may ask to seal at once."""
        counted = True
        self._seal.in_flight += 1

        def leave() -> None:
            nonlocal counted
            if counted:
                counted = False
                self._seal.in_flight -= 1

        async def send_counted(message: Message) -> None:
            if message["type"] == "http.response.body" and not message.get("more_body", False):
                leave()
            await send(message)

        try:
            await self._app(scope, receive, send_counted)
        finally:
            leave()


def in_use(why: str) -> Conflict:
    """Return the error of a sandbox that cannot be sealed now."""
    return Conflict(f"The session is in use: {why}.", code="in_use")
