"""Outputs in the form that a client accepts: NDJSON, server-sent events, or one JSON document at the end."""

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Literal

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from caesarion.adapters.asgi.responses import Streamed, until_client_leaves
from caesarion.adapters.runs import Following

Form = Literal["application/x-ndjson", "text/event-stream", "application/json"]

NDJSON: Form = "application/x-ndjson"
EVENTS: Form = "text/event-stream"
DOCUMENT: Form = "application/json"
HEARTBEAT_S = 15.0
_HEARTBEAT = b": still running\n\n"
_SEQ = re.compile(rb'\{"seq": ?(\d+)')
_RANGES: dict[str, Form] = {
    "*/*": NDJSON,
    "application/*": NDJSON,
    "application/x-ndjson": NDJSON,
    "application/json": DOCUMENT,
    "text/event-stream": EVENTS,
    "text/*": EVENTS,
}


def accepted_form(accept: str) -> Form:
    """Return the form that an `Accept` header prefers. NDJSON where it says nothing, or nothing that there is."""
    best: Form = NDJSON
    best_rank = (0.0, -1)
    for item in accept.split(","):
        media_range, *parameters = (part.strip().lower() for part in item.split(";"))
        form = _RANGES.get(media_range)
        quality = next((_quality(text[2:]) for text in parameters if text.startswith("q=")), 1.0)
        rank = (quality, 2 - media_range.count("*"))
        if form is not None and quality > 0 and rank > best_rank:
            best, best_rank = form, rank
    return best


async def outputs_response(request: Request, following: Following, form: Form) -> Response:
    """Return the outputs in the form asked for. A client that leaves stops reading, not the execution."""
    headers = {"X-Execution-Id": following.execution, "Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    if form == DOCUMENT:
        return await _document(request, following, headers)
    chunks = following.lines() if form == NDJSON else as_events(following.lines())
    return Streamed(chunks, headers=headers, media_type=form, closed=following.aclose)


async def as_events(blocks: AsyncIterator[bytes], heartbeat_s: float = HEARTBEAT_S) -> AsyncGenerator[bytes, None]:
    """Yield each line as a server-sent event whose id is its sequence number, and a comment when nothing comes."""
    iterator = aiter(blocks)
    coming: asyncio.Future[bytes | None] = asyncio.ensure_future(_next(iterator))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=heartbeat_s)
            if not done:
                yield _HEARTBEAT
                continue
            block = coming.result()
            if block is None:
                return
            yield b"".join(_event(line) for line in block.splitlines() if line)
            coming = asyncio.ensure_future(_next(iterator))
    finally:
        coming.cancel()
        await asyncio.wait({coming})
        if isinstance(blocks, AsyncGenerator):
            await blocks.aclose()


async def _document(request: Request, following: Following, headers: dict[str, str]) -> Response:
    collecting = asyncio.ensure_future(_collected(following))
    leaving = asyncio.ensure_future(until_client_leaves(request.receive))
    try:
        await asyncio.wait({collecting, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not collecting.done():
            raise ClientDisconnect
        lines = collecting.result()
    finally:
        for task in (collecting, leaving):
            task.cancel()
        await asyncio.wait({collecting, leaving})
        await following.aclose()
    last = json.loads(lines[-1]) if lines else {}
    head = {"id": following.execution}
    head.update((name, last[name]) for name in ("status", "execution_count", "duration_ms") if name in last)
    body = json.dumps(head).encode()[:-1] + b', "outputs": [' + b",".join(lines) + b"]}"
    return Response(body, headers=headers, media_type=DOCUMENT)


async def _collected(following: Following) -> list[bytes]:
    async with contextlib.aclosing(following.lines()) as blocks:
        return [line for block in [block async for block in blocks] for line in block.splitlines() if line]


async def _next(iterator: AsyncIterator[bytes]) -> bytes | None:
    return await anext(iterator, None)


def _event(line: bytes) -> bytes:
    found = _SEQ.match(line)
    number = b"id: " + found[1] + b"\n" if found else b""
    return number + b"data: " + line + b"\n\n"


def _quality(text: str) -> float:
    try:
        return min(1.0, max(0.0, float(text)))
    except ValueError:
        return 1.0
