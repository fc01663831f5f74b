"""What a sandbox's server answers when it is asked for its use, understood or not."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from caesarion.errors import SandboxUnavailable
from caesarion.ports import Endpoint
from caesarion_cleanup.rules import Use
from caesarion_cleanup.sweep import use_over_http

pytestmark = pytest.mark.anyio
Answering = Callable[[bytes], Awaitable[Endpoint]]


@pytest.fixture
async def answering(tmp_path: Path) -> AsyncIterator[Answering]:
    """Have a server that answers every request with these bytes."""
    servers: list[asyncio.Server] = []

    async def started(answer: bytes) -> Endpoint:
        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            request = await reader.readuntil(b"\r\n\r\n")
            assert request.startswith(b"GET /v1/status HTTP/1.1\r\n")
            assert b"Authorization: Bearer secret" in request
            writer.write(answer)
            writer.close()
            await writer.wait_closed()

        path = str(tmp_path / f"{len(servers)}.sock")
        servers.append(await asyncio.start_unix_server(serve, path))
        return Endpoint("secret", socket_path=path)

    yield started
    for server in servers:
        server.close()
        await server.wait_closed()


def ok(body: str) -> bytes:
    head = f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    return (head + body).encode()


async def test_a_status_tells_whether_code_runs_and_when_it_was_last_used(answering: Answering) -> None:
    text = '{"state": "%s", "last_activity_at": "2026-03-01T12:00:00.250Z", "contexts": []}'
    moment = datetime(2026, 3, 1, 12, 0, 0, 250_000, tzinfo=UTC)
    for state, busy in (("busy", True), ("ready", False)):
        assert await use_over_http(await answering(ok(text % state))) == Use(busy, moment)


NOT_UNDERSTOOD = {
    "nothing": b"",
    "half an answer": ok('{"state": "ready", "last_activity_at": "2026-03-01T12:00:00.250Z"}')[:-5],
    "a failure": b"HTTP/1.1 500 Oh\r\ncontent-length: 2\r\n\r\n{}",
    "another server": b"HTTP/1.1 200 OK\r\ncontent-length: 6\r\n\r\n<html>",
    "no HTTP": b"220 mail.example ESMTP\r\n",
    "no object": ok("[]"),
    "no times": ok('{"state": "ready"}'),
    "no state": ok('{"last_activity_at": "2026-03-01T12:00:00.250Z"}'),
    "a number for a time": ok('{"state": "ready", "last_activity_at": 1}'),
    "a time that is none": ok('{"state": "ready", "last_activity_at": "yesterday"}'),
    "a time without its zone": ok('{"state": "ready", "last_activity_at": "2026-03-01T12:00:00.250"}'),
}


@pytest.mark.parametrize("case", NOT_UNDERSTOOD)
async def test_an_answer_that_is_not_understood_is_no_evidence(answering: Answering, case: str) -> None:
    with pytest.raises(SandboxUnavailable):
        await use_over_http(await answering(NOT_UNDERSTOOD[case]))


async def test_a_server_that_is_gone_is_no_evidence(tmp_path: Path) -> None:
    with pytest.raises(SandboxUnavailable):
        await use_over_http(Endpoint("secret", socket_path=str(tmp_path / "gone.sock")))
