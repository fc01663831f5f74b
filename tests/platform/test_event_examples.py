"""The examples of events, run as they say, against the product as it is started."""

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.schedules import CronSource, read_schedules
from caesarion.adapters.sink import HttpSink
from caesarion.ids import LOCAL_PRINCIPAL
from caesarion.settings import EventSettings
from tests.platform.served import BIN, Home, Served, home

EXAMPLES = Path(__file__).parents[2] / "examples"
PUSH, REPORT, CHAIN = (EXAMPLES / name for name in ("05_github_push", "06_nightly_report", "07_two_events"))
BEFORE_THE_TICK = datetime(2026, 3, 2, 5, 29, 59, tzinfo=UTC)  # half past six in Berlin, a second before


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    with home() as made:
        yield made


def served(place: Home, **env: str) -> Any:
    return place.serve(CAESARION_POOL_SIZE="1", **env)


def command(url: str, *words: str, **env: str) -> str:
    """Run the command line against a product and return what it printed."""
    given = {"PATH": f"{BIN}:/usr/bin:/bin", "CAESARION_URL": url, **env}
    done = subprocess.run([str(BIN / "caesarion"), *words], env=given, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def finished(product: Served, *, subject: str, count: int = 1) -> list[dict[str, Any]]:
    """Follow the broker's events until this many executions of a session have finished, and return their data."""
    found: list[dict[str, Any]] = []
    with product.client.stream("GET", "/broker/events", params={"follow": 1, "last": 1000}) as lines:
        for line in lines.iter_lines():
            event = json.loads(line).get("event", {}) if line.strip() else {}
            if event.get("type") == "dev.caesarion.execution.finished" and event.get("subject") == subject:
                found.append(event["data"])
                if len(found) == count:
                    return found
    raise AssertionError("the broker ended the stream")


def test_a_push_runs_the_test_script(place: Home) -> None:
    secret = {"CI_WEBHOOK_SECRET": "It's a Secret to Everybody"}
    with served(place, CAESARION_HOOKS_FILE=str(PUSH / "hooks.toml"), **secret) as product:
        url = str(product.client.base_url)
        command(url, "files", "put", str(PUSH / "test_calculator.py"), "--session", "calculator")
        words = ("hooks", "test", "ci", str(PUSH / "push.json"), "--event", "push", "--file", str(PUSH / "hooks.toml"))
        told = command(url, *words, **secret)
        assert "octo/calculator main 6dcb09b: Say \"no\" to ''' and {braces}" in told
        assert "test_mean_of_two" in told
        assert "OK" in told


class ClockOfTwoNights:
    """Half past six comes twice; then nothing more."""

    def __init__(self) -> None:
        self.now_s = BEFORE_THE_TICK.timestamp()
        self.days = 0

    async def sleep(self, wait_s: float) -> None:
        """Let the time pass at once, for two days."""
        if self.now_s > BEFORE_THE_TICK.timestamp() + 86_400 + 60:
            await asyncio.Event().wait()
        self.now_s += wait_s
        await asyncio.sleep(0)


class NoTicks:
    """Nothing ticked before."""

    async def tick(self, schedule: str) -> tuple[str, float] | None:
        return None

    async def keep_tick(self, schedule: str, rule: str, at_s: float) -> None:
        pass


async def two_nights(broker_url: str) -> None:
    """Send the ticks of two nights to a broker."""
    clock, sink = ClockOfTwoNights(), HttpSink(EventSettings(sink=broker_url), Metrics())
    ended = asyncio.Event()

    async def sleep(wait_s: float) -> None:
        if clock.now_s > BEFORE_THE_TICK.timestamp() + 86_400 + 60:
            ended.set()
        await clock.sleep(wait_s)

    schedules = read_schedules(str(REPORT / "schedules.toml"), max_timeout_s=3600)
    source = CronSource(schedules, sink, NoTicks(), principal=LOCAL_PRINCIPAL, now_s=lambda: clock.now_s, sleep=sleep)
    await source.start()
    await ended.wait()
    await source.aclose()
    await sink.aclose()


def test_the_nightly_report_finds_its_variables_the_next_night(place: Home, tmp_path: Path) -> None:
    sales = tmp_path / "sales.csv"
    subprocess.run([sys.executable, str(EXAMPLES / "01_make_csv.py"), str(sales), "2000"], check=True)
    with served(place, CAESARION_SCHEDULES_FILE=str(REPORT / "schedules.toml")) as product:
        url = str(product.client.base_url).rstrip("/")
        command(url, "files", "put", str(sales), "--session", "report")
        asyncio.run(two_nights(f"{url}/broker"))
        nights = finished(product, subject="report", count=2)
        assert [data["status"] for data in nights] == ["ok", "ok"]
        assert sorted(data["text"].partition(":")[0] for data in nights) == ["night 1", "night 2"]
        assert "Île-de-France" in product.client.get("/sessions/report/files/report.csv").text


def test_two_events_in_a_chain(place: Home) -> None:
    with served(place, CAESARION_HOOKS_FILE=str(CHAIN / "hooks.toml")) as product:
        data = '{"celsius": [19.5, 21.0, 85.0]}'
        url = str(product.client.base_url).rstrip("/")
        command(url, "events", "send", "com.example.readings.arrived", "--data", data)
        (told,) = finished(product, subject="told")
        assert told["text"] == "1 odd readings: [85.0]\n"
