"""The broker over HTTP, and with the command."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest

from caesarion.adapters.asgi.broker_routes import broker_paths, broker_routes
from caesarion.adapters.key_file import KeyFile
from caesarion.triggers import built_in_triggers
from tests.broker.conftest import Brokers, Log
from tests.broker.product import Served, product

pytestmark = pytest.mark.anyio

REQUESTED = "dev.caesarion.execution.requested"
HEADERS = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/tests", "ce-type": REQUESTED}
JSON = {"content-type": "application/json"}


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[Served]:
    async with product(tmp_path, built_in_triggers()) as place:
        yield place


@pytest.fixture
async def client(place: Served) -> AsyncIterator[httpx.AsyncClient]:
    async with place.client() as client:
        yield client


async def events(client: httpx.AsyncClient, **query: Any) -> list[Any]:
    answer = await client.get("/broker/events", params=query)
    assert answer.headers["content-type"] == "application/x-ndjson"
    return [json.loads(line) for line in answer.text.split("\n") if line]


async def test_an_event_is_accepted_in_any_mode_and_delivered(
    place: Served, client: httpx.AsyncClient, log: Log
) -> None:
    binary = await client.post("/broker", content=b'{"code":"1"}', headers={**HEADERS, **JSON})
    whole = {"specversion": "1.0", "source": "/tests", "type": REQUESTED, "data": {"code": "2"}}
    kind = {"content-type": "application/cloudevents+json"}
    structured = await client.post("/broker", content=json.dumps({**whole, "id": "2"}), headers=kind)
    kind = {"content-type": "application/cloudevents-batch+json"}
    many = [{**whole, "id": "3"}, {**whole, "id": "4"}]
    batch = await client.post("/broker", content=json.dumps(many), headers=kind)
    assert [(one.status_code, one.content) for one in (binary, structured, batch)] == [(202, b"")] * 3
    await log.line("event delivered", 4)
    assert sorted(place.got, key=str) == [("local", {"code": code}) for code in "1222"]
    told = await events(client)
    assert {one["event"]["id"] for one in told} == {"1", "2", "3", "4"}
    assert told[0]["event"]["data"] == {"code": "1"}
    assert [one["seq"] for one in await events(client, after=told[1]["seq"])] == [one["seq"] for one in told[2:]]
    assert [one["seq"] for one in await events(client, last=1)] == [told[-1]["seq"]]
    await client.post("/broker", headers={**HEADERS, "ce-type": "com.example.other"})
    assert [one["seq"] for one in await events(client, last=1, type="dev.")] == [told[-1]["seq"]]
    assert len(await events(client, type="com.example.other")) == 1
    assert await events(client, type="com.example.other2") == []


@pytest.mark.parametrize(
    ("headers", "body", "status", "code"),
    [
        ({}, b"", 400, "invalid_event"),
        ({**HEADERS, "ce-specversion": "0.3"}, b"", 400, "invalid_event"),
        ({**HEADERS, "ce-source": ""}, b"", 400, "invalid_event"),
        ({**HEADERS, **JSON}, b"1" * 15_000, 413, "too_large"),
        ({**HEADERS, **JSON}, b"1" * 25_000, 413, "too_large"),
        ({**HEADERS, "ce-knativebrokerttl": "1"}, b"", 400, "event_loop"),
        ({"content-type": "application/cloudevents+avro"}, b"", 415, "unsupported_type"),
    ],
)
async def test_what_is_no_event_or_too_large_is_refused(
    client: httpx.AsyncClient, headers: dict[str, str], body: bytes, status: int, code: str
) -> None:
    answer = await client.post("/broker", content=body, headers=headers)
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code)
    assert await events(client) == []


async def test_senders_may_ask_whether_they_may_send(client: httpx.AsyncClient) -> None:
    answer = await client.options("/broker", headers={"WebHook-Request-Origin": "sender.example.com"})
    assert answer.status_code == 200
    assert answer.headers["WebHook-Allowed-Origin"] == "sender.example.com"


async def test_dead_letters_are_listed_shown_sent_again_and_removed(
    place: Served, client: httpx.AsyncClient, log: Log
) -> None:
    place.refusing = True
    for number in "123":
        await client.post("/broker", content=number.encode(), headers={**HEADERS, **JSON, "ce-id": number})
        await log.line("event undeliverable")
    listed = (await client.get("/broker/dead")).json()["dead"]
    first = listed[0]
    assert first | {"dead_at": ""} == {
        "id": first["id"],
        "trigger": "caesarion-execute",
        "subscriber": "/events/execute",
        "attempts": 1,
        "status": 400,
        "reason": "Not this one.",
        "dead_at": "",
        "data_bytes": 1,
        "event": {
            "specversion": "1.0",
            "id": "1",
            "source": "/tests",
            "type": REQUESTED,
            "datacontenttype": "application/json",
        },
    }
    page = (await client.get("/broker/dead", params={"after": first["id"], "limit": 1})).json()["dead"]
    assert [letter["id"] for letter in page] == [listed[1]["id"]]
    assert (await client.get(f"/broker/dead/{first['id']}")).json()["event"]["data"] == 1
    place.refusing = False
    again = await client.post(f"/broker/dead/{first['id']}/resend")
    assert (again.status_code, again.json()) == (202, {"id": first["id"], "state": "waiting"})
    await log.line("event delivered")
    assert (await client.delete(f"/broker/dead/{listed[1]['id']}")).status_code == 204
    assert [letter["id"] for letter in (await client.get("/broker/dead")).json()["dead"]] == [listed[2]["id"]]
    for wrong in (first["id"], 999, "x", "-1", "٣"):
        answer = await client.post(f"/broker/dead/{wrong}/resend")
        assert (answer.status_code, answer.json()["error"]["code"]) == (404, "dead_letter_not_found")


async def test_principals_see_their_own_only(place: Served, log: Log) -> None:
    keys = KeyFile(place.folder / "keys.json")
    ann, bob = keys.add("ann")[0], keys.add("bob")[0]
    async with place.client() as nobody, place.client(ann) as hers, place.client(bob) as his:
        assert (await nobody.get("/broker/events")).status_code == 401
        place.refusing = True
        assert (await hers.post("/broker", content=b"1", headers={**HEADERS, **JSON})).status_code == 202
        await log.line("event undeliverable")
        assert place.got == [("ann", 1)]
        (letter,) = (await hers.get("/broker/dead")).json()["dead"]
        assert len(await events(hers)) == 1
        assert await events(his) == []
        assert (await his.get("/broker/dead")).json() == {"dead": []}
        for call in (his.get, his.delete):
            answer = await call(f"/broker/dead/{letter['id']}")
            assert answer.status_code in (404, 204)
        assert (await his.post(f"/broker/dead/{letter['id']}/resend")).status_code == 404
        assert (await hers.get(f"/broker/dead/{letter['id']}")).status_code == 200


async def test_a_follower_sees_events_as_they_come(client: httpx.AsyncClient) -> None:
    await client.post("/broker", headers=HEADERS)
    async with client.stream("GET", "/broker/events", params={"follow": "1"}) as answer:
        lines = (line async for line in answer.aiter_lines())
        seen = [line async for line in first(lines, 1)]
        await client.post("/broker", headers={**HEADERS, "ce-id": "2"})
        seen += [line async for line in first(lines, 1)]
        assert "" in [await anext(lines) for _ in range(2)]
    assert [json.loads(line)["event"]["id"] for line in seen] == ["1", "2"]


async def first(lines: AsyncIterator[str], count: int) -> AsyncIterator[str]:
    """Yield so many lines that are not empty."""
    while count:
        line = await anext(lines)
        if line:
            count -= 1
            yield line


async def test_the_document_tells_of_every_route(brokers: Brokers) -> None:
    broker = brokers.open([])
    routes = broker_routes(lambda: broker, max_body_bytes=1)
    served = {(route.path, method) for route in routes for method in route.methods or () if method != "HEAD"}
    assert served == {(path, method.upper()) for path, calls in broker_paths().items() for method in calls}


async def test_the_command_sends_shows_and_sends_again(place: Served, log: Log) -> None:
    place.refusing = True
    sent = await place.run("events", "send", REQUESTED, "--data", '{"code": "1"}', "--id", "e-1", "--ext", "color=red")
    assert (sent.code, sent.out, sent.err) == (0, "accepted e-1\n", "")
    await log.line("event undeliverable")
    (place.folder / "data.json").write_text('{"code": "2"}', encoding="utf-8")
    told = await place.run("events", "send", REQUESTED, "--data", f"@{place.folder}/data.json", "--json")
    assert json.loads(told.out)["type"] == REQUESTED
    await log.line("event undeliverable")

    shown = await place.run("events", "tail", "-n", "1", "--type", "dev.caesarion")
    assert shown.out.count("\n") == 1
    assert '{"code": "2"}' in shown.out
    lines = [json.loads(line) for line in (await place.run("events", "tail", "--json")).out.splitlines()]
    assert [line["event"].get("color") for line in lines] == ["red", None]

    listed = await place.run("events", "dead")
    assert "caesarion-execute" in listed.out
    assert "400 Not this one." in listed.out
    assert listed.out.count("400") == 2
    first, second = json.loads((await place.run("events", "dead", "--json")).out)["dead"]
    whole = json.loads((await place.run("events", "dead", str(first["id"]))).out)
    assert whole["event"]["data"] == {"code": "1"}

    place.refusing = False
    assert (await place.run("events", "resend", str(first["id"]))).out == f"resent {first['id']}\n"
    await log.line("event delivered")
    assert (await place.run("events", "resend", "--all")).out == f"resent {second['id']}\n"
    await log.line("event delivered")
    assert json.loads((await place.run("events", "dead", "--json")).out) == {"dead": []}
    missing = await place.run("events", "resend", "77")
    assert (missing.code, missing.out) == (3, "")
    assert "There is no dead letter 77." in missing.err
    assert json.loads((await place.run("events", "rm", "77", "--json")).out) == {"removed": [77]}


async def test_the_command_follows_until_it_is_stopped(place: Served, client: httpx.AsyncClient) -> None:
    following = await place.started("events", "tail", "-f", "--json")
    assert following.stdout is not None
    await client.post("/broker", headers=HEADERS)
    line = await following.stdout.readline()
    assert json.loads(line)["event"]["id"] == "1"
    following.send_signal(2)
    assert await following.wait() == 130


async def test_the_command_sends_to_any_receiver_without_the_key(place: Served) -> None:
    target = f"{place.url}/events/execute"
    sent = await place.run(
        "events", "send", "x", "--data", "@-", "--to", target, given=b'"given"', env={"CAESARION_API_KEY": "k"}
    )
    assert (sent.code, sent.err) == (0, "")
    assert place.got == [("local", "given")]
    gone = await place.run("events", "send", "x", "--to", f"{place.url}/nowhere")
    assert gone.code == 3


@pytest.mark.parametrize(
    "arguments",
    [
        ["send", "x", "--data", "no json"],
        ["send", "x", "--data", "@/does/not/exist"],
        ["send", "x", "--ext", "Color=red"],
        ["send", "x", "--ext", "id=1"],
        ["send", "x", "--to", "somewhere"],
        ["resend"],
        ["resend", "1", "--all"],
        ["rm"],
    ],
)
async def test_wrong_usage_of_the_command_is_told(place: Served, arguments: list[str]) -> None:
    assert (await place.run("events", *arguments)).code == 2
