"""The tables of the broker's file and what stands in them, used by the one thread of `broker_store`."""

import json
import logging
import sqlite3
from collections import defaultdict, deque
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from caesarion.errors import ConfigError, SandboxUnavailable
from caesarion.events import Event
from caesarion.ids import PrincipalId

logger = logging.getLogger(__name__)

SCHEMA_VERSION = 1
OPEN_TIMEOUT_S = 0.2
PAGE_BYTES = 4 * 1024 * 1024
MAX_REASON_CHARACTERS = 500
GIB = 1024**3

_SCHEMA = """
CREATE TABLE events (
    seq INTEGER PRIMARY KEY AUTOINCREMENT,
    principal TEXT NOT NULL,
    attributes TEXT NOT NULL,
    data BLOB,
    size_bytes INTEGER NOT NULL,
    ttl INTEGER NOT NULL,
    accepted_s REAL NOT NULL
) STRICT;
CREATE TABLE deliveries (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    event INTEGER NOT NULL REFERENCES events (seq),
    trigger_name TEXT NOT NULL,
    failures INTEGER NOT NULL DEFAULT 0,
    next_s REAL NOT NULL,
    dead_s REAL,
    status INTEGER,
    reason TEXT
) STRICT;
CREATE INDEX deliveries_of_event ON deliveries (event);
CREATE INDEX deliveries_dead ON deliveries (id) WHERE dead_s IS NOT NULL;
CREATE TABLE ticks (
    schedule TEXT PRIMARY KEY,
    rule TEXT NOT NULL,
    at_s REAL NOT NULL
) STRICT;
"""

_OF_DEAD = "FROM deliveries JOIN events ON seq = event WHERE dead_s IS NOT NULL AND principal = ?"


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much is kept: of all principals, or of each. What waits past its bound is refused; else the oldest goes."""

    max_waiting_events: int = 10_000
    max_waiting_bytes: int = GIB
    max_waiting_events_each: int = 5_000
    max_waiting_bytes_each: int = GIB // 2
    max_history_events_each: int = 1000
    max_history_bytes_each: int = GIB // 16
    max_dead_each: int = 5_000
    max_dead_bytes_each: int = GIB // 4


@dataclass(frozen=True, slots=True)
class Accepted:
    """An event that is on disk, and for each trigger that takes it the delivery to be made."""

    seq: int
    deliveries: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class Waiting:
    """A delivery that is to be made, in short."""

    id: int
    trigger: str
    principal: PrincipalId
    next_s: float


@dataclass(frozen=True, slots=True)
class Due:
    """A delivery with all that is needed to make it. `reply_ttl` is of its reply."""

    event: Event
    principal: PrincipalId
    reply_ttl: int
    failures: int


@dataclass(frozen=True, slots=True)
class Kept:
    """An event of the history."""

    seq: int
    accepted_s: float
    event: Event


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """A delivery that was given up. In lists its event comes without its data, of which the size is told."""

    id: int
    trigger: str
    attempts: int
    dead_s: float
    status: int | None
    reason: str
    event: Event
    data_bytes: int


@dataclass(frozen=True, slots=True)
class Reply:
    """An event that a subscriber answered with, to be accepted in its turn."""

    event: Event
    ttl: int
    triggers: tuple[str, ...]


class BrokerInUse(ConfigError):
    """Another process has the file."""


def open_file(path: Path) -> sqlite3.Connection:
    """Return a connection that has the file for itself, with its tables as they are now."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        path.touch(mode=0o600, exist_ok=True)
        connection = sqlite3.connect(path, timeout=OPEN_TIMEOUT_S, isolation_level=None)
    except (OSError, sqlite3.Error) as exc:
        raise ConfigError(f"The broker's file {str(path)!r} cannot be opened: {exc}") from exc
    try:
        connection.execute("PRAGMA locking_mode = EXCLUSIVE")
        connection.execute("PRAGMA auto_vacuum = INCREMENTAL")
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("BEGIN IMMEDIATE")
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version == 0:
            for statement in _SCHEMA.split(";\n"):
                connection.execute(statement)
            connection.execute(f"PRAGMA user_version = {SCHEMA_VERSION}")
        elif version != SCHEMA_VERSION:
            raise ConfigError(
                f"The broker's file {str(path)!r} is of version {version}, this program knows version {SCHEMA_VERSION}."
            )
        connection.execute("COMMIT")
        connection.execute("PRAGMA incremental_vacuum").fetchall()
    except sqlite3.OperationalError as exc:
        connection.close()
        if "locked" in str(exc):
            raise BrokerInUse(
                f"The broker's file {str(path)!r} is in use by another process. Stop that, or name another "
                "CAESARION_HOME."
            ) from exc
        raise ConfigError(f"The broker's file {str(path)!r} cannot be used: {exc}") from exc
    except sqlite3.Error as exc:
        connection.close()
        raise ConfigError(f"The broker's file {str(path)!r} cannot be used: {exc}") from exc
    except ConfigError:
        connection.close()
        raise
    return connection


class _Sum:
    """How many there are, and how large they are together."""

    def __init__(self) -> None:
        self.count = 0
        self.size_bytes = 0

    def add(self, size_bytes: int, sign: int = 1) -> None:
        self.count += sign
        self.size_bytes += sign * size_bytes

    def over(self, count: int, size_bytes: int) -> bool:
        return self.count > count or self.size_bytes > size_bytes

    def fills(self, count: int, size_bytes: int, *, without: int | None) -> bool:
        """Whether this is as much as may be, also without one of a size."""
        if without is not None:
            return self.count - 1 >= count or self.size_bytes - without >= size_bytes
        return self.count >= count or self.size_bytes >= size_bytes


class _History:
    """Numbers and sizes of the newest events of a principal, the oldest first."""

    def __init__(self) -> None:
        self.events: deque[tuple[int, int]] = deque()
        self.size_bytes = 0

    def add(self, seq: int, size_bytes: int) -> None:
        self.events.append((seq, size_bytes))
        self.size_bytes += size_bytes

    def pop(self) -> int:
        seq, size_bytes = self.events.popleft()
        self.size_bytes -= size_bytes
        return seq

    def has(self, seq: int) -> bool:
        return bool(self.events) and seq >= self.events[0][0]


class Tables:
    """The tables, used by the one thread. Sums are kept beside them and counted anew when a transaction fails."""

    def __init__(self, connection: sqlite3.Connection, bounds: Bounds) -> None:
        self._db = connection
        self._bounds = bounds
        self._count()
        for principal, history in self._history.items():
            self._db.execute(
                "DELETE FROM events WHERE principal = ? AND seq < ? "
                "AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = seq)",
                (principal, history.events[0][0]),
            )

    def close(self) -> None:
        self._db.close()

    def begin(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        try:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            self._count()
        except sqlite3.Error as exc:
            logger.error("the broker's file cannot be read", exc_info=exc)

    def accept_new(
        self, event: Event, principal: PrincipalId, ttl: int, triggers: Sequence[str], now_s: float
    ) -> Accepted:
        if triggers:
            self._check_room(principal)
        return self._accept(event, principal, ttl, triggers, now_s)

    def waiting(self) -> Sequence[Waiting]:
        found = self._db.execute(
            "SELECT id, trigger_name, principal, next_s FROM deliveries JOIN events ON seq = event "
            "WHERE dead_s IS NULL ORDER BY next_s, id"
        )
        return [Waiting(*row) for row in found]

    def due(self, delivery: int) -> Due | None:
        row = self._db.execute(
            "SELECT attributes, data, principal, ttl, failures FROM deliveries JOIN events ON seq = event "
            "WHERE id = ? AND dead_s IS NULL",
            (delivery,),
        ).fetchone()
        if row is None:
            return None
        attributes, data, principal, ttl, failures = row
        return Due(_event(attributes, data), PrincipalId(principal), ttl, failures)

    def done(self, delivery: int, reply: Reply | None, now_s: float) -> Accepted | None:
        row = self._db.execute(
            "SELECT event, principal, size_bytes FROM deliveries JOIN events ON seq = event "
            "WHERE id = ? AND dead_s IS NULL",
            (delivery,),
        ).fetchone()
        if row is None:
            return None
        seq, principal, size_bytes = row
        last = not self._waits(seq, besides=delivery)
        if reply is not None and reply.triggers:
            self._check_room(principal, without=size_bytes if last else None)
        self._db.execute("DELETE FROM deliveries WHERE id = ?", (delivery,))
        if last:
            self._add_waiting(principal, size_bytes, -1)
            self._drop_event(seq, principal)
        if reply is None:
            return None
        return self._accept(reply.event, PrincipalId(principal), reply.ttl, reply.triggers, now_s)

    def put_off(self, delivery: int, failures: int, next_s: float, status: int | None, reason: str) -> None:
        self._db.execute(
            "UPDATE deliveries SET failures = ?, next_s = ?, status = ?, reason = ? WHERE id = ?",
            (failures, next_s, status, reason[:MAX_REASON_CHARACTERS], delivery),
        )

    def give_up(self, delivery: int, failures: int, status: int | None, reason: str, now_s: float) -> Sequence[int]:
        row = self._db.execute(
            "SELECT seq, size_bytes, principal FROM deliveries JOIN events ON seq = event "
            "WHERE id = ? AND dead_s IS NULL",
            (delivery,),
        ).fetchone()
        if row is None:
            return []
        seq, size_bytes, principal = row
        self._db.execute(
            "UPDATE deliveries SET failures = ?, dead_s = ?, status = ?, reason = ? WHERE id = ?",
            (failures, now_s, status, reason[:MAX_REASON_CHARACTERS], delivery),
        )
        dead = self._dead[principal]
        dead.add(size_bytes)
        if not self._waits(seq):
            self._add_waiting(principal, size_bytes, -1)
        dropped: list[int] = []
        while dead.over(self._bounds.max_dead_each, self._bounds.max_dead_bytes_each) and dead.count > 1:
            oldest, of_event, its_bytes = self._db.execute(
                f"SELECT id, event, size_bytes {_OF_DEAD} ORDER BY id LIMIT 1", (principal,)
            ).fetchone()
            self._drop_dead(principal, oldest, of_event, its_bytes)
            dropped.append(oldest)
        return dropped

    def dead(self, principal: PrincipalId, after: int, limit: int) -> Sequence[DeadLetter]:
        found = self._db.execute(
            "SELECT id, trigger_name, failures, dead_s, status, reason, attributes, NULL, coalesce(length(data), 0) "
            f"{_OF_DEAD} AND id > ? ORDER BY id LIMIT ?",
            (principal, after, limit),
        )
        return [_dead_letter(row) for row in found]

    def dead_letter(self, principal: PrincipalId, dead_letter: int) -> DeadLetter | None:
        row = self._db.execute(
            "SELECT id, trigger_name, failures, dead_s, status, reason, attributes, data, coalesce(length(data), 0) "
            f"{_OF_DEAD} AND id = ?",
            (principal, dead_letter),
        ).fetchone()
        return None if row is None else _dead_letter(row)

    def revive(self, principal: PrincipalId, dead_letter: int, now_s: float) -> str | None:
        row = self._dead_one(principal, dead_letter)
        if row is None:
            return None
        seq, size_bytes, trigger = row
        if not self._waits(seq):
            self._add_waiting(principal, size_bytes)
        self._dead[principal].add(size_bytes, -1)
        self._db.execute(
            "UPDATE deliveries SET failures = 0, next_s = ?, dead_s = NULL, status = NULL, reason = NULL WHERE id = ?",
            (now_s, dead_letter),
        )
        return trigger

    def remove(self, principal: PrincipalId, dead_letter: int) -> bool:
        row = self._dead_one(principal, dead_letter)
        if row is None:
            return False
        self._drop_dead(principal, dead_letter, row[0], row[1])
        return True

    def history(self, principal: PrincipalId, kind: str, after: int, limit: int) -> Sequence[Kept]:
        known = self._history[principal].events
        first = max(after + 1, known[0][0]) if known else after + 1
        found = self._db.execute(
            "SELECT seq, accepted_s, attributes, data FROM events WHERE seq >= ? AND principal = ? "
            "AND substr(json_extract(attributes, '$.type'), 1, length(?)) = ? ORDER BY seq LIMIT ?",
            (first, principal, kind, kind, limit),
        )
        page: list[Kept] = []
        read_bytes = 0
        for seq, accepted_s, attributes, data in found:
            page.append(Kept(seq, accepted_s, _event(attributes, data)))
            read_bytes += len(data or b"")
            if read_bytes > PAGE_BYTES:
                break
        return page

    def start_of_newest(self, principal: PrincipalId, kind: str, count: int) -> int:
        found = self._db.execute(
            "SELECT seq FROM events WHERE principal = ? "
            "AND substr(json_extract(attributes, '$.type'), 1, length(?)) = ? ORDER BY seq DESC LIMIT ?",
            (principal, kind, kind, count),
        ).fetchall()
        newest: int = self._db.execute("SELECT coalesce(max(seq), 0) FROM events").fetchone()[0]
        return found[-1][0] - 1 if found else newest

    def tick(self, schedule: str) -> tuple[str, float] | None:
        found: tuple[str, float] | None = self._db.execute(
            "SELECT rule, at_s FROM ticks WHERE schedule = ?", (schedule,)
        ).fetchone()
        return found

    def keep_tick(self, schedule: str, rule: str, at_s: float) -> None:
        self._db.execute("INSERT OR REPLACE INTO ticks VALUES (?, ?, ?)", (schedule, rule, at_s))

    def _accept(
        self, event: Event, principal: PrincipalId, ttl: int, triggers: Sequence[str], now_s: float
    ) -> Accepted:
        attributes = _attributes(event)
        size_bytes = len(attributes) + len(event.data or b"")
        seq = self._insert(
            "INSERT INTO events (principal, attributes, data, size_bytes, ttl, accepted_s) VALUES (?, ?, ?, ?, ?, ?)",
            (principal, attributes, event.data, size_bytes, ttl, now_s),
        )
        deliveries = [
            (self._insert("INSERT INTO deliveries (event, trigger_name, next_s) VALUES (?, ?, ?)", row), row[1])
            for row in ((seq, trigger, now_s) for trigger in triggers)
        ]
        if deliveries:
            self._add_waiting(principal, size_bytes)
        self._history[principal].add(seq, size_bytes)
        self._trim_history(principal)
        return Accepted(seq, tuple(deliveries))

    def _insert(self, statement: str, row: Sequence[object]) -> int:
        return cast("int", self._db.execute(statement, row).lastrowid)

    def _check_room(self, principal: PrincipalId, *, without: int | None = None) -> None:
        """Refuse an event for which there is no room among those that wait, `without` one of so many bytes."""
        bounds = self._bounds
        for waiting, count, size_bytes in (
            (self._waiting, bounds.max_waiting_events, bounds.max_waiting_bytes),
            (self._waiting_of[principal], bounds.max_waiting_events_each, bounds.max_waiting_bytes_each),
        ):
            if waiting.fills(count, size_bytes, without=without):
                raise SandboxUnavailable(
                    f"{waiting.count} events wait for their delivery; no more are accepted now.",
                    code="broker_full",
                    retry_after_s=5,
                )

    def _add_waiting(self, principal: PrincipalId, size_bytes: int, sign: int = 1) -> None:
        self._waiting.add(size_bytes, sign)
        self._waiting_of[principal].add(size_bytes, sign)

    def _drop_dead(self, principal: PrincipalId, dead_letter: int, seq: int, size_bytes: int) -> None:
        self._db.execute("DELETE FROM deliveries WHERE id = ?", (dead_letter,))
        self._dead[principal].add(size_bytes, -1)
        self._drop_event(seq, principal)

    def _trim_history(self, principal: PrincipalId) -> None:
        bounds, history = self._bounds, self._history[principal]
        while len(history.events) > 1 and (
            len(history.events) > bounds.max_history_events_each or history.size_bytes > bounds.max_history_bytes_each
        ):
            self._drop_event(history.pop(), principal)

    def _drop_event(self, seq: int, principal: PrincipalId) -> None:
        """Remove an event unless it is of the history, or a delivery or dead letter needs it."""
        if not self._history[principal].has(seq):
            self._db.execute(
                "DELETE FROM events WHERE seq = ? AND NOT EXISTS (SELECT 1 FROM deliveries WHERE event = seq)", (seq,)
            )

    def _waits(self, seq: int, *, besides: int = 0) -> bool:
        found = self._db.execute(
            "SELECT 1 FROM deliveries WHERE event = ? AND dead_s IS NULL AND id != ? LIMIT 1", (seq, besides)
        ).fetchone()
        return found is not None

    def _dead_one(self, principal: PrincipalId, dead_letter: int) -> tuple[int, int, str] | None:
        found: tuple[int, int, str] | None = self._db.execute(
            f"SELECT seq, size_bytes, trigger_name {_OF_DEAD} AND id = ?", (principal, dead_letter)
        ).fetchone()
        return found

    def _count(self) -> None:
        """Count anew what is there."""
        self._history: defaultdict[str, _History] = defaultdict(_History)
        self._waiting = _Sum()
        self._waiting_of: defaultdict[str, _Sum] = defaultdict(_Sum)
        self._dead: defaultdict[str, _Sum] = defaultdict(_Sum)
        for principal, seq, size_bytes in self._db.execute(
            "SELECT principal, seq, size_bytes FROM (SELECT principal, seq, size_bytes, "
            "row_number() OVER (PARTITION BY principal ORDER BY seq DESC) AS place FROM events) "
            "WHERE place <= ? ORDER BY seq",
            (self._bounds.max_history_events_each,),
        ):
            self._history[principal].add(seq, size_bytes)
        for principal, size_bytes in self._db.execute(
            "SELECT principal, size_bytes FROM events WHERE seq IN (SELECT event FROM deliveries WHERE dead_s IS NULL)"
        ):
            self._add_waiting(principal, size_bytes)
        for principal, size_bytes in self._db.execute(
            "SELECT principal, size_bytes FROM deliveries JOIN events ON seq = event WHERE dead_s IS NOT NULL"
        ):
            self._dead[principal].add(size_bytes)


def _attributes(event: Event) -> str:
    named = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
    given: dict[str, Any] = {name: value for name in named if (value := getattr(event, name)) is not None}
    return json.dumps({**given, "extensions": dict(event.extensions)}, separators=(",", ":"))


def _dead_letter(row: Sequence[Any]) -> DeadLetter:
    dead_letter, trigger, attempts, dead_s, status, reason, attributes, data, data_bytes = row
    event = _event(attributes, data)
    return DeadLetter(dead_letter, trigger, attempts, dead_s, status, reason or "", event, data_bytes)


def _event(attributes: str, data: bytes | None) -> Event:
    return Event(**json.loads(attributes), data=data)
