"""`python -m bench`: measure, show the table, and write it to bench/results/latest.json.

The exit status is 1 when something could not be measured. A target that was missed is told, not a failure.
"""

import argparse
import asyncio
import signal
import sys
from collections.abc import Awaitable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from bench import chat, cold_start, contexts, crowd, machine, new_sessions, page, report, sweep, volume, warm

RESULTS = Path(__file__).with_name("results") / "latest.json"
INTERRUPTED = 130


class Measure(Protocol):
    """What every module of a part offers."""

    def __call__(self, *, quick: bool) -> Awaitable[report.Part]: ...


PARTS: dict[str, tuple[str, Measure]] = {
    "warm": (warm.NAME, warm.measure),
    "sessions": (new_sessions.NAME, new_sessions.measure),
    "contexts": (contexts.NAME, contexts.measure),
    "start": (cold_start.NAME, cold_start.measure),
    "crowd": (crowd.NAME, crowd.measure),
    "volume": (volume.NAME, volume.measure),
    "chat": (chat.NAME, chat.measure),
    "page": (page.NAME, page.measure),
    "sweep": (sweep.NAME, sweep.measure),
}


def main(
    arguments: Sequence[str] | None = None,
    *,
    parts: Mapping[str, tuple[str, Measure]] | None = None,
    results: Path = RESULTS,
    prog: str = "make bench",
) -> int:
    """Run those of `parts` (by default of PARTS) that were asked for and return the exit status."""
    offered = PARTS if parts is None else parts
    parser = argparse.ArgumentParser(prog=prog, description="Measure the product beside references.")
    parser.add_argument("--only", action="append", choices=offered, help="one part; may be given again")
    parser.add_argument("--quick", action="store_true", help="tiny sizes: to see that it runs, not how fast it is")
    parser.add_argument("--output", type=Path, help=f"JSON file; by default {results.name} for a whole run")
    options = parser.parse_args(arguments)
    done: list[report.Part] = []
    facts = machine.facts()
    print("  ".join(f"{name}: {value}" for name, value in facts.items()), flush=True)
    for name in options.only or offered:
        try:
            done.append(asyncio.run(_part(*offered[name], quick=options.quick)))
        except (KeyboardInterrupt, asyncio.CancelledError):
            print("\ninterrupted; what was started is ended", flush=True)
            return INTERRUPTED
        print(f"\n{report.text(done[-1])}", flush=True)
    whole = not options.only and not options.quick
    output = options.output or (results if whole else None)
    if output is not None:
        report.write(output, done, facts)
        print(f"\nwritten to {output}")
    return int(any(report.failed(part) for part in done))


async def _part(title: str, measure: Measure, *, quick: bool) -> report.Part:
    """Measure one part; what goes wrong in it is kept in it, so that the others are measured all the same."""
    task = asyncio.current_task()
    assert task is not None
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, task.cancel)
    try:
        return await measure(quick=quick)
    except Exception as exc:
        return report.Part(title, failure=f"{type(exc).__name__}: {exc}"[:500])


if __name__ == "__main__":
    sys.exit(main())
