"""A function that does nothing: what functions-framework alone costs."""

from starlette.requests import Request
from starlette.responses import Response


async def empty(request: Request) -> Response:
    """Answer."""
    return Response("{}")
