"""From asking for a new session to its first output: one by one, staggered and all at once; beside plain kernels."""

import itertools
import time

from bench.kernels import plain_start_ms
from bench.loads import burst, sequential, staggered
from bench.product import Product, running_product
from bench.report import Figure, Part, figure, measured
from bench.statistics import p50_under

NAME = "first output of a new session, with a warm pool"
CODE = "print(1)"
INTERVAL_S = 0.2
LIMIT_MS = 60
REFERENCE = "plain ipykernel start to first reply"


async def measure(*, quick: bool) -> Part:
    """Make sessions from a pool that is full before each round."""
    count, at_once = (1, 1) if quick else (20, 10)
    numbers = itertools.count(1)
    figures: list[Figure] = []
    async with running_product(pool_size=at_once) as product:
        opened: list[str] = []

        async def created() -> float:
            began_s = time.perf_counter()
            session = await product.open_session()
            opened.append(session)
            return (await product.run(session, CODE) - began_s) * 1000

        async def initialized() -> float:
            session = f"bench-{next(numbers)}"
            began_s = time.perf_counter()
            await product.call("POST", f"/sessions/{session}/initialize")
            opened.append(session)
            return (await product.run(session, CODE) - began_s) * 1000

        async def plain() -> float:
            return await plain_start_ms(CODE)

        async def refilled() -> None:
            await _closed(product, opened)
            await product.pool_full()

        reference = measured(await sequential(plain, count))
        for name, action in (("POST /sessions", created), ("POST initialize with an id of one's own", initialized)):
            ours = measured(await sequential(action, count, ready=refilled))
            verdicts = [p50_under(ours.samples, LIMIT_MS)]
            figures.append(figure(f"{name}, one after the other", "ms", ours, REFERENCE, reference, verdicts))
        await refilled()
        ours = measured(await staggered(created, at_once, interval_s=INTERVAL_S))
        await refilled()
        reference = measured(await staggered(plain, at_once, interval_s=INTERVAL_S))
        verdicts = [p50_under(ours.samples, LIMIT_MS)]
        figures.append(
            figure(
                f"POST /sessions, a new one each {INTERVAL_S * 1000:g} ms", "ms", ours, REFERENCE, reference, verdicts
            )
        )
        ours = measured(await burst(created, at_once))
        await refilled()
        reference = measured(await burst(plain, at_once))
        verdicts = [p50_under(ours.samples, LIMIT_MS)]
        figures.append(figure(f"POST /sessions, {at_once} at once", "ms", ours, REFERENCE, reference, verdicts))
        await _closed(product, opened)
    return Part(NAME, tuple(figures), (f"a pool of {at_once}, full before each round; it is refilled while measured",))


async def _closed(product: Product, opened: list[str]) -> None:
    while opened:
        await product.close_session(opened.pop())
