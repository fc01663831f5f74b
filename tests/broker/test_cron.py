"""When ticks come: cron lines as PingSource takes them, and the days on which clocks change."""

from datetime import UTC, datetime, timedelta

import pytest

from caesarion.adapters.schedules import Cron

SPRING = datetime(2026, 3, 29, tzinfo=UTC)  # in Berlin clocks go from 2 to 3 at 01:00 UTC
AUTUMN = datetime(2026, 10, 25, tzinfo=UTC)  # and from 3 to 2 at 01:00 UTC


def ticks(line: str, zone: str, begin: datetime, hours: float) -> list[str]:
    """Return the ticks of some hours after a moment, in UTC."""
    cron = Cron(line, zone)
    found: list[str] = []
    moment = cron.next_after(begin)
    while moment is not None and moment <= begin + timedelta(hours=hours):
        found.append(moment.strftime("%d %H:%M"))
        moment = cron.next_after(moment)
    return found


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("0 6 * * *", ["01 06:00", "02 06:00", "03 06:00"]),
        ("*/20 6 1 * *", ["01 06:00", "01 06:20", "01 06:40"]),
        ("5/25 6 1 * ?", ["01 06:05", "01 06:30", "01 06:55"]),
        ("0 0-6/3,12 1 jan *", ["01 03:00", "01 06:00", "01 12:00"]),
        ("0 6 * * FRI-sat", ["02 06:00", "03 06:00"]),
        ("0 6 2 * 6", ["02 06:00", "03 06:00"]),
        ("0 6 */2 * fri", ["01 06:00", "02 06:00", "03 06:00"]),
        ("0 6 * * 5", ["02 06:00"]),
        ("@daily", ["02 00:00", "03 00:00", "04 00:00"]),
        ("@hourly", [f"{1 + hour // 24:02} {hour % 24:02}:00" for hour in range(1, 73)]),
    ],
)
def test_a_line_ticks_when_pingsource_would(line: str, expected: list[str]) -> None:
    assert ticks(line, "UTC", datetime(2026, 1, 1, tzinfo=UTC), 72) == expected


def test_a_time_that_is_skipped_comes_when_the_gap_ends() -> None:
    assert ticks("30 2 * * *", "Europe/Berlin", SPRING - timedelta(days=1), 72) == ["28 01:30", "29 01:00", "30 00:30"]
    assert ticks("*/30 * * * *", "Europe/Berlin", SPRING, 2) == ["29 00:30", "29 01:00", "29 01:30", "29 02:00"]


def test_a_time_that_is_there_twice_comes_once_and_every_half_hour_stays_that() -> None:
    assert ticks("30 2 * * *", "Europe/Berlin", AUTUMN - timedelta(days=1), 72) == ["24 00:30", "25 00:30", "26 01:30"]
    assert ticks("*/30 * * * *", "Europe/Berlin", AUTUMN, 2) == ["25 00:30", "25 01:00", "25 01:30", "25 02:00"]


def test_after_the_first_of_two_equal_times_the_second_is_no_tick() -> None:
    within_the_second = AUTUMN + timedelta(hours=1, minutes=10)
    assert Cron("30 2 * * *", "Europe/Berlin").next_after(within_the_second) == AUTUMN + timedelta(days=1, minutes=90)


@pytest.mark.parametrize("line", ["30 2 * * *", "0 3 * * *", "*/20 * * * *", "15 1,2,3 * * *", "0 */2 * * *", "@daily"])
@pytest.mark.parametrize("day", [SPRING, AUTUMN], ids=["spring", "autumn"])
@pytest.mark.parametrize("zone", ["Europe/Berlin", "America/New_York"])
def test_the_latest_tick_is_the_last_that_came(line: str, day: datetime, zone: str) -> None:
    cron = Cron(line, zone)
    begin = day - timedelta(days=3)
    came: list[datetime] = []
    moment = cron.next_after(begin)
    while moment is not None and moment <= day + timedelta(days=3):
        came.append(moment)
        moment = cron.next_after(moment)
    assert came == sorted(set(came))
    for minutes in range(0, 2 * 24 * 60, 7):
        now = day + timedelta(minutes=minutes, seconds=0.5)
        assert cron.latest_until(now) == max(tick for tick in came if tick <= now), now
    for tick in came[3:]:
        assert cron.latest_until(tick) == tick
        before = cron.latest_until(tick - timedelta(seconds=1))
        assert before is not None
        assert before < tick


@pytest.mark.parametrize(
    "line",
    [
        "", "* * * *", "* * * * * *", "@every 5m", "@Daily", "60 * * * *", "* 24 * * *", "* * 0 * *", "* * * 13 *",
        "* * * * 7", "* * * * L", "* * L * *", "* * * * 1#2", "*/0 * * * *", "5-1 * * * *", "a * * * *",
        "* * * * monday", "1,,2 * * * *", "-1 * * * *", "1- * * * *", "* * 31 2 *", "CRON_TZ=UTC 0 6 * * *",
        "٣ * * * *",
    ],
)  # fmt: skip
def test_a_line_that_pingsource_would_not_take_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match=r"five fields|cron line"):
        Cron(line, "UTC")


@pytest.mark.parametrize("zone", ["", "Mars", "America", "../etc/passwd", "/etc/localtime", "a\0b"])
def test_a_time_zone_that_is_not_there_is_refused(zone: str) -> None:
    with pytest.raises(ValueError, match="time zone"):
        Cron("* * * * *", zone)
