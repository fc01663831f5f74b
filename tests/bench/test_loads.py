"""Doing something one after the other, staggered and all at once."""

import asyncio

import pytest

from bench.loads import Outcomes, burst, sequential, staggered

pytestmark = pytest.mark.anyio


async def test_one_after_the_other_waits_until_it_may_begin() -> None:
    steps: list[str] = []

    async def ready() -> None:
        steps.append("ready")

    async def act() -> float:
        steps.append("act")
        return 1.0

    outcomes = await sequential(act, 2, ready=ready)
    assert steps == ["ready", "act", "ready", "act"]
    assert outcomes.samples_ms == [1.0, 1.0]


@pytest.mark.parametrize("interval_s", [0, 0.001])
async def test_all_run_beside_each_other(interval_s: float) -> None:
    all_here = asyncio.Barrier(3)

    async def act() -> float:
        await all_here.wait()
        return 1.0

    assert (await staggered(act, 3, interval_s=interval_s)).samples_ms == [1.0] * 3


async def test_what_fails_is_kept_beside_what_succeeds() -> None:
    numbers = iter(range(4))

    async def act() -> float:
        if (number := next(numbers)) % 2:
            raise ConnectionError(f"number {number}")
        return float(number)

    outcomes: Outcomes = await burst(act, 4)
    assert (outcomes.samples_ms, outcomes.tried) == ([0.0, 2.0], 4)
    assert outcomes.failures == ["ConnectionError: number 1", "ConnectionError: number 3"]
