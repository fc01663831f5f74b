"""Figures: what was measured, beside what, and how that is written down and shown."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

from bench.loads import Outcomes
from bench.statistics import Summary, Verdict, summary

Unit = Literal["ms", "MB/s", "sessions/s", "tokens/s", "claims/s", "KB", "MB", "points"]


@dataclass(frozen=True, slots=True)
class Measured:
    """What one side of a figure gave."""

    samples: Summary | None
    tried: int
    failures: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figure:
    """One row: the product's samples, those of a reference from the same run, and what the targets make of them."""

    name: str
    unit: Unit
    ours: Measured
    reference_name: str = ""
    reference: Measured | None = None
    verdicts: tuple[Verdict, ...] = ()


@dataclass(frozen=True, slots=True)
class Part:
    """A group of figures, what must be known to read them, and why it could not be measured if so."""

    name: str
    figures: tuple[Figure, ...] = ()
    notes: tuple[str, ...] = ()
    failure: str | None = None


def measured(outcomes: Outcomes) -> Measured:
    """Return what was tried many times, summed up."""
    return Measured(summary(outcomes.samples_ms), outcomes.tried, tuple(sorted(set(outcomes.failures))))


def several(values: Sequence[float]) -> Measured:
    """Return something that was measured a few times."""
    return Measured(summary(values), len(values))


def once(value: float) -> Measured:
    """Return something that was measured once."""
    return several([value])


def figure(
    name: str,
    unit: Unit,
    ours: Measured,
    reference_name: str = "",
    reference: Measured | None = None,
    verdicts: Sequence[Verdict] = (),
) -> Figure:
    """Return a figure."""
    return Figure(name, unit, ours, reference_name, reference, tuple(verdicts))


def document(parts: Sequence[Part], machine: dict[str, Any]) -> dict[str, Any]:
    """Return a run as JSON has it."""
    return {"machine": machine, "parts": [asdict(part) for part in parts]}


def write(path: Path, parts: Sequence[Part], machine: dict[str, Any]) -> None:
    """Write a run down."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document(parts, machine), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def failed(part: Part) -> bool:
    """Whether something of the part could not be measured."""
    sides = [side for one in part.figures for side in (one.ours, one.reference) if side is not None]
    return part.failure is not None or any(side.samples is None or side.samples.count < side.tried for side in sides)


def text(part: Part) -> str:
    """Return a part as it is shown: its figures in columns, and under each its targets and what failed."""
    lines = [part.name, "=" * len(part.name)]
    if part.failure is not None:
        lines.append(f"could not be measured: {part.failure}")
    for one in part.figures:
        lines += ["", one.name, *_rows(one)]
    lines += ["", *(f"  {note}" for note in part.notes)] if part.notes else []
    return "\n".join(lines)


def _rows(one: Figure) -> list[str]:
    rows = [_row("ours", one.ours, one.unit)]
    if one.reference is not None:
        rows.append(_row(one.reference_name, one.reference, one.unit) + _compared(one))
    for verdict in one.verdicts:
        rows.append(f"  {'met' if verdict.met else 'MISSED':44} {verdict.target}: {verdict.found}")
    return rows


def _row(name: str, side: Measured, unit: Unit) -> str:
    found = side.samples
    if found is None:
        told = "nothing"
    elif found.count == 1:
        told = f"{found.p50:9.1f} {unit}"
    else:
        told = f"p50 {found.p50:9.1f}   p95 {found.p95:9.1f}   p99 {found.p99:9.1f} {unit}   n {found.count}"
    failed = side.tried - (found.count if found is not None else 0)
    told += f"   {failed} of {side.tried} FAILED: {'; '.join(side.failures[:3])}" if failed else ""
    return f"  {name:44} {told}"


def _compared(one: Figure) -> str:
    ours, reference = one.ours.samples, one.reference.samples if one.reference is not None else None
    if ours is None or reference is None or not reference.p50 or not ours.p50:
        return ""
    return f"   (ours {ours.p50 - reference.p50:+.1f} {one.unit}, x{ours.p50 / reference.p50:.2f})"
