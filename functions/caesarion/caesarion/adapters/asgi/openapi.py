"""What the OpenAPI documents of all functions have in common."""

from collections.abc import Callable
from typing import Any

Document = dict[str, Any]

FAILURE: Document = {
    "type": "object",
    "required": ["error"],
    "properties": {
        "error": {
            "type": "object",
            "required": ["code", "message", "id"],
            "properties": {name: {"type": "string"} for name in ("code", "message", "id")},
        }
    },
}


def openapi_document(function: str, description: str, paths: Document, schemas: Document) -> Document:
    """Return the document of a function, OpenAPI 3.1."""
    return {
        "openapi": "3.1.0",
        "info": {"title": f"Caesarion: {function}", "version": "0.1.0", "description": description},
        "security": [{"key": []}, {}],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "key": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API key; none is needed on loopback while none is configured.",
                }
            },
        },
    }


def standard_paths(call: Callable[[str, Document], Document]) -> Document:
    """Return the paths of `standard_routes`; `call` makes an operation of its summary and its answers."""
    text = {"200": {"description": "Prometheus text.", "content": {"text/plain": {"schema": {"type": "string"}}}}}
    plain: Document = {"200": {"description": "Yes."}}
    return {
        "/health/live": {"get": call("Whether the process answers.", plain)},
        "/health/ready": {"get": call("Whether what it depends on answers; 503 names what does not.", plain)},
        "/metrics": {"get": call("Counts.", text)},
        "/openapi.json": {"get": call("This document.", plain)},
    }


def event_forms(data: Document, event: Document) -> Document:
    """Return the forms of an event: its attributes in headers and its data the body, whole, or several at once."""
    return {
        "application/json": {"schema": data},
        "application/cloudevents+json": {"schema": event},
        "application/cloudevents-batch+json": {"schema": {"type": "array", "items": event}},
    }
