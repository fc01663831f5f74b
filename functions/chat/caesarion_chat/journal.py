"""A chat's part of its session's journal: the stream `chat` with the history, and one stream of chunks for each turn.

While a function drives a turn it holds the turn's stream, by a connection that ends when the function does. So every
replica can tell a turn that runs from one whose function is gone.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from caesarion.adapters.sessions import Sessions
from caesarion.errors import CaesarionError
from caesarion.ids import SessionKey
from caesarion_chat.transcript import Turn, folded
from caesarion_chat.ui_stream import Chunk, ChunkLog, is_last, with_pauses

CHAT = "/v1/journal/chat"
PRELIMINARY_EVERY_S = 2.0
CUT = {
    "type": "error",
    "errorText": "The function that answered this has ended in the middle. Ask again; code that ran is not run twice.",
}


async def history(sessions: Sessions, key: SessionKey) -> tuple[list[Turn], int]:
    """Return the turns of a session, and how many records they stand in."""
    async with sessions.stream(key, "GET", CHAT, passed=(404,)) as answer:
        if answer.status == 404:
            return [], 0
        lines = [line async for block in answer.lines() for line in block.splitlines() if line]
    return folded(json.loads(line)["record"] for line in lines), len(lines)


async def is_driven(sessions: Sessions, key: SessionKey, turn: str) -> bool:
    """Whether a function drives this turn now."""
    async with sessions.stream(key, "GET", _chunks(turn), params={"after": 10**14}, passed=(404,)) as answer:
        return answer.headers.get("X-Journal-Held") == "true"


async def signal_stop(sessions: Sessions, key: SessionKey, turn: str) -> None:
    """Ask whoever drives this turn to stop it; nothing happens when nobody does."""
    async with sessions.stream(key, "POST", f"{_chunks(turn)}/signal", document={"stop": True}, passed=(404,)):
        pass


async def chunks_of(sessions: Sessions, key: SessionKey, turn: str) -> AsyncGenerator[list[Chunk], None]:
    """Yield a turn's chunks from the first, live while it is driven. The last one says so when it was cut off."""
    try:
        async with sessions.stream(key, "GET", _chunks(turn), params={"follow": 1}, passed=(404,)) as answer:
            if answer.status != 404:
                async for block in answer.lines():
                    for line in block.splitlines():
                        batch = json.loads(line)["record"]
                        yield batch
                        if batch and is_last(batch[-1]):
                            return
    except CaesarionError as exc:
        yield [{"type": "error", "errorText": exc.message}]
        return
    yield [CUT]


async def last_chunk(sessions: Sessions, key: SessionKey, turn: str) -> Chunk | None:
    """Return the last chunk of a turn that is written down so far, or None when there is none."""
    last: Chunk | None = None
    async with sessions.stream(key, "GET", _chunks(turn), passed=(404,)) as answer:
        if answer.status == 404:
            return None
        async for block in answer.lines():
            last = json.loads(block.splitlines()[-1])["record"][-1]
    return last


class TurnJournal:
    """The journal of one turn that is driven here."""

    def __init__(self, sessions: Sessions, key: SessionKey, turn: str) -> None:
        self._sessions = sessions
        self._key = key
        self._path = _chunks(turn)
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()
        self._order = asyncio.Lock()
        self._held: AsyncIterator[bytes] | None = None
        self._writing: asyncio.Task[None] | None = None

    async def hold(self) -> None:
        """Hold the turn's stream. Raises Conflict when another function does."""
        answer = await self._stack.enter_async_context(self._sessions.stream(self._key, "GET", f"{self._path}/hold"))
        self._held = answer.lines()
        await anext(self._held)

    def begin(self, log: ChunkLog, stopping: asyncio.Event) -> None:
        """Begin to write the chunks into the stream that is held, and to listen for a stop."""
        if self._held is None:
            raise RuntimeError("a turn's stream is written by who holds it")
        self._writing = asyncio.create_task(self._write(log))
        self._tasks += [self._writing, asyncio.create_task(_listen(self._held, stopping))]

    async def append(self, record: dict[str, Any], *, expect: int | None = None) -> None:
        """Add a record to the history. Raises Conflict when there are not `expect` records before it."""
        async with self._order:
            params = None if expect is None else {"expect": expect}
            await self._sessions.call(self._key, "POST", CHAT, params=params, document=record)

    async def close(self) -> None:
        """Write the chunks that are left, the last one among them, and let go of the stream."""
        if self._writing is not None:
            with contextlib.suppress(CaesarionError):
                await self._writing
        await self.abandon()

    async def abandon(self) -> None:
        """Let go of the stream as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def _write(self, log: ChunkLog) -> None:
        """Write chunks as they come, those that come meanwhile together; of preliminary outputs some, the last too."""
        loop = asyncio.get_running_loop()
        preliminary: dict[str, Chunk] = {}
        written_s = 0.0
        async for batch in with_pauses(log.follow(), PRELIMINARY_EVERY_S):
            kept: list[Chunk] = []
            for chunk in batch:
                if chunk.get("preliminary"):
                    preliminary[chunk["toolCallId"]] = chunk
                else:
                    preliminary.pop(chunk.get("toolCallId", ""), None)
                    kept.append(chunk)
            ended = bool(kept) and is_last(kept[-1])
            if preliminary and not ended and loop.time() - written_s >= PRELIMINARY_EVERY_S:
                written_s = loop.time()
                kept += preliminary.values()
                preliminary.clear()
            if kept:
                await self._sessions.call(self._key, "POST", self._path, document=kept)


async def _listen(lines: AsyncIterator[bytes], stopping: asyncio.Event) -> None:
    with contextlib.suppress(CaesarionError):
        async for block in lines:
            if any("signal" in json.loads(line) for line in block.splitlines() if line):
                stopping.set()


def _chunks(turn: str) -> str:
    return f"/v1/journal/turn-{turn}"
