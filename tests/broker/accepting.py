"""A process that accepts events for as long as it lives, and says so of each: `accepting.py FILE URL RUN`.

They go to the URL as well, so that it dies while some are delivered, some are under way and some wait.
"""

import asyncio
import sys

from caesarion.adapters.broker import Broker
from caesarion.adapters.broker_store import BrokerStore
from tests.broker.conftest import ANN, Subscriber, event, trigger


async def main(path: str, url: str, run: str) -> None:
    broker = Broker(BrokerStore(path), [trigger(subscriber=url)], max_deliveries=4)
    await broker.start(Subscriber().app)

    async def send(producer: int) -> None:
        number = 0
        while True:
            number += 1
            sent = event(f"{run}-{producer}-{number}", data="x" * 500)
            await broker.send(sent, ANN)
            sys.stdout.write(f"{sent.id}\n")
            sys.stdout.flush()

    async with asyncio.TaskGroup() as tasks:
        for producer in range(8):
            tasks.create_task(send(producer))


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
