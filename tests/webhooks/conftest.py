"""Hooks that are served by a real app with real sandboxes, and senders that sign as theirs do."""

import asyncio
import base64
import contextlib
import hashlib
import hmac
import json
import socket
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
import standardwebhooks
import uvicorn

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.serving import ListeningServer
from caesarion.adapters.key_file import KeyFile
from caesarion.adapters.platform import Platform
from caesarion.adapters.store import open_store
from caesarion.errors import NotFound, SandboxUnavailable, SessionNotFound
from caesarion.events import Event
from caesarion.ids import PrincipalId, SessionId, SessionKey, new_id
from caesarion.ports import Sink
from caesarion.principals import records_from_env
from caesarion_execute.event_runs import EventRuns
from caesarion_execute.hooks import Hook, read_hooks
from caesarion_execute.settings import Settings
from caesarion_execute.webhooks import EventHooks, webhook_routes
from tests.conftest import ProductServer

SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
NEW_SECRET = "whsec_" + base64.b64encode(bytes(range(32, 64))).decode()
GITHUB_SECRET = "It's a Secret to Everybody"
SECRETS = {"HOOK_SECRET": SECRET, "NEW_SECRET": NEW_SECRET, "GITHUB_SECRET": GITHUB_SECRET}
JSON = {"Content-Type": "application/json"}


class Heard:
    """A sink that keeps what it accepts, and refuses as often as it is told to."""

    def __init__(self) -> None:
        self.events: list[tuple[Event, PrincipalId]] = []
        self.refusals = 0

    async def send(self, event: Event, principal: PrincipalId) -> None:
        if self.refusals:
            self.refusals -= 1
            raise SandboxUnavailable("The sink does not answer.", code="sink_unavailable")
        self.events.append((event, principal))

    def next_of(self, kind: str) -> Event:
        """Wait for an event of a type."""
        while not (found := [event for event, _ in list(self.events) if event.type == kind]):
            time.sleep(0.01)
        return found[0]


@dataclass(slots=True)
class Clock:
    """The time by which windows are checked."""

    offset_s: float = 0

    def now_s(self) -> float:
        return time.time() + self.offset_s


@dataclass(frozen=True, slots=True)
class Hooked:
    """An app with hooks, whose sessions belong to a principal of its own."""

    client: httpx.Client
    platform: Platform
    principal: PrincipalId
    clock: Clock
    context: str | None
    _server: ProductServer = field(repr=False)

    @property
    def event_id(self) -> str:
        """An id that no event or delivery of another app has."""
        return self.context or "1"

    def post(self, name: str, body: bytes, headers: Mapping[str, str]) -> httpx.Response:
        return self.client.post(f"/webhooks/{name}", content=body, headers={**JSON, **headers})

    def sessions(self) -> list[str]:
        """Return the ids of all sessions that are there."""
        return [item.key.session for item in self._server.run(self._listed())]

    def executions(self, session: str) -> list[dict[str, Any]]:
        """Return what this app's hooks ran in a session."""
        key = SessionKey(self.principal, SessionId(session))
        try:
            _, document = self._server.run(self.platform.sessions.call(key, "GET", "/v1/executions"))
        except SessionNotFound:
            return []
        return [item for item in document["executions"] if self.context in (None, item["context"])]

    def outputs(self, session: str, execution: str) -> list[dict[str, Any]]:
        """Return all outputs of an execution, waiting for its end."""
        return self._server.run(self._outputs(SessionKey(self.principal, SessionId(session)), execution))

    def put(self, session: str, name: str) -> None:
        """Write a file into a session."""
        self._server.run(self._put(SessionKey(self.principal, SessionId(session)), name))

    async def _put(self, key: SessionKey, name: str) -> None:
        async with self.platform.sessions.stream(key, "PUT", f"/v1/files/{name}", body=_a_word()):
            pass

    async def _listed(self) -> Any:
        return await self.platform.sandboxes.list(self.principal)

    async def _outputs(self, key: SessionKey, execution: str) -> list[dict[str, Any]]:
        path = f"/v1/executions/{execution}/outputs"
        async with self.platform.sessions.stream(key, "GET", path) as answer:
            return [json.loads(line) async for lines in answer.lines() for line in lines.splitlines() if line]


Serve = Callable[..., Hooked]


@pytest.fixture(scope="session")
def shared_principal() -> str:
    """Whose sessions tests share, each with a context of its own: that costs no sandbox."""
    return new_id("p")


@pytest.fixture
def hooked(product_server: ProductServer, shared_principal: str, tmp_path: Path) -> Iterator[Serve]:
    """Return a function that serves the hooks of a TOML text; `{principal}` in it is one of the test's own.

    With `shared` it is one that has sessions already, and the hooks have a context of their own. `code` are the files
    beside the text.
    """
    running: list[tuple[httpx.Client, ListeningServer, asyncio.Task[None], Hooked]] = []

    def serve(
        toml: str,
        *,
        shared: bool = False,
        sink: Sink | None = None,
        env: Mapping[str, str] | None = None,
        **code: str,
    ) -> Hooked:
        principal = shared_principal if shared else new_id("p")
        context = new_id("c") if shared else None
        if context is not None:
            toml = toml.replace("[[hooks]]", f'[[hooks]]\ncontext = "{context}"')
        for name, text in code.items():
            (tmp_path / f"{name}.py").write_text(text, encoding="utf-8")
        path = tmp_path / "hooks.toml"
        path.write_text(toml.replace("{principal}", principal), encoding="utf-8")
        hooks = read_hooks(str(path), SECRETS)
        settings = Settings.from_env(
            {
                "CAESARION_HOME": str(product_server.home),
                "CAESARION_MAX_SESSIONS": "0",
                "CAESARION_CLAIM_TIMEOUT_S": "200",
                "CAESARION_EVENTS_PRINCIPAL": principal,
                **(env or {}),
            }
        )
        client, server, task, served = product_server.run(
            _served(product_server, hooks, settings, sink, principal, context)
        )
        running.append((client, server, task, served))
        return served

    yield serve
    for client, server, task, served in running:
        for session in served.sessions():
            key = SessionKey(served.principal, SessionId(session))
            product_server.run(_let_go(served, key))
        client.close()
        server.should_exit = True
        product_server.run(_ended(task))


async def _served(
    product: ProductServer,
    hooks: tuple[Hook, ...],
    settings: Settings,
    sink: Sink | None,
    principal: str,
    context: str | None,
) -> tuple[httpx.Client, ListeningServer, asyncio.Task[None], Hooked]:
    store = open_store(settings.store, str(product.home))
    platform = Platform(
        product.sandboxes, settings.serving, settings.quotas, store=store, events=settings.events, sink=sink
    )
    runs = EventRuns(platform, settings)
    clock = Clock()
    routes = [
        *webhook_routes(platform, hooks, runs, settings, now_s=clock.now_s),
        runs.route("/events/execute", EventHooks(platform, hooks, runs).handle),
    ]
    keys = Keys(KeyFile(product.home / "none.json", records_from_env(settings.serving.api_keys.reveal())))
    app = platform.app(routes, keys, dict)
    listening = socket.create_server(("127.0.0.1", 0), backlog=128)
    server = ListeningServer(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
    task = asyncio.create_task(server.serve([listening]))
    await server.listening.wait()
    client = httpx.Client(base_url=f"http://127.0.0.1:{listening.getsockname()[1]}", timeout=200)
    return client, server, task, Hooked(client, platform, PrincipalId(principal), clock, context, product)


async def _a_word() -> AsyncIterator[bytes]:
    yield b"go"


async def _let_go(served: Hooked, key: SessionKey) -> None:
    sessions = served.platform.sessions
    if served.context is None:
        await sessions.release(key)
        return
    with contextlib.suppress(NotFound):
        await sessions.call(key, "DELETE", f"/v1/contexts/{served.context}")


async def _ended(task: asyncio.Task[None]) -> None:
    await task


def standard(
    body: bytes, *, id: str | None = None, sent_s: float | None = None, secret: str = SECRET
) -> dict[str, str]:
    """Return the headers of an attempt, signed as a sender does who uses the library."""
    delivery = id or new_id("msg")
    timestamp = int(time.time() if sent_s is None else sent_s)
    signature = standardwebhooks.Webhook(secret).sign(
        delivery, datetime.fromtimestamp(timestamp, UTC), body.decode("utf-8")
    )
    return {"webhook-id": delivery, "webhook-timestamp": str(timestamp), "webhook-signature": signature}


def github(body: bytes, *, id: str | None = None, event: str = "push", secret: str = GITHUB_SECRET) -> dict[str, str]:
    """Return the headers of a delivery, signed as GitHub documents it."""
    digest = hmac.new(secret.encode(), body, hashlib.sha256).hexdigest()
    return {
        "X-GitHub-Event": event,
        "X-GitHub-Delivery": id or new_id("delivery"),
        "X-GitHub-Hook-ID": "1",
        "X-Hub-Signature": "sha1=" + hmac.new(secret.encode(), body, hashlib.sha1).hexdigest(),
        "X-Hub-Signature-256": f"sha256={digest}",
        "User-Agent": "GitHub-Hookshot/044aadd",
    }


def failure(reply: httpx.Response) -> tuple[int, str]:
    """Return the status and code of a failure."""
    return reply.status_code, reply.json()["error"]["code"]
