"""What is accepted is delivered, whatever becomes of the process."""

import asyncio
import contextlib
import signal
import sqlite3
import stat
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from caesarion.adapters.broker_store import BrokerStore
from caesarion.errors import ConfigError, SandboxUnavailable
from tests.broker.conftest import ANN, Brokers, Log, Subscriber, event, served, trigger

ROOT = Path(__file__).parents[2]


async def accepted_until_killed(path: Path, url: str, run: int, count: int) -> list[str]:
    """Have a process accept events, kill it after so many, and return the ids that it said it had accepted."""
    arguments = [str(path), url, str(run)]
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.broker.accepting", *arguments, cwd=ROOT, stdout=asyncio.subprocess.PIPE
    )
    assert process.stdout is not None
    lines = [await process.stdout.readline() for _ in range(count)]
    process.send_signal(signal.SIGKILL)
    rest = await process.stdout.read()
    assert await process.wait() == -signal.SIGKILL
    whole = b"".join(lines) + rest
    return whole[: whole.rfind(b"\n")].decode().split()


@pytest.mark.anyio
@pytest.mark.parametrize("counts", [(1,), (40, 1, 100)], ids=["once", "again and again"])
async def test_a_killed_process_loses_no_event_that_it_accepted(
    brokers: Brokers, subscriber: Subscriber, log: Log, counts: Sequence[int]
) -> None:
    subscriber.always = lambda delivered: Response(status_code=503 if delivered.event.id.endswith("7") else 202)
    accepted: list[str] = []
    async with served(subscriber.app) as url:
        for run, count in enumerate(counts):
            accepted += await accepted_until_killed(brokers.path, f"{url}/events/killed", run, count)
    brought = {one.event.id for one in subscriber.got if not one.event.id.endswith("7")}
    assert len(accepted) == len(set(accepted)) >= sum(counts)
    subscriber.always = lambda delivered: Response(status_code=202)
    brokers.clock.now = 4e9
    broker = await brokers.start(subscriber.app, [trigger(subscriber="/events/after")])
    left = broker.waiting
    if left:
        await log.line("event delivered", left)
    after = [one.event.id for one in subscriber.got if one.path == "/events/after"]
    assert len(after) == len(set(after)) == left
    assert set(accepted) <= brought | set(after)
    assert broker.waiting == 0
    assert await broker.dead(ANN) == []


@pytest.mark.anyio
async def test_a_delivery_that_was_under_way_is_made_again_after_a_restart(
    brokers: Brokers, subscriber: Subscriber
) -> None:
    under_way = asyncio.Event()

    async def silent(scope: Scope, receive: Receive, send: Send) -> None:
        under_way.set()
        await asyncio.Event().wait()

    broker = await brokers.start(silent, [trigger()])
    await broker.send(event("1"), ANN)
    await under_way.wait()
    await brokers.close()
    await brokers.start(subscriber.app, [trigger()])
    assert (await subscriber.next()).event.id == "1"


@pytest.mark.anyio
async def test_a_pause_goes_on_after_a_restart_and_attempts_are_counted_on(
    brokers: Brokers, subscriber: Subscriber
) -> None:
    subscriber.always = lambda _: Response(status_code=503)
    clock = brokers.clock
    broker = await brokers.start(subscriber.app, [trigger()])
    await broker.send(event(), ANN)
    for pause_s in (0.2, 0.4):
        assert await clock.next_sleep() == pause_s
        clock.advance(pause_s)
    assert await clock.next_sleep() == 0.8
    await brokers.close()
    clock.advance(0.5)
    await brokers.start(subscriber.app, [trigger()])
    assert await clock.next_sleep() == 0.3
    clock.advance(0.3)
    assert await clock.next_sleep() == 1.6


@pytest.mark.anyio
async def test_a_delivery_without_its_trigger_becomes_a_dead_letter(brokers: Brokers, subscriber: Subscriber) -> None:
    broker = brokers.open([trigger("gone")])
    await broker.send(event(), ANN)
    await brokers.close()
    broker = await brokers.start(subscriber.app, [trigger("another")])
    (letter,) = await broker.dead(ANN)
    assert (letter.trigger, letter.reason) == ("gone", "its trigger is not there any more")
    with pytest.raises(Exception, match="no trigger 'gone'"):
        await broker.resend(ANN, letter.id)


def test_a_file_in_use_is_refused_to_a_second_process(tmp_path: Path) -> None:
    first = BrokerStore(tmp_path / "new" / "broker.sqlite3")
    with pytest.raises(ConfigError, match="in use by another process"):
        BrokerStore(tmp_path / "new" / "broker.sqlite3")
    asyncio.run(first.aclose())
    asyncio.run(BrokerStore(tmp_path / "new" / "broker.sqlite3").aclose())
    assert stat.S_IMODE((tmp_path / "new" / "broker.sqlite3").stat().st_mode) == 0o600


@pytest.mark.parametrize("content", ["no database, and long enough to be sure of it" * 50, "version"])
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str) -> None:
    path = tmp_path / "broker.sqlite3"
    if content == "version":
        with contextlib.closing(sqlite3.connect(path)) as file:
            file.execute("PRAGMA user_version = 99")
    else:
        path.write_text(content, encoding="utf-8")
    with pytest.raises(ConfigError, match=r"broker\.sqlite3"):
        BrokerStore(path)


@pytest.mark.anyio
async def test_a_full_disk_refuses_events_and_loses_none(brokers: Brokers, subscriber: Subscriber) -> None:
    broker = await brokers.start(subscriber.app, [trigger(kind="com.example.other")])
    await broker.send(event("1", data="x" * 100_000), ANN)
    await brokers.store._do(lambda tables: tables._db.execute("PRAGMA max_page_count = 50").fetchall())
    with pytest.raises(SandboxUnavailable, match="cannot be written"):
        for number in range(2, 20):
            await broker.send(event(str(number), data="x" * 50_000), ANN)
    kept = [one.event.id async for one in broker.events(ANN)]
    await brokers.store._do(lambda tables: tables._db.execute("PRAGMA max_page_count = 5000").fetchall())
    await broker.send(event("after"), ANN)
    assert [one.event.id async for one in broker.events(ANN)] == [*kept, "after"]
