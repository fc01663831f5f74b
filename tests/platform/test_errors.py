"""Whatever is asked wrongly, on every route: the one JSON shape, with an id that stands in the log."""

import json
import re
import socket
from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from pathlib import Path

import httpx
import pytest
from starlette.applications import Starlette
from starlette.routing import Route

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.key_file import KeyFile
from caesarion.ids import PrincipalId, SessionKey
from caesarion.ports import Orphan, Sandbox, Sandboxes, SessionSpec
from caesarion_cli.all_in_one import Settings, build_app
from tests.conftest import ProductServer
from tests.platform.conftest import LogLines, Session, failure

METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE")
JSON = {"Content-Type": "application/json"}


class NoSandboxes:
    """The port on a machine whose sandboxes cannot be looked up."""

    async def claim(self, key: SessionKey, spec: SessionSpec | None = None, *, deadline_s: float) -> Sandbox:
        raise RuntimeError("secret detail")

    async def get(self, key: SessionKey) -> Sandbox | None:
        raise RuntimeError("secret detail")

    async def list(self, principal: PrincipalId | None) -> Sequence[Sandbox]:
        raise RuntimeError("secret detail")

    async def suspend(self, key: SessionKey, *, unused_since: datetime | None = None) -> bool:
        raise RuntimeError("secret detail")

    async def release(self, key: SessionKey, *, suspended_since: datetime | None = None) -> bool:
        raise RuntimeError("secret detail")

    async def orphans(self) -> Sequence[Orphan]:
        raise RuntimeError("secret detail")

    async def remove_orphan(self, orphan: Orphan) -> bool:
        raise RuntimeError("secret detail")

    async def aclose(self) -> None:
        pass


def app_on(sandboxes: Sandboxes, home: Path) -> Starlette:
    return build_app(sandboxes, Settings.from_env({"CAESARION_HOME": str(home)}), Keys(KeyFile(home / "keys.json")))


@pytest.fixture
def app(product_server: ProductServer) -> Starlette:
    return app_on(product_server.sandboxes, product_server.home)


@pytest.fixture
async def broken(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    """A client of an app whose platform fails; an exception that reached the server would come out of it."""
    transport = httpx.ASGITransport(app_on(NoSandboxes(), tmp_path))
    async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
        yield client


def routes(app: Starlette) -> Iterator[tuple[str, set[str]]]:
    """Yield the path and the methods of each route."""
    for route in app.routes:
        assert isinstance(route, Route)
        assert route.methods is not None
        yield route.path, route.methods


def filled(path: str, **values: str) -> str:
    """Return a path with values for its parameters."""
    return re.sub(r"\{(\w+)(:path)?\}", lambda found: values.get(found[1], "1"), path)


def test_every_route_tells_which_methods_it_takes(app: Starlette, client: httpx.Client) -> None:
    for path, methods in routes(app):
        for method in set(METHODS) - methods:
            reply = client.request(method, filled(path))
            assert reply.status_code == 405, (method, path)
            assert reply.headers["allow"] == ", ".join(sorted(methods))
            if method != "HEAD":
                assert failure(reply) == (405, "method_not_allowed")
                assert method in reply.json()["error"]["message"]


def test_every_route_refuses_ids_that_cannot_be_in_the_one_shape(app: Starlette, client: httpx.Client) -> None:
    for path, methods in routes(app):
        for parameter in {"session", "execution", "name"} & set(re.findall(r"\{(\w+)", path)):
            for method in methods - {"HEAD"}:
                for bad in ("%20", "a.b", "%00", "..%2e", "%0A", "x%0A", "%ff", "%C3%A4", "x" * 65):
                    asked = client.request(method, filled(path, **{parameter: bad}), json={"code": "", "name": "n"})
                    status, code = failure(asked)
                    assert status in (400, 404), (method, path, bad)
                    expected = ("invalid_id", "session_not_found", "unknown_field", "hook_not_found")
                    assert code in expected, (method, path, bad)


def test_a_session_id_that_cannot_be_is_told_what_it_must_be(client: httpx.Client) -> None:
    reply = client.get("/sessions/a.b")
    assert failure(reply) == (400, "invalid_id")
    assert "1 to 64 of the characters" in reply.json()["error"]["message"]


@pytest.mark.anyio
async def test_every_route_tells_an_unexpected_failure_without_its_details(
    broken: httpx.AsyncClient, app: Starlette, log_lines: LogLines
) -> None:
    for path, methods in routes(app):
        if "{session}" not in path:
            continue
        for method in methods - {"HEAD"}:
            body = {"name": "n"} if path.endswith("/contexts") else {"code": ""}
            body = {} if path.endswith(("/initialize", "/stop")) else body
            form = (
                {"files": {"file": ("a.txt", b"")}} if path.endswith("/files") and method == "POST" else {"json": body}
            )
            reply = await broken.request(method, filled(path), **form)
            assert failure(reply) == (500, "internal"), (method, path, reply.text)
            assert "secret" not in reply.text
    logged = [line for line in log_lines.having(message="request failed unexpectedly") if "exception" in line]
    assert all("secret detail" in line["exception"] and line["request"] for line in logged)
    assert logged


@pytest.mark.anyio
async def test_readiness_names_what_fails(broken: httpx.AsyncClient) -> None:
    reply = await broken.get("/health/ready")
    assert failure(reply) == (503, "not_ready")
    assert "sandboxes: RuntimeError" in reply.json()["error"]["message"]
    assert "secret" not in reply.text
    assert reply.headers["retry-after"] == "1"
    assert (await broken.get("/health/live")).status_code == 200


def test_a_failure_is_found_in_the_log_by_its_id(client: httpx.Client, session: Session, log_lines: LogLines) -> None:
    path = f"{session.executions}/e_unknown"
    trace = "0af7651916cd43dd8448eb211c80319c"
    reply = client.get(path, headers={"traceparent": f"00-{trace}-b7ad6b7169203331-01"})
    error_id = reply.json()["error"]["id"]
    [line] = log_lines.having(request=error_id, message="request")
    assert (line["status"], line["method"], line["principal"]) == (404, "GET", "local")
    assert line["route"] == "/sessions/{session}/executions/{execution}"
    assert (line["session"], line["execution"], line["trace"]) == (session.id, "e_unknown", trace)
    assert line["sent_bytes"] == len(reply.content)


def test_the_log_has_neither_code_nor_outputs(session: Session, log_lines: LogLines) -> None:
    execution = session.run("print('con' + 'fidential')  # private")[0]["execution"]
    assert session.client.get("/sessions").status_code == 200
    assert log_lines.having(execution=execution, message="request")[0]["received_bytes"] > 0
    assert "confidential" not in json.dumps(log_lines)
    assert "private" not in json.dumps(log_lines)


BAD_BODIES: dict[bytes, tuple[int, str]] = {
    b"": (400, "invalid_json"),
    b"   ": (400, "invalid_json"),
    b"code": (400, "invalid_json"),
    b'{"code": "1"': (400, "invalid_json"),
    b'{"code": "1"} x': (400, "invalid_json"),
    b'{"code": "\xff"}': (400, "invalid_json"),
    '{"code": "1"}'.encode("utf-16"): (400, "invalid_json"),
    b"[" * 100_000: (400, "invalid_json"),
    b'{"a":' * 100_000: (400, "invalid_json"),
    b'["code"]': (400, "invalid_json"),
    b'"code"': (400, "invalid_json"),
    b"null": (400, "invalid_json"),
    b"1" * 5000: (400, "invalid_json"),
    b'{"code": "1", "timeout_s": NaN}': (400, "invalid_json"),
    b'{"code": "1", "timeout_s": -Infinity}': (400, "invalid_json"),
    b'{"code": "1", "timeout_s": 1e999}': (400, "invalid_field"),
    b'{"code": "1", "timeout_s": 0}': (400, "invalid_field"),
    b'{"code": "1", "timeout_s": -1}': (400, "invalid_field"),
    b'{"code": "1", "timeout_s": 3601}': (400, "invalid_field"),
    b'{"code": "1", "timeout_s": "5"}': (400, "invalid_field"),
    b'{"code": "1", "timeout_s": true}': (400, "invalid_field"),
    b'{"code": "1", "timeout_s": [5]}': (400, "invalid_field"),
    b'{"code": 1}': (400, "invalid_field"),
    b'{"code": null}': (400, "invalid_field"),
    b'{"code": ["1"]}': (400, "invalid_field"),
    b'{"code": "\\ud800"}': (400, "invalid_field"),
    b"{}": (400, "invalid_field"),
    b'{"code": "1", "context": 1}': (400, "invalid_id"),
    b'{"code": "1", "context": "a b"}': (400, "invalid_id"),
    b'{"code": "1", "context": "\\ud800"}': (400, "invalid_id"),
    b'{"code": "1", "kode": "2"}': (400, "unknown_field"),
    b'{"code": "1", "\\ud800": 1}': (400, "unknown_field"),
    b'{"code": "1", "id": "mine"}': (400, "unknown_field"),
}


@pytest.mark.parametrize("body", BAD_BODIES, ids=lambda body: repr(body[:40]))
def test_a_body_that_cannot_be_used_is_told_why(session: Session, body: bytes) -> None:
    reply = session.client.post(session.executions, content=body, headers=JSON)
    assert failure(reply) == BAD_BODIES[body]
    assert len(reply.content) < 1000


def test_a_message_names_what_was_expected_and_what_came(session: Session) -> None:
    def told(body: object) -> str:
        return str(session.client.post(session.executions, json=body).json()["error"]["message"])

    assert told({"code": "1", "timeout_s": "5"}) == (
        "The field `timeout_s` must be a number from 0.001 to 3600, got a string of 1 characters."
    )
    assert told({"kode": "1"}) == "The field 'kode' is not known; known are code, context, timeout_s, variables."
    assert told({}) == "The field `code` is missing; it must be a string of Unicode characters."


MEDIA_TYPES = {
    "application/json": 200,
    "Application/JSON; charset=utf-8": 200,
    "application/vnd.api+json": 200,
    "": 200,
    "text/plain": 415,
    "application/x-www-form-urlencoded": 415,
    "multipart/form-data; boundary=x": 415,
    "json": 415,
}


@pytest.mark.parametrize("media_type", MEDIA_TYPES)
def test_a_body_of_another_type_is_refused(session: Session, media_type: str) -> None:
    headers = {"Content-Type": media_type} if media_type else {}
    reply = session.client.post(session.executions, content=b'{"code": "1"}', headers=headers)
    assert reply.status_code == MEDIA_TYPES[media_type]
    if reply.status_code != 200:
        assert failure(reply) == (415, "unsupported_type")


def test_a_body_of_100_mb_is_refused_and_its_sender_hears_it(session: Session, neighbour: Session) -> None:
    sizes = (100_000_000 // 1_000_000) * [b" " * 1_000_000]
    for body in (b"".join(sizes), iter(sizes)):
        reply = session.client.post(session.executions, content=body, headers=JSON)
        assert failure(reply) == (413, "too_large")
        assert reply.headers["connection"] == "close"
    assert neighbour.said("print('not bothered')") == "not bothered\n"


def test_a_sender_that_asks_first_is_refused_before_it_sends(session: Session) -> None:
    url = session.client.base_url
    head = (
        f"POST {session.executions} HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 100000000\r\nExpect: 100-continue"
    )
    with socket.create_connection((url.host, url.port or 80)) as connection:
        connection.sendall(f"{head}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    assert answer.startswith(b"HTTP/1.1 413")
    assert b'"too_large"' in answer


PATHS = {
    "/": "route_not_found",
    "/nope": "route_not_found",
    "/sessions/": "route_not_found",
    "//sessions": "route_not_found",
    "/sessions%0A": "route_not_found",
    "/sessions%00": "route_not_found",
    "/Sessions": "route_not_found",
    "/sessions/x/executions/": "route_not_found",
    "/sessions/x/executions/e/outputs%0A": "route_not_found",
    "/sessions/a%2Fb": "route_not_found",
    "/sessions/%2e%2e": "invalid_id",
    "/sessions/%2e%2e/executions": "invalid_id",
    "/sessions/x%0A": "invalid_id",
    "/health/nope": "route_not_found",
    "/metrics/": "route_not_found",
    "/openapi.json%0A": "route_not_found",
}


@pytest.mark.parametrize("path", PATHS)
def test_a_path_that_is_none_is_told_so(client: httpx.Client, path: str) -> None:
    reply = client.get(httpx.URL(client.base_url.copy_with(raw_path=path.encode())))
    assert failure(reply)[1] == PATHS[path]


def test_head_tells_what_get_would_without_a_body(client: httpx.Client, session: Session) -> None:
    for path in ("/sessions", session.path, session.executions, "/health/live", "/openapi.json", "/sessions/unknown"):
        got, head = client.get(path), client.head(path)
        assert (head.status_code, head.content) == (got.status_code, b"")
        assert head.headers["content-type"] == got.headers["content-type"]


def test_a_sender_that_breaks_off_leaves_no_trace(session: Session, log_lines: LogLines) -> None:
    url = session.client.base_url
    with socket.create_connection((url.host, url.port or 80)) as connection:
        head = f"POST {session.executions} HTTP/1.1\r\nHost: {url.host}\r\nContent-Length: 100\r\n\r\n"
        connection.sendall(head.encode() + b'{"code": "never = 1"')
    log_lines.having(status=499)
    assert session.said("print('never' in globals())") == "False\n"
