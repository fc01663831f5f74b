"""The chat function as an ASGI app: decode, call, encode."""

from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.bodies import check_json, decoded, read_fields, read_limited
from caesarion.adapters.asgi.facts import principal_of
from caesarion.adapters.asgi.responses import JsonResponse, Streamed
from caesarion.adapters.asgi.routes import resource
from caesarion.adapters.platform import Platform
from caesarion.adapters.store import open_store
from caesarion.errors import NotFound
from caesarion.ids import SessionId, SessionKey, checked_id
from caesarion.logs import bind
from caesarion.ports import Sandboxes
from caesarion_chat.agent import Agent
from caesarion_chat.completions import Completions
from caesarion_chat.completions_request import checked_document, decode_completion, wants_own_tools
from caesarion_chat.event_turns import EventTurns
from caesarion_chat.model import Model
from caesarion_chat.openai_model import OpenAIModel
from caesarion_chat.plain_python import PlainPython
from caesarion_chat.settings import Settings
from caesarion_chat.tools import TOOLS
from caesarion_chat.turns import Batches, Turns
from caesarion_chat.ui_request import decode_ui_request
from caesarion_chat.ui_stream import HEADERS, MEDIA_TYPE, as_events


def build_app(sandboxes: Sandboxes, settings: Settings, keys: Keys) -> Starlette:
    """Return the app. Its connections and tasks end with its lifespan, where there is one; `sandboxes` stay open."""
    store = open_store(settings.store, settings.local.home)
    platform = Platform(sandboxes, settings.serving, settings.quotas, store=store, events=settings.events)
    return platform.app(chat_routes(platform, settings), keys, document)


def chat_routes(platform: Platform, settings: Settings) -> list[BaseRoute]:
    """Return the routes of this function, for an app of their own or beside those of others."""
    endpoint = OpenAIModel(settings.model, platform.metrics) if settings.model.configured else None
    if endpoint is not None:
        platform.on_close(endpoint.aclose)
    model: Model = endpoint or PlainPython()
    agent = Agent(model, TOOLS, settings.chat)
    turns = Turns(platform, agent, settings)
    routes = ChatRoutes(turns, Completions(platform, agent, endpoint, settings), settings).routes()
    return [*routes, EventTurns(platform, turns, settings).route()]


class ChatRoutes:
    """One method a route."""

    def __init__(self, turns: Turns, completions: Completions, settings: Settings) -> None:
        self._turns = turns
        self._completions = completions
        self._settings = settings

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            resource("/api/chat", POST=self.chat),
            resource("/api/chat/{session}/stream", GET=self.stream),
            resource("/api/chat/{session}/stop", POST=self.stop),
            resource("/v1/chat/completions", POST=self.complete),
            resource("/v1/models", GET=self.models),
            resource("/v1/models/{model:path}", GET=self.model),
        ]

    async def chat(self, request: Request) -> Response:
        """A turn: the answer to the last user message, as the AI SDK's UI message stream."""
        document = await self._body(request)
        wanted = decode_ui_request(document, max_message_chars=self._settings.chat.max_message_chars)
        if wanted.model is not None and wanted.model not in self._settings.model.names:
            raise NotFound(
                f"There is no model {wanted.model[:80]!r} here; there are {', '.join(self._settings.model.names)}.",
                code="model_not_found",
            )
        key = _key(request, wanted.session)
        return _streamed(await self._turns.begin(key, wanted))

    async def stream(self, request: Request) -> Response:
        """The turn that runs, or the one that is named, from its first chunk and then live; 204 when there is none."""
        turn = request.query_params.get("turn")
        if turn is not None:
            checked_id(turn, what="The turn's id")
        chunks = await self._turns.found(_key(request, request.path_params["session"]), turn)
        return Response(status_code=204) if chunks is None else _streamed(chunks)

    async def stop(self, request: Request) -> Response:
        """Stops the turn that runs, or only the one that is named; variables stay."""
        max_bytes = self._settings.serving.max_body_bytes
        fields = await read_fields(request, ("turn",), max_bytes=max_bytes, may_be_empty=True)
        turn = fields.name("turn", "") or None
        await self._turns.stop(_key(request, request.path_params["session"]), turn)
        return Response(status_code=204)

    async def complete(self, request: Request) -> Response:
        """OpenAI's chat completions."""
        names = self._settings.model.names
        document = checked_document(await self._body(request), names)
        if wants_own_tools(document):
            return await self._completions.pass_through(document)
        limit = self._settings.chat.max_message_chars
        session, idempotency_key = request.headers.get("x-session-id"), request.headers.get("idempotency-key")
        wanted = decode_completion(document, session, idempotency_key, max_message_chars=limit)
        return await self._completions.answer(request, _key(request, wanted.session), wanted)

    async def models(self, request: Request) -> Response:
        """The models that may be asked."""
        listed = [_model(name) for name in self._settings.model.names]
        return JsonResponse({"object": "list", "data": listed})

    async def model(self, request: Request) -> Response:
        """One model."""
        name = request.path_params["model"]
        if name not in self._settings.model.names:
            raise NotFound(f"There is no model {name[:80]!r} here.", code="model_not_found")
        return JsonResponse(_model(name))

    async def _body(self, request: Request) -> Any:
        body = await read_limited(request, self._settings.chat.max_body_bytes)
        check_json(request)
        return decoded(body)


def document() -> dict[str, Any]:
    """Return the OpenAPI document of this function."""
    from caesarion_chat.openapi import document

    return document()


def _key(request: Request, session: str) -> SessionKey:
    checked = SessionId(checked_id(session, what="The chat's id"))
    bind(session=checked)
    return SessionKey(principal_of(request), checked)


def _streamed(chunks: Batches) -> Response:
    return Streamed(as_events(chunks), headers=HEADERS, media_type=MEDIA_TYPE, closed=chunks.aclose)


def _model(name: str) -> dict[str, Any]:
    return {"id": name, "object": "model", "created": 0, "owned_by": "caesarion"}
