"""Suspensions that may take longer than the sweep that began them, with bounds so that nobody holds up the others.

Principals take turns, each with few at once, and what failed before comes after what did not.
"""

import asyncio
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence

from caesarion.adapters.background import Background
from caesarion.ids import PrincipalId, SessionKey
from caesarion_cleanup.rules import Suspend

AT_ONCE = 16
OF_ONE_PRINCIPAL_AT_ONCE = 2
WAIT_S = 30.0

Waiting = dict[PrincipalId, deque[Suspend]]


async def wait_a_while() -> None:
    """Return when a sweep has waited long enough for suspensions."""
    await asyncio.sleep(WAIT_S)


class Suspensions:
    """Owns the tasks that suspend; whoever closes it ends them. `suspend` has a deadline, raises nothing, and tells."""

    def __init__(self, suspend: Callable[[Suspend], Awaitable[str]], patience: Callable[[], Awaitable[None]]) -> None:
        self._suspend = suspend
        self._patience = patience
        self._background = Background()
        self._under_way: dict[SessionKey, asyncio.Task[None]] = {}
        self._failed: set[SessionKey] = set()
        self._outcomes: Counter[str] = Counter()

    def __len__(self) -> int:
        """How many are under way."""
        return len(self._under_way)

    def __contains__(self, key: SessionKey) -> bool:
        return key in self._under_way

    def outcomes(self) -> Counter[str]:
        """Return what came of those that ended since this was asked last."""
        outcomes, self._outcomes = self._outcomes, Counter()
        return outcomes

    async def work_off(self, due: Sequence[Suspend]) -> None:
        """Suspend what is not under way, until all of it has ended or `patience` has.

        Those under way by then go on; what could not begin is left to the next call.
        """
        waiting = self._in_turn(due)
        turns = deque(waiting)
        begun: set[asyncio.Task[None]] = set()
        out_of_patience = asyncio.ensure_future(self._patience())
        try:
            while not out_of_patience.done():
                begun |= self._begin(waiting, turns)
                under_way = dict(self._under_way)
                if not waiting and begun.isdisjoint(under_way.values()):
                    return
                await asyncio.wait({out_of_patience, *under_way.values()}, return_when=asyncio.FIRST_COMPLETED)
                turns.extend(key.principal for key, task in under_way.items() if task.done())
        finally:
            out_of_patience.cancel()

    async def aclose(self) -> None:
        """End those under way; their sessions go on as they were."""
        await self._background.aclose()

    def _in_turn(self, due: Sequence[Suspend]) -> Waiting:
        """Return what is to be suspended by whose it is, those first of whom least has failed."""
        self._failed &= {one.sandbox.key for one in due} | self._under_way.keys()
        failures = Counter(key.principal for key in self._failed)
        waiting: Waiting = {}
        for one in sorted(due, key=lambda one: (failures[one.sandbox.key.principal], one.sandbox.key in self._failed)):
            if one.sandbox.key not in self._under_way:
                waiting.setdefault(one.sandbox.key.principal, deque()).append(one)
        return waiting

    def _begin(self, waiting: Waiting, turns: deque[PrincipalId]) -> set[asyncio.Task[None]]:
        """Begin what the bounds allow. Who is at its bound gets its next turn when one of its own has ended."""
        begun = set()
        while turns and len(self._under_way) < AT_ONCE:
            principal = turns.popleft()
            of_principal = sum(key.principal == principal for key in self._under_way)
            if principal not in waiting or of_principal >= OF_ONE_PRINCIPAL_AT_ONCE:
                continue
            begun.add(self._begun(waiting[principal].popleft()))
            if waiting[principal]:
                turns.append(principal)
            else:
                del waiting[principal]
        return begun

    def _begun(self, one: Suspend) -> asyncio.Task[None]:
        key = one.sandbox.key
        task = self._background.start(self._carry_out(one), name="suspend")
        self._under_way[key] = task
        task.add_done_callback(lambda _: self._under_way.pop(key, None))
        return task

    async def _carry_out(self, one: Suspend) -> None:
        outcome = await self._suspend(one)
        self._outcomes[outcome] += 1
        if outcome == "failed":
            self._failed.add(one.sandbox.key)
        else:
            self._failed.discard(one.sandbox.key)
