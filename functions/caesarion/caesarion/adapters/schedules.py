"""Schedules: cron lines of `schedules.toml`, and the source that sends their ticks as Knative's PingSource does.

A line is what PingSource takes: five fields with names, ranges, lists and steps, or @hourly and the like. cronsim does
the arithmetic, by the rules of Debian's cron where clocks change: a time that is skipped comes when the gap ends, one
that is there twice comes once. It is imported with the first line that is read.
"""

import asyncio
import json
import logging
import re
import time
import zoneinfo
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from typing import TYPE_CHECKING, Protocol

from caesarion.adapters.background import Background
from caesarion.adapters.events import json_bytes
from caesarion.clock import rfc3339
from caesarion.code_files import read_code
from caesarion.config_files import Table, read_tables
from caesarion.errors import CaesarionError, ConfigError
from caesarion.events import JSON_TYPE, PING, Event
from caesarion.ids import PrincipalId
from caesarion.ports import Sink
from caesarion.triggers import PING_SOURCES, SWEEP, read_name

if TYPE_CHECKING:
    from cronsim import CronSim

logger = logging.getLogger(__name__)

LONGEST_WAIT_S = 60.0
"""Timers stand still while a machine sleeps, so none is set for longer than this."""
CLOCK_BACK_S = 300.0
FIRST_RETRY_S = 1.0
LONGEST_RETRY_S = 60.0

_DESCRIPTORS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = "jan feb mar apr may jun jul aug sep oct nov dec".split()
_DAYS = "sun mon tue wed thu fri sat".split()
_FIELDS: tuple[tuple[str, int, int, Mapping[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of the month", 1, 31, {}),
    ("month", 1, 12, {name: number for number, name in enumerate(_MONTHS, 1)}),
    ("day of the week", 0, 6, {name: number for number, name in enumerate(_DAYS)}),
)
_PART = re.compile(r"(?:(?P<all>[*?])|(?P<low>[0-9a-z]+)(?:-(?P<high>[0-9a-z]+))?)(?:/(?P<step>[0-9]{1,4}))?")
_EVERY = re.compile(r"\*/[0-9]+")
_SOME_DAY = datetime(2000, 1, 1, tzinfo=UTC)


class Cron:
    """A cron line in a time zone. Raises ValueError, with what is wrong, for one that PingSource would not take."""

    def __init__(self, line: str, time_zone: str) -> None:
        self.line = line
        self.time_zone = time_zone
        self._zone = _zone(time_zone)
        self._expression = _expression(line)
        if self.next_after(_SOME_DAY) is None:
            raise ValueError("a cron line for a day that there is")

    def next_after(self, moment: datetime) -> datetime | None:
        """Return the first tick after a moment, in UTC; None when there is none."""
        ticks = self._ticks(moment)
        for tick in ticks:
            if (found := tick.astimezone(UTC)) > moment:
                return found
        return None

    def latest_until(self, moment: datetime) -> datetime | None:
        """Return the last tick that is not after a moment, in UTC; None when there is none."""
        second = moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=1)
        found = next(
            (tick for each in self._ticks(second, back=True) if (tick := each.astimezone(UTC)) <= moment), None
        )
        # Backwards through an hour that is there twice cronsim goes too far, so the rest is done forwards.
        while found is not None and (later := self.next_after(found)) is not None and later <= moment:
            found = later
        return found

    def _ticks(self, moment: datetime, *, back: bool = False) -> "CronSim":
        from cronsim import CronSim, CronSimError

        try:
            return CronSim(self._expression, moment.astimezone(self._zone), reverse=back)
        except CronSimError as exc:
            raise ValueError("a cron line for a day that there is") from exc


@dataclass(frozen=True, slots=True)
class Schedule:
    """When a tick is sent and what with. `data` is JSON, or None; without a principal it is the source's."""

    name: str
    cron: Cron
    data: bytes | None = None
    principal: PrincipalId | None = None
    at_start: bool = False


def sweep_schedule(cron_line: str) -> Schedule:
    """Return the schedule of the sweep, which ticks at the start too. Raises ConfigError that names the variable."""
    try:
        return Schedule(SWEEP, Cron(cron_line, "UTC"), at_start=True)
    except ValueError as exc:
        raise ConfigError(f"CAESARION_SWEEP_SCHEDULE must be {exc}, got {cron_line[:80]!r}") from exc


def read_schedules(path: str, *, max_timeout_s: float) -> tuple[Schedule, ...]:
    """Return the schedules of a file; code stands in files beside it. Raises ConfigError that names file and line."""
    found: dict[str, Schedule] = {}
    for table in read_tables(path, "schedules"):
        table.check_known(("name", "cron", "time_zone", "code", "session", "context", "timeout_s", "principal"))
        name = read_name(table, "schedule", found)
        _, code = read_code(table, with_magics=True)
        request: dict[str, object] = {"code": code, "session": table.id("session")}
        if "context" in table.values:
            request["context"] = table.id("context")
        if "timeout_s" in table.values:
            request["timeout_s"] = table.number("timeout_s", 0.1, max_timeout_s)
        principal = PrincipalId(table.id("principal")) if "principal" in table.values else None
        found[name] = Schedule(name, _cron(table), json_bytes(request), principal)
    return tuple(found.values())


def tick_event(schedule: Schedule, moment: datetime) -> Event:
    """Return the event of a tick. Its id follows from name and time, so a tick that is sent twice is the same event."""
    stamp = rfc3339(moment)
    return Event(
        id=f"{schedule.name}-{stamp}",
        source=PING_SOURCES + schedule.name,
        type=PING,
        time=stamp,
        datacontenttype=None if schedule.data is None else JSON_TYPE,
        data=schedule.data,
    )


class Ticks(Protocol):
    """Where the last tick of each schedule is kept."""

    async def tick(self, schedule: str) -> tuple[str, float] | None:
        """Return the rule and the time of the last tick of a schedule."""
        ...

    async def keep_tick(self, schedule: str, rule: str, at_s: float) -> None:
        """Note the last tick of a schedule."""
        ...


class CronSource:
    """Sends ticks to a sink. Of those that were missed the latest is sent once; a new or changed line misses none."""

    def __init__(
        self,
        schedules: Iterable[Schedule],
        sink: Sink,
        ticks: Ticks,
        *,
        principal: PrincipalId,
        now_s: Callable[[], float] = time.time,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._schedules = tuple(schedules)
        self._sink = sink
        self._ticks = ticks
        self._principal = principal
        self._now_s = now_s
        self._sleep = sleep
        self._tasks = Background()

    async def start(self) -> None:
        """Begin to tick. Raises SandboxUnavailable when the last ticks cannot be read."""
        for schedule in self._schedules:
            last_s = await self._last_tick_s(schedule)
            self._tasks.start(self._run(schedule, last_s), name=f"schedule {schedule.name}")

    async def aclose(self) -> None:
        """Tick no more. Idempotent."""
        await self._tasks.aclose()

    async def _run(self, schedule: Schedule, last_s: float) -> None:
        due_s = self._now_s() if schedule.at_start else None
        retry_s = FIRST_RETRY_S
        looked_s = next_s = 0.0
        while True:
            now_s = self._now_s()
            if last_s > now_s + CLOCK_BACK_S:  # the clock was wrong then, or is now; a tick that is due must not wait
                last_s = now_s
            if not looked_s <= now_s < next_s:
                now = datetime.fromtimestamp(now_s, UTC)
                latest, following = schedule.cron.latest_until(now), schedule.cron.next_after(now)
                looked_s, next_s = now_s, now_s + LONGEST_WAIT_S if following is None else following.timestamp()
                if latest is not None and latest.timestamp() > last_s:
                    due_s = latest.timestamp()
            if due_s is None:
                await self._sleep(min(next_s - now_s, LONGEST_WAIT_S))
            elif await self._sent(schedule, due_s):
                last_s, due_s, retry_s = due_s, None, FIRST_RETRY_S
            else:
                await self._sleep(retry_s)
                retry_s = min(retry_s * 2, LONGEST_RETRY_S)

    async def _sent(self, schedule: Schedule, due_s: float) -> bool:
        """Send a tick and note it; returns whether the sink has it."""
        event = tick_event(schedule, datetime.fromtimestamp(due_s, UTC))
        noted = {"schedule": schedule.name, "tick": event.time}
        try:
            await self._sink.send(event, schedule.principal or self._principal)
        except CaesarionError as exc:
            logger.warning("tick not accepted", extra={**noted, "reason": exc.message[:500]})
            return not exc.retryable
        except Exception as exc:
            logger.error("tick failed unexpectedly", extra=noted, exc_info=exc)
            return False
        logger.info("tick sent", extra=noted)
        try:
            await self._ticks.keep_tick(schedule.name, _rule(schedule), due_s)
        except CaesarionError as exc:
            logger.warning("tick not noted", extra={**noted, "reason": exc.message[:500]})
        return True

    async def _last_tick_s(self, schedule: Schedule) -> float:
        """Return the time after which ticks count as missed."""
        kept = await self._ticks.tick(schedule.name)
        if kept is not None and kept[0] == _rule(schedule):
            return kept[1]
        now_s = self._now_s()
        await self._ticks.keep_tick(schedule.name, _rule(schedule), now_s)
        return now_s


def _rule(schedule: Schedule) -> str:
    return json.dumps([schedule.cron.line, schedule.cron.time_zone])


def _cron(table: Table) -> Cron:
    line = table.text("cron", "a cron line such as '0 6 * * mon-fri'")
    time_zone = table.text("time_zone", "a time zone such as 'Europe/Berlin'", default="UTC")
    try:
        _zone(time_zone)
    except ValueError as exc:
        table.fail("time_zone", str(exc))
    try:
        return Cron(line, time_zone)
    except ValueError as exc:
        table.fail("cron", str(exc))


def _zone(name: str) -> tzinfo:
    if name == "UTC":
        return UTC
    try:
        return zoneinfo.ZoneInfo(name)
    except (OSError, ValueError, zoneinfo.ZoneInfoNotFoundError):
        raise ValueError("a time zone of the IANA list, such as 'Europe/Berlin'") from None


def _expression(line: str) -> str:
    """Return a line as cronsim means the same by it that PingSource does."""
    fields = _DESCRIPTORS.get(line.strip(), line).split()
    if line.strip().startswith("@") and line.strip() not in _DESCRIPTORS:
        raise ValueError(f"five fields or one of {', '.join(_DESCRIPTORS)}")
    if len(fields) != len(_FIELDS):
        raise ValueError("a cron line of five fields: minute, hour, day of the month, month, day of the week")
    return " ".join(_field(text, *known) for text, known in zip(fields, _FIELDS, strict=True))


def _field(text: str, name: str, low: int, high: int, words: Mapping[str, int]) -> str:
    """Return a field as a star or as its numbers. Only a star alone leaves the days to the other field of days."""
    expected = f"a cron line whose {name} is of {low} to {high}" + (f" or {', '.join(words)}" if words else "")
    numbers: set[int] = set()
    for part in text.lower().split(","):
        found = _PART.fullmatch(part)
        if found is None:
            raise ValueError(expected)
        step = int(found["step"] or 1)
        if found["all"]:
            if step == 1:
                return "*"
            first, last = low, high
        else:
            first = _number(found["low"], words, expected)
            last = _number(found["high"], words, expected) if found["high"] else high if found["step"] else first
        if not low <= first <= last <= high or step == 0:
            raise ValueError(expected)
        numbers |= set(range(first, last + 1, step))
    # For times of the day cronsim tells by the star whether a line is to keep to the clock on the wall.
    if name in ("minute", "hour") and _EVERY.fullmatch(text):
        return text
    return ",".join(map(str, sorted(numbers)))


def _number(text: str, words: Mapping[str, int], expected: str) -> int:
    if text in words:
        return words[text]
    if not text.isdecimal() or len(text) > 4:
        raise ValueError(expected)
    return int(text)
