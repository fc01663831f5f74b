"""Many sessions at once with one cell each, beside as many plain kernels."""

import time

from bench.kernels import plain_start_ms
from bench.loads import Outcomes, burst
from bench.machine import memory_bytes
from bench.product import running_product
from bench.report import Part, figure, measured, once
from bench.statistics import none_fails

NAME = "many sessions at once, one cell each"
CODE = "print(sum(range(1000)))"
WANTED = 50
MEMORY_OF_ONE_BYTES = 300 * 10**6


async def measure(*, quick: bool) -> Part:
    """Let all ask at the same moment; every one of them has to get its sandbox and its output."""
    count = 2 if quick else max(1, min(WANTED, memory_bytes("MemAvailable") // MEMORY_OF_ONE_BYTES))
    async with running_product(pool_size=count) as product:

        async def one() -> float:
            began_s = time.perf_counter()
            session = await product.open_session()
            await product.run(session, CODE)
            return (time.perf_counter() - began_s) * 1000

        ours = await burst(one, count)

    async def plain() -> float:
        return await plain_start_ms(CODE)

    bare = await burst(plain, count)
    ours_ms, bare_ms = measured(ours), measured(bare)
    figures = (
        figure(
            f"{count} sessions, each to the end of its cell", "ms", ours_ms, f"{count} plain ipykernel starts", bare_ms,
            [none_fails(len(ours.samples_ms), ours.tried)],
        ),
        figure("throughput", "sessions/s", once(_rate(ours)), "plain ipykernel starts", once(_rate(bare))),
    )  # fmt: skip
    notes = [f"a pool of {count}, full before; quotas off"]
    if not quick and count < WANTED:
        notes.append(f"{WANTED} would not fit into this machine's memory")
    return Part(NAME, figures, tuple(notes))


def _rate(outcomes: Outcomes) -> float:
    return len(outcomes.samples_ms) / outcomes.took_s
