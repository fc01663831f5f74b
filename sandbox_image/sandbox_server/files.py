"""The session's files: names that stay inside the folder, types that are taken, uploads that land whole or not at all.

User code owns the folder and may put symbolic links, pipes or devices there at any moment. So every path is walked one
component at a time without following links, and only regular files are opened.
"""

import asyncio
import contextlib
import errno
import hashlib
import json
import mimetypes
import os
import stat
import uuid
from codecs import BOM_UTF8
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import formatdate
from typing import Any

from caesarion.clock import rfc3339
from caesarion.errors import CaesarionError, InvalidRequest, NotFound, TooLarge, UnsupportedType
from caesarion.file_names import PARTIAL_PREFIX, checked_path
from sandbox_server.disk import DiskUse

MAX_LISTED = 10_000
SNIFF_BYTES = 8192
PARSED_JSON_BYTES = 8 * 1024**2
JSON_BEGINNINGS = [bytes([char]) for char in b'{["0123456789-tfn']
_BINARY_MAGIC = (
    b"\x89PNG",
    b"\xff\xd8\xff",
    b"%PDF",
    b"PK\x03\x04",
    b"\x1f\x8b",
    b"\x7fELF",
    b"7z\xbc\xaf",
)
_MEDIA_TYPES = {
    ".csv": "text/csv",
    ".txt": "text/plain",
    ".json": "application/json",
    ".py": "text/x-python",
    ".ipynb": "application/x-ipynb+json",
    ".parquet": "application/vnd.apache.parquet",
}


@dataclass(frozen=True, slots=True)
class FileEntry:
    """A regular file of the session; `path` is relative to the folder."""

    path: str
    size_bytes: int
    modified_ns: int

    @property
    def media_type(self) -> str:
        suffix = os.path.splitext(self.path)[1].lower()
        return _MEDIA_TYPES.get(suffix) or mimetypes.guess_type(self.path)[0] or "application/octet-stream"

    @property
    def etag(self) -> str:
        return (
            '"' + hashlib.sha256(f"{self.path}\0{self.size_bytes}\0{self.modified_ns}".encode()).hexdigest()[:24] + '"'
        )

    @property
    def last_modified(self) -> str:
        return formatdate(self.modified_ns / 1e9, usegmt=True)

    def describe(self) -> dict[str, Any]:
        """Return the file as the API lists it."""
        modified = datetime.fromtimestamp(self.modified_ns / 1e9, UTC)
        return {
            "path": self.path,
            "size_bytes": self.size_bytes,
            "media_type": self.media_type,
            "modified_at": rfc3339(modified),
        }


class Files:
    """The folder `/uploaded_files` as the API shows it."""

    def __init__(
        self, folder: str, disk: DiskUse, *, types: tuple[str, ...], max_upload_bytes: int, disk_bytes: int
    ) -> None:
        self._folder = folder
        self._disk = disk
        self._types = types
        self._max_upload_bytes = max_upload_bytes
        self._disk_bytes = disk_bytes

    def remove_partial(self) -> None:
        """Remove what uploads left that were under way when an earlier life of this sandbox ended."""
        for root, _, names in os.walk(self._folder):
            for name in names:
                if name.startswith(PARTIAL_PREFIX):
                    with contextlib.suppress(OSError):
                        os.unlink(os.path.join(root, name))

    def entries(self) -> list[FileEntry]:
        """Return the regular files, by path; at most 10,000. Hidden folders such as `.cache` are left out."""
        return sorted(self._walk(), key=lambda entry: entry.path)[:MAX_LISTED]

    def open(self, path: str) -> tuple[int, FileEntry]:
        """Return a file descriptor (the caller closes it) and the entry. Raises NotFound."""
        parts = checked_path(path).split("/")
        with self._directory(parts[:-1], make=False) as directory:
            try:
                fd = os.open(parts[-1], os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=directory)
            except OSError:
                raise _missing(path) from None
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            os.close(fd)
            raise _missing(path)
        return fd, FileEntry(path, status.st_size, status.st_mtime_ns)

    def delete(self, path: str) -> None:
        """Remove a file. Raises NotFound."""
        parts = checked_path(path).split("/")
        with self._directory(parts[:-1], make=False) as directory:
            try:
                os.unlink(parts[-1], dir_fd=directory)
            except OSError:
                raise _missing(path) from None

    async def put(self, path: str, body: AsyncIterator[bytes], *, expected_bytes: int | None) -> FileEntry:
        """Store a body as it streams in; the file appears, or replaces its namesake, only when all of it is there.

        Raises InvalidRequest, UnsupportedType or TooLarge, and leaves nothing behind then or when the body breaks off.
        """
        parts = checked_path(path).split("/")
        self._check_type(parts[-1])
        used_bytes = await self._disk.measure()
        self._check_size(expected_bytes or 0, used_bytes=used_bytes)
        with self._directory(parts[:-1], make=True) as directory:
            temporary = f"{PARTIAL_PREFIX}{uuid.uuid4().hex}"
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            try:
                fd = os.open(temporary, flags, 0o644, dir_fd=directory)
            except OSError as exc:
                raise _unwritable(path, exc) from exc
            try:
                await self._receive(fd, parts[-1], body, expected_bytes, used_bytes)
                os.rename(temporary, parts[-1], src_dir_fd=directory, dst_dir_fd=directory)
                status = os.fstat(fd)
            except FileNotFoundError:
                raise InvalidRequest(
                    f"The session's code removed {path!r} while it came in; nothing was stored.",
                    code="upload_incomplete",
                ) from None
            except OSError as exc:
                raise _unwritable(path, exc) from exc
            finally:
                os.close(fd)
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(temporary, dir_fd=directory)
        return FileEntry(path, status.st_size, status.st_mtime_ns)

    async def _receive(
        self, fd: int, name: str, body: AsyncIterator[bytes], expected_bytes: int | None, used_bytes: int
    ) -> None:
        size = 0
        async for chunk in body:
            size += len(chunk)
            self._check_size(size, used_bytes=used_bytes)
            _write(fd, chunk)
        if size == 0:
            raise InvalidRequest(f"The file {name!r} is empty (0 bytes). Send its content.", code="empty_file")
        if expected_bytes is not None and size != expected_bytes:
            raise InvalidRequest(
                f"The upload broke off after {size} of {expected_bytes} bytes; nothing was stored.",
                code="upload_incomplete",
            )
        await asyncio.to_thread(self._check_content, name, fd, size)

    def _check_type(self, name: str) -> None:
        suffix = os.path.splitext(name)[1].lower().removeprefix(".")
        if suffix not in self._types:
            taken = ", ".join(f".{kind}" for kind in self._types)
            raise UnsupportedType(
                f"Files of type {'.' + suffix if suffix else 'without extension'!r} are not taken; taken are {taken}."
            )

    def _check_size(self, size: int, *, used_bytes: int) -> None:
        if size > self._max_upload_bytes:
            raise TooLarge(
                f"The file is larger than {self._max_upload_bytes} bytes, the most one upload may have.",
                code="file_too_large",
            )
        if used_bytes + size > self._disk_bytes:
            raise TooLarge(
                f"The session's files would take more than {self._disk_bytes} bytes. Delete some first.",
                code="disk_full",
            )

    def _check_content(self, name: str, fd: int, size: int) -> None:
        """Text types must hold text: no NUL, and nothing that begins like a picture, an archive or a program.

        JSON up to `PARSED_JSON_BYTES` is read whole; of more only the beginning is looked at, since the parsed form of
        100 MB would take a gigabyte.
        """
        suffix = os.path.splitext(name)[1].lower().removeprefix(".")
        if suffix not in ("csv", "txt", "json", "py"):
            return
        head = os.pread(fd, SNIFF_BYTES, 0)
        wide = head.startswith((b"\xff\xfe", b"\xfe\xff"))
        if head.startswith(_BINARY_MAGIC) or (b"\0" in head and not wide):
            raise UnsupportedType(
                f"{name!r} is named .{suffix} but its content is not text. Send the file under its real type."
            )
        if suffix == "json" and not _is_json(fd, size):
            raise UnsupportedType(f"{name!r} is named .json but its content is not JSON.")

    @contextlib.contextmanager
    def _directory(self, parts: list[str], *, make: bool) -> Iterator[int]:
        """Yield a descriptor of the folder that `parts` name, reached without following a link."""
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            current = os.open(self._folder, flags)
        except OSError as exc:
            raise _unwritable(self._folder, exc) from exc
        try:
            for part in parts:
                try:
                    if make:
                        with contextlib.suppress(FileExistsError):
                            os.mkdir(part, 0o755, dir_fd=current)
                    following = os.open(part, flags, dir_fd=current)
                except OSError as exc:
                    raise _unwritable("/".join(parts), exc) if make else _missing("/".join(parts)) from None
                os.close(current)
                current = following
            yield current
        finally:
            os.close(current)

    def _walk(self) -> Iterator[FileEntry]:
        for root, folders, names in os.walk(self._folder):
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__pycache__")
            for name in names:
                full = os.path.join(root, name)
                with contextlib.suppress(OSError, InvalidRequest):
                    status = os.lstat(full)
                    if stat.S_ISREG(status.st_mode):
                        relative = checked_path(os.path.relpath(full, self._folder))
                        yield FileEntry(relative, status.st_size, status.st_mtime_ns)


def _is_json(fd: int, size: int) -> bool:
    """Whether a file is JSON; of a long one, whether its beginning could be."""
    if size > PARSED_JSON_BYTES:
        return os.pread(fd, SNIFF_BYTES, 0).removeprefix(BOM_UTF8).lstrip()[:1] in JSON_BEGINNINGS
    try:
        json.loads(os.pread(fd, size, 0))
    except (ValueError, RecursionError):
        return False
    return True


def _write(fd: int, content: bytes) -> None:
    """Write all of it: a disk that gets full takes a part at first."""
    rest = memoryview(content)
    while rest:
        rest = rest[os.write(fd, rest) :]


def _unwritable(path: str, exc: OSError) -> CaesarionError:
    if exc.errno in (errno.ENOSPC, errno.EDQUOT):
        return TooLarge("The disk under the session's files is full. Delete some first.", code="disk_full")
    return InvalidRequest(
        f"{path[:120]!r} cannot be written ({os.strerror(exc.errno or 0)}): it, or a folder on its way, is something "
        "else or locked by the session's code.",
        code="invalid_path",
    )


def _missing(path: str) -> NotFound:
    return NotFound(f"There is no file {path[:120]!r} in this session.", code="file_not_found")
