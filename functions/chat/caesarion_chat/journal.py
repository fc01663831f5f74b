"""A chat's part of its session's journal: the stream `chat` with the history, and one stream of chunks for each turn.

While a function drives a turn it holds the turn's stream, by a connection that ends when the function does. So every
replica can tell a turn that runs from one whose function is gone.
"""

import asyncio
import contextlib
import json
from collections.abc import AsyncGenerator
from typing import Any

from caesarion.adapters.sessions import Sessions
from caesarion.errors import CaesarionError
from caesarion.ids import SessionKey
from caesarion_chat.transcript import Turn, folded
from caesarion_chat.ui_stream import Chunk, ChunkLog, is_last

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


class TurnJournal:
    """The journal of one turn that is driven here."""

    def __init__(self, sessions: Sessions, key: SessionKey, turn: str, log: ChunkLog, stopping: asyncio.Event) -> None:
        self._sessions = sessions
        self._key = key
        self._path = _chunks(turn)
        self._log = log
        self._stopping = stopping
        self._tasks: list[asyncio.Task[None]] = []
        self._stack = contextlib.AsyncExitStack()
        self._order = asyncio.Lock()
        self._sent = asyncio.Event()

    async def open(self) -> None:
        """Hold the turn's stream and begin to write its chunks there."""
        answer = await self._stack.enter_async_context(self._sessions.stream(self._key, "GET", f"{self._path}/hold"))
        lines = answer.lines()
        await anext(lines)
        self._tasks.append(asyncio.create_task(self._listen(lines)))
        self._tasks.append(asyncio.create_task(self._write()))

    async def append(self, record: dict[str, Any], *, expect: int | None = None) -> None:
        """Add a record to the history. Raises Conflict when there are not `expect` records before it."""
        async with self._order:
            params = None if expect is None else {"expect": expect}
            await self._sessions.call(self._key, "POST", CHAT, params=params, document=record)

    async def close(self) -> None:
        """Write the chunks that are left, the last one among them, and let go of the stream."""
        if len(self._tasks) == 2 and self._log.ended:
            with contextlib.suppress(CaesarionError):
                await self._tasks[1]
        await self.abandon()

    async def abandon(self) -> None:
        """Let go of the stream as it is."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._stack.aclose()

    async def _listen(self, lines: Any) -> None:
        with contextlib.suppress(CaesarionError):
            async for block in lines:
                if any("signal" in json.loads(line) for line in block.splitlines() if line):
                    self._stopping.set()

    async def _write(self) -> None:
        """Write chunks as they come, those that come meanwhile together; of preliminary outputs only some."""
        loop = asyncio.get_running_loop()
        written_s: dict[str, float] = {}
        async for batch in self._log.follow():
            kept = []
            for chunk in batch:
                if chunk.get("preliminary"):
                    if loop.time() - written_s.get(chunk["toolCallId"], 0.0) < PRELIMINARY_EVERY_S:
                        continue
                    written_s[chunk["toolCallId"]] = loop.time()
                if not chunk.get("transient"):
                    kept.append(chunk)
            if kept:
                await self._sessions.call(self._key, "POST", self._path, document=kept)


def _chunks(turn: str) -> str:
    return f"/v1/journal/turn-{turn}"
