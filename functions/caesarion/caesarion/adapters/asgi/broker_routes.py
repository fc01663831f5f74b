"""The broker over HTTP: events in at `POST /broker`, as at the ingress of Knative's; what came, and dead letters."""

import asyncio
import json
from collections.abc import AsyncGenerator, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from caesarion.adapters.asgi.bodies import query_number
from caesarion.adapters.asgi.event_routes import event_route
from caesarion.adapters.asgi.facts import principal_of
from caesarion.adapters.asgi.responses import JsonResponse, Streamed
from caesarion.adapters.asgi.routes import resource
from caesarion.adapters.broker import Broker
from caesarion.adapters.broker_tables import DeadLetter, Kept
from caesarion.adapters.events import json_bytes, structured
from caesarion.clock import rfc3339
from caesarion.errors import NotFound
from caesarion.events import Event

HEARTBEAT_S = 15.0
MAX_SEQ = 2**53
MAX_PAGE = 1000


def broker_routes(
    broker: Callable[[], Broker], *, max_body_bytes: int, heartbeat_s: float = HEARTBEAT_S
) -> list[Route]:
    """Return the routes of the broker, which is asked for with each request and may be away (SandboxUnavailable)."""

    async def accept(request: Request, event: Event) -> None:
        await broker().send(event, principal_of(request))

    async def events(request: Request) -> Response:
        after = int(query_number(request, "after", default=0, low=0, high=MAX_SEQ))
        newest = query_number(request, "last", default=-1, low=0, high=MAX_SEQ)
        follow = request.query_params.get("follow", "") not in ("", "0", "false")
        kept = broker().events(
            principal_of(request),
            kind=request.query_params.get("type", ""),
            after=after,
            newest=int(newest) if newest >= 0 else None,
            follow=follow,
        )
        return Streamed(_lines(kept, heartbeat_s), media_type="application/x-ndjson")

    async def dead(request: Request) -> Response:
        after = int(query_number(request, "after", default=0, low=0, high=MAX_SEQ))
        limit = int(query_number(request, "limit", default=100, low=1, high=MAX_PAGE))
        found = await broker().dead(principal_of(request), after=after, limit=limit)
        return JsonResponse({"dead": [_dead_document(broker(), letter) for letter in found]})

    async def dead_letter(request: Request) -> Response:
        letter = await broker().dead_letter(principal_of(request), _dead_id(request))
        whole = _dead_document(broker(), letter) | {"event": _event_document(letter.event)}
        return Response(json_bytes(whole), media_type="application/json")

    async def remove(request: Request) -> Response:
        await broker().remove(principal_of(request), _dead_id(request))
        return Response(status_code=204)

    async def resend(request: Request) -> Response:
        dead_id = _dead_id(request)
        await broker().resend(principal_of(request), dead_id)
        return JsonResponse({"id": dead_id, "state": "waiting"}, status_code=202)

    return [
        event_route("/broker", accept, max_bytes=max_body_bytes),
        resource("/broker/events", GET=events),
        resource("/broker/dead", GET=dead),
        resource("/broker/dead/{id}", GET=dead_letter, DELETE=remove),
        resource("/broker/dead/{id}/resend", POST=resend),
    ]


def broker_paths() -> dict[str, Any]:
    """Return what the OpenAPI document says of these paths."""
    refused = {
        code: {
            "description": text,
            "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}},
        }
        for code, text in (("4XX", "The request is refused."), ("5XX", "The event is not accepted now."))
    }
    number = {"type": "integer", "minimum": 0}
    dead_id = {"name": "id", "in": "path", "required": True, "schema": number}
    an_object = {"application/json": {"schema": {"type": "object"}}}

    def call(
        summary: str, status: str, content: dict[str, Any] | None = None, parameters: list[Any] | None = None
    ) -> dict[str, Any]:
        answer: dict[str, Any] = {"description": summary} | ({"content": content} if content else {})
        return {"summary": summary, "responses": {status: answer, **refused}} | (
            {"parameters": parameters} if parameters else {}
        )

    def query(name: str, schema: dict[str, Any]) -> dict[str, Any]:
        return {"name": name, "in": "query", "schema": schema}

    lines = {"application/x-ndjson": {"schema": {"type": "string"}}}
    return {
        "/broker": {
            "post": call("Accept CloudEvents: binary, structured or a batch.", "202"),
            "options": call("Tell that events may be sent here (CloudEvents abuse protection).", "200"),
        },
        "/broker/events": {
            "get": call(
                "Events that were accepted, a JSON object a line, and with `follow` those to come.",
                "200",
                lines,
                [
                    query("after", number),
                    query("last", number),
                    query("type", {"type": "string"}),
                    query("follow", {"enum": ["0", "1"]}),
                ],
            )
        },
        "/broker/dead": {
            "get": call(
                "Dead letters by their ids, without data.",
                "200",
                an_object,
                [query("after", number), query("limit", number)],
            )
        },
        "/broker/dead/{id}": {
            "get": call("A dead letter with its event.", "200", an_object, [dead_id]),
            "delete": call("Remove a dead letter.", "204", None, [dead_id]),
        },
        "/broker/dead/{id}/resend": {
            "post": call("Deliver a dead letter again.", "202", an_object, [dead_id]),
        },
    }


async def _lines(kept: AsyncGenerator[Kept, None], heartbeat_s: float) -> AsyncGenerator[bytes, None]:
    """Yield a line for each event, and an empty one while nothing comes, so that a dead connection is noticed."""
    coming: asyncio.Future[Kept | None] | None = None
    try:
        while True:
            coming = asyncio.ensure_future(_next(kept))
            while not (await asyncio.wait({coming}, timeout=heartbeat_s))[0]:
                yield b"\n"
            event = coming.result()
            if event is None:
                return
            line = {"seq": event.seq, "accepted_at": _told(event.accepted_s), "event": _event_document(event.event)}
            yield json_bytes(line) + b"\n"
    finally:
        if coming is not None and not coming.done():
            coming.cancel()
            await asyncio.wait({coming})
        await kept.aclose()


async def _next(kept: AsyncGenerator[Kept, None]) -> Kept | None:
    return await anext(kept, None)


def _dead_document(broker: Broker, letter: DeadLetter) -> dict[str, Any]:
    return {
        "id": letter.id,
        "trigger": letter.trigger,
        "subscriber": broker.subscriber_of(letter.trigger),
        "attempts": letter.attempts,
        "status": letter.status,
        "reason": letter.reason,
        "dead_at": _told(letter.dead_s),
        "data_bytes": letter.data_bytes,
        "event": _event_document(letter.event),
    }


def _event_document(event: Event) -> Any:
    return json.loads(structured(event))


def _told(moment_s: float) -> str:
    return rfc3339(datetime.fromtimestamp(moment_s, UTC))


def _dead_id(request: Request) -> int:
    given = request.path_params["id"]
    if not given.isascii() or not given.isdecimal() or len(given) > 15:
        raise NotFound(f"There is no dead letter {given[:40]!r}.", code="dead_letter_not_found")
    return int(given)
