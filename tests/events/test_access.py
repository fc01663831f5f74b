"""Who may send events, in whose name they run, and that what needs no key for it opens nothing else."""

import itertools
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.types import Receive, Scope, Send

from caesarion.adapters.asgi.access import PRINCIPAL_KEY, Keys
from caesarion.adapters.asgi.facts import facts_of
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.asgi.routes import function_app, resource
from caesarion.adapters.key_file import KeyFile
from caesarion.ids import PrincipalId
from caesarion.principals import key_digest, records_from_env
from caesarion.settings import ServingSettings
from tests.conftest import ProductServer
from tests.events.conftest import PATH, post, ran, requested
from tests.platform.conftest import client_of, failure

KEYS = {"alice": "cz_alice_of_events", "bob": "cz_bob_of_events"}
WANTS_KEYS = {"CAESARION_API_KEYS": ",".join(f"{name}:{key_digest(key)}" for name, key in KEYS.items())}
BEARER = {name: {"Authorization": f"Bearer {key}"} for name, key in KEYS.items()}
ASKING = {"WebHook-Request-Origin": "broker.example"}
METHODS = ("GET", "POST", "PUT", "DELETE", "OPTIONS")
NOT_EVENTS = [
    "/sessions",
    "/events",
    "/events/",
    "/events/a/b",
    "/events/execute/",
    "/eventsx",
    "/events/..",
    "/events/%2e%2e",
]
NOT_WEBHOOKS = ["/webhooks", "/webhooks/", "/webhooks/a/b", "/webhooksx", "/webhooks/a/../../sessions"]


@pytest.fixture(scope="module")
def keyed(product_server: ProductServer) -> Iterator[httpx.Client]:
    """A client without a key of an app that wants one."""
    with client_of(product_server.serve(WANTS_KEYS)) as client:
        yield client


@pytest.fixture(scope="module")
def brokered(product_server: ProductServer) -> Iterator[httpx.Client]:
    """A client without a key of an app whose events come from a broker without one."""
    with client_of(product_server.serve({**WANTS_KEYS, "CAESARION_EVENTS_PRINCIPAL": "alice"})) as client:
        yield client


def probe(tmp_path: Any, events_principal: str | None = None) -> Starlette:
    """Return an app that wants a key and tells each request's principal, whatever the path."""
    file = KeyFile(tmp_path / "keys.json", records_from_env(WANTS_KEYS["CAESARION_API_KEYS"]))

    async def told(request: Request) -> Response:
        return PlainTextResponse(repr(facts_of(request.scope).principal))

    return function_app(
        [resource("/{path:path}", **dict.fromkeys(METHODS, told))],
        settings=ServingSettings(),
        keys=Keys(file),
        metrics=Metrics(),
        events_principal=PrincipalId(events_principal) if events_principal else None,
    )


def inside(app: Starlette, **scope_values: Any) -> httpx.AsyncClient:
    """Return a client of an app that sets values in the scope, as code of the same process can."""

    async def with_values(scope: Scope, receive: Receive, send: Send) -> None:
        await app({**scope, **scope_values}, receive, send)

    return httpx.AsyncClient(transport=httpx.ASGITransport(with_values), base_url="http://localhost")


def test_an_event_needs_a_key_and_runs_in_its_principals_name(keyed: httpx.Client) -> None:
    event = requested("print(1)", session="events-of-alice")
    assert failure(post(keyed, event)) == (401, "unauthorized")
    assert post(keyed, event, headers=BEARER["alice"]).status_code == 200
    assert keyed.get("/sessions/events-of-alice", headers=BEARER["alice"]).status_code == 200
    assert keyed.get("/sessions/events-of-alice", headers=BEARER["bob"]).status_code == 404
    keyed.delete("/sessions/events-of-alice", headers=BEARER["alice"])


def test_two_principals_events_with_one_id_never_meet(keyed: httpx.Client) -> None:
    event = requested("import os; print(os.urandom(8).hex())")
    texts = [post(keyed, event, headers=BEARER[name]).json()["text"] for name in ("alice", "bob", "alice", "bob")]
    assert texts[0] == texts[2] != texts[1] == texts[3]
    other = requested("'another'", attributes={"id": event["id"]})
    assert failure(post(keyed, other, headers=BEARER["alice"])) == (422, "event_changed")


def test_a_brokers_events_run_in_the_name_that_the_settings_say(brokered: httpx.Client) -> None:
    assert ran(brokered, requested("print(1)", session="events-of-a-broker"))["status"] == "ok"
    assert brokered.get("/sessions/events-of-a-broker", headers=BEARER["alice"]).status_code == 200
    assert failure(post(brokered, requested("1"), headers={"Authorization": "Bearer cz_wrong"})) == (
        401,
        "unauthorized",
    )
    assert post(brokered, requested("1", session="events-of-bob"), headers=BEARER["bob"]).status_code == 200
    assert brokered.get("/sessions/events-of-bob", headers=BEARER["bob"]).status_code == 200
    for name, owner in (("events-of-a-broker", "alice"), ("events-of-bob", "bob")):
        brokered.delete(f"/sessions/{name}", headers=BEARER[owner])


def test_a_foreign_page_or_name_may_not_send_events(brokered: httpx.Client, client: httpx.Client) -> None:
    for one in (brokered, client):
        assert failure(post(one, requested("1"), headers={"Origin": "https://evil.example"})) == (
            403,
            "forbidden_origin",
        )
        asked = one.options(PATH, headers={**ASKING, "Origin": "https://evil.example"})
        assert failure(asked) == (403, "forbidden_origin")
        assert failure(one.post("/webhooks/x", headers={"Origin": "https://evil.example"}))[0] == 403
    assert failure(post(client, requested("1"), headers={"Host": "evil.example"})) == (403, "forbidden_host")
    assert failure(client.post("/webhooks/x", headers={"Host": "evil.example"})) == (403, "forbidden_host")


def test_who_asks_whether_it_may_send_needs_no_key_and_learns_nothing_else(keyed: httpx.Client) -> None:
    reply = keyed.options(PATH, headers=ASKING)
    assert (reply.status_code, reply.content) == (200, b"")
    assert failure(keyed.options(PATH))[0] == 401
    for path in ("/sessions", "/events", "/api/chat", "/nope"):
        assert failure(keyed.options(path, headers=ASKING))[0] == 401


@pytest.mark.anyio
async def test_without_a_key_only_what_needs_none_is_reached_and_has_no_principal(tmp_path: Any) -> None:
    opened = {("POST", "/webhooks/a"), ("POST", "/webhooks/a.b")}
    asked = {("OPTIONS", "/events/execute"), ("OPTIONS", "/broker"), ("OPTIONS", "/events/other")}
    paths = [*NOT_EVENTS, *NOT_WEBHOOKS, *(path for _, path in opened | asked)]
    async with inside(probe(tmp_path)) as client:
        for method, path, headers in itertools.product(METHODS, paths, ({}, ASKING)):
            reply = await client.request(method, path, headers=headers)
            if (method, path) in opened or (headers and (method, path) in asked):
                assert (reply.status_code, reply.text) == (200, "None"), (method, path)
            else:
                assert reply.status_code == 401, (method, path, headers)


@pytest.mark.anyio
async def test_the_principal_of_events_is_that_of_events_only(tmp_path: Any) -> None:
    async with inside(probe(tmp_path, "carol")) as client:
        for method, path in itertools.product(METHODS, [PATH, "/events/chat", "/broker", *NOT_EVENTS]):
            reply = await client.request(method, path)
            if method == "POST" and path in (PATH, "/events/chat"):
                assert (reply.status_code, reply.text) == (200, "'carol'")
            else:
                assert reply.status_code == 401, (method, path)


@pytest.mark.anyio
async def test_code_of_the_process_may_say_whose_an_event_is_and_nobody_else(tmp_path: Any) -> None:
    app = probe(tmp_path, "carol")
    async with inside(app, **{PRINCIPAL_KEY: "dave"}) as client:
        assert (await client.post(PATH)).text == "'dave'"
    async with inside(app) as client:
        for header in (PRINCIPAL_KEY, "caesarion-principal", "x-caesarion-principal"):
            assert (await client.get("/sessions", headers={header: "dave"})).status_code == 401
        assert (await client.get(f"/sessions?{PRINCIPAL_KEY}=dave")).status_code == 401
