"""Sandboxes that are made when they are first asked for, since a function has no start of its own to make them in."""

from collections.abc import Callable, Sequence

from caesarion.ids import PrincipalId, SessionKey
from caesarion.ports import Sandbox, Sandboxes, SessionSpec


class OnFirstUse:
    """The `Sandboxes` port, answered by what `make` returns."""

    def __init__(self, make: Callable[[], Sandboxes]) -> None:
        self._make = make
        self._made: Sandboxes | None = None

    async def claim(self, key: SessionKey, spec: SessionSpec | None = None, *, deadline_s: float) -> Sandbox:
        return await self._sandboxes().claim(key, spec, deadline_s=deadline_s)

    async def get(self, key: SessionKey) -> Sandbox | None:
        return await self._sandboxes().get(key)

    async def list(self, principal: PrincipalId) -> Sequence[Sandbox]:
        return await self._sandboxes().list(principal)

    async def release(self, key: SessionKey) -> None:
        await self._sandboxes().release(key)

    async def aclose(self) -> None:
        if self._made is not None:
            await self._made.aclose()

    def _sandboxes(self) -> Sandboxes:
        if self._made is None:
            self._made = self._make()
        return self._made
