"""Two replicas at the worst moments: the code of a run's own session is gone, or made anew, when the other goes on."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import pytest

from caesarion.adapters.platform import Platform
from caesarion.adapters.store import open_store
from caesarion.errors import CaesarionError, NotFound
from caesarion.events import Event, event_digest
from caesarion.ids import LOCAL_PRINCIPAL, SessionId, SessionKey, new_id
from caesarion.ports import ObjectStore, SessionSpec, StoredObject
from caesarion_execute.event_runs import EventRuns, ExecutionRequest, requested_event
from caesarion_execute.settings import Settings
from tests.conftest import ProductServer

WAITS = "import os, time\nwhile not os.path.exists('go.txt'): time.sleep(0.01)\nprint(os.urandom(8).hex())"


@dataclass
class Slow:
    """A store whose answer number `slow` to a reader is held back, however old it has become then."""

    store: ObjectStore
    slow: int
    reached: asyncio.Event = field(default_factory=asyncio.Event)
    go_on: asyncio.Event = field(default_factory=asyncio.Event)
    reads: int = 0

    async def read(self, path: str) -> AsyncIterator[bytes]:
        self.reads += 1
        held = self.reads == self.slow
        try:
            pieces = [piece async for piece in self.store.read(path)]
        except NotFound:
            if held:
                self.reached.set()
                await self.go_on.wait()
            raise
        for piece in pieces:
            yield piece

    async def put(self, path: str, content: AsyncIterator[bytes]) -> int:
        return await self.store.put(path, content)

    async def create(self, path: str, content: bytes) -> bool:
        return await self.store.create(path, content)

    async def delete(self, path: str) -> None:
        await self.store.delete(path)

    async def list(self, folder: str) -> Sequence[StoredObject]:
        return await self.store.list(folder)

    async def aclose(self) -> None:
        await self.store.aclose()


@contextlib.asynccontextmanager
async def replica(product: ProductServer, store: ObjectStore) -> AsyncIterator[tuple[Platform, EventRuns]]:
    """Give a further replica of the function, on the product's sandboxes."""
    env = {"CAESARION_HOME": str(product.home), "CAESARION_MAX_SESSIONS": "0", "CAESARION_CLAIM_TIMEOUT_S": "200"}
    settings = Settings.from_env(env)
    platform = Platform(product.sandboxes, settings.serving, settings.quotas, store=store, events=settings.events)
    try:
        yield platform, EventRuns(platform, settings)
    finally:
        await platform.aclose()


async def until_it_runs(platform: Platform, key: SessionKey, execution: str) -> None:
    """Return once the execution is there."""
    while True:
        with contextlib.suppress(CaesarionError):
            _, found = await platform.sessions.call(key, "GET", f"/v1/executions/{execution}")
            if found["status"] == "running":
                return


async def open_gate(platform: Platform, key: SessionKey) -> None:
    async def content() -> AsyncIterator[bytes]:
        yield b"go"

    async with platform.sessions.stream(key, "PUT", "/v1/files/go.txt", body=content()):
        pass


def executions(platform: Platform) -> float:
    """Return how many executions a replica saw to their end."""
    lines = platform.metrics.text()[0]
    told = lines if isinstance(lines, str) else lines.decode()
    return sum(
        float(line.rsplit(" ", 1)[1]) for line in told.splitlines() if line.startswith("caesarion_executions_total{")
    )


@pytest.mark.parametrize("held_read", [1, 2], ids=["before-its-claim", "before-it-sends-the-code"])
@pytest.mark.parametrize("made_anew", [False, True], ids=["gone", "made-anew"])
def test_who_comes_late_to_a_session_of_one_run_gets_the_result_and_runs_nothing(
    product_server: ProductServer, held_read: int, made_anew: bool
) -> None:
    async def race() -> tuple[Event, Event, float, float, bool, list[Any]]:
        request = ExecutionRequest(WAITS)
        event = requested_event("/races", new_id("r"), request)
        digest = event_digest(event.source, event.id)
        key = SessionKey(LOCAL_PRINCIPAL, SessionId(f"ev-{digest}"))
        ran: list[Any] = []
        home = str(product_server.home)
        settings = Settings.from_env({"CAESARION_HOME": home})
        slow = Slow(open_store(settings.store, home), held_read)
        async with (
            replica(product_server, open_store(settings.store, home)) as (first, first_runs),
            replica(product_server, slow) as (late, late_runs),
        ):
            one = asyncio.ensure_future(first_runs.run(LOCAL_PRINCIPAL, event, request))
            await until_it_runs(first, key, f"ev_{digest}")
            other = asyncio.ensure_future(late_runs.run(LOCAL_PRINCIPAL, event, request))
            await slow.reached.wait()
            await open_gate(first, key)
            result = await one
            if made_anew:
                await product_server.sandboxes.claim(key, SessionSpec(600), deadline_s=200)
            slow.go_on.set()
            told = await other
            left = await product_server.sandboxes.get(key) is not None
            if left:
                _, listed = await first.sessions.call(key, "GET", "/v1/executions")
                ran = listed["executions"]
                await product_server.sandboxes.release(key)
            return result, told, executions(first), executions(late), left, ran

    result, told, first_count, late_count, left, ran = product_server.run(race())
    assert told == result
    assert (first_count, late_count) == (1, 0)
    assert ran == []
    assert left == (made_anew and held_read == 2), "who made it anew, and only looks then, closes it"
