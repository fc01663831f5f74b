"""Who asks: API keys and the principals they stand for. Pure; keys are kept as SHA-256 only.

A key has 256 random bits, so one unsalted hash is enough: there is nothing to guess.
"""

import hashlib
import hmac
import json
import re
import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from caesarion.errors import ConfigError, InvalidRequest
from caesarion.ids import PrincipalId, checked_id

KEY_PREFIX = "cz_"
_DIGEST = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """One key as it is kept. `id` names it for people; the key itself is nowhere."""

    id: str
    principal: PrincipalId
    sha256: str
    created_at: str = ""


def new_key() -> str:
    """Return a new API key."""
    return KEY_PREFIX + secrets.token_urlsafe(32)


def key_digest(key: str) -> str:
    """Return what is kept of a key."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def key_record(key: str, principal: str, *, created_at: str) -> KeyRecord:
    """Return the record of `key`, which can be kept. Raises InvalidRequest for a bad name of the principal."""
    digest = key_digest(key)
    return KeyRecord(digest[:12], PrincipalId(checked_id(principal, what="principal")), digest, created_at)


class KeyRing:
    """The keys that are valid now."""

    def __init__(self, records: Iterable[KeyRecord] = ()) -> None:
        self.records = tuple(records)

    def __bool__(self) -> bool:
        return bool(self.records)

    def principal_of(self, key: str) -> PrincipalId | None:
        """Return whose key this is. Takes as long for a wrong key as for a right one."""
        digest = key_digest(key)
        found: PrincipalId | None = None
        for record in self.records:
            if hmac.compare_digest(record.sha256, digest):
                found = record.principal
        return found


def records_from_env(text: str) -> list[KeyRecord]:
    """Return the keys of ``principal:sha256hex,…``. Raises ConfigError that shows no digest."""
    records = []
    for number, item in enumerate((part.strip() for part in text.split(",")), start=1):
        if not item:
            continue
        principal, _, digest = item.rpartition(":")
        records.append(_checked(principal, digest.lower(), "", f"entry {number} of CAESARION_API_KEYS"))
    return records


def records_from_json(text: str, *, where: str) -> list[KeyRecord]:
    """Return the keys of a key file; `where` names it in errors. Raises ConfigError."""
    try:
        match json.loads(text):
            case {"keys": list(entries)}:
                pass
            case _:
                raise ValueError("no list 'keys'")
        return [
            _checked(entry["principal"], entry["sha256"], str(entry.get("created_at", "")), f"key {number} of {where}")
            for number, entry in enumerate(entries, start=1)
        ]
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise ConfigError(f"The key file {where} is not what `caesarion keys` writes: {exc}") from exc


def records_to_json(records: Sequence[KeyRecord]) -> str:
    """Return the text of a key file."""
    entries = [{"principal": r.principal, "sha256": r.sha256, "created_at": r.created_at} for r in records]
    return json.dumps({"keys": entries}, indent=2) + "\n"


def _checked(principal: object, digest: object, created_at: str, what: str) -> KeyRecord:
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ConfigError(f"{what} must have the form principal:sha256hex with 64 hexadecimal digits.")
    try:
        name = PrincipalId(checked_id(principal, what="principal"))
    except InvalidRequest as exc:
        raise ConfigError(f"{what}: {exc.message}") from exc
    return KeyRecord(digest[:12], name, digest, created_at)
