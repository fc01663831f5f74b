"""How a failure is told: the one JSON shape."""

from starlette.responses import JSONResponse, Response

from caesarion.errors import CaesarionError, error_body
from caesarion.ids import new_id


def told(error: CaesarionError) -> Response:
    """Return the answer that tells an error."""
    headers = {"Retry-After": str(round(error.retry_after_s))} if error.retry_after_s is not None else None
    return JSONResponse(error_body(error, new_id("err")), error.status, headers)
