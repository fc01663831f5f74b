"""The OpenAPI document of the chat function. A test holds it and the routes to each other, both ways."""

from caesarion.adapters.asgi.openapi import FAILURE, Document, event_forms, openapi_document

_SESSION = {
    "name": "session",
    "in": "path",
    "required": True,
    "schema": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
}
_FAILURE = {"4XX": "The request is refused.", "5XX": "The platform or the model failed."}
_EVENTS = {"text/event-stream": {"schema": {"type": "string"}}}
_OBJECT = {"application/json": {"schema": {"type": "object"}}}


def document() -> Document:
    """Return the document, OpenAPI 3.1."""
    description = "A conversation with a model that runs Python in the session's sandbox."
    return openapi_document("chat", description, _paths(), {"Failure": FAILURE})


_UI_MESSAGE: Document = {
    "type": "object",
    "required": ["role", "parts"],
    "properties": {
        "id": {"type": "string"},
        "role": {"enum": ["user", "assistant", "system"]},
        "parts": {"type": "array", "items": {"type": "object", "required": ["type"]}},
    },
}
_CHAT: Document = {
    "type": "object",
    "required": ["id", "messages"],
    "properties": {
        "id": {"type": "string", "description": "The chat's id, which is the session's."},
        "messages": {"type": "array", "items": _UI_MESSAGE, "minItems": 1},
        "trigger": {"enum": ["submit-message", "regenerate-message"]},
        "messageId": {"type": "string"},
        "model": {"type": "string"},
    },
}
_COMPLETION: Document = {
    "type": "object",
    "required": ["messages"],
    "properties": {
        "model": {"type": "string"},
        "messages": {"type": "array", "items": {"type": "object"}, "minItems": 1},
        "stream": {"type": "boolean"},
        "tools": {"type": "array", "items": {"type": "object"}},
        "session": {"type": "string", "description": "The session whose sandbox code runs in."},
    },
}
_REQUESTED: Document = {
    "type": "object",
    "required": ["message"],
    "additionalProperties": False,
    "properties": {
        "message": {"type": "string"},
        "session": {
            "type": "string",
            "description": "May stand in the event's subject; with neither the session lives for this turn only.",
        },
        "model": {"type": "string"},
    },
}
_FINISHED: Document = {
    "type": "object",
    "required": ["session", "text", "finish_reason", "executions", "request"],
    "properties": {
        "session": {"type": "string"},
        "text": {"type": "string", "description": "All that the assistant said."},
        "finish_reason": {"enum": ["stop", "length", "content-filter", "tool-calls", "other", "stopped"]},
        "executions": {"type": "array", "items": {"type": "string"}, "description": "The ids of the code that ran."},
        "request": {
            "type": "object",
            "required": ["source", "id"],
            "properties": {"source": {"type": "string"}, "id": {"type": "string"}},
        },
    },
}
_STOP: Document = {"type": "object", "properties": {"turn": {"type": "string"}}}


def _paths() -> Document:
    one = {"name": "model", "in": "path", "required": True, "schema": {"type": "string"}}
    streamed = {"description": "The UI message stream of AI SDK 6.", "content": _EVENTS}
    completion = {"description": "A completion, whole or streamed.", "content": {**_OBJECT, **_EVENTS}}
    return {
        "/api/chat": {"post": _call("Answers the last user message.", {"200": streamed}, body=_CHAT)},
        "/api/chat/{session}/stream": {
            "get": _call(
                "The turn that runs, or the one that is named, from its first chunk.",
                {"200": streamed, "204": {"description": "There is none."}},
                [_SESSION, {"name": "turn", "in": "query", "schema": {"type": "string"}}],
            )
        },
        "/api/chat/{session}/stop": {
            "post": _call(
                "Stops the turn that runs.", {"204": {"description": "Done."}}, [_SESSION], body=_STOP, needed=False
            )
        },
        "/events/chat": {
            "post": {
                **_call(
                    "Runs the turn that a CloudEvent `dev.caesarion.chat.requested` asks for, once for each event.",
                    {
                        "200": {
                            "description": "The event `dev.caesarion.chat.finished`, in the mode of the request.",
                            "content": _events(_FINISHED),
                        },
                        "202": {"description": "An event of another type, which is dropped."},
                    },
                ),
                "requestBody": {"required": True, "content": _events(_REQUESTED)},
            },
            "options": _call("The handshake of CloudEvents' abuse protection.", {"200": {"description": "Send."}}),
        },
        "/v1/chat/completions": {"post": _call("OpenAI's chat completions.", {"200": completion}, body=_COMPLETION)},
        "/v1/models": {"get": _call("The models that may be asked.", _told("The models."))},
        "/v1/models/{model}": {"get": _call("One model.", _told("The model."), [one])},
    }


def _events(data: Document) -> Document:
    """Return the forms of an event with this data: its attributes in headers, around it, or several at once."""
    event: Document = {
        "type": "object",
        "required": ["specversion", "id", "source", "type"],
        "properties": {
            **{name: {"type": "string"} for name in ("specversion", "id", "source", "type", "subject", "time")},
            "data": data,
        },
    }
    return event_forms(data, event)


def _told(meaning: str) -> Document:
    return {"200": {"description": meaning, "content": _OBJECT}}


def _call(
    summary: str, responses: Document, parameters: list[Document] | None = None, *, body: Document | None = None,
    needed: bool = True,
) -> Document:  # fmt: skip
    failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
    told = {status: {"description": meaning, "content": failure} for status, meaning in _FAILURE.items()}
    call: Document = {"summary": summary, "responses": {**responses, **told}}
    if parameters:
        call["parameters"] = parameters
    if body is not None:
        call["requestBody"] = {"required": needed, "content": {"application/json": {"schema": body}}}
    return call
