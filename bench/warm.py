"""One warm execution through `execute`, beside a bare jupyter_client on a kernel of the same kind."""

import time
from collections.abc import Awaitable

from bench.kernels import forked_kernel
from bench.loads import Outcomes
from bench.product import running_product
from bench.report import Figure, Part, figure, measured
from bench.statistics import at_most_more

NAME = "one warm execution"
CODES = ("1", "print(1)")


async def measure(*, quick: bool) -> Part:
    """Ask the product, the bare kernel and the health route in turn, so that all three see the same machine."""
    warm_up, count = (1, 3) if quick else (20, 500)
    figures: list[Figure] = []
    floor = Outcomes()
    async with running_product(pool_size=1) as product, forked_kernel() as forked:
        session = await product.open_session()
        for code in CODES:
            ours, bare = Outcomes(), Outcomes()
            for number in range(warm_up + count):
                if number == warm_up:
                    await product.pool_full()
                kept = number >= warm_up
                await _timed(product.run(session, code), ours if kept else Outcomes())
                await _timed(forked.kernel.run(code), bare if kept else Outcomes())
                await _timed(product.healthy(), floor if kept else Outcomes())
            first, second = measured(ours), measured(bare)
            verdicts = at_most_more(first.samples, second.samples, p50=3, p99=10)
            figures.append(figure(f"`{code}` to its last output", "ms", first, "bare jupyter_client", second, verdicts))
    figures.append(figure("GET /health/live, the least that a request takes", "ms", measured(floor)))
    limit = (
        f"both kernels are limited to {forked.cpus:g} cores by a control group"
        if forked.cpus is not None
        else "neither kernel's processor time is limited: no control group may be written here"
    )
    return Part(NAME, tuple(figures), (f"sequential, in turn with the reference, kept connections; {limit}",))


async def _timed(action: Awaitable[object], outcomes: Outcomes) -> None:
    began_s = time.perf_counter()
    try:
        await action
    except Exception as exc:
        outcomes.failures.append(f"{type(exc).__name__}: {exc}"[:300])
    else:
        outcomes.samples_ms.append((time.perf_counter() - began_s) * 1000)
