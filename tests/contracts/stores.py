"""A store that can be stopped and made to fail, in front of a real one."""

import asyncio
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, field
from typing import Literal

from caesarion.errors import SandboxUnavailable
from caesarion.ports import ObjectStore, StoredObject

Point = Literal["put", "kept", "read", "delete"]


@dataclass
class Gate:
    """A point at which work stops: `reached` once it is there, until `open`."""

    reached: asyncio.Event = field(default_factory=asyncio.Event)
    open: asyncio.Event = field(default_factory=asyncio.Event)


class Gated:
    """The store behind it, which stops where there is a gate: before an object is put, read or deleted, or once kept.

    What is in `failing` fails there instead.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self.gates: dict[Point, Gate] = {}
        self.failing: set[Point] = set()

    async def put(self, path: str, content: AsyncIterator[bytes]) -> int:
        await self._pass("put")
        size_bytes = await self._store.put(path, content)
        await self._pass("kept")
        return size_bytes

    async def create(self, path: str, content: bytes) -> bool:
        return await self._store.create(path, content)

    async def read(self, path: str) -> AsyncIterator[bytes]:
        await self._pass("read")
        async for piece in self._store.read(path):
            yield piece

    async def delete(self, path: str) -> None:
        await self._pass("delete")
        await self._store.delete(path)

    async def list(self, folder: str) -> Sequence[StoredObject]:
        return await self._store.list(folder)

    async def aclose(self) -> None:
        await self._store.aclose()

    async def _pass(self, point: Point) -> None:
        if point in self.failing:
            raise SandboxUnavailable(f"The store fails at {point}.")
        gate = self.gates.get(point)
        if gate is not None:
            gate.reached.set()
            await gate.open.wait()
