"""What operators are told of turns: how long they took and how they ended, as a metric, a log line and a span."""

import contextlib
import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

from caesarion.adapters import tracing
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.ids import SessionKey
from caesarion.logs import milliseconds
from caesarion_chat.model import Usage

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class TurnReport:
    """How a turn ended, as whoever drives it says. `failure` is what a failure is called."""

    result: str = "cut off"
    usage: Usage = field(default_factory=Usage)
    failure: str | None = None


class TurnReports:
    """Reports of the turns of a process."""

    def __init__(self, metrics: Metrics) -> None:
        self._durations = metrics.durations(
            "caesarion_turn_duration_seconds", "Time that turns took, by how they ended.", "result"
        )

    @contextlib.contextmanager
    def of(self, key: SessionKey, turn: str) -> Iterator[TurnReport]:
        """Give the report of a turn that is driven inside the block, and tell it at the end."""
        report = TurnReport()
        began_s = time.perf_counter()
        with tracing.span("turn", {"caesarion.session": key.session, "caesarion.turn": turn}) as span:
            try:
                yield report
            finally:
                duration_s = time.perf_counter() - began_s
                self._durations.add(duration_s, report.result)
                span.set({"caesarion.result": report.result})
                if report.failure is not None:
                    span.fail(report.failure)
                facts = {
                    "session": key.session,
                    "principal": key.principal,
                    "turn": turn,
                    "result": report.result,
                    **({"code": report.failure} if report.failure is not None else {}),
                    "prompt_tokens": report.usage.prompt_tokens,
                    "completion_tokens": report.usage.completion_tokens,
                    "duration_ms": milliseconds(duration_s),
                }
                logger.info("turn ended", extra=facts)
