"""One execution: its outputs in the journal, numbered from 1, and its readers.

The outputs are a file of lines, so a reader costs no memory however much was printed: whoever comes, first or again,
reads the same bytes and then waits for more.
"""

import asyncio
import hashlib
import io
import json
import os
import re
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caesarion.clock import rfc3339
from caesarion.outputs import Error, ExecutionStatus, Finished, Output, Stream, Truncated, encode_output
from sandbox_server.messages import collapsed

CHUNK_BYTES = 256 * 1024
JOIN_WINDOW_S = 0.05
JOIN_BYTES = 64 * 1024
_LINE_ENDS = {ord(char): f"\\u{ord(char):04x}" for char in "\x85\u2028\u2029"}
_SEQ = re.compile(rb'\{"seq": ?(\d+)')


@dataclass(frozen=True, slots=True)
class Variables:
    """Variables that an execution brings, as JSON text, and what tells them from others. Both are empty for none."""

    json: str = field(default="", repr=False)
    digest: str = ""


def fingerprint(code: str, context: str, variables_digest: str) -> str:
    """Return what tells two requests with the same id apart."""
    text = f"{context}\0{code}" + (f"\0{variables_digest}" if variables_digest else "")
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class Execution:
    """The record of one run of code. `record` writes outputs; `read` follows them."""

    id: str
    code: str
    context: str
    timeout_s: float
    folder: Path
    max_output_bytes: int
    variables: Variables = Variables()
    status: str = "queued"
    execution_count: int | None = None
    started_at: datetime | None = None
    duration_ms: float | None = None
    stop_reason: ExecutionStatus | None = None
    stop_requested: asyncio.Event = field(default_factory=asyncio.Event)
    readers: int = 0
    _seq: int = 0
    _kept_bytes: int = 0
    _dropped_bytes: int = 0
    _size: int = 0
    _file: Any = None
    _pending: Stream | None = None
    _pending_timer: asyncio.TimerHandle | None = None
    _last_stream_s: float = 0.0
    _changed: asyncio.Event = field(default_factory=asyncio.Event)
    _began_s: float = field(default_factory=time.monotonic)

    @property
    def finished(self) -> bool:
        return self.status not in ("queued", "running")

    @property
    def age_s(self) -> float:
        """How long the kernel has had the code."""
        return time.monotonic() - self._began_s

    @property
    def path(self) -> Path:
        return self.folder / f"{self.id}.ndjson"

    @property
    def size_bytes(self) -> int:
        """How much of the journal this execution takes."""
        return self._size + len(self.code)

    def admit(self) -> None:
        """Write the execution down before anything of it runs, so that its id is known after a crash too."""
        self._file = open(self.path, "ab", buffering=0)
        self._write_meta()

    def start(self) -> None:
        """Note that the kernel has been given the code and its variables."""
        self.variables = Variables(digest=self.variables.digest)
        self.status = "running"
        self.started_at = datetime.now(UTC)
        self._began_s = time.monotonic()

    def record(self, output: Output) -> None:
        """Append an output. Stream texts that follow each other closely are joined; all else keeps its order."""
        if isinstance(output, Stream):
            self._join(output)
        else:
            self._flush()
            self._append(output)

    def finish(self, status: ExecutionStatus, error: Error | None = None) -> None:
        """Write the last output. Later calls change nothing."""
        if self.finished:
            return
        if error is not None:
            self.record(error)
        self._flush()
        if self._dropped_bytes:
            self._append(Truncated(self._dropped_bytes))
        self.duration_ms = round((time.monotonic() - self._began_s) * 1000, 3) if self.started_at else 0.0
        self.status = status
        self._append(Finished(status, self.execution_count, self.duration_ms))
        self._file.close()
        asyncio.get_running_loop().call_soon(
            self._write_meta
        )  # after readers have the last line; `restore` needs it not

    def stop(self, reason: ExecutionStatus) -> None:
        """Ask for this execution to be ended, for the first reason given."""
        if self.stop_reason is None:
            self.stop_reason = reason
        self.stop_requested.set()

    def summary(self) -> dict[str, Any]:
        """Return the execution as the API lists it."""
        shown: dict[str, Any] = {"id": self.id, "status": self.status, "context": self.context}
        if self.execution_count is not None:
            shown["execution_count"] = self.execution_count
        if self.started_at is not None:
            shown["started_at"] = rfc3339(self.started_at)
        if self.duration_ms is not None:
            shown["duration_ms"] = self.duration_ms
        return shown

    async def read(self, after: int = 0) -> AsyncIterator[bytes]:
        """Yield whole lines of all outputs past number `after`, as they are and then as they come, to the last."""
        self.readers += 1
        try:
            with self._opened() as file:
                rest = b""
                position = 0
                while True:
                    changed = self._changed
                    done = self.finished
                    while position < self._size:
                        data = file.read(min(CHUNK_BYTES, self._size - position))
                        position += len(data)
                        lines, newline, rest = (rest + data).rpartition(b"\n")
                        if newline and (wanted := _past(lines + newline, after)):
                            yield wanted
                    if done:
                        return
                    await changed.wait()
        finally:
            self.readers -= 1

    def _opened(self) -> io.FileIO:
        """Open the outputs for reading; they are in the page cache or on the sandbox's own disk, so reads are short."""
        return io.FileIO(self.path, "rb")

    def _join(self, output: Stream) -> None:
        now = time.monotonic()
        pending = self._pending
        if pending is not None and (pending.name, pending.origin) != (output.name, output.origin):
            self._flush()
            pending = None
        if pending is not None:
            self._pending = Stream(output.name, pending.text + output.text, output.origin)
            if len(self._pending.text) > JOIN_BYTES:
                self._flush()
        elif now - self._last_stream_s > JOIN_WINDOW_S or len(output.text) > JOIN_BYTES:
            self._last_stream_s = now
            self._append(output)
        else:
            self._pending = output
            self._pending_timer = asyncio.get_running_loop().call_later(JOIN_WINDOW_S, self._flush)

    def _flush(self) -> None:
        if self._pending_timer is not None:
            self._pending_timer.cancel()
            self._pending_timer = None
        if self._pending is not None:
            pending, self._pending = self._pending, None
            self._last_stream_s = time.monotonic()
            self._append(Stream(pending.name, collapsed(pending.text), pending.origin))

    def _append(self, output: Output) -> None:
        line = _line(output, self._seq + 1)
        room_bytes = self.max_output_bytes - self._kept_bytes
        if len(line) > room_bytes and not isinstance(output, Finished | Truncated | Error):
            self._drop(output, len(line), room_bytes)
            return
        self._seq += 1
        self._kept_bytes += len(line)
        self._file.write(line)
        self._size += len(line)
        self._changed.set()
        self._changed = asyncio.Event()

    def _drop(self, output: Output, size_bytes: int, room_bytes: int) -> None:
        """Count an output that there is no room for. Of the first one, if it is text, the beginning is kept."""
        first = self._dropped_bytes == 0
        if not isinstance(output, Stream):
            self._dropped_bytes += size_bytes
        else:
            kept = _beginning(output, room_bytes, self._seq + 1) if first else ""
            if kept:
                self._append(Stream(output.name, kept, output.origin))
            self._dropped_bytes += len(output.text[len(kept) :].encode("utf-8", "replace"))
        if first:
            self._append(Truncated(self._dropped_bytes))

    def _write_meta(self) -> None:
        meta = {**self.summary(), "code": self.code}
        if self.variables.digest:
            meta["variables_digest"] = self.variables.digest
        temporary = self.folder / f"{self.id}.json.new"
        temporary.write_text(json.dumps(meta), encoding="utf-8", errors="surrogatepass")
        os.replace(temporary, self.folder / f"{self.id}.json")


def _line(output: Output, seq: int) -> bytes:
    """Return an output as one line, also for readers that end lines where Unicode does and JSON does not."""
    text = json.dumps(encode_output(output, seq), ensure_ascii=False)
    return (text if text.isascii() else text.translate(_LINE_ENDS)).encode("utf-8", "replace") + b"\n"


def _beginning(output: Stream, room_bytes: int, seq: int) -> str:
    """Return as much of a text's beginning as a line of `room_bytes` can hold."""
    kept = output.text[: max(0, room_bytes)]
    while kept and (size_bytes := len(_line(Stream(output.name, kept, output.origin), seq))) > room_bytes:
        kept = kept[: min(len(kept) - 1, len(kept) * room_bytes // size_bytes)]
    return kept


def restore(folder: Path, meta: dict[str, Any], max_output_bytes: int) -> Execution:
    """Return an execution of an earlier life of this sandbox; one that had not finished ends as "died"."""
    variables = Variables(digest=meta.get("variables_digest", ""))
    execution = Execution(meta["id"], meta["code"], meta["context"], 0.0, folder, max_output_bytes, variables)
    head, newline, _ = execution.path.read_bytes().rpartition(b"\n") if execution.path.exists() else (b"", b"", b"")
    lines = head + newline
    execution._size = len(lines)
    execution.execution_count = meta.get("execution_count")
    execution.started_at = datetime.fromisoformat(meta["started_at"]) if "started_at" in meta else None
    execution.duration_ms = meta.get("duration_ms")
    last = json.loads(lines[lines.rfind(b"\n", 0, -1) + 1 :] or b"{}")
    if last.get("type") == "finished":
        execution.status, execution.duration_ms = last["status"], last["duration_ms"]
        execution.execution_count = last.get("execution_count")
    elif meta["status"] in ("queued", "running"):
        execution._seq = lines.count(b"\n")
        with open(execution.path, "ab") as file:
            file.truncate(execution._size)
        execution._file = open(execution.path, "ab", buffering=0)
        reason = "the sandbox ended while this ran or waited; its variables are lost. It was not run again."
        execution.finish("died", Error("SandboxEnded", reason, [f"SandboxEnded: {reason}"]))
    else:
        execution.status = meta["status"]
    return execution


def _past(lines: bytes, after: int) -> bytes:
    """Return those of `lines` whose sequence number is over `after`."""
    if after <= 0:
        return lines
    first = _SEQ.match(lines)
    if first is not None and int(first[1]) > after:
        return lines
    return b"".join(
        line
        for line in lines.splitlines(keepends=True)
        if (found := _SEQ.match(line)) is not None and int(found[1]) > after
    )
