"""Requests to an app of the same process, without a socket: how the broker reaches the functions beside it."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote

from starlette.types import ASGIApp, Message

from caesarion.adapters.asgi.access import PRINCIPAL_KEY
from caesarion.ids import PrincipalId

HERE = ("127.0.0.1", 0)


class AnswerTooLarge(Exception):
    """The answer is larger than whoever asked takes."""


@dataclass(frozen=True, slots=True)
class Answer:
    """An answer as a whole. Names of headers are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes


async def post(
    app: ASGIApp,
    path: str,
    headers: Mapping[str, str],
    body: bytes,
    *,
    principal: PrincipalId,
    max_answer_bytes: int,
) -> Answer:
    """Send a POST to a path, perhaps with a query, in a principal's name and return the answer.

    Cancelling this is the client that leaves.

    Raises AnswerTooLarge, and whatever the app raises without an answer.
    """
    path, _, query = path.partition("?")
    given = {"host": "localhost", "content-length": str(len(body)), **headers}
    scope: dict[str, Any] = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": unquote(path),
        "raw_path": path.encode("ascii"),
        "query_string": query.encode("ascii"),
        "root_path": "",
        "headers": [(name.lower().encode("latin-1"), value.encode("latin-1")) for name, value in given.items()],
        "client": HERE,
        "server": ("localhost", 80),
        "extensions": {},
        PRINCIPAL_KEY: principal,
    }
    exchange = _Exchange(body, max_answer_bytes)
    await app(scope, exchange.receive, exchange.send)
    return exchange.answer()


class _Exchange:
    """One request and what comes back."""

    def __init__(self, body: bytes, max_answer_bytes: int) -> None:
        self._body: bytes | None = body
        self._max_answer_bytes = max_answer_bytes
        self._over = asyncio.Event()
        self._status: int | None = None
        self._headers: dict[str, str] = {}
        self._answer = bytearray()
        self._too_large = False

    async def receive(self) -> Message:
        """Give the body, then nothing until the answer is complete or nobody wants more of it."""
        if self._body is not None:
            body, self._body = self._body, None
            return {"type": "http.request", "body": body, "more_body": False}
        await self._over.wait()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        """Take a part of the answer."""
        if message["type"] == "http.response.start":
            self._status = message["status"]
            self._headers = {
                name.decode("latin-1").lower(): value.decode("latin-1") for name, value in message.get("headers", ())
            }
        elif message["type"] == "http.response.body" and not self._too_large:
            self._answer += message.get("body", b"")
            self._too_large = len(self._answer) > self._max_answer_bytes
            if self._too_large or not message.get("more_body", False):
                self._over.set()

    def answer(self) -> Answer:
        """Return what came."""
        if self._too_large:
            raise AnswerTooLarge
        if self._status is None:
            raise ConnectionError("the app gave no answer")
        return Answer(self._status, self._headers, bytes(self._answer))
