"""What samples are summed up to, and what targets make of them."""

from collections.abc import Sequence

import pytest

from bench.statistics import (
    Summary,
    Verdict,
    at_most_more,
    grows_less,
    none_fails,
    p50_under,
    percentile,
    summary,
    times_faster,
)


def of(p50: float, p99: float) -> Summary:
    return Summary(100, p50, p50, p99, p50, p99)


@pytest.mark.parametrize(
    ("samples", "percent", "expected"),
    [
        ([7.0], 50, 7.0),
        ([7.0], 99, 7.0),
        ([4.0, 1.0, 3.0, 2.0], 50, 2.0),
        ([1.0, 2.0, 3.0], 50, 2.0),
        ([float(n) for n in range(1, 101)], 95, 95.0),
        ([float(n) for n in range(1, 101)], 99, 99.0),
        ([float(n) for n in range(1, 101)], 100, 100.0),
        ([float(n) for n in range(1, 11)], 99, 10.0),
    ],
)
def test_a_percentile_is_the_sample_of_nearest_rank(samples: Sequence[float], percent: float, expected: float) -> None:
    assert percentile(samples, percent) == expected


@pytest.mark.parametrize(("samples", "percent"), [([], 50), ([1.0], 0), ([1.0], 101)])
def test_a_percentile_of_nothing_or_past_the_end_is_refused(samples: Sequence[float], percent: float) -> None:
    with pytest.raises(ValueError, match="percentage"):
        percentile(samples, percent)


def test_a_summary_tells_count_percentiles_and_bounds() -> None:
    assert summary([float(n) for n in range(100, 0, -1)]) == Summary(100, 50.0, 95.0, 99.0, 1.0, 100.0)
    assert summary([]) is None


def test_an_addition_to_a_reference_is_judged_at_p50_and_p99() -> None:
    assert at_most_more(of(7.0, 20.0), of(4.0, 5.0), p50=3, p99=10) == [
        Verdict("p50 at most +3 ms", "+3.00 ms", True),
        Verdict("p99 at most +10 ms", "+15.00 ms", False),
    ]


@pytest.mark.parametrize(
    ("verdict", "met"),
    [
        (p50_under(of(59.9, 500.0), 60), True),
        (p50_under(of(60.0, 60.0), 60), False),
        (times_faster(of(40.0, 40.0), of(400.0, 400.0), 10), True),
        (times_faster(of(41.0, 41.0), of(400.0, 400.0), 10), False),
        (none_fails(50, 50), True),
        (none_fails(49, 50), False),
        (none_fails(0, 0), False),
        (grows_less(1.5, 20), True),
        (grows_less(20, 20), False),
    ],
)
def test_a_target_is_met_or_not(verdict: Verdict, met: bool) -> None:
    assert verdict.met is met


@pytest.mark.parametrize(
    "verdict",
    [
        *at_most_more(None, of(1.0, 1.0), p50=3, p99=10),
        *at_most_more(of(1.0, 1.0), None, p50=3, p99=10),
        p50_under(None, 60),
        times_faster(None, of(1.0, 1.0), 10),
        times_faster(of(1.0, 1.0), None, 10),
    ],
)
def test_what_was_not_measured_meets_no_target(verdict: Verdict) -> None:
    assert (verdict.found, verdict.met) == ("not measured", False)
