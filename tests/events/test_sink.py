"""Events that go out: what the sink gets, and that requests neither wait for it nor fail with it."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest
import uvicorn
from cloudevents.http import CloudEvent, from_http
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.asgi.serving import ListeningServer
from caesarion.adapters.background import Background
from caesarion.adapters.sink import Announcer, HttpSink
from caesarion.errors import SandboxUnavailable
from caesarion.events import Event
from caesarion.ids import PrincipalId
from caesarion.settings import EventSettings
from tests.conftest import ProductServer
from tests.events.conftest import ran, requested
from tests.platform.conftest import LogLines, client_of, log_lines

__all__ = ["log_lines"]

ALICE = PrincipalId("alice")
TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"
EVENT = Event(id="1", source="/a", type="t", subject="größe", extensions={"traceparent": TRACE}, data=b"x")


@dataclass
class Listener:
    """A real sink that keeps what it gets and answers with the next of its statuses; the last one stays."""

    statuses: list[int] = field(default_factory=lambda: [202])
    got: "list[tuple[dict[str, str], CloudEvent]]" = field(default_factory=list)
    url: str = ""
    came: asyncio.Event = field(default_factory=asyncio.Event)

    async def receive(self, request: Request) -> Response:
        body = await request.body()
        self.got.append((dict(request.headers), from_http(dict(request.headers), body)))
        self.came.set()
        status = self.statuses.pop(0) if len(self.statuses) > 1 else self.statuses[0]
        return Response(status_code=status, headers={"Location": self.url} if status == 307 else None)


@contextlib.asynccontextmanager
async def listening() -> AsyncIterator[Listener]:
    """Give a sink that listens until the end of the block."""
    listener = Listener()
    with socket.create_server(("127.0.0.1", 0)) as bound:
        app = Starlette(routes=[Route("/in", listener.receive, methods=["POST"])])
        server = ListeningServer(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve([bound]))
        await server.listening.wait()
        listener.url = f"http://127.0.0.1:{bound.getsockname()[1]}/in"
        try:
            yield listener
        finally:
            server.should_exit = True
            await serving


@contextlib.asynccontextmanager
async def sink_to(url: str, **overrides: str) -> AsyncIterator[HttpSink]:
    sink = HttpSink(EventSettings(sink=url, overrides=overrides), Metrics())
    try:
        yield sink
    finally:
        await sink.aclose()


def dead_address() -> str:
    with socket.create_server(("127.0.0.1", 0)) as bound:
        return f"http://127.0.0.1:{bound.getsockname()[1]}"


@pytest.mark.anyio
async def test_the_sink_gets_binary_events_with_the_overrides_and_the_trace() -> None:
    async with listening() as listener, sink_to(listener.url, zone="west") as sink:
        await sink.send(EVENT, ALICE)
        ((headers, event),) = listener.got
        assert (event["id"], event["type"], event["zone"], event["traceparent"]) == ("1", "t", "west", TRACE)
        assert headers["traceparent"] == TRACE
        assert headers["ce-subject"] == "gr%C3%B6%C3%9Fe"
        assert event.data == b"x" or event.data == "x"


@pytest.mark.anyio
@pytest.mark.parametrize("status", [307, 400, 404, 429, 500, 503])
async def test_what_the_sink_does_not_accept_is_told(status: int) -> None:
    async with listening() as listener, sink_to(listener.url) as sink:
        listener.statuses = [status]
        with pytest.raises(SandboxUnavailable):
            await sink.send(EVENT, ALICE)
        assert len(listener.got) == 1


@pytest.mark.anyio
async def test_a_sink_that_is_not_there_is_told() -> None:
    async with sink_to(dead_address()) as sink:
        with pytest.raises(SandboxUnavailable):
            await sink.send(EVENT, ALICE)


@pytest.mark.anyio
async def test_what_is_announced_comes_in_order_and_again_after_a_failure() -> None:
    background = Background()
    async with listening() as listener, sink_to(listener.url) as sink:
        announcer = Announcer(sink, background)
        listener.statuses = [500, 202]
        for number in range(3):
            announcer.announce(Event(id=str(number), source="/a", type="t"), ALICE)
        while len(listener.got) < 4:
            listener.came.clear()
            await listener.came.wait()
        assert [event["id"] for _, event in listener.got] == ["0", "0", "1", "2"]
        await background.aclose()


@pytest.mark.anyio
async def test_what_cannot_be_announced_is_dropped_with_a_log_line(log_lines: LogLines) -> None:
    class Stuck:
        """A sink that never answers."""

        async def send(self, event: Event, principal: PrincipalId) -> None:
            await asyncio.Event().wait()

    background = Background()
    announcer = Announcer(Stuck(), background, max_waiting=2)
    for number in range(5):
        announcer.announce(Event(id=str(number), source="/a", type="t"), ALICE)
    dropped = [line["event_id"] for line in log_lines if line["message"] == "event not announced"]
    assert dropped == ["2", "3", "4"]
    await background.aclose()


def test_nobody_listens_where_no_sink_is() -> None:
    announcer = Announcer(None, Background())
    announcer.announce(EVENT, ALICE)
    assert not announcer.heard


@pytest.fixture
def heard(product_server: ProductServer) -> Iterator[tuple[httpx.Client, Listener]]:
    """A client of an app with a sink, and that sink."""
    stack = contextlib.AsyncExitStack()
    listener = product_server.run(stack.enter_async_context(listening()))
    with client_of(product_server.serve({"K_SINK": listener.url})) as client:
        yield client, listener
    product_server.run(stack.aclose())


def wait_for(listener: Listener, count: int) -> list[tuple[str, dict[str, Any]]]:
    """Wait until the sink has so many events, and return their types and data."""
    while len(listener.got) < count:
        httpx.get(listener.url)  # what we wait for runs in another thread, and this lets it
    return [(event["type"].removeprefix("dev.caesarion."), event.data) for _, event in listener.got]


def test_sessions_that_come_wake_and_go_are_announced(
    heard: tuple[httpx.Client, Listener], product_server: ProductServer
) -> None:
    client, listener = heard
    session = client.post("/sessions").json()["id"]
    assert client.post(f"/sessions/{session}/initialize").status_code == 200, "ready already, so nothing to tell"
    ((kind, data),) = wait_for(listener, 1)
    assert (kind, data["session"], data["reason"]) == ("sandbox.claimed", session, "new")
    assert listener.got[0][1]["subject"] == session
    client.delete(f"/sessions/{session}")
    client.delete(f"/sessions/{session}")
    kind, data = wait_for(listener, 2)[-1]
    assert (kind, data["session"]) == ("session.closed", session)
    assert ran(client, requested("1"))["status"] == "ok"
    told = wait_for(listener, 4)[2:]
    assert [kind for kind, _ in told] == ["sandbox.claimed", "session.closed"]
    assert len({event["id"] for _, event in listener.got}) == 4


def test_a_sink_that_is_down_neither_delays_nor_fails_a_request(product_server: ProductServer) -> None:
    with client_of(product_server.serve({"K_SINK": dead_address()})) as client:
        assert ran(client, requested("print(1)"))["text"] == "1\n"
        session = client.post("/sessions").json()["id"]
        assert client.delete(f"/sessions/{session}").status_code == 204
