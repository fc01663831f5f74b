"""The shapes of the execute function's JSON, as OpenAPI schemas. Those of outputs are made from the output types."""

import types
from dataclasses import fields
from typing import Any, Literal, Union, get_args, get_origin

from caesarion.outputs import Output

Schema = dict[str, Any]

_TEXT: Schema = {"type": "string"}
_TIME: Schema = {"type": "string", "format": "date-time"}
_WHOLE: Schema = {"type": "integer", "minimum": 0}
_NUMBER: Schema = {"type": "number", "minimum": 0}
_TIMEOUT: Schema = {
    "type": "number",
    "exclusiveMinimum": 0,
    "description": "The code is interrupted after this time.",
}
_VARIABLES: Schema = {
    "type": "object",
    "description": "Set in the context before the code runs: names as Python takes them, any JSON values.",
}
_STATUS: Schema = {"enum": ["queued", "running", "ok", "error", "interrupted", "timeout", "died"]}


def ref(name: str) -> Schema:
    """Return a reference to a schema of this document."""
    return {"$ref": f"#/components/schemas/{name}"}


def _object(required: str = "", **properties: Schema) -> Schema:
    return {"type": "object", "required": required.split(), "properties": properties}


def _list(name: str, item: str) -> Schema:
    return _object(name, **{name: {"type": "array", "items": ref(item)}})


def _event(data: str) -> Schema:
    """Return the schema of an event in structured mode; extension attributes may stand beside these."""
    return _object(
        "specversion id source type data",
        specversion={"const": "1.0"},
        id=_TEXT,
        source=_TEXT,
        type=_TEXT,
        subject=_TEXT,
        time=_TIME,
        datacontenttype=_TEXT,
        data=ref(data),
    )


def _output_schemas() -> Schema:
    schemas: Schema = {}
    for kind in get_args(Output):
        properties: Schema = {"seq": {"type": "integer", "minimum": 1}, "type": {"const": kind.type}}
        required = ["seq", "type"]
        for field in fields(kind):
            properties[field.name] = _schema_of(field.type)
            if type(None) not in get_args(field.type):
                required.append(field.name)
        schemas[f"{kind.__name__}Output"] = {"type": "object", "required": required, "properties": properties}
    names = {kind.type: f"#/components/schemas/{kind.__name__}Output" for kind in get_args(Output)}
    schemas["Output"] = {
        "oneOf": [{"$ref": name} for name in names.values()],
        "discriminator": {"propertyName": "type", "mapping": names},
    }
    return schemas


def _schema_of(annotation: Any) -> Schema:
    origin = get_origin(annotation)
    if origin in (Union, types.UnionType):
        return _schema_of(next(one for one in get_args(annotation) if one is not type(None)))
    if origin is Literal:
        return {"enum": list(get_args(annotation))}
    if origin is list:
        return {"type": "array", "items": _schema_of(get_args(annotation)[0])}
    if origin is dict:
        return {"type": "object"}
    return {"type": {str: "string", int: "integer", float: "number", bool: "boolean"}[annotation]}


SCHEMAS: Schema = {
    "Id": {"type": "string", "pattern": "^[A-Za-z0-9_-]{1,64}$"},
    "Failure": _object(
        "error",
        error=_object(
            "code message id",
            code={**_TEXT, "description": "Stable."},
            message={**_TEXT, "description": "What was expected and what to do."},
            id={**_TEXT, "description": "Stands in the log."},
        ),
    ),
    "SessionSpec": _object(
        idle_timeout_s={"type": "number", "minimum": 1, "description": "Suspended after this time without use."},
        env={"type": "object", "additionalProperties": _TEXT, "description": "Variables for the user's code."},
    ),
    "Session": _object(
        "id state created_at idle_timeout_s",
        id=ref("Id"),
        state={"enum": ["starting", "ready", "busy", "suspended"]},
        created_at=_TIME,
        last_activity_at=_TIME,
        idle_timeout_s=_NUMBER,
        expires_at=_TIME,
        suspended_at=_TIME,
        generation={**_WHOLE, "description": "Grows each time variables were lost."},
        restored=ref("Restored"),
        memory_bytes=_WHOLE,
        memory_limit_bytes=_WHOLE,
        disk_bytes=_WHOLE,
        disk_limit_bytes=_WHOLE,
        contexts={"type": "array", "items": ref("Context")},
    ),
    "Restored": _object(
        "at lost",
        at=_TIME,
        lost={"type": "array", "items": ref("Lost"), "description": "Variables that a wake-up could not keep."},
    ),
    "Lost": _object("context name type reason", context=ref("Id"), name=_TEXT, type=_TEXT, reason=_TEXT),
    "StartingSession": _object("id state", id=ref("Id"), state={"const": "starting"}),
    "Sessions": _list("sessions", "Session"),
    "Code": _object(
        "code",
        code=_TEXT,
        context={**ref("Id"), "default": "default"},
        timeout_s=_TIMEOUT,
        variables=_VARIABLES,
    ),
    "ExecutionRequested": _object(
        "code",
        code=_TEXT,
        session={**ref("Id"), "description": "Without one, and without a `subject`, one that lives for this run only."},
        context={**ref("Id"), "default": "default"},
        timeout_s=_TIMEOUT,
        variables=_VARIABLES,
    ),
    "ExecutionRequestedEvent": _event("ExecutionRequested"),
    "ExecutionFinished": _object(
        "session execution status text request",
        session=ref("Id"),
        execution=ref("Id"),
        status=_STATUS,
        execution_count=_WHOLE,
        duration_ms=_NUMBER,
        text={
            **_TEXT,
            "description": "What was printed and the results as text; the middle of a long one is left out.",
        },
        outputs={"type": "array", "items": ref("Output")},
        outputs_at={**_TEXT, "description": "Where the outputs are, when they are too large for the event."},
        request=_object("source id", source=_TEXT, id=_TEXT),
    ),
    "ExecutionFinishedEvent": _event("ExecutionFinished"),
    "WebhookAccepted": _object(
        "id accepted",
        id={**_TEXT, "description": "The delivery's id."},
        accepted={"type": "boolean"},
        reason=_TEXT,
        result_event_id={**_TEXT, "description": "The id that the event with the result will have."},
    ),
    "Execution": _object(
        "id status context",
        id=ref("Id"),
        status=_STATUS,
        context=ref("Id"),
        execution_count=_WHOLE,
        started_at=_TIME,
        duration_ms=_NUMBER,
    ),
    "Executions": _list("executions", "Execution"),
    "FinishedExecution": _object(
        "id status outputs",
        id=ref("Id"),
        status=_STATUS,
        execution_count=_WHOLE,
        duration_ms=_NUMBER,
        outputs={"type": "array", "items": ref("Output")},
    ),
    "Context": _object(
        "name state execution_count",
        name=ref("Id"),
        state={"enum": ["starting", "idle", "busy"]},
        execution_count=_WHOLE,
        generation=_WHOLE,
    ),
    "Contexts": _list("contexts", "Context"),
    "ContextName": _object("name", name=ref("Id")),
    "Typed": _object("code", code=_TEXT, cursor_pos={**_WHOLE, "description": "In characters; by default the end."}),
    "TypedAll": _object("code", code=_TEXT),
    "Completion": _object(
        "matches cursor_start cursor_end",
        matches={"type": "array", "items": _TEXT},
        cursor_start=_WHOLE,
        cursor_end=_WHOLE,
    ),
    "Completeness": _object("status", status={"enum": ["complete", "incomplete", "invalid", "unknown"]}, indent=_TEXT),
    "File": _object(
        "path size_bytes media_type modified_at",
        path=_TEXT,
        size_bytes=_WHOLE,
        media_type=_TEXT,
        modified_at=_TIME,
    ),
    "Files": _list("files", "File"),
    "Form": _object("file", file={"type": "array", "items": {"type": "string", "format": "binary"}}),
    **_output_schemas(),
}
