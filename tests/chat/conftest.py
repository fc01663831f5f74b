"""Chat products with a scripted model, and the users who talk with them."""

import asyncio
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import httpx
import pytest

from caesarion.adapters.local_record import Home
from caesarion.ids import PrincipalId, SessionId, SessionKey, new_id
from tests.chat.scripted_model import ScriptedModel, scripted
from tests.chat.ui import chunks_of
from tests.conftest import ProductServer

Chunk = dict[str, Any]
SHARED = "shared"  # the prefix of ids of sessions that outlive a test


@dataclass(frozen=True, slots=True)
class Chat:
    """One chat of a product, and its user."""

    id: str
    client: httpx.Client

    def ask(self, text: str, *, message_id: str | None = None, **fields: Any) -> list[Chunk]:
        """Send a message and return the chunks of its turn."""
        with self.asking(text, message_id=message_id, **fields) as chunks:
            return list(chunks)

    @contextmanager
    def asking(self, text: str, *, message_id: str | None = None, **fields: Any) -> Iterator[Iterator[Chunk]]:
        """Send a message, and leave at the end of the block."""
        with self.client.stream("POST", "/api/chat", json=self.body(text, message_id=message_id, **fields)) as reply:
            assert reply.status_code == 200, reply.read()
            yield chunks_of(reply)

    @contextmanager
    def resuming(self) -> Iterator[Iterator[Chunk]]:
        """Pick up the turn that runs."""
        with self.client.stream("GET", f"/api/chat/{self.id}/stream") as reply:
            assert reply.status_code == 200, reply.read()
            yield chunks_of(reply)

    def stop(self, turn: str | None = None) -> None:
        """Stop the turn."""
        body = {} if turn is None else {"turn": turn}
        assert self.client.post(f"/api/chat/{self.id}/stop", json=body).status_code == 204

    def begin(self) -> None:
        """Have a sandbox before the first message."""
        while self.client.post(f"/sessions/{self.id}/initialize").raise_for_status().status_code != 200:
            pass

    def put_file(self, name: str, content: bytes) -> None:
        """Put a file where the user's files are."""
        assert self.client.put(f"/sessions/{self.id}/files/{name}", content=content).is_success

    def file(self, name: str) -> str:
        """Return the text of a file."""
        return self.client.get(f"/sessions/{self.id}/files/{name}").raise_for_status().text

    def open_gate(self, name: str) -> None:
        """Let code that waits for `gate(name)` of tests.platform.conftest go on."""
        self.put_file(f"{name}.txt", b"go")

    def body(self, text: str, *, message_id: str | None = None, **fields: Any) -> dict[str, Any]:
        """Return the body of a request with this message."""
        message = {"id": message_id or new_id("u"), "role": "user", "parts": [{"type": "text", "text": text}]}
        return {"id": self.id, "messages": [message], **fields}

    def at(self, client: httpx.Client) -> "Chat":
        """Return the same chat as another replica or key sees it."""
        return Chat(self.id, client)


class ChatProduct:
    """A product whose model follows a script."""

    def __init__(self, server: ProductServer, model: ScriptedModel) -> None:
        self.server = server
        self.model = model
        self._clients: list[httpx.Client] = []

    def replica(self, **env: str) -> httpx.Client:
        """Start one more replica and return a client of it."""
        url = self.server.serve({"OPENAI_BASE_URL": self.model.url, "OPENAI_API_KEY": "sk-test", **env})
        client = httpx.Client(base_url=url, timeout=200)
        self._clients.append(client)
        return client

    def chat(self, client: httpx.Client | None = None) -> Chat:
        """Return a new chat."""
        return Chat(new_id("c"), client or self.replica())

    def close(self) -> None:
        """Close the clients."""
        for client in self._clients:
            client.close()


@contextmanager
def chat_product(server: ProductServer, steps: list[Any]) -> Iterator[ChatProduct]:
    """Give a product whose model takes these steps, each exactly once."""
    with scripted(steps) as model:
        product = ChatProduct(server, model)
        try:
            yield product
        finally:
            product.close()


@pytest.fixture
def server(product_server: ProductServer) -> Iterator[ProductServer]:
    """The product. Sessions that a test makes end with it, so that sandboxes do not pile up."""
    before = _sessions(product_server)
    yield product_server
    made = {key for key in _sessions(product_server) - before if not key.session.startswith(SHARED)}
    product_server.run(_released(product_server, made))


def _sessions(server: ProductServer) -> set[SessionKey]:
    claims = [claim for claim in Home(str(server.home)).claims() if claim.session]
    return {SessionKey(PrincipalId(claim.principal), SessionId(claim.session)) for claim in claims}


async def _released(server: ProductServer, sessions: set[SessionKey]) -> None:
    await asyncio.gather(*map(server.sandboxes.release, sessions))


def types_of(chunks: list[Chunk]) -> list[str]:
    """Return the types of the chunks, those that follow each other once."""
    types = [chunk["type"] for chunk in chunks]
    return [kind for kind, before in zip(types, ["", *types], strict=False) if kind != before]


def said(chunks: list[Chunk]) -> str:
    """Return the assistant's text."""
    return "".join(chunk["delta"] for chunk in chunks if chunk["type"] == "text-delta")


def outputs_of(chunks: list[Chunk]) -> list[Any]:
    """Return the final outputs of tools."""
    return [c["output"] for c in chunks if c["type"] == "tool-output-available" and not c.get("preliminary")]


def lasting(chunks: list[Chunk]) -> list[Chunk]:
    """Return the chunks without preliminary outputs, of which each reader sees as many as it is fast."""
    return [chunk for chunk in chunks if not chunk.get("preliminary")]


def until(chunks: Iterator[Chunk], found: Callable[[Chunk], bool]) -> list[Chunk]:
    """Read until a chunk is found, and return all up to it."""
    seen: list[Chunk] = []
    for chunk in chunks:
        seen.append(chunk)
        if found(chunk):
            return seen
    raise AssertionError(f"the stream ended before: {seen[-3:]}")


def shows(text: str) -> Callable[[Chunk], bool]:
    """Whether a chunk is an output of a tool in which this text stands."""
    return lambda chunk: chunk["type"] == "tool-output-available" and text in json.dumps(chunk["output"])


def says(text: str) -> Callable[[Chunk], bool]:
    """Whether a chunk is this piece of the assistant's text."""
    return lambda chunk: chunk["type"] == "text-delta" and chunk["delta"] == text


def turn_of(chunks: list[Chunk]) -> str:
    """Return the id of the turn."""
    return str(chunks[0]["messageMetadata"]["turn"])


def told(product: ChatProduct, request: int) -> list[tuple[str, Any]]:
    """Return the roles and contents of the messages of a request to the model, but for the first system message."""
    messages = product.model.requests[request].body["messages"]
    assert messages[0]["role"] == "system"
    return [(message["role"], message["content"]) for message in messages[1:]]
