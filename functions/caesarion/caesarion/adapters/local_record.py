"""What is written on disk about local sandboxes, so that any process, now or after a crash, finds them again.

    CAESARION_HOME/sandboxes/NAME/   a sandbox: record.json, token, and the folders that are bound into it
    CAESARION_HOME/pool/NAME         a ready sandbox that nobody has
    CAESARION_HOME/sessions/DIGEST   the session of this digest has the sandbox named inside

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
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from caesarion.errors import ConfigError
from caesarion.ids import SessionKey

FOLDERS = ("run", "files", "packages", "journal", "ipc")
OWN = ("home",)
MAX_SOCKET_PATH_BYTES = 107


@dataclass(frozen=True, slots=True)
class Process:
    """A process, told from a later one with the same number by its start time in clock ticks since boot."""

    pid: int
    start_ticks: int

    @property
    def alive(self) -> bool:
        return start_ticks(self.pid) == self.start_ticks


@dataclass(frozen=True, slots=True)
class Record:
    """What a sandbox was started as, its processes that are its life, and the process that started it."""

    name: str
    uid: int | None
    template: str = ""
    starter: Process | None = None
    processes: tuple[Process, ...] = ()

    @property
    def alive(self) -> bool:
        return bool(self.processes) and all(process.alive for process in self.processes)

    @property
    def starting(self) -> bool:
        return not self.processes and self.starter is not None and self.starter.alive


@dataclass(frozen=True, slots=True)
class Claim:
    """Which session has a sandbox, and what it asked for."""

    name: str
    principal: str = ""
    session: str = ""
    created_at: str = ""
    idle_timeout_s: float = 0.0
    env: dict[str, str] = field(default_factory=dict, repr=False)


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

    def folder(self, name: str) -> Path:
        """Return the directory of a sandbox."""
        return self.path / "sandboxes" / name

    def create(self, template: str, *, uid_range: tuple[int, int] | None) -> Record:
        """Make the directory of a new sandbox, owned by a user of its own when we are root."""
        with self.locked("create"):
            name = f"sb-{secrets.token_hex(6)}"
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
        starter = Process(**found["starter"]) if found["starter"] else None
        return Record(found["name"], found["uid"], found["template"], starter, processes)

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
        found = [path for path in (self.path / "pool").iterdir() if not path.name.endswith(".new")]
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

    def take(self, key: SessionKey, template: str) -> str | None:
        """Give a living sandbox of the pool to a session and return its name, or None when there is none."""
        for name in self.offered(template):
            record = self.record(name)
            if record is None or not record.alive:
                continue
            with contextlib.suppress(FileNotFoundError):
                os.rename(self.path / "pool" / name, self._session(key))
                return name
        return None

    def claim(self, key: SessionKey) -> Claim | None:
        """Return which sandbox a session has."""
        found = _read(self._session(key))
        return Claim(**found) if found is not None else None

    def claims(self) -> list[Claim]:
        """Return all sessions' claims, oldest first."""
        found = [_read(path) for path in (self.path / "sessions").iterdir() if not path.name.endswith(".new")]
        claims = [Claim(**claim) for claim in found if claim is not None]
        return sorted((claim for claim in claims if claim.session), key=lambda claim: claim.created_at)

    def write_claim(self, key: SessionKey, claim: Claim) -> None:
        """Write down a session's claim, whole or not at all."""
        _write(self._session(key), json.dumps(asdict(claim)))

    def drop_claim(self, key: SessionKey) -> None:
        """Forget a session's claim."""
        self._session(key).unlink(missing_ok=True)

    def claimed_names(self) -> set[str]:
        """Return the names of sandboxes that sessions have."""
        found = [_read(path) for path in (self.path / "sessions").iterdir()]
        return {claim["name"] for claim in found if claim is not None}

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

    @contextlib.contextmanager
    def locked(self, name: str) -> Iterator[None]:
        """Hold the lock of this name against every other process and thread."""
        fd = os.open(self.path / "locks" / name, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _session(self, key: SessionKey) -> Path:
        return self.path / "sessions" / key.digest

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


def _read(path: Path) -> dict[str, Any] | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _write(path: Path, text: str) -> None:
    temporary = path.with_name(f"{path.name}.{secrets.token_hex(4)}.new")
    temporary.touch(mode=0o600)
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
