"""The broker and the schedules of a CAESARION_HOME. One process has them at a time; the next takes them over."""

import asyncio
import contextlib
import logging
from collections.abc import Sequence
from pathlib import Path

from starlette.types import ASGIApp

from caesarion.adapters.background import Background
from caesarion.adapters.broker import Broker
from caesarion.adapters.broker_store import BrokerStore
from caesarion.adapters.broker_tables import BrokerInUse
from caesarion.adapters.schedules import CronSource, Schedule
from caesarion.errors import SandboxUnavailable
from caesarion.events import Event
from caesarion.ids import LOCAL_PRINCIPAL, PrincipalId
from caesarion.triggers import Trigger

logger = logging.getLogger(__name__)

TRIED_AGAIN_S = 2.0


class HomeBroker:
    """A `Sink`: the broker once it is this process's, and a refusal that says to try again while it is another's."""

    def __init__(
        self, path: Path, triggers: Sequence[Trigger], schedules: Sequence[Schedule], *, max_event_bytes: int
    ) -> None:
        self._path = path
        self._triggers = triggers
        self._schedules = schedules
        self._max_event_bytes = max_event_bytes
        self._broker: Broker | None = None
        self._open = contextlib.AsyncExitStack()
        self._waiting = Background()

    async def start(self, app: ASGIApp) -> None:
        """Take the broker if nobody has it, else as soon as it is free. Raises ConfigError when it cannot be used."""
        try:
            await self._take(app)
        except BrokerInUse as exc:
            logger.info("events wait for another process", extra={"reason": exc.message})
            self._waiting.start(self._take_later(app), name="take over the broker")

    async def send(self, event: Event, principal: PrincipalId) -> None:
        """See `Sink`."""
        await self.now().send(event, principal)

    def now(self) -> Broker:
        """Return the broker. Raises SandboxUnavailable while another process has it."""
        if self._broker is None:
            raise SandboxUnavailable(
                "Another process has the broker of this CAESARION_HOME. Ask that one, or end it and try again.",
                code="broker_elsewhere",
                retry_after_s=TRIED_AGAIN_S,
            )
        return self._broker

    async def aclose(self) -> None:
        """Deliver and tick no more. What is under way is delivered again by whoever has the broker next."""
        await self._waiting.aclose()
        await self._open.aclose()

    async def _take(self, app: ASGIApp) -> None:
        """Take all of it or nothing."""
        async with contextlib.AsyncExitStack() as taken:
            taken.callback(self._forget)
            store = await asyncio.to_thread(BrokerStore, self._path)
            taken.push_async_callback(store.aclose)
            broker = Broker(store, self._triggers, max_event_bytes=self._max_event_bytes)
            taken.push_async_callback(broker.aclose)
            await broker.start(app)
            self._broker = broker
            ticking = CronSource(self._schedules, broker, store, principal=LOCAL_PRINCIPAL)
            taken.push_async_callback(ticking.aclose)
            await ticking.start()
            self._open = taken.pop_all()

    async def _take_later(self, app: ASGIApp) -> None:
        """Try until it succeeds, whatever is wrong; each kind of failure is told once."""
        told: set[type[Exception]] = {BrokerInUse}
        while True:
            await asyncio.sleep(TRIED_AGAIN_S)
            try:
                await self._take(app)
            except Exception as exc:
                if type(exc) not in told:
                    told.add(type(exc))
                    logger.error("events cannot be taken here yet", exc_info=exc)
                continue
            logger.info("events are taken here from now on")
            return

    def _forget(self) -> None:
        self._broker = None
