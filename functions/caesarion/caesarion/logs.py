"""Log lines as JSON, one object a line, with the ids of the request that they belong to.

Only `configure` touches global state, and only a process's entry point calls it. Code logs facts as fields:
``logger.info("claimed", extra={"session": …})``; never code, outputs, file names or keys.
"""

import contextlib
import json
import logging
import traceback
from collections.abc import Iterator
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TextIO

from caesarion.clock import rfc3339

_bound: ContextVar[dict[str, object] | None] = ContextVar("caesarion_log_fields", default=None)
_STANDARD = frozenset(vars(logging.makeLogRecord({}))) | {"message", "asctime", "taskName", "color_message"}


def bound_fields() -> dict[str, object]:
    """Return the fields that every line written in this context has."""
    return dict(_bound.get() or {})


def bind(**fields: object) -> None:
    """Add fields to every line written from here on in this context (a request and the tasks it starts)."""
    _bound.set({**(_bound.get() or {}), **fields})


def milliseconds(duration_s: float) -> float:
    """Return a duration as log lines have it."""
    return round(duration_s * 1000, 2)


@contextlib.contextmanager
def bound(**fields: object) -> Iterator[None]:
    """Have these fields in every line written inside the block."""
    token = _bound.set({**(_bound.get() or {}), **fields})
    try:
        yield
    finally:
        _bound.reset(token)


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, logger, message, the bound fields and those of the record."""

    def format(self, record: logging.LogRecord) -> str:
        line: dict[str, object] = {
            "time": rfc3339(datetime.fromtimestamp(record.created, UTC)),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        line.update(_bound.get() or {})
        line.update((name, value) for name, value in vars(record).items() if name not in _STANDARD)
        if record.exc_info and record.exc_info[0] is not None:
            line["exception"] = "".join(traceback.format_exception(*record.exc_info))
        return json.dumps(line, default=str)


def configure(stream: TextIO, level: str = "INFO") -> None:
    """Send all log lines of this process to `stream` as JSON, instead of what was set up before."""
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonFormatter())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(level)
    for name in ("uvicorn", "uvicorn.error", "uvicorn.access", "gunicorn", "gunicorn.error"):
        logging.getLogger(name).handlers.clear()
        logging.getLogger(name).propagate = True
    logging.getLogger("uvicorn.access").setLevel("WARNING")
