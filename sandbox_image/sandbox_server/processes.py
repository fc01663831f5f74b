"""Ends processes that a kernel left behind. Where there is no /proc only process groups are ended."""

import contextlib
import os
import signal

_ROUNDS = 200


def kill_group(leader: int) -> None:
    """End every process of the group that `leader` began, also when the leader itself is gone."""
    for _ in range(_ROUNDS):
        try:
            os.killpg(leader, signal.SIGKILL)
        except (ProcessLookupError, PermissionError):
            return
        if not _living_in_group(leader):
            return


def kill_orphans(spare: set[int]) -> None:
    """End children of this process that are none of `spare`: what an ended kernel had put into the background.

    Only where this process is 1 of its namespace; elsewhere such children are not its own. A process that forks while
    it is being ended is met in the next round.
    """
    if os.getpid() != 1:
        return
    for _ in range(_ROUNDS):
        found = [
            pid
            for pid, (parent, state, _) in _table().items()
            if parent == 1 and pid not in spare and state not in "ZX"
        ]
        for pid in found:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.kill(pid, signal.SIGKILL)
        if not found:
            return


def _living_in_group(leader: int) -> bool:
    return any(group == leader and state not in "ZX" for _, state, group in _table().values())


def _table() -> dict[int, tuple[int, str, int]]:
    """Return pid -> (parent pid, state, process group) of every process that can be seen."""
    table: dict[int, tuple[int, str, int]] = {}
    with contextlib.suppress(FileNotFoundError):
        for name in os.listdir("/proc"):
            if name.isdigit():
                with contextlib.suppress(OSError):
                    with open(f"/proc/{name}/stat", encoding="utf-8", errors="replace") as file:
                        fields = file.read().rpartition(")")[2].split()
                    table[int(name)] = (int(fields[1]), fields[0], int(fields[2]))
    return table
