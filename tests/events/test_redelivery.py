"""Events delivered again and again, to two replicas and across a violent end: each runs once and has one result.

The sandboxes are not confined here, so that the code can write down on the machine itself that it ran.
"""

import contextlib
import random
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import httpx
import pytest
from cloudevents.http import CloudEvent

from tests.events.conftest import Mode, as_document, post, post_batch, ran, read, requested
from tests.platform.conftest import failure
from tests.platform.served import Home, Served, home

UNCONFINED = {
    "CAESARION_SANDBOX_CONFINEMENT": "none",
    "CAESARION_MAX_EXECUTIONS": "0",
    "CAESARION_LOG_LEVEL": "WARNING",  # nobody reads the pipe while requests go on
}
DELIVERIES = 1000
AT_ONCE = 16
MODES: tuple[Mode, ...] = ("binary", "structured")


@dataclass(frozen=True)
class Place:
    """A home for functions, and a folder of the machine in which code writes that it ran."""

    home: Home
    notes: Path

    def code(self, name: str, then: str = "") -> str:
        """Return code that notes that it ran, and prints what no second run would print."""
        note = f"with open({str(self.notes / name)!r}, 'a') as file: file.write('x')\n"
        return f"{note}import uuid\nprint(uuid.uuid4())\n{then}"

    def waiting(self, name: str) -> str:
        """Return code that notes that it ran and waits until `let` is called."""
        gate = str(self.notes / f"{name}.go")
        return self.code(
            name, f"import os, time\nwhile not os.path.exists({gate!r}): time.sleep(0.01)\nprint('went on')"
        )

    def let(self, name: str) -> None:
        """Let code that waits go on."""
        (self.notes / f"{name}.go").touch()

    def runs(self, name: str) -> int:
        """Return how often code ran."""
        with contextlib.suppress(FileNotFoundError):
            return len((self.notes / name).read_text("utf-8"))
        return 0

    def wait_for(self, name: str) -> None:
        """Wait until code has begun."""
        while not self.runs(name):
            time.sleep(0.01)

    def functions(self, **env: str) -> contextlib.AbstractContextManager[Served]:
        """Run the execute function under functions-framework."""
        return self.home.framework(**UNCONFINED, **env)


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    with home() as made:
        notes = made.path / "notes"
        notes.mkdir()
        yield Place(made, notes)


def test_a_thousand_deliveries_in_disorder_run_each_event_once_and_give_one_result(place: Place) -> None:
    large = "print('0123456789' * 40_000)"
    sessions = [f"named-{number % 3}" for number in range(13)]
    events: dict[str, str | None] = {f"n{number}": session for number, session in enumerate(sessions)}
    events |= {f"o{number}": None for number in range(7)}
    sent = {
        name: requested(place.code(name, large if name in ("n0", "o0") else ""), session=session)
        for name, session in events.items()
    }
    deliveries = [name for name in sent for _ in range(DELIVERIES // len(sent))]
    assert (len(sent), len(deliveries)) == (20, DELIVERIES)
    shuffled = random.Random()
    shuffled.shuffle(deliveries)
    with place.functions() as first, place.functions() as second, ThreadPoolExecutor(AT_ONCE) as pool:

        def deliver(number: int, name: str) -> tuple[str, CloudEvent, bytes]:
            mode: Mode = "structured" if number % 2 else "binary"
            reply = post((first, second)[number % 3 % 2].client, sent[name], mode)
            attributes = sorted(f"{key}: {value}" for key, value in reply.headers.items() if key.startswith("ce-"))
            return name, read(reply), "\n".join(attributes).encode() + b"\n" + reply.content

        results = list(pool.map(deliver, range(DELIVERIES), deliveries))
        by_name = {name: [(event, raw) for other, event, raw in results if other == name] for name in sent}
        for name, same in by_name.items():
            assert len(same) == DELIVERIES // len(sent)
            assert all(event == same[0][0] for event, _ in same), name
            assert len({raw for _, raw in same}) == len(MODES), "byte for byte the same in each mode"
            assert same[0][0].data["status"] == "ok"
            assert place.runs(name) == 1
        data = {name: same[0][0].data for name, same in by_name.items()}
        assert {name for name in data if "outputs_at" in data[name]} == {"n0", "o0"}
        left = {session["id"] for session in second.client.get("/sessions").json()["sessions"]}
        assert left == {*sessions, data["o0"]["session"]}
        whole = post_batch(second.client, [as_document(event) for event in sent.values()]).json()
        assert [one["data"] for one in whole] == [data[name] for name in sent]
        for session in left:
            assert first.client.delete(f"/sessions/{session}").status_code == 204


@pytest.mark.parametrize("session", ["kept", None])
def test_a_function_killed_in_mid_run_leaves_one_run_and_one_result(place: Place, session: str | None) -> None:
    name = f"killed-{session}"
    event = requested(place.waiting(name), session=session)
    with ThreadPoolExecutor(8) as pool:
        with place.functions() as doomed:
            cut = pool.submit(post, doomed.client, event)
            place.wait_for(name)
            doomed.end(signum=9)
            with pytest.raises(httpx.TransportError):
                cut.result()
        with place.functions() as first, place.functions() as second:
            again: list[Future[httpx.Response]] = []
            for mode in MODES:
                again += [pool.submit(post, served.client, event, mode) for served in (first, second)]
            place.let(name)
            results = [read(reply.result()) for reply in again]
            assert all(result == results[0] for result in results)
            data = results[0].data
            assert data["status"] == "ok"
            assert data["text"].endswith("went on\n")
            assert place.runs(name) == 1
            assert read(post(first.client, event)) == results[0]
            other = requested("1", attributes={"id": event["id"]}, session=session)
            assert failure(post(second.client, other)) == (422, "event_changed")
            assert second.client.delete(f"/sessions/{data['session']}").status_code == 204
            assert read(post(second.client, event)) == results[0], "the result outlives the session"


def test_a_session_closed_while_its_event_runs_ends_the_event_for_good(place: Place) -> None:
    event = requested(place.waiting("closed"), session="closing")
    with place.functions() as served, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(post, served.client, event)
        place.wait_for("closed")
        assert served.client.delete("/sessions/closing").status_code == 204
        result = read(asked.result())
        assert result.data["status"] == "died"
        place.let("closed")
        assert read(post(served.client, event)) == result
        assert place.runs("closed") == 1


def test_without_a_sandbox_in_time_the_broker_is_told_to_come_again(place: Place) -> None:
    event = requested(place.code("late"))
    with place.functions(CAESARION_CLAIM_TIMEOUT_S="0.1", CAESARION_POOL_SIZE="0") as hasty:
        reply = post(hasty.client, event)
        assert failure(reply) == (503, "sandbox_unavailable")
        assert int(reply.headers["retry-after"]) > 0
    with place.functions() as patient:
        assert ran(patient.client, event)["status"] == "ok"
        assert place.runs("late") == 1
