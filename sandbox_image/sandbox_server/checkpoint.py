"""A checkpoint: all that a session has, as one tar stream from which another sandbox becomes this one.

manifest.json                what follows, and what is lost already; first
files/ packages/ journal/    the folders of these names
namespaces/CONTEXT/objects, .../buffers   a context's variables, opaque to the server (`namespace`)
end.json                     that nothing is missing, and how many sockets, pipes and devices were left out; last
"""

import asyncio
import contextlib
import json
import logging
import os
import threading
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from caesarion.clock import rfc3339
from caesarion.errors import CaesarionError, Conflict, InvalidRequest, TooLarge
from caesarion.ids import checked_id
from sandbox_server.archive import (
    END,
    Archive,
    Bound,
    BrokenArchive,
    CannotBeKept,
    Destination,
    Tree,
    in_pieces,
    member,
    open_file,
)
from sandbox_server.config import Limits
from sandbox_server.disk import ENTRY_BYTES
from sandbox_server.saved_namespace import Loss, SavedNamespace, shared_paths

if TYPE_CHECKING:
    from sandbox_server.contexts import Context
    from sandbox_server.sandbox import Sandbox

logger = logging.getLogger(__name__)

FORMAT = 1
MAX_MANIFEST_BYTES = 32 * 1024**2
READ_AHEAD_BYTES = 4 * 1024**2
NAMESPACE_FILES = ("objects", "buffers")
USER_FOLDERS = ("files", "packages")
SPARE_BYTES = 16 * 1024**2


class Checkpoint:
    """A checkpoint that is being read. Make it with `begin`, and use it as a context manager."""

    def __init__(self, sandbox: "Sandbox") -> None:
        self._sandbox = sandbox
        self._seal = sandbox.seal.number
        self._namespaces: dict[str, SavedNamespace] = {}
        self._parts: Iterator[bytes] = iter(())
        self._next: asyncio.Future[bytes] | None = None

    @classmethod
    async def begin(cls, sandbox: "Sandbox") -> "Checkpoint":
        """Return it once the variables are on the disk. Raises Conflict unless the sandbox is sealed."""
        if not sandbox.seal.sealed:
            raise Conflict("The sandbox is not sealed. Seal it with POST /v1/seal before.", code="not_sealed")
        if sandbox.checkpointing:
            raise Conflict("A checkpoint of this sandbox is being made already.")
        sandbox.checkpointing = True
        made = cls(sandbox)
        try:
            await made._save_namespaces()
            made._check_sealed()
        except BaseException:
            made._close()
            raise
        return made

    def __enter__(self) -> "Checkpoint":
        return self

    def __exit__(self, *_: object) -> None:
        if self._next is None or self._next.done():
            self._close()
        else:  # a thread still reads
            self._next.add_done_callback(lambda _: self._close())

    async def pieces(self) -> AsyncIterator[bytes]:
        """Yield the stream, made in a thread piece by piece, as long as the sandbox stays sealed."""
        pieces = in_pieces(self._parts)
        while True:
            self._next = asyncio.ensure_future(asyncio.to_thread(next, pieces, b""))
            try:
                piece = await asyncio.shield(self._next)
            except (CannotBeKept, OSError) as exc:
                logger.warning("a checkpoint breaks off", extra={"why": str(exc)})
                raise
            if not piece:
                return
            self._check_sealed()
            yield piece

    def _check_sealed(self) -> None:
        if not self._sandbox.seal.sealed or self._sandbox.seal.number != self._seal:
            raise Conflict("The seal was opened while the checkpoint was written.", code="not_sealed")

    async def _save_namespaces(self) -> None:
        sandbox = self._sandbox
        contexts = sandbox.all_contexts()
        with sandbox.room_for_namespaces():
            saving = [asyncio.ensure_future(self._save_namespace(context)) for context in contexts]
            await asyncio.gather(*saving)
        kept = [{**context.kept(), "lost": self._namespaces[context.name].lost} for context in contexts]
        manifest = {"format": FORMAT, "at": rfc3339(datetime.now(UTC)), "env": sandbox.env, "contexts": kept}
        config = sandbox.config
        folders = {"files": config.files_dir, "packages": config.packages_dir, "journal": config.journal_dir}
        self._parts = _parts(manifest, folders, self._namespaces, config.limits)

    async def _save_namespace(self, context: "Context") -> None:
        self._namespaces[context.name] = await context.save(self._sandbox.seal.opened)

    def _close(self) -> None:
        for saved in self._namespaces.values():
            saved.close()
        self._sandbox.checkpointing = False


def _bound_of_files(limits: Limits) -> Bound:
    """Return what files and packages may be together: what the disk limit allows, and a little more."""
    return Bound(_with_spare(limits.disk_bytes), max_entries=limits.disk_bytes // ENTRY_BYTES)


def _with_spare(size_bytes: int) -> int:
    return size_bytes + size_bytes // 20 + SPARE_BYTES


def _parts(
    manifest: dict[str, Any], folders: dict[str, str], namespaces: dict[str, SavedNamespace], limits: Limits
) -> Iterator[bytes]:
    yield member("manifest.json", json.dumps(manifest).encode())
    left_out = 0
    bound = _bound_of_files(limits)
    for name, folder in folders.items():
        tree = Tree(name, folder, bound if name in USER_FOLDERS else None)
        yield from tree.parts()
        left_out += tree.left_out
    for context, saved in namespaces.items():
        variables = Bound(_with_spare(limits.memory_bytes))
        for kind, fd in zip(NAMESPACE_FILES, saved.fds, strict=False):
            for part in open_file(f"namespaces/{context}/{kind}", fd):
                if not variables.holds(len(part)):
                    raise CannotBeKept("variables are more than was written of them")
                yield part
    yield member("end.json", json.dumps({"left_out": left_out}).encode())
    yield END


@dataclass(slots=True)
class _Extracted:
    """What came out of a checkpoint besides the folders' content."""

    manifest: dict[str, Any] = field(default_factory=dict)
    paths: dict[str, dict[str, str]] = field(default_factory=dict)


async def restore(sandbox: "Sandbox", body: AsyncIterator[bytes]) -> list[Loss]:
    """Make an unclaimed sandbox what a checkpoint tells; return what was lost, by context.

    Raises InvalidRequest for one that is broken or cut; then this sandbox is of no use any more.
    """
    if sandbox.claimed or sandbox.restored is not None or sandbox.spoiled:
        raise Conflict("The sandbox is in use: a checkpoint is restored into a new one only.")
    sandbox.spoiled = True
    sandbox.note_care()
    with contextlib.ExitStack() as stack, sandbox.room_for_namespaces():
        stream = _Incoming(body)
        extracting = asyncio.ensure_future(asyncio.to_thread(_extract, sandbox, stream, stack))
        try:
            extracted = await asyncio.shield(extracting)
            lost = await sandbox.become(extracted.manifest, extracted.paths)
        except (BrokenArchive, RecursionError, KeyError, TypeError, ValueError) as exc:
            raise InvalidRequest(f"The checkpoint is broken: {exc}.", code="broken_checkpoint") from exc
        except OSError as exc:
            raise TooLarge("There is no room for the checkpoint on the disk.", code="disk_full") from exc
        finally:
            await stream.leave()
            with contextlib.suppress(Exception):
                await asyncio.shield(extracting)
    sandbox.spoiled = False
    return lost


def _extract(sandbox: "Sandbox", stream: "_Incoming", stack: contextlib.ExitStack) -> _Extracted:
    config = sandbox.config
    extracted = _Extracted()
    archive = Archive(stream)
    folders = {
        "files": stack.enter_context(Destination(config.files_dir)),
        "packages": stack.enter_context(Destination(config.packages_dir)),
        "journal": stack.enter_context(Destination(config.journal_dir, replace=True)),
    }
    ended = False
    bound = _bound_of_files(config.limits)
    variables: dict[str, Bound] = {}
    position = 0
    for found in archive.members():
        top, _, path = found.name.partition("/")
        size_bytes, position = archive.position - position, archive.position
        if ended:
            raise BrokenArchive("there is more after its end")
        if found.name == "end.json":
            ended = True
        elif found.name == "manifest.json":
            extracted.manifest = _manifest(archive.content(found, max_bytes=MAX_MANIFEST_BYTES))
        elif not extracted.manifest:
            raise BrokenArchive("it does not begin with its manifest")
        elif top == "namespaces":
            context, _, kind = path.partition("/")
            if context not in extracted.paths:
                extracted.paths[context] = stack.enter_context(shared_paths(config.ipc_dir))
                variables[context] = Bound(_with_spare(config.limits.memory_bytes))
            if not variables[context].holds(size_bytes):
                raise BrokenArchive("its variables are more than there may be")
            _write_new(archive, found, extracted.paths[context][f"{kind}_path"])
        else:
            if top in USER_FOLDERS:
                bound.entry()
                if not bound.holds(size_bytes):
                    raise BrokenArchive("its files are more than the disk limit")
            folders[top].put(archive, found, path, prefix=top)
    if not ended:
        raise BrokenArchive("it is cut")
    for folder in folders.values():
        folder.finish()
    return extracted


def _write_new(archive: Archive, found: Any, path: str) -> None:
    fd = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        archive.copy(found, fd)
    finally:
        os.close(fd)


def _manifest(content: bytes) -> dict[str, Any]:
    """Return a manifest that has the shape of ours. Raises what a wrong shape raises, or BrokenArchive."""
    manifest = json.loads(content)
    if manifest["format"] != FORMAT:
        raise BrokenArchive(f"its format is {manifest['format']!r}, and {FORMAT} is known")
    try:
        for context in manifest["contexts"]:
            checked_id(context["name"], what="a context's name")
    except CaesarionError as exc:
        raise BrokenArchive(str(exc)) from exc
    return dict(manifest)


class _Incoming:
    """A body that comes in on the event loop, as a file for a thread. A little of it is read ahead, and no more.

    Where a machine is busy it is the handing over that takes time, so what is there is handed over at once.
    """

    def __init__(self, body: AsyncIterator[bytes]) -> None:
        self._body = body
        self._loop = asyncio.get_running_loop()
        self._arrived = threading.Condition()
        self._pieces: list[bytes] = []
        self._ahead_bytes = 0
        self._ended = self._broke = False
        self._taken = asyncio.Event()
        self._rest = memoryview(b"")
        self._feeding = asyncio.create_task(self._feed())

    def read(self, size_bytes: int) -> bytes:
        """Return so many bytes, less at the end only. Raises BrokenArchive when the body broke off."""
        parts: list[bytes | memoryview] = []
        while size_bytes > 0:
            if not self._rest:
                self._rest = memoryview(self._take())
                if not self._rest:
                    break
            part, self._rest = self._rest[:size_bytes], self._rest[size_bytes:]
            parts.append(part)
            size_bytes -= len(part)
        return b"".join(parts)

    async def leave(self) -> None:
        """Stop reading; the thread gets what is here, and then the end."""
        self._feeding.cancel()
        await asyncio.gather(self._feeding, return_exceptions=True)

    def _take(self) -> bytes:
        with self._arrived:
            while not self._pieces and not self._ended:
                self._arrived.wait()
            if self._broke:
                raise BrokenArchive("it is cut")
            pieces, self._pieces, self._ahead_bytes = self._pieces, [], 0
        self._loop.call_soon_threadsafe(self._taken.set)
        return b"".join(pieces)

    async def _feed(self) -> None:
        try:
            async for piece in self._body:
                self._taken.clear()
                with self._arrived:
                    self._pieces.append(piece)
                    self._ahead_bytes += len(piece)
                    full = self._ahead_bytes > READ_AHEAD_BYTES
                    self._arrived.notify()
                if full:
                    await self._taken.wait()
        except BaseException:
            self._broke = True
            raise
        finally:
            with self._arrived:
                self._ended = True
                self._arrived.notify()
