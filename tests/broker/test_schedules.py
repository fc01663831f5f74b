"""Ticks of schedules as their subscriber gets them: on time, once, and caught up with after a stop."""

import contextlib
import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest

from caesarion.adapters.broker import Broker
from caesarion.adapters.schedules import Cron, CronSource, Schedule, read_schedules, sweep_schedule
from caesarion.clock import rfc3339
from caesarion.errors import ConfigError, SandboxUnavailable
from caesarion.events import Event
from caesarion.ids import PrincipalId
from caesarion.triggers import built_in_triggers
from tests.broker.conftest import ANN, Brokers, Clock, Delivered, Subscriber

SIX = datetime(2026, 6, 1, 6, 0, tzinfo=UTC).timestamp()
HOUR_S = 3600.0


def hourly(name: str = "report") -> Schedule:
    return Schedule(name, Cron("0 * * * *", "UTC"), b'{"code":"1"}')


class Setting:
    """A broker, its subscriber and a source of ticks, which can be stopped and started as a process would be."""

    def __init__(self, brokers: Brokers, clock: Clock, subscriber: Subscriber) -> None:
        self.brokers = brokers
        self.clock = clock
        self.subscriber = subscriber

    @contextlib.asynccontextmanager
    async def running(self, *schedules: Schedule) -> AsyncIterator[Broker]:
        broker = await self.brokers.start(self.subscriber.app, built_in_triggers())
        source = CronSource(
            schedules, broker, self.brokers.store, principal=ANN, now_s=self.clock.now_s, sleep=self.clock.sleep
        )
        await source.start()
        yield broker
        await source.aclose()
        await self.brokers.close()


@pytest.fixture
def setting(brokers: Brokers, clock: Clock, subscriber: Subscriber) -> Setting:
    clock.now = SIX + 100
    return Setting(brokers, clock, subscriber)


def times(got: list[Delivered]) -> list[str]:
    return [str(one.event.time)[11:16] for one in got]


@pytest.mark.anyio
async def test_a_tick_is_the_event_that_pingsource_sends(setting: Setting) -> None:
    async with setting.running(hourly()):
        await setting.clock.pass_to(SIX + HOUR_S)
        got = await setting.subscriber.next()
    assert got.event == Event(
        id="report-2026-06-01T07:00:00.000Z",
        source="/apis/v1/namespaces/local/pingsources/report",
        type="dev.knative.sources.ping",
        time="2026-06-01T07:00:00.000Z",
        datacontenttype="application/json",
        data=b'{"code":"1"}',
    )
    assert (got.path, got.principal) == ("/events/execute", "ann")


@pytest.mark.anyio
async def test_ticks_come_each_once_and_not_before_their_time(setting: Setting) -> None:
    async with setting.running(hourly()):
        await setting.clock.pass_to(SIX + HOUR_S - 0.5)
        assert setting.subscriber.got == []
        await setting.clock.pass_to(SIX + 3 * HOUR_S)
        await setting.subscriber.next_ones(3)
    assert times(setting.subscriber.got) == ["07:00", "08:00", "09:00"]


@pytest.mark.anyio
async def test_of_missed_ticks_the_latest_comes_once_after_a_restart(setting: Setting) -> None:
    async with setting.running(hourly()):
        await setting.clock.pass_to(SIX + HOUR_S)
        await setting.subscriber.next()
        assert await setting.clock.next_sleep() == 60
    setting.clock.now += 5 * HOUR_S + 60
    async with setting.running(hourly()):
        await setting.subscriber.next()
        assert await setting.clock.next_sleep() == 60
    async with setting.running(hourly()):
        assert await setting.clock.next_sleep() == 60
    assert times(setting.subscriber.got) == ["07:00", "12:00"]


@pytest.mark.anyio
async def test_a_new_line_and_a_changed_one_have_missed_nothing(setting: Setting) -> None:
    async with setting.running(hourly()):
        assert await setting.clock.next_sleep() == 60
    setting.clock.now += 5 * HOUR_S
    async with setting.running(Schedule("report", Cron("30 * * * *", "UTC"), b"{}")):
        assert await setting.clock.next_sleep() == 60
    assert setting.subscriber.got == []


@pytest.mark.anyio
async def test_a_machine_that_slept_ticks_once_when_it_wakes(setting: Setting) -> None:
    async with setting.running(hourly()):
        assert await setting.clock.next_sleep() == 60
        setting.clock.advance(7.5 * HOUR_S)
        await setting.subscriber.next()
        assert await setting.clock.next_sleep() == 60
    assert times(setting.subscriber.got) == ["13:00"]


@pytest.mark.anyio
async def test_a_clock_that_is_set_back_repeats_no_tick_and_stops_none_for_long(setting: Setting) -> None:
    async with setting.running(hourly()):
        await setting.clock.pass_to(SIX + HOUR_S)
        await setting.subscriber.next()
        setting.clock.set_to(SIX + HOUR_S - 120)
        await setting.clock.pass_to(SIX + 2 * HOUR_S)
        await setting.subscriber.next()
        assert times(setting.subscriber.got) == ["07:00", "08:00"]
        setting.clock.set_to(SIX - 24 * HOUR_S)
        await setting.clock.pass_to(SIX - 23 * HOUR_S)
        await setting.subscriber.next()
    assert [one.event.time for one in setting.subscriber.got[2:]] == ["2026-05-31T07:00:00.000Z"]


@pytest.mark.anyio
async def test_the_sweep_ticks_at_the_start_and_then_by_its_line(setting: Setting) -> None:
    async with setting.running(sweep_schedule("*/5 * * * *")):
        first = await setting.subscriber.next()
        await setting.clock.pass_to(SIX + 300)
        await setting.subscriber.next()
    assert times(setting.subscriber.got) == ["06:01", "06:05"]
    assert (first.path, first.event.data) == ("/events/cleanup", None)


@pytest.mark.anyio
async def test_a_tick_that_the_sink_does_not_take_is_sent_until_it_does(setting: Setting) -> None:
    class Refusing:
        def __init__(self) -> None:
            self.refused = 0

        async def send(self, event: Event, principal: PrincipalId) -> None:
            self.refused += 1
            if self.refused < 4:
                raise SandboxUnavailable("not now")

    sink = Refusing()
    setting.brokers.open([])
    clock = setting.clock
    clock.now = SIX - 1
    source = CronSource([hourly()], sink, setting.brokers.store, principal=ANN, now_s=clock.now_s, sleep=clock.sleep)
    await source.start()
    for pause_s in (1, 1, 2, 4):
        assert await clock.next_sleep() == pause_s
        clock.advance(pause_s)
    assert await clock.next_sleep() == 60
    assert sink.refused == 4
    await source.aclose()


@pytest.mark.anyio
async def test_a_week_of_ticks_comes_in_order_and_complete(setting: Setting) -> None:
    async with setting.running(Schedule("often", Cron("0 */2 * * *", "UTC"), b"{}")):
        await setting.clock.pass_to(SIX + 7 * 24 * HOUR_S)
        got = await setting.subscriber.next_ones(84)
    assert [str(one.event.time) for one in got] == [
        rfc3339(datetime.fromtimestamp(SIX + 2 * HOUR_S * number, UTC)) for number in range(1, 85)
    ]


def test_a_file_says_when_what_runs_where(tmp_path: Path) -> None:
    (tmp_path / "report.py").write_text("%matplotlib inline\nprint('ü')\n", encoding="utf-8")
    (tmp_path / "schedules.toml").write_text(
        """
        [[schedules]]
        name = "nightly"
        cron = "0 3 * * mon-fri"
        time_zone = "Europe/Berlin"
        code = "report.py"
        session = "reports"
        context = "night"
        timeout_s = 600
        principal = "ann"
        """,
        encoding="utf-8",
    )
    (schedule,) = read_schedules(str(tmp_path / "schedules.toml"), max_timeout_s=3600)
    assert (schedule.name, schedule.cron.line, schedule.cron.time_zone) == (
        "nightly",
        "0 3 * * mon-fri",
        "Europe/Berlin",
    )
    assert schedule.principal == "ann"
    assert json.loads(schedule.data or b"") == {
        "code": "%matplotlib inline\nprint('ü')\n",
        "session": "reports",
        "context": "night",
        "timeout_s": 600.0,
    }


@pytest.mark.parametrize(
    ("line", "given", "told"),
    [
        (2, 'name = "Nightly Run"', "`name` must be 1 to 63 of a-z 0-9 and -"),
        (2, 'name = "caesarion-sweep"', "`name` must be 1 to 63 of a-z 0-9 and -"),
        (3, 'cron = "0 25 * * *"', "`cron` must be a cron line whose hour is of 0 to 23, got '0 25 * * *'"),
        (3, "cron = 5", "`cron` must be a cron line such as '0 6 * * mon-fri', got 5"),
        (3, 'cron = "0 6 * * *"\ntime_zone = "Berlin"', "`time_zone` must be a time zone of the IANA list"),
        (4, 'code = "missing.py"', "the code 'missing.py' cannot be read: No such file or directory"),
        (4, 'code = "broken.py"', "broken.py:2: "),
        (5, 'session = ""', "`session` must be 1 to 64 of the characters"),
        (6, "timeout_s = 9999", "`timeout_s` must be a number from 0.1 to 100, got 9999"),
        (6, 'when = "now"', "`when` is not known here; known are `name`, `cron`"),
        (6, '[[schedules]]\nname = "nightly"', "there is another schedule 'nightly' above"),
    ],
)
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, line: int, given: str, told: str) -> None:
    (tmp_path / "ok.py").write_text("1", encoding="utf-8")
    (tmp_path / "broken.py").write_text("1\nif\n", encoding="utf-8")
    lines = ["[[schedules]]", 'name = "nightly"', 'cron = "0 3 * * *"', 'code = "ok.py"', 'session = "s"', ""]
    lines[line - 1] = given
    path = tmp_path / "schedules.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        read_schedules(str(path), max_timeout_s=100)
    shown_line = line + given.count("\n")
    assert refused.value.message.startswith(f"{path}:{shown_line}: ")
    assert told in refused.value.message


def test_a_wrong_line_of_the_sweep_names_its_variable() -> None:
    with pytest.raises(ConfigError, match="CAESARION_SWEEP_SCHEDULE must be a cron line"):
        sweep_schedule("every minute")
