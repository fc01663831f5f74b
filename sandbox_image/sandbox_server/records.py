"""Records that functions keep with the session: append-only streams of JSON values, on disk.

A client may *hold* a stream while it writes to it, as a function does that drives a chat turn. Others see that it is
held, follow its records until it is not, and hand signals to the holder. Records outlive the server, holds do not.
"""

import asyncio
import contextlib
import json
import os
from array import array
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any

from caesarion.errors import Conflict, InvalidRequest, NotFound

CHUNK_BYTES = 256 * 1024
HEARTBEAT_S = 10.0


@dataclass(slots=True)
class _Stream:
    """What the server knows of a stream: where each record ends in the file, after a 0, and who holds it."""

    path: Path
    ends: "array[int]"
    hold: "Hold | None" = None
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def count(self) -> int:
        return len(self.ends) - 1

    @property
    def size_bytes(self) -> int:
        return self.ends[-1]

    @property
    def changed(self) -> asyncio.Event:
        """What is set at the next change."""
        return self._changed

    def tell(self) -> None:
        """Wake those who wait for a change."""
        self._changed.set()
        self._changed = asyncio.Event()


class Hold:
    """A client's hold of a stream, from `Records.hold` to the end of its `with` block."""

    def __init__(self, records: "Records", stream: _Stream) -> None:
        self._records = records
        self._stream = stream
        self._signals: asyncio.Queue[bytes] = asyncio.Queue()
        stream.hold = self
        records.readers += 1

    def __enter__(self) -> "Hold":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._stream.hold = None
        self._records.readers -= 1
        self._stream.tell()

    def signal(self, value: Any) -> None:
        """Hand a value to the holder."""
        self._signals.put_nowait(_line({"signal": value}))

    async def lines(self) -> AsyncIterator[bytes]:
        """Yield what the holder gets: that it holds the stream, then signals, and signs of life between them."""
        yield b'{"held":true}\n'
        while True:
            try:
                async with asyncio.timeout(HEARTBEAT_S):
                    line = await self._signals.get()
            except TimeoutError:
                line = b"{}\n"
            yield line


class Records:
    """The streams of this sandbox by name. `readers` is how many read or hold one now."""

    def __init__(self, journal_dir: str) -> None:
        self._folder = Path(journal_dir) / "records"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._streams: dict[str, _Stream] = {}
        self.readers = 0

    async def append(self, name: str, record: Any, *, expect: int | None = None) -> int:
        """Append a record and return its number, counting from 1, once it is on the disk.

        Raises Conflict when the stream has not exactly `expect` records; of two who expect the same, one appends.
        """
        stream = self._stream(name)
        if expect is not None and expect != stream.count:
            raise Conflict(f"The stream {name!r} has {stream.count} records, not {expect}.")
        number = stream.count + 1
        stream.ends.append(_extend(stream.path, stream.size_bytes, _line({"seq": number, "record": record})))
        stream.tell()
        await asyncio.to_thread(_sync, stream.path)
        return number

    def held(self, name: str) -> bool:
        """Whether somebody holds this stream."""
        return self._stream(name).hold is not None

    def hold(self, name: str) -> Hold:
        """Hold a stream for a client, from now to the end of the `with` block. Raises Conflict when it is held."""
        stream = self._stream(name)
        if stream.hold is not None:
            raise Conflict(f"The stream {name!r} is held by somebody else.", code="held")
        return Hold(self, stream)

    def signal(self, name: str, value: Any) -> None:
        """Hand a value to the holder of a stream. Raises NotFound when nobody holds it."""
        hold = self._stream(name).hold
        if hold is None:
            raise NotFound(f"Nobody holds the stream {name!r}.")
        hold.signal(value)

    @contextlib.contextmanager
    def reading(self) -> Iterator[None]:
        """Count a reader."""
        self.readers += 1
        try:
            yield
        finally:
            self.readers -= 1

    async def read(self, name: str, *, after: int, follow: bool) -> AsyncIterator[bytes]:
        """Yield the lines past number `after`, in pieces; with `follow` also those to come while somebody holds it."""
        stream = self._stream(name)
        position: int | None = None
        while True:
            changed = stream.changed
            more = follow and stream.hold is not None
            if position is None and after <= stream.count:
                position = stream.ends[after]
            while position is not None and position < stream.size_bytes:
                piece = _piece(stream.path, position, min(CHUNK_BYTES, stream.size_bytes - position))
                position += len(piece)
                yield piece
            if not more:
                return
            await changed.wait()

    def _stream(self, name: str) -> _Stream:
        if name not in self._streams:
            path = self._folder / f"{name}.ndjson"
            self._streams[name] = _Stream(path, _recovered(path))
        return self._streams[name]


def _line(value: dict[str, Any]) -> bytes:
    try:
        return json.dumps(value).encode() + b"\n"
    except RecursionError:
        raise InvalidRequest("The body must be JSON, and not nested deeply.") from None


def _recovered(path: Path) -> "array[int]":
    """Return where the records of a file end, after a 0, and cut off one that a crash left unfinished."""
    ends = array("Q", [0])
    if not path.exists():
        return ends
    with open(path, "r+b") as file:
        position = 0
        while piece := file.read(CHUNK_BYTES):
            found = piece.find(b"\n")
            while found >= 0:
                ends.append(position + found + 1)
                found = piece.find(b"\n", found + 1)
            position += len(piece)
        if position > ends[-1]:
            file.truncate(ends[-1])
    return ends


def _extend(path: Path, size_bytes: int, line: bytes) -> int:
    """Append a line to a file of this size and return the new one. What fails, for want of room, leaves no trace."""
    with open(path, "ab", buffering=0) as file:
        try:
            written = 0
            while written < len(line):
                written += file.write(line[written:])
        except OSError:
            file.truncate(size_bytes)
            raise
    return size_bytes + len(line)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _piece(path: Path, position: int, size_bytes: int) -> bytes:
    """Read from a file; it is in the page cache or on the sandbox's own disk, so this is short."""
    fd = os.open(path, os.O_RDONLY)
    try:
        return os.pread(fd, size_bytes, position)
    finally:
        os.close(fd)
