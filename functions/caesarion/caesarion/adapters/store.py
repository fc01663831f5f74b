"""The `ObjectStore` port: a folder, or a bucket of S3, Google Cloud or Azure, all through obstore.

Credentials, region and endpoint of a bucket come from the variables of its cloud, by the names that obstore knows:
`AWS_ACCESS_KEY_ID`, `AWS_ENDPOINT_URL`, `GOOGLE_APPLICATION_CREDENTIALS`, `AZURE_STORAGE_ACCOUNT_NAME` and others. An
endpoint without TLS has to be allowed: `AWS_ALLOW_HTTP=true`, and likewise `GOOGLE_` and `AZURE_`.
"""

import asyncio
import contextlib
import importlib
import logging
import os
import re
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

from caesarion.errors import NotFound, SandboxUnavailable
from caesarion.ports import ObjectStore, StoredObject
from caesarion.settings import MIB, StoreSettings

if TYPE_CHECKING:
    from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

    Opened = AzureStore | GCSStore | LocalStore | S3Store

logger = logging.getLogger(__name__)

CLOUDS = {"s3": "AWS", "gs": "GOOGLE", "az": "AZURE"}
PART_BYTES = 8 * MIB  # a bucket takes 10,000 parts, so an object may have 78 GiB
PARTS_AT_ONCE = 2
READ_BYTES = MIB
RETRIES = 3
RETRY_TIMEOUT_S = 30
CONNECT_TIMEOUT_S = 5
SILENCE_TIMEOUT_S = 30
REQUEST_TIMEOUT_S = 3600  # of one request, which may be the reading of a whole object
LEFTOVER_AGE_S = 3600.0
MAX_REASON_CHARS = 300


def open_store(settings: StoreSettings, home: str) -> ObjectStore:
    """Return the store of these settings, by default the folder `store` in `home`. Nothing is reached for yet."""
    return ObstoreObjects(settings.url, Path(home).absolute() / "store")


class ObstoreObjects:
    """The `ObjectStore` port over obstore, which is imported on first use."""

    def __init__(self, url: str, folder: Path) -> None:
        self._url = url
        self._folder = None if url else folder
        self._opened: Opened | None = None

    async def put(self, path: str, content: AsyncIterator[bytes]) -> int:
        source = _Source(content)
        with _told_as_unavailable(source):
            store = await self._store()
            import obstore

            if self._folder is not None:
                await asyncio.to_thread(_make_room, self._folder / path)
            putting = asyncio.ensure_future(
                obstore.put_async(store, path, source, chunk_size=PART_BYTES, max_concurrency=PARTS_AT_ONCE)
            )
            try:
                await asyncio.shield(putting)
            except asyncio.CancelledError:  # an upload that nobody ends would leave its parts in the bucket
                source.stop()
                await asyncio.wait({putting})
                putting.exception()
                raise
            if self._folder is not None:
                await asyncio.to_thread(_settle, self._folder / path)
        return source.size_bytes

    async def create(self, path: str, content: bytes) -> bool:
        with _told_as_unavailable():
            store = await self._store()
            import obstore

            if self._folder is not None:
                await asyncio.to_thread(_make_room, self._folder / path)
            try:
                await obstore.put_async(store, path, content, mode="create")
            except obstore.exceptions.AlreadyExistsError:
                return False
            if self._folder is not None:
                await asyncio.to_thread(_settle, self._folder / path)
        return True

    async def read(self, path: str) -> AsyncIterator[bytes]:
        with _told_as_unavailable():
            store = await self._store()
            import obstore

            try:
                found = await obstore.get_async(store, path)
            except FileNotFoundError as exc:
                raise NotFound("There is no such object in the store.") from exc
        pieces = aiter(found.stream(min_chunk_size=READ_BYTES))
        while True:
            with _told_as_unavailable():
                try:
                    piece = await anext(pieces)
                except StopAsyncIteration:
                    return
            yield bytes(piece)

    async def delete(self, path: str) -> None:
        with _told_as_unavailable():
            store = await self._store()
            import obstore

            with contextlib.suppress(FileNotFoundError):
                await obstore.delete_async(store, path)
            if self._folder is not None:
                await asyncio.to_thread(_leftover(self._folder / path).unlink, missing_ok=True)

    async def list(self, folder: str) -> Sequence[StoredObject]:
        with _told_as_unavailable():
            store = await self._store()
            import obstore

            found = await obstore.list(store, folder).collect_async()
        return [StoredObject(meta["path"], meta["size"], meta["last_modified"]) for meta in found]

    async def aclose(self) -> None:
        self._opened = None

    async def _store(self) -> "Opened":
        if self._opened is None:
            await asyncio.to_thread(importlib.import_module, "obstore.store")
            self._opened = await asyncio.to_thread(self._open)
        return self._opened

    def _open(self) -> "Opened":
        from obstore.store import AzureStore, GCSStore, LocalStore, S3Store

        if self._folder is not None:
            self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            return LocalStore(self._folder)
        scheme, _, rest = self._url.partition("://")
        bucket, _, prefix = rest.partition("/")
        options: dict[str, Any] = {
            "prefix": prefix or None,
            "client_options": {  # in place of what obstore would read from the environment
                "allow_http": os.environ.get(f"{CLOUDS[scheme]}_ALLOW_HTTP", "").lower() in ("1", "true"),
                "connect_timeout": timedelta(seconds=CONNECT_TIMEOUT_S),
                "read_timeout": timedelta(seconds=SILENCE_TIMEOUT_S),
                "timeout": timedelta(seconds=REQUEST_TIMEOUT_S),
            },
            "retry_config": {"max_retries": RETRIES, "retry_timeout": timedelta(seconds=RETRY_TIMEOUT_S)},
        }
        match scheme:
            case "s3":
                return S3Store(bucket, **options)
            case "gs":
                return GCSStore(bucket, **options)
            case _:
                return AzureStore(bucket, **options)


class _Source:
    """Content on its way into a store: its size so far, what made it fail, and a way to end it at once."""

    def __init__(self, content: AsyncIterator[bytes]) -> None:
        self._content = content
        self._pulling: asyncio.Task[Any] | None = None
        self._stopped = False
        self.size_bytes = 0
        self.failure: Exception | None = None

    def __aiter__(self) -> "_Source":
        return self

    async def __anext__(self) -> bytes:
        self._pulling = asyncio.current_task()
        try:
            if self._stopped:
                raise _StoppedError
            piece = await anext(self._content)
        except StopAsyncIteration:
            raise
        except Exception as exc:
            self.failure = exc
            raise
        except asyncio.CancelledError:
            raise _StoppedError from None
        finally:
            self._pulling = None
        self.size_bytes += len(piece)
        return piece

    def stop(self) -> None:
        """Have the store give up what it is writing."""
        self._stopped = True
        if self._pulling is not None:
            self._pulling.cancel()


class _StoppedError(Exception):
    """Who wanted something written does not want it any more."""


@contextlib.contextmanager
def _told_as_unavailable(source: _Source | None = None) -> Iterator[None]:
    """Tell what the store did not do as SandboxUnavailable; what made `source` fail comes out unchanged."""
    try:
        yield
    except Exception as exc:
        if source is not None and source.failure is not None:
            raise source.failure from None
        from obstore.exceptions import BaseError

        if not isinstance(exc, BaseError | OSError):
            raise
        reason = re.sub(r"\?\S*", "?...", str(exc).partition("\n\n")[0])[:MAX_REASON_CHARS]  # a query may hold a secret
        logger.error("the store failed", extra={"reason": reason})
        message = "The store of suspended sessions and results cannot be used now. The log of the functions says why."
        raise SandboxUnavailable(message, retry_after_s=5) from exc


def _leftover(path: Path) -> Path:
    """Return where an object of a folder is while it is written, and left when that was cut short."""
    return path.with_name(f"{path.name}#1")


def _make_room(path: Path) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with contextlib.suppress(FileNotFoundError):
        if time.time() - _leftover(path).stat().st_mtime > LEFTOVER_AGE_S:
            _leftover(path).unlink()


def _settle(path: Path) -> None:
    """Have a file on the disk, to be read by us only. One that is gone again was removed meanwhile."""
    for settled in (path, path.parent):
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(settled, os.O_RDONLY | os.O_CLOEXEC)
            try:
                if settled == path:
                    os.fchmod(fd, 0o600)
                os.fsync(fd)
            finally:
                os.close(fd)
