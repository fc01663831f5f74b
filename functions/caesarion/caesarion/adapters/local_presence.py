"""Which processes have a CAESARION_HOME open, so that only the last one that leaves ends its sandboxes.

It is a file that each of them holds locked. The system lets go of a lock when its process ends, however that happens.
"""

import fcntl
import os
from pathlib import Path


class Presence:
    """This process among those that have the home of `path` open, from now until `leave`.

    Waits while another process, which was the last one, ends the sandboxes.
    """

    def __init__(self, path: Path) -> None:
        self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def last(self) -> bool:
        """Whether no other process is there. If so none can enter before `leave`; if not this one is out already."""
        if self._fd is None:
            return False
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def leave(self) -> None:
        """Let go of the home. Idempotent."""
        if self._fd is not None:
            fd, self._fd = self._fd, None
            os.close(fd)
