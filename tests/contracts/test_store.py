"""What every store has to do: a folder, and buckets served by a real server on loopback."""

import asyncio
import json
import os
import secrets
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from caesarion.adapters.store import PART_BYTES, open_store
from caesarion.errors import NotFound, SandboxUnavailable
from caesarion.ports import ObjectStore
from caesarion.settings import MIB, StoreSettings

pytestmark = pytest.mark.anyio

PIECE = bytes(range(256)) * 256
S3_SERVER = """
import sys
from moto.moto_server.threaded_moto_server import ThreadedMotoServer
server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
server.start()
print("http://{}:{}".format(*server.get_host_and_port()), flush=True)
sys.stdin.read()
server.stop()
"""


@pytest.fixture(scope="module")
def folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cz-", dir="/tmp") as home:
        yield Path(home)


@pytest.fixture(scope="module")
def bucket() -> Iterator[str]:
    """Give the address of an S3 server with one bucket, `kept`. It is a process, for its objects are in its memory."""
    server = subprocess.Popen(
        [sys.executable, "-c", S3_SERVER],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    with server:
        assert server.stdin is not None and server.stdout is not None
        try:
            address = server.stdout.readline().strip()
            _ask(f"{address}/kept", method="PUT")
            yield address
        finally:
            server.stdin.close()


@pytest.fixture
def s3(bucket: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """Give the environment of who uses the S3 server, and its address."""
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket)
    monkeypatch.setenv("AWS_ALLOW_HTTP", "true")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "somebody")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    return bucket


@pytest.fixture(params=["folder", "s3"])
async def store(request: pytest.FixtureRequest, folder: Path) -> AsyncIterator[ObjectStore]:
    """Give a store with nothing in it."""
    if request.param == "s3":
        request.getfixturevalue("s3")
    mine = secrets.token_hex(8)
    url = {"folder": "", "s3": f"s3://kept/{mine}/prefix"}[request.param]
    opened = open_store(StoreSettings(url=url), str(folder / mine))
    yield opened
    await opened.aclose()


async def pieces(count: int, *, failing: Exception | None = None) -> AsyncIterator[bytes]:
    """Yield so many pieces, and perhaps fail then."""
    for _ in range(count):
        yield PIECE
    if failing is not None:
        raise failing


def service_account(address: str) -> str:
    """Return the key of a service account that needs no token, for a server at this address."""
    empty = dict.fromkeys(("client_email", "private_key", "private_key_id"), "")
    return json.dumps({"gcs_base_url": address, "disable_oauth": True, **empty})


async def whole(store: ObjectStore, path: str) -> bytes:
    """Return the content of an object."""
    return b"".join([piece async for piece in store.read(path)])


@pytest.mark.parametrize("count", [0, 1, 2 * PART_BYTES // len(PIECE) + 3])
async def test_what_was_put_is_read_again(store: ObjectStore, count: int) -> None:
    assert await store.put("a/object", pieces(count)) == count * len(PIECE)
    assert await whole(store, "a/object") == PIECE * count
    [listed] = await store.list("a")
    assert (listed.path, listed.size_bytes) == ("a/object", count * len(PIECE))
    assert listed.modified_at.tzinfo is not None


async def test_a_second_put_replaces_the_first(store: ObjectStore) -> None:
    await store.put("a/object", pieces(300))
    await store.put("a/object", pieces(1))
    assert await whole(store, "a/object") == PIECE


async def test_content_that_fails_leaves_what_was_there(store: ObjectStore) -> None:
    failure = SandboxUnavailable("The sandbox stopped answering.")
    with pytest.raises(SandboxUnavailable) as raised:
        await store.put("a/object", pieces(300, failing=failure))
    assert raised.value is failure
    assert await store.list("a") == []
    await store.put("a/object", pieces(1))
    with pytest.raises(SandboxUnavailable):
        await store.put("a/object", pieces(300, failing=failure))
    assert await whole(store, "a/object") == PIECE


async def test_who_is_cancelled_leaves_nothing_behind(store: ObjectStore, request: pytest.FixtureRequest) -> None:
    waiting = asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        async for piece in pieces(2 * PART_BYTES // len(PIECE)):
            yield piece
        waiting.set()
        await asyncio.Event().wait()

    putting = asyncio.ensure_future(store.put("a/object", stuck()))
    await waiting.wait()
    putting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await putting
    assert await store.list("a") == []
    if "s3" in request.node.name:
        uploads = await asyncio.to_thread(_ask, f"{request.getfixturevalue('s3')}/kept?uploads")
        assert b"ListMultipartUploadsResult" in uploads and b"<UploadId>" not in uploads


async def test_of_many_that_create_one_object_one_does(store: ObjectStore) -> None:
    contents = [f"{number}".encode() for number in range(8)]
    created = await asyncio.gather(*(store.create("a/one", content) for content in contents))
    assert sorted(created) == [False] * 7 + [True]
    assert await whole(store, "a/one") == contents[created.index(True)]
    await store.delete("a/one")
    assert await store.create("a/one", b"again")


async def test_what_is_not_there_is_not_found_and_may_be_deleted(store: ObjectStore) -> None:
    with pytest.raises(NotFound):
        await whole(store, "a/nothing")
    await store.delete("a/nothing")
    assert await store.list("nowhere") == []


async def test_a_list_is_of_one_folder_with_all_below_it(store: ObjectStore) -> None:
    for path in ("a/1", "a/b/2", "ab/3"):
        await store.create(path, b"x")
    assert {listed.path for listed in await store.list("a")} == {"a/1", "a/b/2"}


async def test_more_objects_than_one_page_are_listed(store: ObjectStore) -> None:
    paths = {f"checkpoints/{number:04}" for number in range(1001)}
    at_once = asyncio.Semaphore(16)

    async def create(path: str) -> None:
        async with at_once:
            await store.create(path, b"")

    await asyncio.gather(*map(create, paths))
    assert {listed.path for listed in await store.list("checkpoints")} == paths


async def test_large_objects_take_no_memory_either_way(store: ObjectStore) -> None:
    await store.put("a/small", pieces(1))
    before_bytes = _peak_bytes()
    size_bytes = await store.put("a/large", pieces(200 * MIB // len(PIECE)))
    read_bytes = 0
    async for piece in store.read("a/large"):
        read_bytes += len(piece)
    assert read_bytes == size_bytes
    assert _peak_bytes() - before_bytes < 80 * MIB


def _peak_bytes() -> int:
    """Return the most memory that this process had since it was last asked (proc(5), clear_refs)."""
    status = Path("/proc/self/status").read_text(encoding="ascii")
    [kib] = [line.split()[1] for line in status.splitlines() if line.startswith("VmHWM")]
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return int(kib) * 1024


def _ask(url: str, method: str = "GET") -> bytes:
    with urllib.request.urlopen(urllib.request.Request(url, method=method)) as answer:  # noqa: S310
        content: bytes = answer.read()
        return content


async def test_what_lies_in_the_folder_is_for_us_alone(folder: Path) -> None:
    store = open_store(StoreSettings(), str(folder))
    await store.put("checkpoints/private", pieces(1))
    await store.create("results/private", b"x")
    kept = folder / "store"
    modes = {path.relative_to(kept).as_posix(): path.stat().st_mode & 0o777 for path in kept.rglob("*")}
    assert kept.stat().st_mode & 0o777 == 0o700
    assert modes["checkpoints"] == modes["results"] == 0o700
    assert modes["checkpoints/private"] == modes["results/private"] == 0o600
    await store.delete("checkpoints/private")


async def test_what_a_crash_left_half_written_goes_with_the_object(folder: Path) -> None:
    store = open_store(StoreSettings(), str(folder))
    await store.create("checkpoints/cut", b"x")
    left = folder / "store" / "checkpoints" / "cut#1"
    left.write_bytes(b"half")
    assert [listed.path for listed in await store.list("checkpoints")] == ["checkpoints/cut"]
    await store.delete("checkpoints/cut")
    assert not left.exists()


@pytest.mark.parametrize("url", ["s3://kept/prefix", "gs://kept", "az://kept"])
async def test_a_store_that_cannot_be_reached_says_so(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    nowhere = "http://127.0.0.1:9"
    for name, value in {
        "AWS_ENDPOINT_URL": nowhere,
        "AWS_ALLOW_HTTP": "true",
        "AWS_ACCESS_KEY_ID": "somebody",
        "AWS_SECRET_ACCESS_KEY": "secret",
        "GOOGLE_SERVICE_ACCOUNT_KEY": service_account(nowhere),
        "GOOGLE_ALLOW_HTTP": "true",
        "AZURE_STORAGE_ACCOUNT_NAME": "somebody",
        "AZURE_STORAGE_ACCOUNT_KEY": "c2VjcmV0",
        "AZURE_STORAGE_ENDPOINT": nowhere,
        "AZURE_ALLOW_HTTP": "true",
    }.items():
        monkeypatch.setenv(name, value)
    store = open_store(StoreSettings(url=url), "/nowhere")
    for work in (
        store.put("a/object", pieces(1)),
        store.create("a/object", b"x"),
        whole(store, "a/object"),
        store.delete("a/object"),
        store.list("a"),
    ):
        with pytest.raises(SandboxUnavailable, match="store"):
            await work


async def test_a_bucket_that_is_not_there_says_so(s3: str) -> None:
    store = open_store(StoreSettings(url="s3://nobody-made-this"), "/nowhere")
    with pytest.raises(SandboxUnavailable):
        await store.put("a/object", pieces(1))
    with pytest.raises(SandboxUnavailable):
        await store.list("a")


async def test_no_secret_stands_in_the_log(s3: str, caplog: pytest.LogCaptureFixture) -> None:
    with pytest.raises(SandboxUnavailable):
        await open_store(StoreSettings(url="s3://nobody-made-this"), "/nowhere").list("a")
    [told] = [vars(record) for record in caplog.records if record.name == "caesarion.adapters.store"]
    assert "nobody-made-this?..." in told["reason"]
    assert "secret" not in str(told)
