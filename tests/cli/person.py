"""Somebody at a terminal: a real pseudo terminal, what is typed at it, and what is read from it."""

import contextlib
import fcntl
import os
import pty
import select
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator, Sequence
from pathlib import Path

from caesarion_cli.terminal import without_sequences

COLUMNS, ROWS = 120, 40
PATIENCE_S = 200.0
# The terminal that a new session's leader opens first becomes its own, so that Ctrl-C reaches what runs there.
_OWNING = "import os, sys; os.close(os.open(os.ttyname(0), os.O_RDWR)); os.execv(sys.argv[1], sys.argv[1:])"

CTRL_C, CTRL_D, UP = "\x03", "\x04", "\x1b[A"


class Person:
    """Types and reads."""

    def __init__(self, process: "subprocess.Popen[bytes]", terminal: int) -> None:
        self._process = process
        self._terminal = terminal
        self._seen = 0
        self.raw = b""

    @classmethod
    @contextlib.contextmanager
    def at(cls, command: Sequence[str], env: dict[str, str], folder: Path) -> Iterator["Person"]:
        """Start a command at a terminal of its own; it has ended with the block."""
        ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        process = subprocess.Popen(
            [sys.executable, "-c", _OWNING, *command],
            stdin=theirs,
            stdout=theirs,
            stderr=theirs,
            cwd=folder,
            env=env,
            start_new_session=True,
        )
        os.close(theirs)
        try:
            yield cls(process, ours)
        finally:
            process.kill()
            process.wait()
            os.close(ours)

    @property
    def text(self) -> str:
        """All that was shown, without colours and cursor movements."""
        return without_sequences(self.raw.decode(errors="ignore")).replace("\r", "")

    def types(self, text: str) -> None:
        """Type; ``\\r`` is the Enter key."""
        os.write(self._terminal, text.encode())

    def sees(self, text: str) -> str:
        """Wait until `text` is shown past what was seen before, and return what was shown up to it."""
        while (at := self.text.find(text, self._seen)) < 0:
            assert self._reads(), f"{text!r} was never shown, but {self.text!r}"
        between = self.text[self._seen : at]
        self._seen = at + len(text)
        return between

    def leaves(self) -> int:
        """Read to the end and return the exit status."""
        while self._reads():
            pass
        return self._process.wait(PATIENCE_S)

    def _reads(self) -> bool:
        ready, _, _ = select.select([self._terminal], [], [], PATIENCE_S)
        if not ready:
            return False
        try:
            block = os.read(self._terminal, 65536)
        except OSError:  # Linux's way to say that the other side is closed.
            return False
        self.raw += block
        return bool(block)
