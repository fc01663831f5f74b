"""Much output, a large upload and a large download: bytes per second, and whether the function's memory stays flat."""

import asyncio
import contextlib
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable

import aiohttp

from bench.kernels import forked_kernel
from bench.product import ROOT, Product, Unexpected, address, ended, environment, running_product
from bench.report import Figure, Measured, Part, figure, once
from bench.statistics import Verdict, grows_less

NAME = "large outputs and files"
LINE = "x" * 99
CHUNK = (LINE + "\n").encode() * 2000
GROWTH_MB = 20
MAX_OUTPUT_BYTES = 512 * 1024**2
COPY = "a plain file copy over HTTP"
Move = Callable[[], Awaitable[int]]


async def measure(*, quick: bool) -> Part:
    """Move the same number of bytes as output, as an upload and as a download, each beside the same without us."""
    size_bytes = 10**6 if quick else 10**8
    code = f"for _ in range({size_bytes // (len(LINE) + 1)}): print({LINE!r})"
    settings = {"CAESARION_MAX_OUTPUT_BYTES": str(MAX_OUTPUT_BYTES), "CAESARION_MAX_UPLOAD_BYTES": str(2 * 10**8)}
    async with (
        running_product(pool_size=1, settings=settings) as product,
        forked_kernel() as forked,
        _plain_files() as plain_url,
        aiohttp.ClientSession() as http,
    ):
        session = await product.open_session()
        await product.run(session, "print(1)")
        await product.pool_full()
        file_url, copy_url = f"{product.url}/sessions/{session}/files/bench.txt", f"{plain_url}/bench.txt"
        copied_up = await _speed(lambda: _sent(http, copy_url, size_bytes), size_bytes)
        copied_down = await _speed(lambda: _received(http, copy_url), size_bytes)
        printed = await _speed(lambda: forked.kernel.run(code), size_bytes)
        shown, shown_flat = await _watched(product, lambda: product.read_outputs(session, code), size_bytes)
        sent, sent_flat = await _watched(product, lambda: _sent(http, file_url, size_bytes), size_bytes)
        received, received_flat = await _watched(product, lambda: _received(http, file_url), size_bytes)
    megabytes = f"{size_bytes / 10**6:g} MB"
    figures: tuple[Figure, ...] = (
        figure(f"{megabytes} printed and read", "MB/s", shown, "bare jupyter_client", printed, [shown_flat]),
        figure(f"{megabytes} printed and read, beside a copy", "MB/s", shown, COPY, copied_down),
        figure(f"{megabytes} uploaded", "MB/s", sent, COPY, copied_up, [sent_flat]),
        figure(f"{megabytes} downloaded", "MB/s", received, COPY, copied_down, [received_flat]),
    )
    notes = (
        f"CAESARION_MAX_OUTPUT_BYTES={MAX_OUTPUT_BYTES}: at its default, 20 MiB, more would be counted and dropped",
        "memory is that of the serving process: its peak while the bytes passed, over what it had before",
    )
    return Part(NAME, figures, notes)


async def _watched(product: Product, move: Move, size_bytes: int) -> tuple[Measured, Verdict]:
    """Return the speed, and by how much the serving process grew meanwhile."""
    product.forget_peak()
    before = product.memory()
    speed = await _speed(move, size_bytes)
    return speed, grows_less((product.memory().peak_bytes - before.now_bytes) / 10**6, GROWTH_MB)


async def _speed(move: Move, size_bytes: int) -> Measured:
    """Return megabytes of content per second. Raises Unexpected when fewer bytes than that were moved."""
    began_s = time.perf_counter()
    moved_bytes = await move()
    took_s = time.perf_counter() - began_s
    if moved_bytes < size_bytes:
        raise Unexpected(f"{moved_bytes} bytes came instead of {size_bytes}")
    return once(size_bytes / 10**6 / took_s)


async def _sent(http: aiohttp.ClientSession, url: str, size_bytes: int) -> int:
    async def body() -> AsyncIterator[bytes]:
        for _ in range(size_bytes // len(CHUNK)):
            yield CHUNK

    async with http.put(url, data=body()) as answer:
        if answer.status != 201:
            raise Unexpected(f"the upload gave {answer.status}: {(await answer.read())[:200]!r}")
    return size_bytes


async def _received(http: aiohttp.ClientSession, url: str) -> int:
    async with http.get(url) as answer:
        if answer.status != 200:
            raise Unexpected(f"the download gave {answer.status}: {(await answer.read())[:200]!r}")
        return sum([len(chunk) async for chunk in answer.content.iter_any()])


@contextlib.asynccontextmanager
async def _plain_files() -> AsyncIterator[str]:
    """Run the plain file server and give its address."""
    with tempfile.TemporaryDirectory(prefix="cv-", dir="/tmp") as folder:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.plain_files", folder),
            cwd=ROOT,
            env=environment({}),
            stdout=asyncio.subprocess.PIPE,
        )
        try:
            yield await address(process)
        finally:
            await ended(process)
