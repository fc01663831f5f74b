"""A new context and a restart to the first reply, beside a plain kernel start; all of them import pandas."""

import itertools
import os
import time

from bench.kernels import plain_start_ms
from bench.loads import sequential
from bench.product import running_product
from bench.report import Part, figure, measured
from bench.statistics import times_faster

NAME = "a new context, and a restart"
CODE = "import pandas; print(pandas.Series([1]).sum())"
TIMES = 10


async def measure(*, quick: bool) -> Part:
    """Make and remove contexts, and restart one, in a session that is there already."""
    count = 1 if quick else 30
    numbers = itertools.count(1)
    settings = {"CAESARION_SANDBOX_CPUS": str(os.cpu_count() or 1)}
    async with running_product(pool_size=1, settings=settings) as product:
        session = await product.open_session()
        contexts = f"/sessions/{session}/contexts"
        made: list[str] = []

        async def new_context() -> float:
            name = f"bench-{next(numbers)}"
            began_s = time.perf_counter()
            await product.call("POST", contexts, {"name": name})
            made.append(name)
            return (await product.run(session, CODE, name) - began_s) * 1000

        async def removed() -> None:
            while made:
                await product.call("DELETE", f"{contexts}/{made.pop()}")

        async def restart() -> float:
            began_s = time.perf_counter()
            await product.call("POST", f"{contexts}/default/restart")
            return (await product.run(session, CODE) - began_s) * 1000

        async def plain() -> float:
            return await plain_start_ms(CODE)

        await product.pool_full()
        reference = measured(await sequential(plain, max(1, count // 3)))
        added = measured(await sequential(new_context, count, ready=removed))
        restarted = measured(await sequential(restart, count))
    figures = tuple(
        figure(
            name, "ms", ours, "plain ipykernel start with pandas", reference,
            [times_faster(ours.samples, reference.samples, TIMES)],
        )
        for name, ours in (("POST contexts to first output", added), ("restart to first output", restarted))
    )  # fmt: skip
    return Part(NAME, figures, ("one after the other; neither side's processor time is limited here",))
