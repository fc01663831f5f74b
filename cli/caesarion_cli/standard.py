"""Standard output and standard error, opened for all that code may print.

Python's own are not used for that: started unbuffered (PYTHONUNBUFFERED) they lose what a large write left over when a
signal or a reader that went away cut it short, and they raise on characters that the terminal's encoding does not have.
"""

import sys
from typing import BinaryIO, TextIO


def output() -> TextIO:
    """Return standard output for text."""
    return _text(sys.stdout)


def errors() -> TextIO:
    """Return standard error for text."""
    return _text(sys.stderr)


def binary_output() -> BinaryIO:
    """Return standard output for bytes."""
    sys.stdout.flush()
    return open(sys.stdout.fileno(), "wb", closefd=False)


def _text(stream: TextIO) -> TextIO:
    stream.flush()
    return open(stream.fileno(), "w", encoding=stream.encoding, errors="replace", closefd=False)
