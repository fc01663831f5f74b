"""The OpenAPI document of the cleanup function. A test holds it and the routes to each other, both ways."""

from caesarion.adapters.asgi.openapi import FAILURE, Document, event_forms, openapi_document, standard_paths

_COUNT: Document = {"type": "integer", "minimum": 0}
_COUNTS = {
    "examined": "Sessions that were looked at.",
    "suspended": "Sessions suspended: unused for their time, or their processes had ended.",
    "removed": "Sessions removed: suspended for their time.",
    "spared_busy": "Sessions past their time in which code runs, or that somebody used, woke or swept in between.",
    "failed": "What could not be done; the next sweep tries again.",
    "orphans_removed": "Rests that belonged to nothing.",
    "expired_results": "Results of events that were kept for their time.",
    "still_suspending": "Suspensions that go on; the report of a sweep after their end counts them.",
}
_REPORT: Document = {
    "type": "object",
    "required": [*_COUNTS, "duration_ms"],
    "properties": {
        **{name: {**_COUNT, "description": meaning} for name, meaning in _COUNTS.items()},
        "duration_ms": {"type": "number", "minimum": 0},
    },
}
_ERRORS = {"4XX": "The request is refused.", "5XX": "The platform failed; asking again may help."}
_EVENT: Document = {"type": "object", "required": ["specversion", "id", "source", "type"]}
_EVENT_FORMS = event_forms({}, _EVENT)
_ORIGIN = {
    "name": "WebHook-Request-Origin",
    "in": "header",
    "description": "The system that wants to send events.",
    "schema": {"type": "string"},
}


def document() -> Document:
    """Return the document, OpenAPI 3.1."""
    description = "Sessions that nobody uses are suspended, and those suspended for long are removed."
    return openapi_document("cleanup", description, _paths(), {"SweepReport": _REPORT, "Failure": FAILURE})


def _paths() -> Document:
    report = {"application/json": {"schema": {"$ref": "#/components/schemas/SweepReport"}}}
    plain: Document = {"200": {"description": "Yes."}}
    replied: Document = {
        "200": {
            "description": "The report, as `dev.caesarion.cleanup.finished`, in the mode of the request.",
            "content": _EVENT_FORMS,
        },
        "202": {"description": "An event of another type than `dev.knative.sources.ping`; it is dropped."},
    }
    dropped: Document = {"202": {"description": "It is logged, and dropped."}}
    return {
        "/sweep": {"post": _call("Sweeps now.", {"200": {"description": "What was done.", "content": report}})},
        "/events/cleanup": {
            "post": _call("A tick, as a CloudEvent.", replied, body=_EVENT_FORMS),
            "options": _call("Whether events may be sent here.", plain, [_ORIGIN]),
        },
        "/events/dead": {
            "post": _call("An event that a broker could not deliver; it is logged.", dropped, body=_EVENT_FORMS),
            "options": _call("Whether events may be sent here.", plain, [_ORIGIN]),
        },
        **standard_paths(_call),
    }


def _call(
    summary: str, responses: Document, parameters: list[Document] | None = None, *, body: Document | None = None
) -> Document:
    failure = {"application/json": {"schema": {"$ref": "#/components/schemas/Failure"}}}
    told = {status: {"description": meaning, "content": failure} for status, meaning in _ERRORS.items()}
    call: Document = {"summary": summary, "responses": {**responses, **told}}
    if parameters:
        call["parameters"] = parameters
    if body is not None:
        call["requestBody"] = {"required": True, "content": body}
    return call
