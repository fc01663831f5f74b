"""Files to a session and back: streamed, with a bar on a terminal, and whole or not at all."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import typer

from caesarion.ids import new_id
from caesarion_cli import standard
from caesarion_cli.client import BLOCK_BYTES, Api, Download
from caesarion_cli.failures import Failure

STDIO = Path("-")

Advance = Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Upload:
    """A local file, or standard input, and its name in the session."""

    source: Path
    name: str


def uploads_of(sources: Sequence[Path], name: str | None = None) -> list[Upload]:
    """Return what is to be uploaded; `name` is for a single source. Raises BadParameter for wrong usage."""
    if name is not None and len(sources) != 1:
        raise typer.BadParameter("names one file, so there must be one path only.", param_hint="--as")
    uploads = []
    names: set[str] = set()
    for source in sources:
        if source == STDIO and name is None:
            raise typer.BadParameter("standard input needs a name: --as NAME.", param_hint="PATH")
        if source != STDIO and not source.is_file():
            raise typer.BadParameter(f"{str(source)!r} is not a file.", param_hint="PATH")
        upload = Upload(source, name if name is not None else source.resolve().name)
        if upload.name in names:
            raise typer.BadParameter(f"two of the files would be {upload.name!r} in the session.", param_hint="PATH")
        names.add(upload.name)
        uploads.append(upload)
    return uploads


def put(api: Api, session: str, uploads: Sequence[Upload]) -> list[Any]:
    """Upload files one after the other and return what the session's list says of them. Raises Failure."""
    stored = []
    for upload in uploads:
        with _opened(upload.source) as file:
            size_bytes = None if upload.source == STDIO else os.fstat(file.fileno()).st_size
            with _bar(upload.name, size_bytes) as advance:
                stored.append(api.upload(session, upload.name, _blocks(file, upload.source, advance), size_bytes))
    return stored


def save(download: Download, target: Path) -> None:
    """Write a download to a file in place of its namesake once all of it is there, or to standard output.

    Raises Failure.
    """
    if target == STDIO:
        out = standard.binary_output()
        for block in download.blocks:
            out.write(block)
        out.flush()
        return
    partial = target.with_name(f".{target.name[:100]}.{new_id('part')}")
    try:
        with _bar(target.name, download.size_bytes) as advance, partial.open("xb") as file:
            for block in download.blocks:
                file.write(block)
                advance(len(block))
        partial.replace(target)
    except OSError as exc:
        raise Failure(f"{str(target)!r} cannot be written: {exc.strerror}.", code="not_saved") from exc
    finally:
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)


def target_of(output: Path | None, name: str) -> Path:
    """Return where a file of the session called `name` goes when `output` was asked for: a file, a folder, or `-`."""
    base = Path(name.rsplit("/", 1)[-1])
    if output is None:
        return base
    return output / base if output != STDIO and output.is_dir() else output


@contextmanager
def _opened(source: Path) -> Iterator[BinaryIO]:
    if source == STDIO:
        yield sys.stdin.buffer
        return
    try:
        file = source.open("rb")
    except OSError as exc:
        raise _unreadable(source, exc) from exc
    with file:
        yield file


def _blocks(file: BinaryIO, source: Path, advance: Advance) -> Iterator[bytes]:
    try:
        while block := file.read(BLOCK_BYTES):
            yield block
            advance(len(block))
    except OSError as exc:
        raise _unreadable(source, exc) from exc


def _unreadable(source: Path, exc: OSError) -> Failure:
    return Failure(f"{str(source)!r} cannot be read: {exc.strerror}.", code="not_read")


@contextmanager
def _bar(name: str, size_bytes: int | None) -> Iterator[Advance]:
    """Show a bar on stderr while within, where that is a terminal."""
    if not sys.stderr.isatty():
        yield lambda count: None
        return
    from rich.console import Console
    from rich.markup import escape
    from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn, TransferSpeedColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        DownloadColumn(),
        TransferSpeedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task(escape(name), total=size_bytes)
        yield lambda count: progress.advance(task, count)
