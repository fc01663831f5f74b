"""What the server is told once, as one JSON document on its standard input, so that no argument holds a secret."""

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True, slots=True)
class Limits:
    """Limits of one sandbox; bytes are bytes, times are seconds."""

    memory_bytes: int = 2 * 1024**3
    disk_bytes: int = 1024**3
    max_output_bytes: int = 20 * 1024**2
    max_upload_bytes: int = 100 * 1024**2
    max_queued: int = 64
    interrupt_grace_s: float = 5.0
    execution_timeout_s: float = 300.0
    max_execution_timeout_s: float = 3600.0
    journal_bytes: int = 256 * 1024**2


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the server listens (a Unix socket, or host and port), its folders, its token and its limits."""

    token: str = field(repr=False)
    files_dir: str
    packages_dir: str
    journal_dir: str
    ipc_dir: str
    socket_path: str | None = None
    host: str | None = None
    port: int | None = None
    ready_fd: int | None = None
    limits: Limits = Limits()
    upload_types: tuple[str, ...] = ("csv", "txt", "json", "py")
    network: str = "none"
    unclaimed_timeout_s: float = 900.0
    abandoned_grace_s: float = 600.0


def config_from_json(document: dict[str, Any]) -> ServerConfig:
    """Return the configuration of a JSON document; a name it does not know is an error of the platform."""
    known = {f.name for f in fields(ServerConfig)}
    unknown = set(document) - known
    if unknown:
        raise ValueError(f"unknown settings {sorted(unknown)}; known are {sorted(known)}")
    values = dict(document)
    values["limits"] = Limits(**values.get("limits", {}))
    if "upload_types" in values:
        values["upload_types"] = tuple(values["upload_types"])
    return ServerConfig(**values)
