"""Samples summed up, and what a target makes of them. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Summary:
    """A figure's samples in its unit, smaller or larger being better as the figure says."""

    count: int
    p50: float
    p95: float
    p99: float
    least: float
    most: float


@dataclass(frozen=True, slots=True)
class Verdict:
    """A target in words, what was found, and whether that is enough."""

    target: str
    found: str
    met: bool


def percentile(samples: Sequence[float], percent: float) -> float:
    """Return the smallest sample that at least `percent` of all samples do not exceed (nearest rank)."""
    if not samples or not 0 < percent <= 100:
        raise ValueError(f"samples and a percentage in (0, 100] are needed, got {len(samples)} and {percent:g}")
    return sorted(samples)[math.ceil(percent / 100 * len(samples)) - 1]


def summary(samples: Sequence[float]) -> Summary | None:
    """Return the summary of samples, or None when there is none."""
    if not samples:
        return None
    p50, p95, p99 = (round(percentile(samples, percent), 3) for percent in (50, 95, 99))
    return Summary(len(samples), p50, p95, p99, round(min(samples), 3), round(max(samples), 3))


def at_most_more(
    ours: Summary | None, reference: Summary | None, *, p50: float, p99: float | None = None
) -> list[Verdict]:
    """Judge how much more ours is than the reference, at p50 and if asked for at p99, in milliseconds."""
    verdicts = []
    for name, limit in (("p50", p50), ("p99", p99)):
        if limit is None:
            continue
        target = f"{name} at most +{limit:g} ms"
        if ours is None or reference is None:
            verdicts.append(_unknown(target))
        else:
            more = getattr(ours, name) - getattr(reference, name)
            verdicts.append(Verdict(target, f"{more:+.2f} ms", more <= limit))
    return verdicts


def p50_under(ours: Summary | None, limit_ms: float) -> Verdict:
    """Judge the median against a number of milliseconds."""
    target = f"p50 under {limit_ms:g} ms"
    return _unknown(target) if ours is None else Verdict(target, f"{ours.p50:.1f} ms", ours.p50 < limit_ms)


def times_faster(ours: Summary | None, reference: Summary | None, times: float) -> Verdict:
    """Judge how many times faster ours is than the reference, by their medians."""
    target = f"at least {times:g} times faster"
    if ours is None or reference is None or ours.p50 == 0:
        return _unknown(target)
    ratio = reference.p50 / ours.p50
    return Verdict(target, f"{ratio:.1f} times", ratio >= times)


def none_fails(succeeded: int, tried: int) -> Verdict:
    """Judge that everything that was tried succeeded."""
    return Verdict("none fails", f"{succeeded} of {tried}", succeeded == tried > 0)


def grows_less(grown_mb: float, limit_mb: float) -> Verdict:
    """Judge that memory stayed flat: that its peak grew by less than a number of megabytes."""
    return Verdict(f"memory grows less than {limit_mb:g} MB", f"{grown_mb:+.1f} MB", grown_mb < limit_mb)


def _unknown(target: str) -> Verdict:
    return Verdict(target, "not measured", False)
