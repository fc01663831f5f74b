"""Folders as a tar stream and back, in pieces, with flat memory; for use in a thread.

User code owns the folders and may change them meanwhile, so a file's size is fixed where it begins: what grows is cut,
what shrinks is filled with zeros. Links are kept as links and never followed, in or out. Names are bytes to the file
system and come back as they were. Holes of sparse files stay holes. Sockets, pipes and devices are left out; anything
else that is there and cannot be read ends the stream, as does one that grows past its bound.
Source: POSIX pax interchange format; GNU tar manual, "Storing Sparse Files", PAX format version 1.0.
"""

import contextlib
import errno
import os
import stat
import tarfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import IO, Any

PIECE_BYTES = 1024**2
SENT_BYTES = 4 * 1024**2  # at once, as it is the handing over between threads that takes time on a busy machine
MAX_DEPTH = 200  # folders in folders; each is an open descriptor
MAX_EXTENTS = 10_000
ENTRY_HEADER_BYTES = 3 * tarfile.BLOCKSIZE  # of a usual entry: its own header, and the one with its time
END = bytes(2 * tarfile.BLOCKSIZE)
_OPEN = os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_O_PATH = getattr(os, "O_PATH", 0)


class BrokenArchive(Exception):
    """The stream is not what `Tree` and `member` write, or not all of it."""


class CannotBeKept(Exception):
    """Something that is there cannot be read, or is more than there may be."""


class Bound:
    """How much of a stream there may be.

    The usual headers of the first `max_entries` entries are not counted, as many small files would otherwise be more
    here than on the disk; longer ones, of long names, are.
    """

    def __init__(self, max_bytes: int, *, max_entries: int = 0) -> None:
        self._rest_bytes = max_bytes
        self._rest_entries = max_entries

    def entry(self) -> None:
        """Note that an entry begins."""
        if self._rest_entries:
            self._rest_entries -= 1
            self._rest_bytes += ENTRY_HEADER_BYTES

    def holds(self, size_bytes: int) -> bool:
        """Count bytes, and return whether there may be so many."""
        self._rest_bytes -= size_bytes
        return self._rest_bytes >= 0


def member(name: str, content: bytes) -> bytes:
    """Return a small file as it stands in the stream."""
    info = tarfile.TarInfo(name)
    info.size, info.mode = len(content), 0o600
    return _header(info) + content + _padding(len(content))


def open_file(name: str, fd: int) -> Iterator[bytes]:
    """Yield an open regular file under a name."""
    yield from _file(name, fd, os.fstat(fd))


def in_pieces(parts: Iterable[bytes]) -> Iterator[bytes]:
    """Yield the same bytes in pieces of a good size for sending."""
    held = bytearray()
    for part in parts:
        held += part
        if len(held) >= SENT_BYTES:
            yield bytes(held)
            held.clear()
    if held:
        yield bytes(held)


@dataclass(slots=True)
class Tree:
    """Writes all below a folder, under names that begin with `prefix`. `left_out` counts sockets, pipes and devices.

    Raises CannotBeKept where something cannot be read, or all is more than `bound`.
    """

    prefix: str
    folder: str
    bound: Bound | None = None
    left_out: int = 0
    _linked: dict[tuple[int, int], str] = field(default_factory=dict)

    def parts(self) -> Iterator[bytes]:
        """Yield headers and content, folders before what is in them."""
        fd = os.open(self.folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            for part in self._below(fd, self.prefix, 0):
                if self.bound is not None and not self.bound.holds(len(part)):
                    raise CannotBeKept("the files are more than the disk limit")
                yield part
        finally:
            os.close(fd)

    def _below(self, folder: int, prefix: str, depth: int) -> Iterator[bytes]:
        for name in sorted(os.listdir(folder)):
            try:
                yield from self._entry(folder, name, f"{prefix}/{name}", depth)
            except FileNotFoundError:
                pass  # gone meanwhile
            except OSError as exc:
                raise CannotBeKept(f"a file cannot be read ({os.strerror(exc.errno or 0)})") from exc

    def _entry(self, folder: int, name: str, path: str, depth: int) -> Iterator[bytes]:
        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
        if self.bound is not None:
            self.bound.entry()
        if stat.S_ISDIR(status.st_mode):
            if depth >= MAX_DEPTH:
                raise CannotBeKept(f"there are more than {MAX_DEPTH} folders in each other")
            with _opened(folder, name, os.O_RDONLY | os.O_DIRECTORY) as fd:
                yield _header(_info(path, tarfile.DIRTYPE, status))
                yield from self._below(fd, path, depth + 1)
        elif stat.S_ISLNK(status.st_mode):
            info = _info(path, tarfile.SYMTYPE, status)
            info.linkname = os.readlink(name, dir_fd=folder)
            yield _header(info)
        elif stat.S_ISREG(status.st_mode):
            first = self._linked.get((status.st_dev, status.st_ino))
            if first is not None:
                info = _info(path, tarfile.LNKTYPE, status)
                info.linkname = first
                yield _header(info)
                return
            with _opened(folder, name, os.O_RDONLY) as fd:
                now = os.fstat(fd)
                if not stat.S_ISREG(now.st_mode):
                    raise OSError(errno.EINVAL, "no regular file any more")
                if now.st_nlink > 1:
                    self._linked[now.st_dev, now.st_ino] = path
                yield from _file(path, fd, now, mode=status.st_mode)
        else:
            self.left_out += 1


@contextlib.contextmanager
def _opened(folder: int, name: str, flags: int) -> Iterator[int]:
    """Open something of ours, also when its own mode forbids that; the mode is put back at the end."""
    with contextlib.ExitStack() as stack:
        try:
            fd = os.open(name, flags | _OPEN, dir_fd=folder)
        except PermissionError:
            if not _O_PATH:
                raise
            place = os.open(name, _O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=folder)
            stack.callback(os.close, place)
            mode = stat.S_IMODE(os.fstat(place).st_mode)
            itself = f"/proc/self/fd/{place}"
            os.chmod(itself, mode | stat.S_IRWXU)
            stack.callback(os.chmod, itself, mode)
            fd = os.open(itself, flags | os.O_NONBLOCK | os.O_CLOEXEC)
        stack.callback(os.close, fd)
        status = os.fstat(fd)
        if stat.S_ISDIR(status.st_mode) and not status.st_mode & stat.S_IXUSR:  # it shows names, but opens none
            os.fchmod(fd, stat.S_IMODE(status.st_mode) | stat.S_IXUSR)
            stack.callback(os.fchmod, fd, stat.S_IMODE(status.st_mode))
        yield fd


def _info(name: str, kind: bytes, status: os.stat_result, mode: int | None = None) -> tarfile.TarInfo:
    info = tarfile.TarInfo(name)
    info.type, info.mode = kind, stat.S_IMODE(status.st_mode if mode is None else mode)
    info.mtime = max(0, int(status.st_mtime))
    info.pax_headers = {"mtime": f"{status.st_mtime_ns // 10**9}.{status.st_mtime_ns % 10**9:09}"}
    return info


def _header(info: tarfile.TarInfo) -> bytes:
    return info.tobuf(tarfile.PAX_FORMAT, "utf-8", "surrogateescape")


def _padding(size_bytes: int) -> bytes:
    return bytes(-size_bytes % tarfile.BLOCKSIZE)


def _file(name: str, fd: int, status: os.stat_result, mode: int | None = None) -> Iterator[bytes]:
    info = _info(name, tarfile.REGTYPE, status, mode)
    extents = _extents(fd, status)
    if extents is None:
        info.size = status.st_size
        yield _header(info)
        yield from _content(fd, 0, status.st_size)
        yield _padding(status.st_size)
        return
    numbers = [len(extents), *(number for extent in extents for number in extent)]
    table = "".join(f"{number}\n" for number in numbers).encode()
    table += _padding(len(table))
    data_bytes = sum(size for _, size in extents)
    info.size = len(table) + data_bytes
    sparse = {"GNU.sparse.major": "1", "GNU.sparse.minor": "0", "GNU.sparse.name": name}
    info.pax_headers = {**info.pax_headers, **sparse, "GNU.sparse.realsize": str(status.st_size)}
    yield _header(info)
    yield table
    for start, size in extents:
        yield from _content(fd, start, size)
    yield _padding(data_bytes)


def _extents(fd: int, status: os.stat_result) -> list[tuple[int, int]] | None:
    """Return where a sparse file has data, (start, size) each, ended by (its size, 0); None for any other file."""
    if status.st_blocks * 512 >= status.st_size:
        return None
    extents: list[tuple[int, int]] = []
    end = 0
    try:
        while end < status.st_size and len(extents) < MAX_EXTENTS:
            start = os.lseek(fd, end, os.SEEK_DATA)
            if start >= status.st_size:
                break
            end = min(os.lseek(fd, start, os.SEEK_HOLE), status.st_size)
            extents.append((start, end - start))
        if len(extents) == MAX_EXTENTS:
            return None
    except OSError as exc:
        if exc.errno != errno.ENXIO:  # which says that there is no data past `end`
            return None
    return [*extents, (status.st_size, 0)]


def _content(fd: int, start: int, size_bytes: int) -> Iterator[bytes]:
    """Yield exactly so many bytes of a file, zeros in place of what is gone."""
    end = start + size_bytes
    while start < end:
        wanted = min(PIECE_BYTES, end - start)
        piece = os.pread(fd, wanted, start) or bytes(wanted)
        start += len(piece)
        yield piece


class Archive:
    """Reads a stream member by member."""

    def __init__(self, stream: Any) -> None:
        try:
            self._tar: Any = tarfile.open(
                fileobj=stream, mode="r|", bufsize=PIECE_BYTES // 4, encoding="utf-8", errors="surrogateescape"
            )
        except tarfile.TarError as exc:
            raise BrokenArchive(f"it is no archive: {exc}") from exc

    def members(self) -> Iterator[tarfile.TarInfo]:
        """Yield the members in order; the content of one can be read until the next."""
        try:
            while (found := self._tar.next()) is not None:
                self._tar.members = []  # it would keep them all
                yield found
        except (tarfile.TarError, EOFError, ValueError) as exc:
            raise BrokenArchive(str(exc)) from exc

    @property
    def position(self) -> int:
        """How many bytes of the stream there are up to the end of the latest member's content."""
        return int(self._tar.offset)

    def content(self, found: tarfile.TarInfo, *, max_bytes: int) -> bytes:
        """Return the content of a small file."""
        if not found.isreg() or found.size > max_bytes:
            raise BrokenArchive(f"{found.name!r} is no small file")
        file: IO[bytes] = self._tar.extractfile(found)
        return file.read()

    def copy(self, found: tarfile.TarInfo, fd: int) -> None:
        """Write a file's content to a new file, leaving its holes."""
        buffered = self._tar.extractfile(found)
        file = buffered.raw  # the buffered one cannot seek in a stream, not even forwards
        sparse: Any = found.sparse
        extents = [(0, found.size)] if sparse is None else list(sparse)
        if sum(size_bytes for _, size_bytes in extents) > self.position - found.offset_data:
            raise BrokenArchive(f"{found.name!r} has less data than it says")
        for start, size_bytes in extents:
            file.seek(start)
            os.lseek(fd, start, os.SEEK_SET)
            while size_bytes:
                piece = file.read(min(PIECE_BYTES, size_bytes))
                if not piece:
                    raise BrokenArchive("it is cut")
                size_bytes -= len(piece)
                rest = memoryview(piece)
                while rest:
                    rest = rest[os.write(fd, rest) :]
        os.ftruncate(fd, found.size)


class Destination:
    """A folder into which members are put; nothing gets out of it. Use it as a context manager.

    With `replace` files take the place of those that are there.
    """

    def __init__(self, folder: str, *, replace: bool = False) -> None:
        self._root = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._replace = replace
        self._current: tuple[list[str], int] = ([], os.dup(self._root))
        self._folders: list[tuple[list[str], tarfile.TarInfo]] = []

    def __enter__(self) -> "Destination":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._current[1])
        os.close(self._root)

    def put(self, archive: Archive, found: tarfile.TarInfo, path: str, *, prefix: str) -> None:
        """Make a member here, at `path`; the targets of hard links begin with `prefix`. Raises BrokenArchive."""
        *above, name = _checked(path)
        try:
            folder = self._folder(above)
            if self._replace and not found.isdir():
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(name, dir_fd=folder)
            if found.isdir():
                with contextlib.suppress(FileExistsError):
                    os.mkdir(name, 0o700, dir_fd=folder)
                self._folders.append(([*above, name], found))
            elif found.issym():
                os.symlink(found.linkname, name, dir_fd=folder)
            elif found.islnk():
                self._link(found.linkname.removeprefix(f"{prefix}/"), folder, name)
            elif found.isreg():
                fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _OPEN, 0o600, dir_fd=folder)
                try:
                    archive.copy(found, fd)
                    os.fchmod(fd, found.mode & 0o777)
                    os.utime(fd, ns=_times_ns(found))
                finally:
                    os.close(fd)
            else:
                raise BrokenArchive(f"{path!r} is of no kind that is kept")
        except (OSError, ValueError) as exc:
            if isinstance(exc, OSError) and exc.errno in (errno.ENOSPC, errno.EDQUOT):
                raise
            raise BrokenArchive(f"{path!r} cannot be made: {exc}") from exc

    def finish(self) -> None:
        """Give the folders their modes and times, now that all is in them."""
        for path, found in reversed(self._folders):
            *above, name = path
            try:
                folder = self._folder(above)
                with _opened(folder, name, os.O_RDONLY | os.O_DIRECTORY) as fd:
                    os.utime(fd, ns=_times_ns(found))
                    os.fchmod(fd, found.mode & 0o777)
            except (OSError, ValueError) as exc:
                raise BrokenArchive(f"{'/'.join(path)!r} cannot be made: {exc}") from exc

    def _link(self, target: str, folder: int, name: str) -> None:
        *above, source = _checked(target)
        with contextlib.ExitStack() as stack:
            here = os.dup(folder)
            stack.callback(os.close, here)
            there = self._folder(above)
            os.link(source, name, src_dir_fd=there, dst_dir_fd=here, follow_symlinks=False)

    def _folder(self, parts: list[str]) -> int:
        """Return a descriptor of a folder here, reached without following a link; it is good until the next call."""
        if parts == self._current[0]:
            return self._current[1]
        current = os.dup(self._root)
        for part in parts:
            try:
                following = os.open(part, os.O_RDONLY | os.O_DIRECTORY | _OPEN, dir_fd=current)
            finally:
                os.close(current)
            current = following
        os.close(self._current[1])
        self._current = (parts, current)
        return current


def _times_ns(found: tarfile.TarInfo) -> tuple[int, int]:
    seconds, _, fraction = found.pax_headers.get("mtime", str(int(found.mtime))).partition(".")
    modified_ns = int(seconds) * 10**9 + int(f"{fraction:0<9}"[:9])
    return modified_ns, modified_ns


def _checked(path: str) -> list[str]:
    parts = path.split("/")
    if any(part in ("", ".", "..") or "\0" in part for part in parts):
        raise BrokenArchive(f"the path {path!r} leads out of its folder")
    return parts
