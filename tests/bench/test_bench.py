"""`make bench` at tiny sizes, with the real product and real kernels: it runs, and writes its figures down."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from bench.__main__ import PARTS, main
from bench.report import Part, figure, once

ROOT = Path(__file__).parents[2]
DEADLINE_S = 200.0


@pytest.mark.parametrize("name", PARTS)
def test_a_part_is_measured_shown_and_written_down(name: str, tmp_path: Path) -> None:
    written = tmp_path / "figures.json"
    command = [sys.executable, "-m", "bench", "--quick", "--only", name, "--output", str(written)]
    status, shown = _run(command)
    assert status == 0, shown
    document = json.loads(written.read_text(encoding="utf-8"))
    assert document["machine"]["cores"] >= 1
    (part,) = document["parts"]
    assert part["figures"]
    for one in part["figures"]:
        assert one["name"] in shown
        for side in filter(None, (one["ours"], one["reference"])):
            assert side["samples"]["count"] == side["tried"] > 0
            assert side["samples"]["p50"] <= side["samples"]["p95"] <= side["samples"]["p99"]


def test_a_part_that_breaks_does_not_lose_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def breaks(*, quick: bool) -> Part:
        raise TimeoutError("no sandbox")

    async def works(*, quick: bool) -> Part:
        return Part("works", (figure("a start", "ms", once(1.0)),))

    monkeypatch.setattr("bench.__main__.PARTS", {"breaks": ("breaks", breaks), "works": ("works", works)})
    written = tmp_path / "figures.json"
    assert main(["--output", str(written)]) == 1
    broken, fine = json.loads(written.read_text(encoding="utf-8"))["parts"]
    assert broken["failure"] == "TimeoutError: no sandbox"
    assert fine["figures"][0]["ours"]["samples"]["p50"] == 1.0


def _run(command: list[str]) -> tuple[int, str]:
    """Return the status and all that was said; what takes too long is ended with what it started."""
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as process:
        try:
            shown, _ = process.communicate(timeout=DEADLINE_S)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGINT)
            shown, _ = process.communicate()
        return process.returncode, shown
