"""`caesarion run`, and what it shares with the prompt: a session for the time of a command, an execution followed."""

import contextlib
import importlib.util
import os
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Annotated, Any, BinaryIO, NoReturn

import typer

from caesarion.ids import DEFAULT_CONTEXT, new_id
from caesarion_cli import standard
from caesarion_cli.client import Api, Execution
from caesarion_cli.failures import CODE_FAILED, INTERRUPTED, PLATFORM_FAILED, Failure, failures_told, note
from caesarion_cli.interrupts import first_ctrl_c
from caesarion_cli.options import DEFAULT_URL, AsJson, Context, SaveDir, Session, Url, connected
from caesarion_cli.pictures import PictureFolder
from caesarion_cli.show import Show
from caesarion_cli.terminal import Terminal, terminal_of
from caesarion_cli.transfers import put, uploads_of

OUTCOMES = {"ok": 0, "interrupted": INTERRUPTED}
STEM_OF_INPUT = "picture"

Receive = Callable[[bytes, Mapping[str, Any]], None]


def run(
    file: Annotated[Path, typer.Argument(metavar="FILE|-", help="Python code; - is standard input.")],
    session: Session = None,
    context: Context = DEFAULT_CONTEXT,
    timeout: Annotated[
        float | None,
        typer.Option("--timeout", metavar="SECONDS", min=0.001, help="Interrupt the code after this time."),
    ] = None,
    files: Annotated[
        list[Path] | None,
        typer.Option("--file", metavar="PATH", exists=True, readable=True, help="Upload this first; may be repeated."),
    ] = None,
    save_dir: SaveDir = Path(),
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Run a file's code and show its outputs as they come.

    Without --session the code has a session of its own, which is closed at the end. Pictures are saved as FILE-1.png
    and so on, and shown where the terminal can. Ctrl-C interrupts the code; a second one leaves at once.
    """
    code = _code_of(file)
    uploads = uploads_of(files or [])
    with failures_told(as_json=as_json), connected(url) as api, session_for(api, session) as session_id:
        put(api, session_id, uploads)
        api.add_context(session_id, context)
        noted = _unheard if as_json else note
        execution = Execution(api, session_id, code, context=context, timeout_s=timeout, noted=noted)
        if as_json:
            out = standard.binary_output()
            status = follow(execution, lambda line, _: _write_line(out, line))
            failed_to_save = False
        else:
            stem = STEM_OF_INPUT if str(file) == "-" else file.stem
            show = Show(standard.output(), standard.errors(), this_terminal(), PictureFolder(save_dir, stem))
            status = follow(execution, lambda _, output: show.output(output))
            failed_to_save = show.failed_to_save
    if status == "ok" and failed_to_save:
        raise typer.Exit(PLATFORM_FAILED)
    raise typer.Exit(OUTCOMES.get(status, CODE_FAILED))


@contextmanager
def session_for(api: Api, wanted: str | None) -> Iterator[str]:
    """Give the session `wanted`, made if it is new and kept, or else one that ends with this, whatever ends it."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(signum) is not signal.SIG_IGN:  # nohup ignores hang-ups by intent
            signal.signal(signum, _ended_by)
    session = wanted if wanted is not None else new_id("s")
    try:
        api.initialize(session)
        yield session
    finally:
        if wanted is None:
            with contextlib.suppress(Failure):
                api.close_session(session)


def follow(execution: Execution, receive: Receive) -> str:
    """Run code, hand on each output as its line and decoded, and return how it finished.

    The first Ctrl-C interrupts the code, whose outputs are followed to their end; the second is a KeyboardInterrupt.
    When who reads our own output leaves, the code is interrupted too.
    """
    status = "died"
    with first_ctrl_c(execution.interrupt):
        try:
            for line, output in execution.outputs():
                receive(line, output)
                status = str(output.get("status", status))
        except BrokenPipeError:
            execution.interrupt()
            execution.interrupt_sent()
            raise
    return status


def this_terminal() -> Terminal:
    """Return what this process's terminal can show now."""
    size = shutil.get_terminal_size()
    return terminal_of(
        os.environ,
        out_is_terminal=sys.stdout.isatty(),
        err_is_terminal=sys.stderr.isatty(),
        size=(size.columns, size.lines),
    )


def _ended_by(signum: int, frame: FrameType | None) -> NoReturn:
    raise SystemExit(128 + signum)


def _code_of(file: Path) -> str:
    """Return the text of Python source in whatever encoding it declares."""
    try:
        source = sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()
        return importlib.util.decode_source(source)
    except OSError as exc:
        raise typer.BadParameter(f"{str(file)!r} cannot be read: {exc.strerror}.", param_hint="FILE") from exc
    except (UnicodeDecodeError, SyntaxError) as exc:
        raise typer.BadParameter(f"{str(file)!r} is not Python source: {exc}.", param_hint="FILE") from exc


def _write_line(out: BinaryIO, line: bytes) -> None:
    out.write(line + b"\n")
    out.flush()


def _unheard(text: str) -> None:
    """Scripts are told of what failed only."""
