"""Checkpoints: what is left of a suspended session, as one object of the store. The same on every platform.

Making one takes a sandbox that is sealed, which means that it answers nothing else until it ends or is unsealed.
"""

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Coroutine
from datetime import datetime
from typing import Any, TypeVar

from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.clock import rfc3339
from caesarion.errors import CaesarionError, Conflict, NotFound, SandboxUnavailable
from caesarion.ports import ObjectStore
from caesarion.settings import GIB, SandboxSettings

logger = logging.getLogger(__name__)
T = TypeVar("T")

FOLDER = "checkpoints"
UNSEAL_DEADLINE_S = 5.0


class Checkpoints:
    """The checkpoints of all sessions, by the digests of their keys. None may be larger than `limit_bytes`."""

    def __init__(self, store: ObjectStore, *, limit_bytes: int | None = None) -> None:
        self._store = store
        self._limit_bytes = largest_bytes(SandboxSettings()) if limit_bytes is None else limit_bytes

    async def save(self, digest: str, client: SandboxClient, *, unused_since: datetime | None = None) -> bool:
        """Seal the sandbox of `client` and keep its checkpoint; it stays sealed.

        Returns False when it is in use, or was used after `unused_since` or meanwhile; then it is not sealed.
        Raises SandboxUnavailable when there is no checkpoint; then it may be sealed, see `unseal`.
        """
        try:
            sealing = {"unused_since": rfc3339(unused_since)} if unused_since is not None else {}
            seal = await _sealed(client, sealing)
            if seal is None:
                return False
            async with client.stream("GET", "/v1/checkpoint") as answer:
                size_bytes = await self._store.put(_path(digest), self._bounded(answer.chunks()))
            if await _sealed(client, sealing) != seal:  # it opened by itself, so there may be more than is kept
                if not await unseal(client):
                    raise SandboxUnavailable("Its sandbox does not answer.")
                await self._store.delete(_path(digest))
                return False
        except CaesarionError as error:
            raise SandboxUnavailable(f"The session could not be suspended. {error.message}") from error
        logger.info("checkpoint kept", extra={"session_digest": digest, "size_bytes": size_bytes})
        return True

    async def restore(self, digest: str, client: SandboxClient) -> None:
        """Fill the sandbox of `client`, which nobody has had, from the checkpoint. On failure it is of no use any more.

        Raises SandboxUnavailable; the checkpoint is there still, if it was.
        """
        content = self._store.read(_path(digest))
        try:
            async with client.stream("PUT", "/v1/checkpoint", body=content) as answer:
                lost = (await answer.json())["lost"]
        except NotFound as error:
            raise SandboxUnavailable(
                "The session is suspended and its checkpoint is not in the store. Check that CAESARION_STORE_URL (by "
                "default the folder store in CAESARION_HOME) names the store that was in use when it was suspended."
            ) from error
        except CaesarionError as error:
            raise SandboxUnavailable(f"The session could not be restored. {error.message}") from error
        logger.info("checkpoint restored", extra={"session_digest": digest, "lost_variables": len(lost)})

    async def remove(self, digest: str) -> None:
        """Remove a checkpoint. Idempotent. Raises SandboxUnavailable."""
        await self._store.delete(_path(digest))

    async def exists(self, digest: str) -> bool:
        """Whether there is such a checkpoint. Raises SandboxUnavailable."""
        with contextlib.suppress(NotFound):
            async for _ in self._store.read(_path(digest)):
                break
            return True
        return False

    async def kept(self) -> dict[str, datetime]:
        """Return since when there is which checkpoint. Raises SandboxUnavailable."""
        return {kept.path.rpartition("/")[2]: kept.modified_at for kept in await self._store.list(FOLDER)}

    async def _bounded(self, content: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """Yield the content, or fail once it is larger than any sandbox within its limits could make it."""
        size_bytes = 0
        async for piece in content:
            size_bytes += len(piece)
            if size_bytes > self._limit_bytes:
                raise SandboxUnavailable(f"Its checkpoint has more than {self._limit_bytes} bytes.")
            yield piece


def largest_bytes(limits: SandboxSettings) -> int:
    """Return how large the checkpoint of a sandbox with these limits may be: its files, journal and variables."""
    return limits.disk_bytes * 2 + limits.memory_bytes + GIB


async def _sealed(client: SandboxClient, sealing: dict[str, str]) -> int | None:
    """Seal a sandbox and return the number of its seal, which is another one each time it was open before, or None.

    None means that it is in use. Of an earlier version, which does not number its seals, it is always 0.
    """
    try:
        answer = await client.call("POST", "/v1/seal", document=sealing)
    except Conflict:
        return None
    return int(answer.get("seal", 0))


async def unseal(client: SandboxClient) -> bool:
    """Have a sandbox answer again; returns False when it could not be told, as it ended or is stuck. Idempotent."""
    try:
        await client.call("DELETE", "/v1/seal", deadline_s=UNSEAL_DEADLINE_S)
    except SandboxUnavailable:
        return False
    except CaesarionError:  # of an earlier version, which knows no seals
        return True
    return True


async def to_the_end(work: Coroutine[Any, Any, T]) -> T:
    """Return what comes of `work`. Who is cancelled meanwhile waits for its end first."""
    task = asyncio.ensure_future(work)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait({task})
        if not task.cancelled() and (failure := task.exception()) is not None:
            logger.warning("work went on after who wanted it left, and failed", extra={"reason": repr(failure)[:500]})
        raise


def _path(digest: str) -> str:
    return f"{FOLDER}/{digest}"
