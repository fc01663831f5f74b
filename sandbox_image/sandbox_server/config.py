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
    namespace_timeout_s: float = 60.0
    namespace_load_timeout_s: float = 20.0


@dataclass(frozen=True, slots=True)
class ServerConfig:
    """Where the server listens (a Unix socket, or host and port), its folders, its token and its limits.

    An empty token is brought by who claims the sandbox, and kept at `token_path`. `kernels_apart` says that the kernels
    have a control group that this process does not see, as containers of a pod have. Sockets are in `ipc_dir` unless
    `sockets_dir` names another place; one that begins with @ is none of the file system (unix(7), abstract).
    """

    token: str = field(repr=False)
    files_dir: str
    packages_dir: str
    journal_dir: str
    ipc_dir: str
    token_path: str | None = None
    sockets_dir: str | None = None
    socket_path: str | None = None
    host: str | None = None
    port: int | None = None
    ready_fd: int | None = None
    limits: Limits = Limits()
    upload_types: tuple[str, ...] = ("csv", "txt", "json", "py")
    network: str = "none"
    kernels_apart: bool = False
    unclaimed_timeout_s: float = 900.0
    abandoned_grace_s: float = 600.0
    seal_timeout_s: float = 120.0


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
