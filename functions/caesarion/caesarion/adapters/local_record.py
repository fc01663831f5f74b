"""What is written on disk about local sandboxes, so that any process, now or after a crash, finds them again.

    CAESARION_HOME/sandboxes/NAME/   a sandbox: record.json, token, and the folders that are bound into it
    CAESARION_HOME/pool/NAME         a ready sandbox that nobody has
    CAESARION_HOME/sessions/DIGEST   the session of this digest has the sandbox named inside, or is in the store
    CAESARION_HOME/sessions/DIGEST.waking   the sandbox in which its checkpoint is being restored
    CAESARION_HOME/locks/NAME        locked by who changes what belongs to a session or sandbox of this name

A claim is one rename from `pool` to `sessions`: of two processes that want the same sandbox one wins, and there is no
moment in which a sandbox belongs to nobody or to two.
"""

import contextlib
import fcntl
import json
import os
import secrets
import shutil
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from caesarion.errors import ConfigError

FOLDERS = ("run", "files", "packages", "journal", "ipc")
OWN = ("home",)
MAX_SOCKET_PATH_BYTES = 107
WAKING = ".waking"
UNFINISHED = ".new"
UNFINISHED_AGE_S = 3600.0


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told from a later one with the same number by its start time in clock ticks since boot."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        return start_ticks(self.pid) == self.start_ticks


NOBODY = Process(0, 0)


@dataclass(frozen=True, slots=True)
class Record:
    """What a sandbox was started as, its processes that are its life, and the process that started it.

    `begun` are its processes so far while it is being started: whoever removes it then has to end them.
    """

    name: str
    uid: int | None
    template: str = ""
    starter: Process | None = None
    processes: tuple[Process, ...] = ()
    begun: tuple[Process, ...] = ()

    @property
    def alive(self) -> bool:
        return bool(self.processes) and all(process.alive for process in self.processes)

    @property
    def starting(self) -> bool:
        return not self.processes and self.starter is not None and self.starter.alive


@dataclass(frozen=True, slots=True)
class Claim:
    """Which session has a sandbox, and what it asked for. Without a session, a sandbox on its way to one.

    `stored` says that its checkpoint is all there is of it; then `name` is of the sandbox that it had. `checkpoint`
    says that the store may have one, and `suspending` which process is making it; it is `NOBODY` when that failed and
    the sandbox may be sealed still.
    """

    name: str
    principal: str = ""
    session: str = ""
    created_at: str = ""
    idle_timeout_s: float = 0.0
    env: dict[str, str] = field(default_factory=dict, repr=False)
    suspended_at: str = ""
    stored: bool = False
    checkpoint: bool = False
    suspending: Process | None = None

    @property
    def sandbox(self) -> str | None:
        """The sandbox that it has."""
        return None if self.stored else self.name


class Home:
    """The directory CAESARION_HOME. All methods block shortly; call them off the event loop."""

    def __init__(self, path: str) -> None:
        self.path = Path(path).absolute()
        longest = self.folder("sb-" + "0" * 12) / "run" / "control.sock"
        if len(os.fsencode(longest)) > MAX_SOCKET_PATH_BYTES:
            message = (
                f"CAESARION_HOME is too long for a socket's path ({longest}); choose one of at most 60 characters."
            )
            raise ConfigError(message)
        for name in ("", "sandboxes", "pool", "sessions", "locks"):
            (self.path / name).mkdir(mode=0o700, parents=True, exist_ok=True)
        self._known: dict[str, tuple[tuple[int, int], Claim]] = {}

    def folder(self, name: str) -> Path:
        """Return the directory of a sandbox."""
        return self.path / "sandboxes" / name

    def new_name(self) -> str:
        """Return a name that no sandbox has or had."""
        return f"sb-{secrets.token_hex(6)}"

    def create(self, name: str, template: str, *, uid_range: tuple[int, int] | None) -> Record:
        """Make the directory of a new sandbox, owned by a user of its own when we are root."""
        with self._locked("create"):
            uid = self._free_uid(uid_range) if uid_range else None
            folder = self.folder(name)
            folder.mkdir(mode=0o711)
            record = Record(name, uid, template, starter=this_process())
            self.write_record(record)
        for child in FOLDERS + OWN:
            (folder / child).mkdir(mode=0o700)
            if uid is not None:
                os.chown(folder / child, uid, uid)
        _write(folder / "token", secrets.token_urlsafe(32))
        return record

    def record(self, name: str) -> Record | None:
        """Return what is known of a sandbox."""
        found = _read(self.folder(name) / "record.json")
        if found is None:
            return None
        processes = tuple(Process(**process) for process in found["processes"])
        begun = tuple(Process(**process) for process in found.get("begun", ()))
        starter = Process(**found["starter"]) if found["starter"] else None
        return Record(found["name"], found["uid"], found["template"], starter, processes, begun)

    def write_record(self, record: Record) -> None:
        """Write a sandbox's record, whole or not at all."""
        _write(self.folder(record.name) / "record.json", json.dumps(asdict(record)))

    def token(self, name: str) -> str:
        """Return a sandbox's bearer token."""
        return (self.folder(name) / "token").read_text(encoding="ascii")

    def names(self) -> list[str]:
        """Return the names of all sandboxes there are."""
        return sorted(path.name for path in (self.path / "sandboxes").iterdir())

    def pooled(self) -> list[str]:
        """Return the names of sandboxes that wait for a session, longest first."""
        found = [path for path in (self.path / "pool").iterdir() if not path.name.endswith(UNFINISHED)]
        return [path.name for path in sorted(found, key=lambda path: _mtime(path))]

    def offered(self, template: str) -> list[str]:
        """Return the names of those that wait and were started as `template`, longest first."""
        records = [(name, self.record(name)) for name in self.pooled()]
        return [name for name, record in records if record is not None and record.template == template]

    def offer(self, name: str) -> None:
        """Put a ready sandbox into the pool."""
        _write(self.path / "pool" / name, json.dumps({"name": name}))

    def withdraw(self, name: str) -> bool:
        """Take a sandbox out of the pool for nobody; return whether it was there, as a session may have taken it."""
        with contextlib.suppress(FileNotFoundError):
            (self.path / "pool" / name).unlink()
            return True
        return False

    def take(self, slot: str, template: str) -> str | None:
        """Give a living sandbox of the pool to who has this slot and return its name, or None when there is none."""
        for name in self.offered(template):
            record = self.record(name)
            if record is None or not record.alive:
                continue
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path / "pool" / name, self._session(slot))
                return name
        return None

    def claim(self, slot: str) -> Claim | None:
        """Return what is written in a slot: the digest of a session, perhaps with `WAKING`."""
        return _claim(_read(self._session(slot)))

    def slots(self) -> dict[str, Claim]:
        """Return all slots. Those that did not change since they were last read are not read again."""
        known: dict[str, tuple[tuple[int, int], Claim]] = {}
        with os.scandir(self.path / "sessions") as entries:
            for entry in entries:
                if entry.name.endswith(UNFINISHED):
                    continue
                with contextlib.suppress(FileNotFoundError):
                    status = entry.stat()
                    version = status.st_ino, status.st_mtime_ns
                    found = self._known.get(entry.name)
                    if found is not None and found[0] == version:
                        known[entry.name] = found
                    elif (claim := self.claim(entry.name)) is not None:
                        known[entry.name] = version, claim
        self._known = known
        return {slot: claim for slot, (_, claim) in known.items()}

    def claims(self) -> list[Claim]:
        """Return all sessions' claims, oldest first."""
        return sorted((claim for claim in self.slots().values() if claim.session), key=lambda claim: claim.created_at)

    def write_claim(self, slot: str, claim: Claim, *, synced: bool = False) -> None:
        """Write down a claim, whole or not at all; if `synced` it is on the disk when this returns."""
        _write(self._session(slot), json.dumps(asdict(claim)), synced=synced)

    def drop_claim(self, slot: str) -> None:
        """Forget a claim."""
        self._session(slot).unlink(missing_ok=True)

    def claimed_names(self) -> set[str]:
        """Return the names of sandboxes that sessions have or are being given."""
        return {claim.sandbox for claim in self.slots().values() if claim.sandbox is not None}

    def changed_at(self, slot: str) -> datetime:
        """Return when a slot got what is in it."""
        return _moment(self._session(slot), lambda status: status.st_ctime)

    def made_at(self, name: str) -> datetime:
        """Return when a sandbox's directory was made."""
        return _moment(self.folder(name) / "token", lambda status: status.st_mtime)

    def remove(self, name: str) -> None:
        """Remove a sandbox's directory, whatever user code has put there."""
        folder = self.folder(name)
        for root, folders, _ in os.walk(folder):
            for child in folders:
                full = os.path.join(root, child)
                with contextlib.suppress(OSError):
                    if not stat.S_ISLNK(os.lstat(full).st_mode):
                        os.chmod(full, 0o700)
        shutil.rmtree(folder, ignore_errors=True)

    def remove_unfinished(self) -> None:
        """Remove what processes that ended in the middle of writing a file left, once it is old."""
        for folder in ("pool", "sessions"):
            for path in (self.path / folder).glob(f"*{UNFINISHED}"):
                with contextlib.suppress(OSError):
                    if time.time() - path.stat().st_mtime > UNFINISHED_AGE_S:
                        path.unlink()

    def is_locked(self, name: str) -> bool:
        """Whether somebody has the lock of this name now."""
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(self.path / "locks" / name, os.O_RDWR | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return True
            finally:
                os.close(fd)
        return False

    def try_lock(self, name: str) -> int | None:
        """Return a descriptor that holds the lock of this name until `unlock`, or None while somebody else has it."""
        path = self.path / "locks" / name
        while True:
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
                if _is_at(fd, path):
                    return fd
            except BlockingIOError:
                os.close(fd)
                return None
            os.close(fd)  # who had it removed the file, so whoever comes next locks another one

    def unlock(self, name: str, fd: int) -> None:
        """Let go of a lock. Its file stays while there is a session of this name."""
        if not self._session(name).exists():
            (self.path / "locks" / name).unlink(missing_ok=True)
        os.close(fd)

    @contextlib.contextmanager
    def _locked(self, name: str) -> Iterator[None]:
        fd = os.open(self.path / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _session(self, slot: str) -> Path:
        return self.path / "sessions" / slot

    def _free_uid(self, uid_range: tuple[int, int]) -> int:
        """Return a user that no sandbox here has, at random, so that another home hardly ever gives it too."""
        used = {record.uid for record in map(self.record, self.names()) if record is not None}
        return secrets.choice([uid for uid in range(*uid_range) if uid not in used])


def this_process() -> Process:
    """Return the process that asks."""
    return Process(os.getpid(), start_ticks(os.getpid()) or 0)


def start_ticks(pid: int) -> int | None:
    """Return when a process began, or None when it is gone or only waits to be reaped (proc(5), stat field 22)."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except OSError:
        return None
    return None if fields[0] in "ZX" else int(fields[19])


def _mtime(path: Path) -> int:
    with contextlib.suppress(OSError):
        return path.stat().st_mtime_ns
    return 0


def _claim(found: dict[str, Any] | None) -> Claim | None:
    if found is None:
        return None
    claim = Claim(**found)
    suspending = found.get("suspending")
    return replace(claim, suspending=Process(**suspending)) if suspending else claim


def _moment(path: Path, field: Callable[[os.stat_result], float]) -> datetime:
    """Return a time of a file, or the present one where it is gone."""
    try:
        return datetime.fromtimestamp(field(path.stat()), UTC)
    except OSError:
        return datetime.now(UTC)


def _is_at(fd: int, path: Path) -> bool:
    with contextlib.suppress(FileNotFoundError):
        return os.path.samestat(os.fstat(fd), path.stat())
    return False


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, text: str, *, synced: bool = False) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
    temporary.touch(mode=0o600)
    temporary.write_text(text, encoding="utf-8")
    if synced:
        _sync(temporary)
    os.replace(temporary, path)
    if synced:
        _sync(path.parent)


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
