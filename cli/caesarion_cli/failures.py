"""What can go wrong for a command, how it is told, and the exit codes that scripts can use."""

import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import typer

from caesarion.errors import CaesarionError

CODE_FAILED = 1
PLATFORM_FAILED = 3
INTERRUPTED = 130

EXIT_CODES = """\b
Exit codes:
  0    all went well
  1    the code failed: it raised, ran out of time, or its kernel died
  2    wrong usage
  3    the platform failed or refused, or is not there
  130  interrupted"""


class Failure(Exception):
    """The platform failed, refused, or is not there. `status` is that of its answer, when there was one."""

    def __init__(self, message: str, *, code: str, error_id: str | None = None, status: int | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code
        self.error_id = error_id
        self.status = status

    @property
    def may_pass(self) -> bool:
        """Whether the same request may succeed a little later."""
        return self.status is None or self.status == 429 or self.status >= 500

    def as_text(self) -> str:
        """Return the failure for people."""
        known = f"{self.code}, {self.error_id}" if self.error_id else self.code
        return f"caesarion: {self.message} ({known})"

    def as_json(self) -> str:
        """Return the failure in the API's one shape; one that was noticed here has no id."""
        told = {"code": self.code, "message": self.message}
        if self.error_id is not None:
            told["id"] = self.error_id
        return json.dumps({"error": told})


@contextmanager
def failures_told(*, as_json: bool = False) -> Iterator[None]:
    """Turn failures within into a message on stderr and the exit code that stands for them."""
    try:
        yield
    except Failure as failure:
        tell(failure, as_json=as_json)
        raise typer.Exit(PLATFORM_FAILED) from None
    except CaesarionError as error:
        tell(Failure(error.message, code=error.code), as_json=as_json)
        raise typer.Exit(PLATFORM_FAILED) from None
    except BrokenPipeError:
        # Who read our output left (`| head`). Nothing more can be said there, also not when Python flushes at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise typer.Exit(INTERRUPTED) from None


def tell(failure: Failure, *, as_json: bool = False) -> None:
    """Print a failure on stderr."""
    print(failure.as_json() if as_json else failure.as_text(), file=sys.stderr, flush=True)


def note(text: str) -> None:
    """Print on stderr what is worth knowing and no failure."""
    print(f"caesarion: {text}", file=sys.stderr, flush=True)
