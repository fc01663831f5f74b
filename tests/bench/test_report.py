"""What a run tells: failures are seen, a missed target is not a failure."""

from bench.loads import Outcomes
from bench.report import Part, failed, figure, measured, once, text
from bench.statistics import p50_under

SLOW = measured(Outcomes([100.0, 100.0]))
BROKEN = measured(Outcomes([10.0], ["Unexpected: POST /sessions gave 503"]))


def test_a_missed_target_is_told_and_is_no_failure() -> None:
    part = Part("speed", (figure("a start", "ms", SLOW, "a reference", once(50.0), [p50_under(SLOW.samples, 60)]),))
    assert not failed(part)
    assert "MISSED" in text(part)
    assert "x2.00" in text(part)


def test_something_that_failed_is_told_with_its_reason() -> None:
    part = Part("speed", (figure("a start", "ms", BROKEN),))
    assert failed(part)
    assert "1 of 2 FAILED: Unexpected: POST /sessions gave 503" in text(part)


def test_a_part_that_could_not_be_measured_is_a_failure() -> None:
    part = Part("speed", failure="TimeoutError: no sandbox")
    assert failed(part)
    assert "could not be measured: TimeoutError: no sandbox" in text(part)


def test_nothing_at_all_is_a_failure_too() -> None:
    assert failed(Part("speed", (figure("a start", "ms", measured(Outcomes())),)))
