"""The cleanup function over HTTP: sweeps asked for, ticks, what is refused, and the answers' shapes."""

import asyncio
import importlib
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import pytest
from cloudevents.http import from_http
from starlette.applications import Starlette
from starlette.routing import Route

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.key_file import KeyFile
from caesarion.errors import ConfigError
from caesarion.ids import PrincipalId
from caesarion.ports import Sandbox
from caesarion.principals import key_digest, records_from_env
from caesarion_cleanup.app import build_app
from caesarion_cleanup.settings import Settings
from tests.cleanup.simulated import Clock, SimulatedSandboxes, key_of
from tests.platform.conftest import failure

jsonschema: Any = importlib.import_module("jsonschema")  # it comes with nbformat and has no types
pytestmark = pytest.mark.anyio

TICK = {
    "ce-specversion": "1.0",
    "ce-id": "tick-1",
    "ce-source": "/apis/v1/namespaces/default/pingsources/caesarion-sweep",
    "ce-type": "dev.knative.sources.ping",
    "ce-team": "blue",
}
DOCUMENT = {name.removeprefix("ce-"): value for name, value in TICK.items()}


class GatedSandboxes(SimulatedSandboxes):
    """Sandboxes whose listing waits until it is let through."""

    def __init__(self, clock: Clock) -> None:
        super().__init__(clock)
        self.listings = 0
        self.listing = asyncio.Event()
        self.gate = asyncio.Event()
        self.gate.set()

    async def list(self, principal: PrincipalId | None) -> list[Sandbox]:
        self.listings += 1
        self.listing.set()
        await self.gate.wait()
        return list(await super().list(principal))


@dataclass
class Function:
    """The function with its sandboxes, and a client of it."""

    app: Starlette
    sandboxes: GatedSandboxes
    client: httpx.AsyncClient


Make = Callable[..., Awaitable[Function]]


@pytest.fixture
async def make(tmp_path: Path) -> AsyncIterator[Make]:
    """Make the function with these variables."""
    opened: list[tuple[Any, httpx.AsyncClient]] = []

    async def made(**env: str) -> Function:
        settings = Settings.from_env({"CAESARION_HOME": str(tmp_path), **env})
        sandboxes = GatedSandboxes(Clock(datetime.now(UTC)))
        keys = Keys(KeyFile(tmp_path / "keys.json", records_from_env(settings.serving.api_keys.reveal())))
        app = build_app(sandboxes, settings, keys)
        lifespan = app.router.lifespan_context(app)
        await lifespan.__aenter__()
        client = httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://localhost")
        opened.append((lifespan, client))
        return Function(app, sandboxes, client)

    yield made
    for lifespan, client in opened:
        await client.aclose()
        await lifespan.__aexit__(None, None, None)


async def test_a_sweep_is_answered_with_its_report_as_the_document_says(make: Make) -> None:
    function = await make()
    function.sandboxes.make(key_of("s")).alive = False
    document = (await function.client.get("/openapi.json")).json()
    for body in (b"", b"{}"):
        reply = await function.client.post("/sweep", content=body)
        assert reply.status_code == 200
        schema = document["components"]["schemas"]["SweepReport"]
        jsonschema.Draft202012Validator({**schema, "additionalProperties": False}).validate(reply.json())
        assert (reply.json()["examined"], reply.json()["failed"]) == (1, 0)


async def test_every_route_stands_in_the_document_and_the_other_way_round(make: Make) -> None:
    function = await make()
    document = (await function.client.get("/openapi.json")).json()
    told = {(method.upper(), path) for path, calls in document["paths"].items() for method in calls}
    routes = [route for route in function.app.routes if isinstance(route, Route)]
    served = {(method, route.path) for route in routes for method in route.methods or () if method != "HEAD"}
    assert len(routes) == len(function.app.routes)
    assert served == told
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.parametrize("mode", ["binary", "structured"])
async def test_a_tick_is_answered_with_the_report_as_an_event_in_its_mode(make: Make, mode: str) -> None:
    function = await make()
    function.sandboxes.make(key_of("s")).alive = False
    if mode == "binary":
        sent: dict[str, Any] = {"headers": {**TICK, "content-type": "application/json"}, "content": b'{"any": "data"}'}
    else:
        sent = {"headers": {"content-type": "application/cloudevents+json"}, "content": json.dumps(DOCUMENT)}
    replies = [await function.client.post("/events/cleanup", **sent) for _ in range(2)]
    events = [from_http(dict(reply.headers), reply.content) for reply in replies]
    assert [reply.status_code for reply in replies] == [200, 200]
    assert {event["type"] for event in events} == {"dev.caesarion.cleanup.finished"}
    assert {event["team"] for event in events} == {"blue"}
    assert len({event["id"] for event in events}) == 1  # the same tick again
    assert events[0].data["examined"] == 1
    assert function.sandboxes.sessions[key_of("s")].suspended_at is not None


async def test_a_batch_of_ticks_is_answered_with_a_batch(make: Make) -> None:
    function = await make()
    ticks = [{**DOCUMENT, "id": f"tick-{number}"} for number in range(3)]
    headers = {"content-type": "application/cloudevents-batch+json"}
    reply = await function.client.post("/events/cleanup", content=json.dumps(ticks), headers=headers)
    assert reply.status_code == 200
    assert [event["type"] for event in reply.json()] == ["dev.caesarion.cleanup.finished"] * 3
    assert len({event["id"] for event in reply.json()}) == 3


async def test_an_event_that_nobody_could_be_given_is_logged_by_name_and_not_swept_for(
    make: Make, caplog: pytest.LogCaptureFixture
) -> None:
    function = await make()
    said = {"ce-knativeerrordest": "http://execute.example/events/execute", "ce-knativeerrorcode": "503"}
    reply = await function.client.post("/events/dead", headers={**TICK, **said})
    assert (reply.status_code, reply.content, function.sandboxes.listings) == (202, b"", 0)
    (told,) = (record for record in caplog.records if record.getMessage() == "event not delivered")
    assert vars(told).items() >= {"event_id": "tick-1", "code": "503", "dest": said["ce-knativeerrordest"]}.items()


async def test_an_event_of_another_type_is_dropped_without_a_sweep(make: Make) -> None:
    function = await make()
    for kind in ("dev.caesarion.cleanup.finished", "dev.caesarion.execution.requested", "com.example.other"):
        reply = await function.client.post("/events/cleanup", headers={**TICK, "ce-type": kind})
        assert (reply.status_code, reply.content) == (202, b"")
    assert function.sandboxes.listings == 0


@pytest.mark.parametrize("missing", ["ce-specversion", "ce-id", "ce-source", "ce-type"])
async def test_a_tick_without_an_attribute_is_refused_and_nothing_is_swept(make: Make, missing: str) -> None:
    function = await make()
    headers = {name: value for name, value in TICK.items() if name != missing}
    reply = await function.client.post("/events/cleanup", headers=headers)
    assert failure(reply) == (400, "invalid_event")
    assert missing.removeprefix("ce-") in reply.json()["error"]["message"]
    assert function.sandboxes.listings == 0


async def test_who_wants_to_send_events_is_told_that_it_may(make: Make) -> None:
    function = await make()
    reply = await function.client.options("/events/cleanup", headers={"WebHook-Request-Origin": "broker.example"})
    assert (reply.status_code, reply.headers["webhook-allowed-origin"]) == (200, "broker.example")


async def test_what_cannot_be_asked_is_told_in_the_one_shape(make: Make) -> None:
    function = await make()
    post = function.client.post
    assert failure(await post("/sweep", json={"force": True})) == (400, "unknown_field")
    assert failure(await post("/sweep", content=b"[]")) == (400, "invalid_json")
    assert failure(await post("/sweep", content=b"now", headers={"content-type": "text/plain"})) == (
        415,
        "unsupported_type",
    )
    assert failure(await post("/sweep", content=b" " * 5_000_000)) == (413, "too_large")
    assert failure(await post("/sweep/")) == (404, "route_not_found")
    for path, allowed in (("/sweep", "POST"), ("/events/cleanup", "OPTIONS, POST")):
        reply = await function.client.get(path)
        assert (*failure(reply), reply.headers["allow"]) == (405, "method_not_allowed", allowed)
    assert function.sandboxes.listings == 0


@pytest.mark.parametrize("tick", [False, True])
async def test_a_platform_that_cannot_be_asked_is_told_as_what_may_pass(make: Make, tick: bool) -> None:
    function = await make()
    function.sandboxes.broken.add("list")
    reply = await function.client.post("/events/cleanup" if tick else "/sweep", headers=TICK if tick else {})
    assert failure(reply) == (503, "sandbox_unavailable")
    assert int(reply.headers["retry-after"]) >= 1
    function.sandboxes.broken.clear()
    assert (await function.client.post("/sweep")).status_code == 200
    assert (await function.client.get("/health/ready")).status_code == 200


async def test_who_asks_while_a_sweep_runs_gets_the_next_one_which_they_share(make: Make) -> None:
    function = await make()
    function.sandboxes.gate.clear()
    sent = asyncio.Semaphore(0)

    async def body() -> AsyncIterator[bytes]:
        yield b""
        sent.release()

    async with asyncio.TaskGroup() as group:
        first = group.create_task(function.client.post("/sweep"))
        await function.sandboxes.listing.wait()
        others = [group.create_task(function.client.post("/sweep", content=body())) for _ in range(5)]
        others += [
            group.create_task(function.client.post("/events/cleanup", headers=TICK, content=body())) for _ in range(5)
        ]
        for _ in others:
            await sent.acquire()
        function.sandboxes.gate.set()
    assert function.sandboxes.listings == 2
    reports = [task.result().json() for task in others]
    assert all(report == reports[0] for report in reports)
    assert first.result().json()["duration_ms"] != reports[0]["duration_ms"]


async def test_a_client_that_leaves_does_not_stop_the_sweep(make: Make) -> None:
    function = await make()
    function.sandboxes.make(key_of("s")).alive = False
    function.sandboxes.gate.clear()
    asking = asyncio.create_task(function.client.post("/sweep"))
    await function.sandboxes.listing.wait()
    asking.cancel()
    await asyncio.wait({asking})
    function.sandboxes.gate.set()
    assert (await function.client.post("/sweep")).json()["suspended"] == 0  # it comes after the one left alone
    assert function.sandboxes.sessions[key_of("s")].suspended_at is not None


async def test_a_key_is_needed_where_there_are_keys_and_a_tick_may_come_in_a_name_that_is_set(make: Make) -> None:
    keys = {"CAESARION_API_KEYS": f"alice:{key_digest('cz_alice')}"}
    function = await make(**keys)
    assert failure(await function.client.post("/sweep")) == (401, "unauthorized")
    assert failure(await function.client.post("/events/cleanup", headers=TICK)) == (401, "unauthorized")
    with_key = {"Authorization": "Bearer cz_alice"}
    assert (await function.client.post("/sweep", headers=with_key)).status_code == 200
    named = await make(**keys, CAESARION_EVENTS_PRINCIPAL="broker")
    assert (await named.client.post("/events/cleanup", headers=TICK)).status_code == 200
    assert failure(await named.client.post("/sweep")) == (401, "unauthorized")


async def test_settings_that_cannot_be_used_are_told_together_by_name() -> None:
    bad = {
        "CAESARION_SUSPENDED_KEEP_S": "-1",
        "CAESARION_ORPHAN_AFTER_S": "soon",
        "CAESARION_RESULTS_KEEP_S": "0",
        "CAESARION_STORE_URL": "ftp://x",
        "K_SINK": "nowhere",
    }
    with pytest.raises(ConfigError) as told:
        Settings.from_env(bad)
    assert [name for name in bad if name not in told.value.message] == []
