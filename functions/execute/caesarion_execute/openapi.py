"""The OpenAPI document of the execute function. A test holds it and the routes to each other, both ways."""

from caesarion.adapters.asgi.openapi import Document, event_forms, openapi_document, standard_paths
from caesarion_execute.schemas import SCHEMAS, ref

_SESSION = {"name": "session", "in": "path", "required": True, "schema": ref("Id")}
_EXECUTION = {"name": "execution", "in": "path", "required": True, "schema": ref("Id")}
_CONTEXT = {"name": "name", "in": "path", "required": True, "schema": ref("Id")}
_PATH = {
    "name": "path",
    "in": "path",
    "required": True,
    "description": "Relative to /uploaded_files/; slashes stand as they are.",
    "schema": {"type": "string"},
}
_PARAMETERS = {"session": _SESSION, "execution": _EXECUTION, "name": _CONTEXT, "path": _PATH}
_AFTER = {
    "name": "after",
    "in": "query",
    "description": "Only outputs with a larger sequence number.",
    "schema": {"type": "integer", "minimum": 0, "default": 0},
}
_SEQ = {"name": "seq", "in": "path", "required": True, "schema": {"type": "integer", "minimum": 1}}
_FORM = {
    "name": "form",
    "in": "query",
    "required": True,
    "description": "A MIME type that the output has.",
    "schema": {"type": "string", "examples": ["image/png"]},
}
_LAST_EVENT_ID = {
    "name": "Last-Event-ID",
    "in": "header",
    "description": "With server-sent events: only outputs with a larger sequence number.",
    "schema": {"type": "integer", "minimum": 0},
}
_IDEMPOTENCY_KEY = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The code runs once for each key of a session; who comes again gets the same outputs.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_WAIT = {
    "name": "wait_s",
    "in": "query",
    "description": "Seconds to wait until the session is ready.",
    "schema": {"type": "number", "minimum": 0, "maximum": 60, "default": 60},
}
_REQUEST_ORIGIN = {
    "name": "WebHook-Request-Origin",
    "in": "header",
    "description": "The system that asks, as a DNS name.",
    "schema": {"type": "string"},
}
_IN_CONTEXT = {"name": "context", "in": "query", "schema": {**ref("Id"), "default": "default"}}
_ERRORS = {"4XX": "The request is refused.", "5XX": "The platform failed."}
_BINARY = {"application/octet-stream": {"schema": {"type": "string", "format": "binary"}}}
_OUTPUTS = {
    "description": "The outputs, by `Accept`: a line each, an event each, or all of them at the end.",
    "headers": {"X-Execution-Id": {"schema": ref("Id")}},
    "content": {
        "application/x-ndjson": {"schema": ref("Output")},
        "text/event-stream": {"schema": {"type": "string"}},
        "application/json": {"schema": ref("FinishedExecution")},
    },
}


def document() -> Document:
    """Return the document, OpenAPI 3.1."""
    description = "Python in a session's sandbox: variables stay, outputs stream, files go in and out."
    return openapi_document("execute", description, _paths(), SCHEMAS)


def _paths() -> Document:
    session = "/sessions/{session}"
    execution = f"{session}/executions/{{execution}}"
    context = f"{session}/contexts/{{name}}"
    return {
        "/sessions": {
            "get": _call("Own sessions, oldest first.", _json("Sessions")),
            "post": _call("A new session, ready.", {"201": _told("Session")}, body=_body("SessionSpec", needed=False)),
        },
        session: {
            "get": _call("One session, without waking it.", _session_or_starting(), session),
            "delete": _call("Ends a session, its variables and files. Idempotent.", _nothing(), session),
        },
        f"{session}/initialize": {
            "post": _call(
                "Makes the session if it is new, wakes it if it is suspended.",
                _session_or_starting(),
                session,
                parameters=[_WAIT],
                body=_body("SessionSpec", needed=False),
            )
        },
        f"{session}/executions": {
            "get": _call("What ran, oldest first.", _json("Executions"), session),
            "post": _call(
                "Runs code. A client that leaves does not stop it.",
                {"200": _OUTPUTS},
                session,
                parameters=[_IDEMPOTENCY_KEY, _LAST_EVENT_ID],
                body=_body("Code"),
            ),
        },
        execution: {
            "get": _call("One execution.", _json("Execution"), execution),
            "delete": _call("Interrupts it; variables stay.", _nothing(), execution),
        },
        f"{execution}/outputs": {
            "get": _call(
                "Outputs so far, then live until it is finished.",
                {"200": _OUTPUTS, "204": {"description": "Server-sent events: there is nothing left."}},
                execution,
                parameters=[_AFTER, _LAST_EVENT_ID],
            )
        },
        f"{execution}/outputs/{{seq}}": {
            "get": _call(
                "One form of one display or result, such as a picture.",
                {"200": {"description": "The form, as its own media type.", "content": _BINARY}},
                execution,
                parameters=[_SEQ, _FORM],
            )
        },
        f"{session}/contexts": {
            "get": _call("The session's kernels.", _json("Contexts"), session),
            "post": _call(
                "A further kernel.",
                {"201": _told("Context"), "200": _told("Context", "It was there.")},
                session,
                body=_body("ContextName"),
            ),
        },
        context: {"delete": _call("Ends a kernel other than `default`.", _nothing(), context)},
        f"{context}/restart": {"post": _call("A kernel without variables again.", _json("Context"), context)},
        f"{context}/complete": {
            "post": _call("What could stand at the cursor.", _json("Completion"), context, body=_body("Typed"))
        },
        f"{context}/is_complete": {
            "post": _call("Whether code would run as it is.", _json("Completeness"), context, body=_body("TypedAll"))
        },
        f"{session}/notebook.ipynb": {
            "get": _call(
                "What ran in a context, as a notebook.",
                {"200": {"description": "A notebook, format 4.5.", "content": {"application/x-ipynb+json": {}}}},
                session,
                parameters=[_IN_CONTEXT],
            )
        },
        **_file_paths(session),
        **_event_paths(),
        **standard_paths(_call),
    }


def _file_paths(session: str) -> Document:
    file = f"{session}/files/{{path}}"
    form = {"schema": ref("Form"), "encoding": {"file": {"contentType": "*/*"}}}
    download = {
        "200": {"description": "The file.", "content": _BINARY},
        "206": {"description": "The range asked for.", "content": _BINARY},
        "304": {"description": "It is what `If-None-Match` named."},
    }
    return {
        f"{session}/files": {
            "get": _call("All files, what user code wrote included.", _json("Files"), session),
            "post": _call(
                "Stores files; one of the same name is replaced.",
                {"201": _told("Files", "The files as stored.")},
                session,
                body={"required": True, "content": {"multipart/form-data": form}},
            ),
        },
        file: {
            "get": _call("One file; ranges and conditions by ETag.", download, file),
            "head": _call("What GET would say.", {"200": {"description": "Its headers."}}, file),
            "put": _call(
                "Stores the body as this file, whole or not at all.",
                {"201": _told("File", "The file as stored.")},
                file,
                body={"required": True, "content": _BINARY},
            ),
            "delete": _call("Removes it.", _nothing(), file),
        },
    }


def _event_paths() -> Document:
    requests = event_forms(ref("ExecutionRequested"), ref("ExecutionRequestedEvent"))
    answers = {
        "200": {
            "description": "The result, in the mode of the request; a batch is answered with a batch.",
            "content": event_forms(ref("ExecutionFinished"), ref("ExecutionFinishedEvent")),
        },
        "202": {"description": "Nobody handles events of this type; nothing was done."},
    }
    allowed = {
        "200": {
            "description": "They may.",
            "headers": {"WebHook-Allowed-Origin": {"schema": {"type": "string"}}},
        }
    }
    webhook = "/webhooks/{name}"
    return {
        "/events/execute": {
            "post": _call(
                "Runs the code of an event once, however often it comes, and answers with the result as an event.",
                answers,
                body={"required": True, "content": requests},
            ),
            "options": _call("Whether events may be sent here.", allowed, parameters=[_REQUEST_ORIGIN]),
        },
        webhook: {
            "post": _call(
                "Runs the code of a hook for a signed delivery, once for each.",
                {
                    "200": _told("ExecutionFinished", "The result, for a hook that waits for it."),
                    "202": _told("WebhookAccepted", "The code runs, or this hook runs none for such a delivery."),
                },
                webhook,
                body={"required": True, "content": {"application/json": {"schema": {}}}},
            )
        },
    }


def _call(
    summary: str,
    answers: Document,
    path: str = "",
    *,
    parameters: list[Document] | None = None,
    body: Document | None = None,
) -> Document:
    named = [parameter for name, parameter in _PARAMETERS.items() if f"{{{name}}}" in path]
    errors = {status: _told("Failure", meaning) for status, meaning in _ERRORS.items()}
    call: Document = {"summary": summary, "responses": {**answers, **errors}}
    if named or parameters:
        call["parameters"] = [*named, *(parameters or [])]
    if body is not None:
        call["requestBody"] = body
    return call


def _session_or_starting() -> Document:
    return {"200": _told("Session"), "202": _told("StartingSession", "It starts, and goes on when nobody asks.")}


def _told(schema: str, meaning: str = "Done.") -> Document:
    return {"description": meaning, "content": {"application/json": {"schema": ref(schema)}}}


def _json(schema: str) -> Document:
    return {"200": _told(schema)}


def _nothing() -> Document:
    return {"204": {"description": "Done."}}


def _body(schema: str, *, needed: bool = True) -> Document:
    return {"required": needed, "content": {"application/json": {"schema": ref(schema)}}}
