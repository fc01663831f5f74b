"""A product that is stopped while events are under way and more wait."""

import json
import signal
import time
from collections.abc import Iterator

import httpx
import pytest

from tests.platform.served import Home, home, still_alive


@pytest.fixture
def place() -> Iterator[Home]:
    with home() as made:
        yield made


def send(client: httpx.Client, number: int, code: str, session: str) -> None:
    headers = {"ce-specversion": "1.0", "ce-id": str(number), "ce-source": "/tests"}
    headers["ce-type"] = "dev.caesarion.execution.requested"
    client.post("/broker", json={"code": code, "session": session}, headers=headers).raise_for_status()


def test_a_stop_begins_nothing_and_leaves_nothing(place: Home) -> None:
    with place.serve(CAESARION_MAX_EXECUTIONS="2") as product:
        for number in range(6):
            send(
                product.client, number, "print('begun', flush=True)\nimport time; time.sleep(3600)", f"slow{number % 2}"
            )
        running = "/sessions/slow0/executions"
        while not any(one["status"] == "running" for one in listed(product.client, running)):
            time.sleep(0.05)
        processes = place.processes()
        status, errors = product.end(signal.SIGTERM)
        assert (status, errors) == (0, "")
        assert still_alive(processes) == []
        assert place.sandboxes() == []


def test_a_slow_session_leaves_its_principal_other_executions(place: Home) -> None:
    with place.serve(CAESARION_MAX_EXECUTIONS="2") as product:
        for number in range(5):
            send(product.client, number, "import time; time.sleep(3600)", "slow")
        send(product.client, 9, "print('quick')", "other")
        with product.client.stream("GET", "/broker/events", params={"follow": 1, "last": 100}) as lines:
            events = (json.loads(line)["event"] for line in lines.iter_lines() if '"event"' in line)
            finished = next(event for event in events if event["type"] == "dev.caesarion.execution.finished")
        assert finished["data"]["text"] == "quick\n"


def listed(client: httpx.Client, path: str) -> list[dict[str, object]]:
    reply = client.get(path)
    found: list[dict[str, object]] = reply.json()["executions"] if reply.status_code == 200 else []
    return found
