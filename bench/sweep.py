"""What the sweep decides over 10,000 sandboxes, beside a plain loop that compares their times and no more."""

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

from bench.report import Part, figure, several
from bench.statistics import p50_under
from caesarion.ids import PrincipalId, SandboxName, SessionId, SessionKey
from caesarion.ports import Endpoint, Sandbox, SandboxState
from caesarion.settings import SweepSettings
from caesarion_cleanup.rules import Seen, Use, could_be_due, decide

NAME = "the sweep's decision over 10,000 sandboxes"
SANDBOXES = 10_000
TARGET_MS = 50
NOW = datetime(2026, 1, 1, tzinfo=UTC)
POLICY = SweepSettings()


async def measure(*, quick: bool) -> Part:
    """Decide again and again about sandboxes of all kinds, a third of which are due."""
    times = 2 if quick else 100
    seen = [_seen(number) for number in range(SANDBOXES)]
    sandboxes = [one.sandbox for one in seen]

    def decided() -> int:
        asked = sum(could_be_due(sandbox, NOW) for sandbox in sandboxes)
        decisions = decide(seen, NOW, POLICY)
        return asked + len(decisions.suspend) + len(decisions.remove)

    def compared() -> int:
        return sum((NOW - sandbox.created_at).total_seconds() >= sandbox.idle_timeout_s for sandbox in sandboxes)

    ours, reference = several(_times_ms(decided, times)), several(_times_ms(compared, times))
    verdicts = [p50_under(ours.samples, TARGET_MS)]
    shown = figure("deciding once", "ms", ours, "comparing ages only", reference, verdicts)
    return Part(NAME, (shown,), ("in one process, no sandbox is asked; half of them run, half are suspended",))


def _times_ms(work: Callable[[], int], times: int) -> Sequence[float]:
    taken = []
    for _ in range(times):
        began_s = time.perf_counter()
        assert work()
        taken.append((time.perf_counter() - began_s) * 1000)
    return taken


def _seen(number: int) -> Seen:
    """Return one of six kinds: idle, used, busy, or suspended for long, for a while, or by no sweep."""
    kind = number % 6
    state: SandboxState = "ready" if kind < 3 else "suspended"
    suspended_at = NOW - timedelta(days=30 if kind == 3 else 1) if kind in (3, 4) else None
    sandbox = Sandbox(
        SandboxName(f"sb-{number}"), SessionKey(PrincipalId(f"p{number % 100}"), SessionId(f"s{number}")), state,
        NOW - timedelta(days=40), 3600.0, Endpoint("token", base_url="http://sandbox") if kind < 3 else None,
        suspended_at,
    )  # fmt: skip
    use = Use(kind == 2, NOW - timedelta(hours=2 if kind == 0 else 0))
    return Seen(sandbox, use if kind < 3 else "unasked")
