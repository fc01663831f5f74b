"""Control groups of local sandboxes, version 1 or 2, where they may be written; None where not.

Only the kernels' processes are in a limited group, so the server can still tell what happened when a limit was met.
Source: Linux, "Control Group v2" and the version 1 documents of the cpu, memory and pids controllers.
"""

import contextlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

ROOT = Path("/sys/fs/cgroup")
PERIOD_US = 100_000
CONTROLLERS = ("memory", "pids", "cpu")


@dataclass(frozen=True, slots=True)
class GroupLimits:
    """Limits of one group; `cpus` is the share of processor time in cores."""

    memory_bytes: int
    processes: int
    cpus: float


class Cgroups(Protocol):
    """Makes, fills and removes the groups of sandboxes, by the sandbox's name."""

    def make(self, name: str, limits: GroupLimits) -> None:
        """Make a group that limits memory and processes."""
        ...

    def add(self, name: str, pid: int) -> None:
        """Put a process, and all that it will start, into a group."""
        ...

    def limit_cpu(self, name: str, cpus: float) -> None:
        """Limit a group's processor time; done once it is ready, so that the start is quick."""
        ...

    def binds(self, name: str) -> list[tuple[str, str]]:
        """Return (directory, place in the sandbox) where the server may read its group's use."""
        ...

    def remove(self, name: str) -> None:
        """Remove a group whose processes have ended. Idempotent."""
        ...


class CgroupsV1:
    """Groups below our own in each controller's hierarchy."""

    def __init__(self, folders: dict[str, Path]) -> None:
        self._folders = folders

    def make(self, name: str, limits: GroupLimits) -> None:
        for folder in self._folders.values():
            (folder / name).mkdir(parents=True, exist_ok=True)
        _write(self._folders["memory"] / name / "memory.limit_in_bytes", limits.memory_bytes)
        with contextlib.suppress(OSError):
            _write(self._folders["memory"] / name / "memory.memsw.limit_in_bytes", limits.memory_bytes)
        _write(self._folders["pids"] / name / "pids.max", limits.processes)

    def add(self, name: str, pid: int) -> None:
        for folder in self._folders.values():
            _write(folder / name / "cgroup.procs", pid)

    def limit_cpu(self, name: str, cpus: float) -> None:
        quota_us = int(cpus * PERIOD_US)
        _write(self._folders["cpu"] / name / "cpu.cfs_quota_us", quota_us)
        with contextlib.suppress(OSError):
            _write(self._folders["cpu"] / name / "cpu.cfs_burst_us", quota_us)

    def binds(self, name: str) -> list[tuple[str, str]]:
        return [(str(self._folders["memory"] / name), "/sys/fs/cgroup/memory")]

    def remove(self, name: str) -> None:
        for folder in self._folders.values():
            with contextlib.suppress(OSError):
                (folder / name).rmdir()


class CgroupsV2:
    """Groups below one folder that has the controllers delegated."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def make(self, name: str, limits: GroupLimits) -> None:
        (self._folder / name).mkdir(exist_ok=True)
        _write(self._folder / name / "memory.max", limits.memory_bytes)
        with contextlib.suppress(OSError):
            _write(self._folder / name / "memory.swap.max", 0)
        _write(self._folder / name / "pids.max", limits.processes)

    def add(self, name: str, pid: int) -> None:
        _write(self._folder / name / "cgroup.procs", pid)

    def limit_cpu(self, name: str, cpus: float) -> None:
        quota_us = int(cpus * PERIOD_US)
        _write(self._folder / name / "cpu.max", f"{quota_us} {PERIOD_US}")
        with contextlib.suppress(OSError):
            _write(self._folder / name / "cpu.max.burst", quota_us)

    def binds(self, name: str) -> list[tuple[str, str]]:
        return [(str(self._folder / name), "/sys/fs/cgroup")]

    def remove(self, name: str) -> None:
        with contextlib.suppress(OSError):
            (self._folder / name).rmdir()


def find_cgroups(root: Path = ROOT, own: str | None = None) -> Cgroups | None:
    """Return the groups that this process may make, or None. `own` is the content of /proc/self/cgroup."""
    try:
        places = _own_places(Path("/proc/self/cgroup").read_text(encoding="ascii") if own is None else own)
    except OSError:
        return None
    if all(name in places for name in CONTROLLERS):
        folders = {name: root / name / places[name].lstrip("/") / "caesarion" for name in CONTROLLERS}
        return CgroupsV1(folders) if all(_can_make(folder) for folder in folders.values()) else None
    if "" in places:
        here = root / places[""].lstrip("/")
        for parent in (here, here.parent):
            folder = parent / "caesarion"
            if _can_make(folder) and _delegated(folder):
                return CgroupsV2(folder)
    return None


def _own_places(text: str) -> dict[str, str]:
    """Return controller -> our group's path; the controller of version 2 is the empty string."""
    places: dict[str, str] = {}
    for line in text.splitlines():
        _, names, path = line.split(":", 2)
        for name in names.split(","):
            places[name] = path
    return places


def _can_make(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        folder.mkdir(exist_ok=True)
        return os.access(folder / "cgroup.procs", os.W_OK)
    return False


def _delegated(folder: Path) -> bool:
    with contextlib.suppress(OSError):
        _write(folder / "cgroup.subtree_control", "+memory +pids +cpu")
        return True
    return False


def _write(path: Path, value: object) -> None:
    path.write_text(str(value), encoding="ascii")
