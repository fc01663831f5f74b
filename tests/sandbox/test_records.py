"""What functions find of the records that they keep with a session, and of who writes them."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from itertools import count
from typing import Any

import httpx
import pytest

from tests.sandbox.conftest import Server

HOLDER = """
import sys, httpx
headers = {"Authorization": "Bearer secret"}
client = httpx.Client(transport=httpx.HTTPTransport(uds=sys.argv[1]), headers=headers, timeout=None)
with client.stream("GET", f"http://sandbox/v1/journal/{sys.argv[2]}/hold") as reply:
    for line in reply.iter_lines():
        print(line, flush=True)
"""
_numbers = count(1)


@pytest.fixture
def stream() -> str:
    """The name of a stream that no test used before."""
    return f"turn-{next(_numbers)}"


def append(server: Server, stream: str, record: Any, **query: int) -> httpx.Response:
    return server.client.post(f"/v1/journal/{stream}", params=query, json=record)


def read(server: Server, stream: str, **query: int) -> list[dict[str, Any]]:
    reply = server.client.get(f"/v1/journal/{stream}", params=query)
    assert reply.status_code == 200, reply.text
    return [json.loads(line) for line in reply.text.splitlines()]


@contextmanager
def lines_of(server: Server, path: str) -> Iterator[tuple[httpx.Response, Iterator[Any]]]:
    """Open a stream of lines; the client leaves at the end of the block."""
    with server.client.stream("GET", f"/v1/journal/{path}") as reply:
        assert reply.status_code == 200, reply.read()
        yield reply, (json.loads(line) for line in reply.iter_lines())


@contextmanager
def held(server: Server, stream: str) -> Iterator[Iterator[Any]]:
    """Hold a stream, and give what its holder is told from then on; at the end of the block nobody holds it."""
    with lines_of(server, f"{stream}/hold") as (_, told):
        assert next(told) == {"held": True}
        yield told
    read(server, stream, follow=1, after=10**14)


def code_of(reply: httpx.Response) -> tuple[int, str]:
    return reply.status_code, reply.json()["error"]["code"]


def test_records_come_back_in_the_order_they_were_appended(server: Server, stream: str) -> None:
    records: list[Any] = [{"text": "a\nb\u2028ü"}, False, [1, "two"], "three"]
    for number, record in enumerate(records):
        assert append(server, stream, record, expect=number).json() == {"seq": number + 1}
    assert read(server, stream) == [{"seq": n, "record": record} for n, record in enumerate(records, 1)]
    assert [line["seq"] for line in read(server, stream, after=2)] == [3, 4]
    assert read(server, stream, after=4) == read(server, stream, after=99) == []


def test_of_two_writers_who_expect_the_same_one_appends(server: Server, stream: str) -> None:
    append(server, stream, "first").raise_for_status()
    assert append(server, stream, "mine", expect=1).json() == {"seq": 2}
    refused = append(server, stream, "too late", expect=1)
    assert code_of(refused) == (409, "conflict")
    assert "2 records" in refused.json()["error"]["message"]
    assert code_of(append(server, stream, "too early", expect=3)) == (409, "conflict")
    assert [line["record"] for line in read(server, stream)] == ["first", "mine"]


def test_a_stream_is_held_by_one_at_a_time(server: Server, stream: str) -> None:
    with held(server, stream):
        assert code_of(server.client.get(f"/v1/journal/{stream}/hold")) == (409, "held")
        with held(server, f"{stream}-other"):
            assert server.client.get(f"/v1/journal/{stream}").headers["X-Journal-Held"] == "true"
    assert read(server, stream, follow=1) == []
    with held(server, stream):
        pass


def test_a_follower_gets_records_live_and_ends_when_the_holder_leaves(server: Server, stream: str) -> None:
    append(server, stream, "before").raise_for_status()
    with held(server, stream):
        with lines_of(server, f"{stream}?follow=1") as (reply, followed):
            assert reply.headers["X-Journal-Held"] == "true"
            assert next(followed)["record"] == "before"
            for text in ("one", "two"):
                append(server, stream, text).raise_for_status()
                assert next(followed)["record"] == text
        with lines_of(server, f"{stream}?follow=1&after=4") as (_, ahead):
            append(server, stream, "not wanted").raise_for_status()
            append(server, stream, "wanted").raise_for_status()
            assert next(ahead) == {"seq": 5, "record": "wanted"}
    with lines_of(server, f"{stream}?follow=1&after=3") as (reply, rest):
        assert [line["seq"] for line in rest] == [4, 5]


def test_a_follow_of_a_stream_that_nobody_holds_ends_with_what_is_there(server: Server, stream: str) -> None:
    append(server, stream, "all").raise_for_status()
    reply = server.client.get(f"/v1/journal/{stream}?follow=1")
    assert (reply.headers["X-Journal-Held"], json.loads(reply.text)["record"]) == ("false", "all")


def test_a_follower_learns_of_a_holder_that_was_killed(server: Server, stream: str) -> None:
    command = [sys.executable, "-c", HOLDER, str(server.folder / "run" / "control.sock"), stream]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as holder:
        try:
            assert holder.stdout is not None
            assert json.loads(holder.stdout.readline()) == {"held": True}
            with lines_of(server, f"{stream}?follow=1") as (reply, followed):
                assert reply.headers["X-Journal-Held"] == "true"
                append(server, stream, "half a turn").raise_for_status()
                assert next(followed)["record"] == "half a turn"
                os.kill(holder.pid, signal.SIGKILL)
                assert list(followed) == []
        finally:
            holder.kill()
    assert server.client.get(f"/v1/journal/{stream}").headers["X-Journal-Held"] == "false"
    with held(server, stream):
        pass


def test_a_signal_reaches_the_holder(server: Server, stream: str) -> None:
    with held(server, stream) as told:
        for value in ({"stop": True}, 0, "zwei\nZeilen"):
            assert server.client.post(f"/v1/journal/{stream}/signal", json=value).status_code == 204
            assert next(told) == {"signal": value}
    assert read(server, stream, follow=1) == []


def test_a_signal_without_a_holder_is_refused(server: Server, stream: str) -> None:
    assert code_of(server.client.post(f"/v1/journal/{stream}/signal", json="stop")) == (404, "not_found")


def test_a_held_stream_counts_as_use_of_the_session(server: Server, stream: str) -> None:
    def last_activity() -> datetime:
        return datetime.fromisoformat(server.client.get("/v1/status").json()["last_activity_at"])

    with held(server, stream):
        began = last_activity()
        while last_activity() == began:
            pass
    assert read(server, stream, follow=1) == []
    ended = last_activity()
    assert last_activity() == ended


def test_records_survive_a_new_life_of_the_server_and_holds_do_not(server: Server, stream: str) -> None:
    for text in ("one", "two"):
        append(server, stream, text).raise_for_status()
    with held(server, stream):
        server.stop()
        server.start()
    assert [line["record"] for line in read(server, stream, follow=1)] == ["one", "two"]
    assert append(server, stream, "three", expect=2).json() == {"seq": 3}


def test_a_record_that_a_crash_left_unfinished_is_as_if_it_never_was(server: Server, stream: str) -> None:
    append(server, stream, "whole").raise_for_status()
    server.stop()
    with open(server.folder / "journal" / "records" / f"{stream}.ndjson", "ab") as file:
        file.write(b'{"seq": 2, "record": "to')
    server.start()
    assert [line["record"] for line in read(server, stream)] == ["whole"]
    assert append(server, stream, "next", expect=1).json() == {"seq": 2}
    assert [line["record"] for line in read(server, stream)] == ["whole", "next"]


def test_a_stream_of_many_megabytes_is_read_from_any_record(server: Server, stream: str) -> None:
    path = server.folder / "journal" / "records" / f"{stream}.ndjson"
    with open(path, "wb") as file:
        for number in range(1, 301):
            file.write(json.dumps({"seq": number, "record": "x" * (number * 500)}).encode() + b"\n")
    assert append(server, stream, "last", expect=300).json() == {"seq": 301}
    whole = path.read_bytes()
    assert server.client.get(f"/v1/journal/{stream}").content == whole
    tail = server.client.get(f"/v1/journal/{stream}?after=150").content
    assert tail == b"".join(whole.splitlines(keepends=True)[150:])


@pytest.mark.parametrize(
    ("method", "path"),
    [("POST", "b.d"), ("GET", "b.d"), ("GET", "b.d/hold"), ("POST", "b.d/signal"), ("POST", "ok?expect=-1")],
)
def test_what_is_no_name_or_number_is_refused(server: Server, method: str, path: str) -> None:
    reply = server.client.request(method, f"/v1/journal/{path}", json={} if method == "POST" else None)
    assert reply.status_code == 400
    assert set(reply.json()["error"]) == {"code", "message", "id"}


@pytest.mark.parametrize("path", ["", "/signal"])
def test_a_body_that_cannot_be_kept_is_refused(server: Server, stream: str, path: str) -> None:
    with held(server, stream):
        for body in (b"", b"{", b"[" * 100_000 + b"]" * 100_000):
            reply = server.client.post(f"/v1/journal/{stream}{path}", content=body)
            assert code_of(reply) == (400, "invalid_request")
        for depth in range(900, 1000):
            reply = server.client.post(f"/v1/journal/{stream}{path}", content=b"[" * depth + b"]" * depth)
            assert reply.status_code in (201, 204, 400), reply.text
