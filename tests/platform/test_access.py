"""Who may ask: this machine's user without keys, holders of keys elsewhere, and no foreign page."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Mount

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.key_file import KeyFile
from caesarion.principals import key_digest, records_from_env
from caesarion_execute.app import build_app
from caesarion_execute.settings import Settings
from tests.conftest import ProductServer
from tests.platform.conftest import KEYS, LogLines, client_of, failure

PAGE = "https://app.example"
LOCAL_NAMES = ["localhost", "LOCALHOST:80", "127.0.0.1", "127.9.9.9:1", "[::1]:8080", "here.localhost"]
FOREIGN_NAMES = [
    "evil.example",
    "localhost.evil.example",
    "127.0.0.1.evil.example",
    "10.0.0.1",
    "127.0.0.256",
    "",
    "a b",
]


@pytest.fixture(scope="module")
def paged(product_server: ProductServer) -> Iterator[httpx.Client]:
    """A client of an app that a page of another origin may call."""
    env = {"CAESARION_ALLOWED_ORIGINS": f"{PAGE},http://localhost:3000", "CAESARION_ALLOWED_HOSTS": "*.mine.example"}
    with client_of(product_server.serve(env)) as client:
        yield client


@pytest.mark.parametrize("host", LOCAL_NAMES)
def test_without_keys_this_machine_is_answered_under_its_own_names(client: httpx.Client, host: str) -> None:
    assert client.get("/sessions", headers={"Host": host}).status_code == 200


@pytest.mark.parametrize("host", [*(name.encode() for name in FOREIGN_NAMES), b"127.0.0.\xb2", b"\xff"])
def test_without_keys_a_name_that_only_resolves_here_is_refused(client: httpx.Client, host: bytes) -> None:
    for path in ("/sessions", "/metrics", "/openapi.json", "/nope"):
        reply = client.get(path, headers=[(b"Host", host)])
        assert failure(reply) == (403, "forbidden_host")


def test_further_names_are_answered_when_they_are_allowed(paged: httpx.Client) -> None:
    assert paged.get("/sessions", headers={"Host": "api.mine.example:80"}).status_code == 200
    for host in ("mine.example", "evilmine.example", "api.mine.example.evil.example"):
        assert failure(paged.get("/sessions", headers={"Host": host})) == (403, "forbidden_host")


FOREIGN: list[dict[str, str]] = [
    {"Origin": "https://evil.example"},
    {"Origin": "http://localhost:3000"},
    {"Origin": "null"},
    {"Origin": ""},
    {"Origin": "http://[bad"},
    {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "no-cors"},
]


@pytest.mark.parametrize("headers", FOREIGN, ids=str)
def test_a_page_of_a_foreign_origin_is_refused(client: httpx.Client, headers: dict[str, str]) -> None:
    for method, path in (("GET", "/sessions"), ("POST", "/sessions"), ("OPTIONS", "/sessions"), ("GET", "/metrics")):
        reply = client.request(method, path, headers=headers)
        assert failure(reply) == (403, "forbidden_origin")
        assert "access-control-allow-origin" not in reply.headers


def test_our_own_page_and_programs_are_answered(client: httpx.Client, product_server: ProductServer) -> None:
    for headers in ({"Origin": product_server.url}, {"Sec-Fetch-Site": "same-origin"}, {}):
        assert client.get("/sessions", headers=headers).status_code == 200
    navigated = {"Sec-Fetch-Site": "cross-site", "Sec-Fetch-Mode": "navigate"}
    assert client.get("/sessions", headers=navigated).status_code == 200


def test_an_allowed_page_may_read_answers_and_failures(paged: httpx.Client) -> None:
    for path, status in (("/sessions", 200), ("/sessions/unknown", 404), ("/nope", 404)):
        reply = paged.get(path, headers={"Origin": PAGE})
        assert reply.status_code == status
        assert reply.headers["access-control-allow-origin"] == PAGE
        assert "x-execution-id" in reply.headers["access-control-expose-headers"]
        assert "Origin" in reply.headers["vary"]
    assert "access-control-allow-origin" not in paged.get("/sessions").headers
    assert failure(paged.get("/sessions", headers={"Origin": f"{PAGE}.evil.example"})) == (403, "forbidden_origin")


def test_an_allowed_page_is_told_what_it_may_send(paged: httpx.Client) -> None:
    asked = {"Origin": PAGE, "Access-Control-Request-Method": "POST"}
    reply = paged.options("/sessions/any/executions", headers=asked)
    assert (reply.status_code, reply.content) == (204, b"")
    assert reply.headers["access-control-allow-origin"] == PAGE
    assert {"POST", "PUT", "DELETE"} <= set(reply.headers["access-control-allow-methods"].split(", "))
    allowed = reply.headers["access-control-allow-headers"].split(", ")
    assert {"authorization", "content-type", "idempotency-key", "last-event-id"} <= set(allowed)


FORWARDED: list[list[tuple[str, str]]] = [
    [("X-Forwarded-For", "203.0.113.9")],
    [("X-Forwarded-For", "127.0.0.1, 203.0.113.9")],
    [("X-Forwarded-For", "203.0.113.9, 127.0.0.1")],
    [("X-Forwarded-For", "127.0.0.1"), ("X-Forwarded-For", "203.0.113.9")],
    [("X-Forwarded-For", "203.0.113.9"), ("X-Forwarded-For", "127.0.0.1")],
    [("X-Forwarded-For", "unknown")],
    [("Forwarded", "for=203.0.113.9")],
]


@pytest.mark.parametrize("headers", FORWARDED, ids=str)
def test_without_keys_what_a_proxy_brings_from_outside_is_refused(
    client: httpx.Client, headers: list[tuple[str, str]]
) -> None:
    reply = client.get("/sessions", headers=headers)
    assert failure(reply) == (401, "unauthorized")
    assert "caesarion keys add" in reply.json()["error"]["message"]


def test_without_keys_a_proxy_of_this_machine_is_answered(client: httpx.Client) -> None:
    assert client.get("/sessions", headers={"X-Forwarded-For": "127.0.0.1, ::1"}).status_code == 200


WRONG: list[dict[str, Any]] = [
    {},
    {"Authorization": ""},
    {"Authorization": "Bearer"},
    {"Authorization": "Bearer cz_wrong"},
    {"Authorization": f"Bearer {KEYS['alice']}x"},
    {"Authorization": f"Basic {KEYS['alice']}"},
    {"Authorization": KEYS["alice"]},
    {"Authorization": f"Bearer {key_digest(KEYS['alice'])}"},
    {"Authorization": "Bearer ключ".encode()},
]


@pytest.mark.parametrize("headers", WRONG, ids=str)
def test_with_keys_nobody_is_answered_without_one(keyed_url: str, headers: dict[str, Any]) -> None:
    with client_of(keyed_url) as stranger:
        for method, path in (("GET", "/sessions"), ("POST", "/sessions"), ("GET", "/nope"), ("GET", "/metrics/")):
            reply = stranger.request(method, path, headers=headers)
            assert failure(reply) == (401, "unauthorized")
            assert reply.headers["www-authenticate"] == "Bearer"


def test_with_keys_any_name_is_answered_and_health_needs_no_key(keyed_url: str, alice: httpx.Client) -> None:
    with client_of(keyed_url) as stranger:
        for path in ("/health/live", "/health/ready", "/metrics", "/openapi.json"):
            assert stranger.get(path, headers={"Host": "api.example"}).status_code == 200
    assert alice.get("/sessions", headers={"Host": "api.example"}).status_code == 200
    assert alice.get("/sessions", headers={"Authorization": f"bearer  {KEYS['alice']}"}).status_code == 200


@pytest.mark.anyio
async def test_mounted_in_another_app_the_same_paths_need_a_key(product_server: ProductServer) -> None:
    settings = Settings.from_env({"CAESARION_API_KEYS": f"alice:{key_digest(KEYS['alice'])}"})
    keys = Keys(KeyFile(product_server.home / "none.json", records_from_env(settings.serving.api_keys.reveal())))
    outer = Starlette(routes=[Mount("/api", build_app(product_server.sandboxes, settings, keys))])
    async with httpx.AsyncClient(transport=httpx.ASGITransport(outer), base_url="http://localhost") as stranger:
        for path in ("/health/live", "/metrics", "/openapi.json"):
            assert (await stranger.get(f"/api{path}")).status_code == 200
        for path in ("/sessions", "/nope", "/health"):
            assert failure(await stranger.get(f"/api{path}")) == (401, "unauthorized")


def test_no_key_stands_in_the_log(alice: httpx.Client, log_lines: LogLines) -> None:
    right = alice.get("/sessions")
    wrong = alice.get("/sessions", headers={"Authorization": "Bearer cz_wrong"})
    for reply, principal in ((right, "alice"), (wrong, None)):
        [line] = log_lines.having(request=reply.headers["x-request-id"], message="request")
        assert line["principal"] == principal
    assert "cz_" not in json.dumps(log_lines)


def test_a_key_counts_from_when_it_is_added_until_it_is_removed(product_server: ProductServer, tmp_path: Path) -> None:
    with client_of(product_server.serve({"CAESARION_HOME": str(tmp_path)})) as client:
        assert client.get("/sessions").status_code == 200
        keys = KeyFile(tmp_path / "keys.json")
        newcomers, newcomer = keys.add("newcomer")
        _wait_for(client, {}, 401)
        asked = {"Authorization": f"Bearer {newcomers}"}
        assert client.get("/sessions", headers=asked).json() == {"sessions": []}

        daves, _ = keys.add("dave")
        _wait_for(client, {"Authorization": f"Bearer {daves}"}, 200)
        keys.remove(newcomer.id)
        _wait_for(client, asked, 401)

        keys.path.write_text("not what we wrote", encoding="utf-8")
        assert {_status(client, {"Authorization": f"Bearer {daves}"}) for _ in range(3)} == {200}


def _wait_for(client: httpx.Client, headers: dict[str, str], status: int) -> None:
    while _status(client, headers) != status:
        pass


def _status(client: httpx.Client, headers: dict[str, str]) -> int:
    return client.get("/sessions", headers=headers).status_code
