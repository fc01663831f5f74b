"""Facts of the machine that figures depend on."""

import os
import platform
import subprocess
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from bench.product import ROOT
from caesarion.clock import rfc3339


def facts() -> dict[str, Any]:
    """Return what the machine is, when this was, and which commit was measured."""
    return {
        "date": rfc3339(datetime.now(UTC)),
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "cores": len(os.sched_getaffinity(0)),
        "memory_mb": memory_bytes("MemTotal") // 10**6,
        "kernel": platform.release(),
        "python": platform.python_version(),
        "commit": _commit(),
        "load_average": [round(load, 2) for load in os.getloadavg()],
    }


def memory_bytes(name: str) -> int:
    """Return a field of /proc/meminfo, 0 where there is none."""
    return int((_field("/proc/meminfo", name) or "0 kB").split()[0]) * 1024


def _field(path: str, name: str) -> str | None:
    try:
        lines = Path(path).read_text(encoding="utf-8").splitlines()
    except OSError:
        return None
    return next((line.partition(":")[2].strip() for line in lines if line.startswith(name)), None)


def _commit() -> str | None:
    try:
        told = subprocess.run(
            ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=10
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return told.stdout.strip()
