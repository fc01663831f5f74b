"""What chat adds to a model: to its first token, to each token, to code that it runs; and memory of an open stream.

The model is scripted and sends as fast as it can. It is asked in the same run without us, by the same reader.
"""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Sequence
from dataclasses import dataclass
from typing import Any

from bench.chat_model import CALL, CALLED_AT, HOLD, LONG, LONG_PIECES, RELEASE, SHORT
from bench.events import Connection, Heard, connections
from bench.loads import Outcomes
from bench.machine import memory_bytes
from bench.product import ROOT, Product, Unexpected, address, ended, environment, running_product
from bench.report import Figure, Part, figure, measured, once, several
from caesarion.ids import new_id

NAME = "chat, beside the model alone"
ALONE = "the model alone"
TEXT = b'{"type":"text-delta"'
TEXT_OF_MODEL = b'"delta": {"content": '
OUTPUT = b'"outputs":[{'
TURNS_BEFORE = 3
TURNS_A_SESSION = 10
STREAMS_AT_ONCE = 50
STREAMS_HELD = 60
MEMORY_OF_ONE_BYTES = 160 * 10**6
CODES = {"print(1)": "code that ends at once", "print(1)\nimport time\ntime.sleep(0.2)": "code that goes on"}
_CALLED = re.compile(re.escape(CALLED_AT).encode() + rb"([0-9.]+)")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How often each thing is done."""

    warm_up: int
    answers: int
    new_sessions: int
    calls: int
    streams: int
    crowds: int
    at_once: int
    held: int


FULL = Sizes(5, 60, 20, 30, 20, 5, STREAMS_AT_ONCE, STREAMS_HELD)
QUICK = Sizes(1, 3, 2, 2, 3, 1, 2, 2)


async def measure(*, quick: bool) -> Part:
    """Ask the product and the model in turn, so that both see the same machine."""
    sizes = QUICK if quick else FULL
    room = max(1, memory_bytes("MemAvailable") // MEMORY_OF_ONE_BYTES)
    held, at_once = min(sizes.held, room), min(sizes.at_once, room)
    async with scripted_model() as model_url:
        settings = {"OPENAI_BASE_URL": model_url, "OPENAI_API_KEY": "bench"}
        async with running_product(pool_size=1, settings=settings) as product, _clients(product, model_url, 1) as two:
            figures = [
                await _first_tokens(product, *two, sizes),
                await _new_sessions(product, *two, sizes),
                *[await _calls(product, code, sizes) for code in CODES],
            ]
        async with running_product(pool_size=1, settings=settings) as product:
            sessions = [new_id("s") for _ in range(held)]
            async with _clients(product, model_url, at_once) as (ours, alone):
                for session in sessions:
                    await ours.heard(session, SHORT)
                await product.pool_full()
                figures += [
                    await _streams(ours, alone, sessions[:1], sizes.streams),
                    await _streams(ours, alone, sessions[:at_once], sizes.crowds),
                    await _memory(product, alone, sessions),
                ]
    notes = [
        "kept connections, one reader of raw bytes for both; the model is a process of its own",
        f"a session that exists has {TURNS_BEFORE} to {TURNS_BEFORE + TURNS_A_SESSION - 1} turns before",
        f"a stream is {LONG_PIECES} pieces; tokens/s is from asking to the last piece, of all streams together",
        "a call's time is from the model's decision to the reader's first sight of output",
        "memory is that of the serving process, over what it had with the same sessions and no open stream",
    ]
    if held < sizes.held:
        notes.append(f"{sizes.held} sandboxes would not fit into this machine's memory")
    return Part(NAME, tuple(figures), tuple(notes))


class Ours:
    """The product's chat, as a page asks it."""

    def __init__(self, opened: list[Connection]) -> None:
        self.connections = opened

    async def heard(self, session: str, said: str, number: int = 0) -> Heard:
        """Say something in a session and return the answer. Raises Unexpected unless the turn ended well."""
        message = {"id": new_id("u"), "role": "user", "parts": [{"type": "text", "text": said}]}
        heard = await self.connections[number].post("/api/chat", {"id": session, "messages": [message]})
        if b'{"type":"finish","finishReason":"stop"' not in heard.content:
            raise Unexpected(f"a turn ended with {heard.content[-300:]!r}")
        return heard


class Alone:
    """The model without us."""

    def __init__(self, opened: list[Connection], path: str) -> None:
        self.connections = opened
        self._path = path

    async def heard(self, said: str, turns_before: int = 0, number: int = 0) -> Heard:
        """Say something after some turns and return the answer."""
        turn = [{"role": "user", "content": SHORT}, {"role": "assistant", "content": "a short answer"}]
        messages: list[dict[str, Any]] = [*(turn * turns_before), {"role": "user", "content": said}]
        return await self.connections[number].post(self._path, {"model": "m", "stream": True, "messages": messages})


async def _first_tokens(product: Product, ours: Ours, alone: Alone, sizes: Sizes) -> Figure:
    """Ask in sessions with some turns, a new one when one has become too long."""
    with_us, without = Outcomes(), Outcomes()
    session = ""
    for number in range(-sizes.warm_up, sizes.answers):
        turn = (number + sizes.warm_up) % TURNS_A_SESSION
        if turn == 0:
            session = await _changed_session(product, ours, session)
        kept = number >= 0
        await _kept(_first_ms(ours.heard(session, SHORT)), with_us if kept else Outcomes())
        await _kept(_first_ms(alone.heard(SHORT, TURNS_BEFORE + turn)), without if kept else Outcomes())
    await product.close_session(session)
    return figure("first token, in a session that exists", "ms", measured(with_us), ALONE, measured(without))


async def _changed_session(product: Product, ours: Ours, before: str) -> str:
    if before:
        await product.close_session(before)
    session = new_id("s")
    for _ in range(TURNS_BEFORE):
        await ours.heard(session, SHORT)
    await product.pool_full()
    return session


async def _new_sessions(product: Product, ours: Ours, alone: Alone, sizes: Sizes) -> Figure:
    with_us, without = Outcomes(), Outcomes()
    for _ in range(sizes.new_sessions):
        await product.pool_full()
        session = new_id("s")
        await _kept(_first_ms(ours.heard(session, SHORT)), with_us)
        await _kept(_first_ms(alone.heard(SHORT)), without)
        await product.close_session(session)
    return figure("first token, in a new session", "ms", measured(with_us), ALONE, measured(without))


async def _calls(product: Product, code: str, sizes: Sizes) -> Figure:
    """Let the model call `python`, and run the same code through execute in the same kernel."""
    through_chat, through_execute = Outcomes(), Outcomes()

    async def called_ms(session: str) -> float:
        heard = await ours.heard(session, CALL + code)
        found = _CALLED.search(heard.content)
        if found is None:
            raise Unexpected(f"there was no call, but {heard.content[-300:]!r}")
        return (heard.first_s - float(found[1])) * 1000

    async def executed_ms(session: str) -> float:
        began_s = time.perf_counter()
        return (await product.run(session, code) - began_s) * 1000

    session = new_id("s")
    async with connections(product.url, OUTPUT, 1) as opened:
        ours = Ours(opened)
        for number in range(-sizes.warm_up, sizes.calls):
            if number == 0:
                await product.pool_full()
            kept = number >= 0
            await _kept(called_ms(session), through_chat if kept else Outcomes())
            await _kept(executed_ms(session), through_execute if kept else Outcomes())
    await product.close_session(session)
    name = f"first output of a call of python, {CODES[code]}"
    return figure(name, "ms", measured(through_chat), "the same through execute", measured(through_execute))


async def _streams(ours: Ours, alone: Alone, sessions: Sequence[str], rounds: int) -> Figure:
    """Read one long answer in each of these sessions at once, and as many of the model alone."""
    with_us, without = [], []
    for number in range(-1, rounds):
        rate = _rate(await asyncio.gather(*(ours.heard(s, LONG, n) for n, s in enumerate(sessions))))
        rate_alone = _rate(await asyncio.gather(*(alone.heard(LONG, 0, n) for n in range(len(sessions)))))
        if number >= 0:
            with_us.append(rate)
            without.append(rate_alone)
    streams = "1 stream" if len(sessions) == 1 else f"{len(sessions)} streams at once"
    return figure(f"{streams} of {LONG_PIECES} tokens", "tokens/s", several(with_us), ALONE, several(without))


def _rate(answers: Sequence[Heard]) -> float:
    """Return tokens per second from asking to the last of all. Raises Unexpected when some are missing."""
    count = sum(heard.count for heard in answers)
    if count != LONG_PIECES * len(answers):
        raise Unexpected(f"{len(answers)} answers had {count} tokens")
    return count / (max(heard.last_s for heard in answers) - min(heard.asked_s for heard in answers))


async def _memory(product: Product, alone: Alone, sessions: Sequence[str]) -> Figure:
    """Hold a stream open in each session, and look by how much the serving process grew."""
    before_bytes = product.memory().now_bytes
    async with connections(product.url, TEXT, len(sessions)) as opened:
        ours = Ours(opened)
        async with asyncio.TaskGroup() as group:
            for number, session in enumerate(sessions):
                group.create_task(ours.heard(session, HOLD, number))
            for connection in opened:
                await connection.marked.wait()
            grown_bytes = product.memory().now_bytes - before_bytes
            await alone.heard(RELEASE)
    return figure(f"memory of each of {len(sessions)} open streams", "KB", once(grown_bytes / 1000 / len(sessions)))


async def _first_ms(answer: Awaitable[Heard]) -> float:
    return (await answer).first_ms


async def _kept(action: Awaitable[float], outcomes: Outcomes) -> None:
    try:
        outcomes.samples_ms.append(await action)
    except Exception as exc:
        outcomes.failures.append(f"{type(exc).__name__}: {exc}"[:300])


@contextlib.asynccontextmanager
async def _clients(product: Product, model_url: str, count: int) -> AsyncIterator[tuple[Ours, Alone]]:
    async with (
        connections(product.url, TEXT, count) as to_product,
        connections(model_url, TEXT_OF_MODEL, count) as to_model,
    ):
        yield Ours(to_product), Alone(to_model, "/v1/chat/completions")


@contextlib.asynccontextmanager
async def scripted_model() -> AsyncIterator[str]:
    """Run the scripted model and give its address."""
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "bench.chat_model"), cwd=ROOT, env=environment({}), stdout=asyncio.subprocess.PIPE
    )
    try:
        yield await address(process)
    finally:
        await ended(process)
