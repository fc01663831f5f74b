"""The bearer token that the server wants.

Pods of a pool are alike, so theirs comes with the claim: the first who restores or claims a sandbox brings it, and from
then on no other is taken. Until then only those whom the network lets in can be that first one.
"""

import hmac
import os
from pathlib import Path

from sandbox_server.config import ServerConfig

MIN_BYTES = 32
ADOPTING = (("POST", "/v1/claim"), ("PUT", "/v1/checkpoint"))


class Token:
    """The token of the configuration or, where there is none, the adopted one, which outlives this process."""

    def __init__(self, config: ServerConfig) -> None:
        self._path = Path(config.token_path) if config.token_path else None
        self._expected = config.token.encode()
        if not self._expected and self._path is not None and self._path.exists():
            self._expected = self._path.read_bytes()

    def admits(self, authorization: bytes, method: str, path: str) -> bool:
        """Whether a request with this Authorization header is let through."""
        scheme, _, given = authorization.partition(b" ")
        if scheme != b"Bearer":
            return False
        if not self._expected and self._path is not None and (method, path) in ADOPTING and len(given) >= MIN_BYTES:
            self._adopt(given, self._path)
        return bool(self._expected) and hmac.compare_digest(given, self._expected)

    def _adopt(self, given: bytes, path: Path) -> None:
        temporary = path.with_suffix(".new")
        temporary.touch(mode=0o600)
        temporary.write_bytes(given)
        os.replace(temporary, path)
        self._expected = given
