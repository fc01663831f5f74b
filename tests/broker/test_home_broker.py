"""A process that takes over the broker of a CAESARION_HOME from another one."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from caesarion.adapters.broker_store import BrokerStore
from caesarion.errors import SandboxUnavailable
from caesarion_cli import home_broker
from caesarion_cli.home_broker import HomeBroker
from tests.broker.conftest import ANN, Log, Subscriber, event, taking, trigger

pytestmark = pytest.mark.anyio


@pytest.fixture
async def told(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Log]:
    monkeypatch.setattr(home_broker, "TRIED_AGAIN_S", 0.001)
    with taking(home_broker.__name__) as told:
        yield told


async def test_it_is_taken_over_whatever_was_wrong_meanwhile(tmp_path: Path, told: Log, subscriber: Subscriber) -> None:
    home = tmp_path / "home"

    def lead_to(name: str) -> None:
        (tmp_path / "next").symlink_to(tmp_path / name)
        (tmp_path / "next").replace(home)

    for name in ("first", "second"):
        (tmp_path / name).mkdir()
    (tmp_path / "file").write_text("no folder", encoding="utf-8")
    lead_to("first")
    other = BrokerStore(home / "broker.sqlite3")
    broker = HomeBroker(home / "broker.sqlite3", [trigger()], [], max_event_bytes=1000)
    await broker.start(subscriber.app)
    await told.line("events wait for another process")
    with pytest.raises(SandboxUnavailable, match="Another process"):
        await broker.send(event(), ANN)
    lead_to("file")
    assert "cannot be opened" in str((await told.line("events cannot be taken here yet")).exc_info)
    lead_to("second")
    await told.line("events are taken here from now on")
    await broker.send(event("1"), ANN)
    assert (await subscriber.next()).event.id == "1"
    await broker.aclose()
    with pytest.raises(SandboxUnavailable):
        broker.now()
    await other.aclose()
