"""The key file: API keys of this installation, as hashes, in CAESARION_HOME/keys.json."""

import fcntl
import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from caesarion.clock import rfc3339
from caesarion.errors import ConfigError
from caesarion.principals import (
    KeyRecord,
    KeyRing,
    key_record,
    new_key,
    records_from_env,
    records_from_json,
    records_to_json,
)
from caesarion.settings import LocalSettings, ServingSettings

logger = logging.getLogger(__name__)

_Stamp = tuple[int, int, int]


class KeyFile:
    """Keys in a file. Every process that has it open sees a change at the next `refresh`."""

    def __init__(self, path: Path, extra: Sequence[KeyRecord] = ()) -> None:
        self.path = path
        self._extra = tuple(extra)
        self._stamp: _Stamp | None = None
        self.ring = KeyRing(extra)

    def load(self) -> KeyRing:
        """Read the file. Raises ConfigError when it cannot be understood; a missing one has no keys."""
        self._stamp = self._stamp_now()
        records = self.records() if self._stamp is not None else []
        self.ring = KeyRing((*self._extra, *records))
        return self.ring

    def refresh(self) -> KeyRing:
        """Return the keys, read again when the file changed. A broken file leaves the keys as they were."""
        try:
            if self._stamp_now() != self._stamp:
                self.load()
        except (ConfigError, OSError) as exc:
            logger.error("key file not read, the former keys stay", extra={"reason": str(exc)})
        return self.ring

    def records(self) -> list[KeyRecord]:
        """Return the file's keys, oldest first."""
        try:
            text = self.path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return []
        except UnicodeDecodeError as exc:
            raise ConfigError(f"The key file {self.path} is not UTF-8.") from exc
        return records_from_json(text, where=str(self.path))

    def add(self, principal: str) -> tuple[str, KeyRecord]:
        """Make a key for `principal` and return it: this is the only time that it can be seen."""
        key = new_key()
        record = key_record(key, principal, created_at=rfc3339(datetime.now(UTC)))
        with self._locked():
            self._write([*self.records(), record])
        return key, record

    def remove(self, key_id: str) -> bool:
        """Remove the key with this id; return whether there was one."""
        with self._locked():
            records = self.records()
            kept = [record for record in records if record.id != key_id]
            if len(kept) == len(records):
                return False
            self._write(kept)
            return True

    def _write(self, records: Sequence[KeyRecord]) -> None:
        temporary = self.path.with_name(f"{self.path.name}.new")
        fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            file.write(records_to_json(records))
        temporary.replace(self.path)

    @contextmanager
    def _locked(self) -> Iterator[None]:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        fd = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_RDWR | os.O_CREAT, 0o600)
        try:
            fcntl.flock(fd, fcntl.LOCK_EX)
            yield
        finally:
            os.close(fd)

    def _stamp_now(self) -> _Stamp | None:
        try:
            status = self.path.stat()
        except FileNotFoundError:
            return None
        return (status.st_mtime_ns, status.st_size, status.st_ino)


def key_file_of(local: LocalSettings, serving: ServingSettings) -> KeyFile:
    """Return the key file of CAESARION_HOME, with the keys of CAESARION_API_KEYS beside it. Raises ConfigError."""
    return KeyFile(Path(local.home) / "keys.json", records_from_env(serving.api_keys.reveal()))
