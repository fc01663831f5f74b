"""A broker over a real file, subscribers that are real apps, and a clock that tests turn."""

import asyncio
import contextlib
import heapq
import itertools
import json
import logging
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from caesarion.adapters.asgi.serving import ListeningServer
from caesarion.adapters.broker import Broker
from caesarion.adapters.broker_store import BrokerStore
from caesarion.adapters.broker_tables import Bounds
from caesarion.adapters.events import binary, decode
from caesarion.events import Event
from caesarion.ids import PrincipalId
from caesarion.triggers import Delivery, Match, Trigger

ANN = PrincipalId("ann")
START_S = 1_780_000_000.0
DEADLINE_S = 120.0
MADE = "com.example.made"

Answer = Callable[["Delivered"], Response]


class Clock:
    """Time that stands still until a test moves it. Whoever sleeps is woken when it is time."""

    def __init__(self, now_s: float = START_S) -> None:
        self.now = now_s
        self._passed_s = 0.0
        self._order = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []
        self._asked: asyncio.Queue[float] = asyncio.Queue()

    def now_s(self) -> float:
        return self.now

    async def sleep(self, delay_s: float) -> None:
        woken = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self._passed_s + delay_s, next(self._order), woken))
        self._asked.put_nowait(delay_s)
        await woken

    async def next_sleep(self) -> float:
        """Wait until somebody goes to sleep and return for how long."""
        async with asyncio.timeout(DEADLINE_S):
            return round(await self._asked.get(), 3)

    async def pass_to(self, moment_s: float) -> None:
        """Let time pass in the steps in which somebody wakes, each time until all that woke sleep again."""
        while self.now < moment_s:
            while not self._sleepers or self._sleepers[0][2].done():
                if self._sleepers:
                    heapq.heappop(self._sleepers)
                else:
                    await self.next_sleep()
            self.advance(min(self._sleepers[0][0] - self._passed_s, moment_s - self.now))

    def advance(self, delay_s: float) -> None:
        """Let time pass and wake all whose time has come."""
        self.now += delay_s
        self._passed_s += delay_s
        while self._sleepers and self._sleepers[0][0] <= self._passed_s + 1e-6:
            woken = heapq.heappop(self._sleepers)[2]
            if not woken.done():
                woken.set_result(None)

    def set_to(self, moment_s: float) -> None:
        """Set the clock without any time passing."""
        self.now = moment_s


@dataclass(frozen=True, slots=True)
class Delivered:
    """A request as a subscriber got it."""

    event: Event
    path: str
    principal: str | None
    headers: dict[str, str]


class Subscriber:
    """An app that takes events at any path below /events and answers as told; without being told with 202."""

    def __init__(self) -> None:
        self.got: list[Delivered] = []
        self.answers: list[Answer] = []
        self.always: Answer = lambda delivered: Response(status_code=202)
        self._arrived: asyncio.Queue[Delivered] = asyncio.Queue()
        self.app: ASGIApp = Starlette(routes=[Route("/events/{name}", self._take, methods=["POST"])])

    async def next(self) -> Delivered:
        """Wait for the next delivery."""
        async with asyncio.timeout(DEADLINE_S):
            return await self._arrived.get()

    async def next_ones(self, count: int) -> list[Delivered]:
        """Wait for several deliveries."""
        return [await self.next() for _ in range(count)]

    async def _take(self, request: Request) -> Response:
        (event,) = decode(request.headers, await request.body()).events
        principal = request.scope.get("caesarion.principal")
        delivered = Delivered(event, _target(request), principal, dict(request.headers))
        self.got.append(delivered)
        answer = (self.answers.pop(0) if self.answers else self.always)(delivered)
        self._arrived.put_nowait(delivered)
        return answer


def _target(request: Request) -> str:
    return request.url.path + (f"?{request.url.query}" if request.url.query else "")


class Brokers:
    """Opens brokers on one file, one after the other."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self.path = path
        self.clock = clock
        self._open: list[tuple[Broker, BrokerStore]] = []

    def open(self, triggers: Sequence[Trigger], bounds: Bounds | None = None, **options: Any) -> Broker:
        """Return a broker that has not begun to deliver."""
        store = BrokerStore(self.path, bounds)
        broker = Broker(store, triggers, now_s=self.clock.now_s, sleep=self.clock.sleep, **options)
        self._open.append((broker, store))
        self.store = store
        return broker

    async def start(
        self, app: ASGIApp, triggers: Sequence[Trigger], bounds: Bounds | None = None, **options: Any
    ) -> Broker:
        """Return a broker that delivers."""
        broker = self.open(triggers, bounds, **options)
        await broker.start(app)
        return broker

    async def close(self) -> None:
        """Close what is open, as the end of the process would."""
        while self._open:
            broker, store = self._open.pop()
            await broker.aclose()
            await store.aclose()


class Log:
    """What the broker logs, to wait for."""

    def __init__(self) -> None:
        self._lines: asyncio.Queue[logging.LogRecord] = asyncio.Queue()

    def note(self, record: logging.LogRecord) -> None:
        self._lines.put_nowait(record)

    async def line(self, text: str, count: int = 1) -> logging.LogRecord:
        """Wait for the next line with this text, or for so many."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                record = await self._lines.get()
                if record.getMessage() == text:
                    count -= 1
                    if not count:
                        return record


class _Noting(logging.Handler):
    def __init__(self, log: Log) -> None:
        super().__init__()
        self.emit = log.note  # type: ignore[method-assign]


@contextlib.contextmanager
def taking(name: str) -> Iterator[Log]:
    """Note what is logged below a name."""
    log = Log()
    handler = _Noting(log)
    logger = logging.getLogger(name)
    before = logger.level
    logger.setLevel(logging.INFO)
    logger.addHandler(handler)
    yield log
    logger.removeHandler(handler)
    logger.setLevel(before)


@pytest.fixture
async def log() -> AsyncIterator[Log]:
    with taking("caesarion.adapters") as log:
        yield log


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def subscriber() -> Subscriber:
    return Subscriber()


@pytest.fixture
async def brokers(tmp_path: Path, clock: Clock) -> AsyncIterator[Brokers]:
    brokers = Brokers(tmp_path / "broker.sqlite3", clock)
    yield brokers
    await brokers.close()


@contextlib.asynccontextmanager
async def served(app: ASGIApp) -> AsyncIterator[str]:
    """Serve an app on loopback and give its address."""
    with listening() as sock:
        server = ListeningServer(uvicorn.Config(app, log_config=None, access_log=False, timeout_graceful_shutdown=1))
        serving = asyncio.create_task(server.serve([sock]))
        await server.listening.wait()
        try:
            yield f"http://127.0.0.1:{sock.getsockname()[1]}"
        finally:
            server.should_exit = True
            await serving


@contextlib.contextmanager
def listening() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0), backlog=128) as sock:
        yield sock


def event(event_id: str = "1", kind: str = MADE, data: object = None, **extensions: str) -> Event:
    """Return an event with JSON data."""
    made = Event(event_id, "/tests", kind, extensions=extensions)
    if data is None:
        return made
    return replace(made, datacontenttype="application/json", data=json.dumps(data).encode())


def trigger(
    name: str = "made", kind: str = MADE, subscriber: str = "/events/made", delivery: Delivery | None = None
) -> Trigger:
    """Return a trigger for events of a type."""
    return Trigger(name, (Match("exact", (("type", kind),)),), subscriber, delivery or Delivery())


def reply_of(reply: Event) -> Response:
    """Return an answer that is an event."""
    headers, body = binary(reply)
    return Response(body, headers=headers)
