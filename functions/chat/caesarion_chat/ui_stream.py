"""The AI SDK's UI message stream: chunks, and the log of a turn's chunks that any number of readers follow.

Source: AI SDK 6, "UI Message Stream Protocol". An optional field is left out, never null: the client's schema refuses
the latter and ends the turn.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from typing import Any

from caesarion_chat.model import FinishReason, Usage

Chunk = dict[str, Any]

HEADERS = {
    "Cache-Control": "no-cache",
    "X-Accel-Buffering": "no",
    "x-vercel-ai-ui-message-stream": "v1",
}
MEDIA_TYPE = "text/event-stream"
STOPPED_REASON = "stopped by the user"
LAST_TYPES = ("finish", "error", "abort")
KEEP_ALIVE = b": keep-alive\n\n"
KEEP_ALIVE_S = 15.0
DONE = b"data: [DONE]\n\n"


def is_last(chunk: Chunk) -> bool:
    """Whether nothing comes after this chunk."""
    return chunk["type"] in LAST_TYPES


def finish(reason: FinishReason, usage: Usage, **metadata: str) -> Chunk:
    """Return the last chunk of a turn that came to its end."""
    taken = {"promptTokens": usage.prompt_tokens, "completionTokens": usage.completion_tokens}
    return {"type": "finish", "finishReason": reason, "messageMetadata": {**metadata, "usage": taken}}


def encoded(chunk: Chunk) -> bytes:
    """Return a chunk as a server-sent event."""
    return b"data: " + json.dumps(chunk, separators=(",", ":")).encode() + b"\n\n"


class ChunkLog:
    """The chunks of one turn in order. A preliminary output goes when a later one of its call takes its place."""

    def __init__(self) -> None:
        self._chunks: list[Chunk | None] = []
        self._preliminary: dict[str, int] = {}
        self._changed = asyncio.Event()
        self.ended = False

    def append(self, chunk: Chunk) -> None:
        """Add a chunk. After the last one nothing is taken any more."""
        if self.ended:
            return
        call = chunk.get("toolCallId")
        if chunk["type"].startswith("tool-output") and call in self._preliminary:
            self._chunks[self._preliminary.pop(call)] = None
        if chunk.get("preliminary"):
            self._preliminary[chunk["toolCallId"]] = len(self._chunks)
        self._chunks.append(chunk)
        self.ended = is_last(chunk)
        self._changed.set()
        self._changed = asyncio.Event()

    async def follow(self) -> AsyncGenerator[list[Chunk], None]:
        """Yield all chunks from the first, as many at a time as there are, until the last one."""
        position = 0
        while True:
            changed, ended = self._changed, self.ended
            new = [chunk for chunk in self._chunks[position:] if chunk is not None]
            position = len(self._chunks)
            if new:
                yield new
            if ended:
                return
            await changed.wait()


async def with_pauses(batches: AsyncIterator[list[Chunk]], pause_s: float) -> AsyncGenerator[list[Chunk], None]:
    """Yield the batches, and an empty one each time that nothing comes for a while."""
    iterator = aiter(batches)
    coming: asyncio.Future[list[Chunk] | None] = asyncio.ensure_future(_next(iterator))
    try:
        while True:
            done, _ = await asyncio.wait({coming}, timeout=pause_s)
            if not done:
                yield []
                continue
            batch = coming.result()
            if batch is None:
                return
            yield batch
            coming = asyncio.ensure_future(_next(iterator))
    finally:
        coming.cancel()
        await asyncio.wait({coming})
        if isinstance(batches, AsyncGenerator):
            await batches.aclose()


async def as_events(
    batches: AsyncIterator[list[Chunk]], encode: Callable[[Chunk], bytes] = encoded, keep_alive_s: float = KEEP_ALIVE_S
) -> AsyncGenerator[bytes, None]:
    """Yield chunks as events, a comment when nothing comes for a while, and the end mark."""
    async with contextlib.aclosing(with_pauses(batches, keep_alive_s)) as paused:
        async for batch in paused:
            if data := b"".join(map(encode, batch)) if batch else KEEP_ALIVE:
                yield data
    yield DONE


async def _next(iterator: AsyncIterator[list[Chunk]]) -> list[Chunk] | None:
    return await anext(iterator, None)
