"""Events as a foreign encoder writes them and a foreign decoder reads them: the `cloudevents` package."""

import json
from collections.abc import Iterator, Mapping
from typing import Any, Literal

import httpx
import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http

from caesarion.ids import new_id
from tests.conftest import ProductServer
from tests.platform.conftest import client_of

Mode = Literal["binary", "structured"]

PATH = "/events/execute"
REQUESTED = "dev.caesarion.execution.requested"
FINISHED = "dev.caesarion.execution.finished"
PING = "dev.knative.sources.ping"
STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"


def requested(code: str, *, attributes: Mapping[str, str] | None = None, **data: Any) -> CloudEvent:
    """Return an event that asks for an execution, by default with an id of its own; None stands for an absent field."""
    given = {
        "id": new_id("t"),
        "source": "/tests",
        "type": REQUESTED,
        "time": "2026-01-02T03:04:05Z",
        "datacontenttype": "application/json",
    }
    return CloudEvent(
        {**given, **(attributes or {})},
        {"code": code, **{name: value for name, value in data.items() if value is not None}},
    )


def post(
    client: httpx.Client, event: CloudEvent, mode: Mode = "binary", *, headers: Mapping[str, str] | None = None
) -> httpx.Response:
    """Send an event in this mode, with further headers."""
    own, body = to_binary(event) if mode == "binary" else to_structured(event)
    return client.post(PATH, content=body, headers={**own, **(headers or {})})


def read(reply: httpx.Response) -> CloudEvent:
    """Return the event of an answer."""
    assert reply.status_code == 200, reply.text
    return from_http(dict(reply.headers), reply.content)


def ran(client: httpx.Client, event: CloudEvent, mode: Mode = "binary") -> dict[str, Any]:
    """Send an event and return the data of its result."""
    result = read(post(client, event, mode))
    assert result["type"] == FINISHED
    data: dict[str, Any] = result.data
    return data


def post_batch(client: httpx.Client, documents: list[Any]) -> httpx.Response:
    """Send events at once, each as its JSON."""
    return client.post(PATH, content=json.dumps(documents), headers={"Content-Type": BATCH})


def as_document(event: CloudEvent) -> dict[str, Any]:
    """Return an event's JSON."""
    document: dict[str, Any] = json.loads(to_structured(event)[1])
    return document


@pytest.fixture(scope="session")
def client(product_server: ProductServer) -> Iterator[httpx.Client]:
    with client_of(product_server.url) as client:
        yield client
