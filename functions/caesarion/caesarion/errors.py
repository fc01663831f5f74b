"""What can go wrong on the platform's side, and the one JSON shape in which it is told.

    CaesarionError
      InvalidRequest 400      SessionNotFound 404     NotFound 404     Conflict 409     SessionGone 410
      Unauthorized 401        Forbidden 403           MethodNotAllowed 405
      TooLarge 413            UnsupportedType 415     NotSatisfiable 416      Unprocessable 422
      QuotaExceeded 429 r     ModelError 502 r        SandboxUnavailable 503 r
      ConfigError (start only)

`r`: the same request may succeed later. The user's code raising is not an error here: it is an `error` output.
"""

from typing import Any, ClassVar


class CaesarionError(Exception):
    """A failure of the platform or of a request, told to the client as its `code` and `message`."""

    code: str = "internal"
    status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, message: str, *, code: str | None = None, retry_after_s: float | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.code = code or type(self).code
        self.retry_after_s = retry_after_s


class InvalidRequest(CaesarionError):
    """The request is not what was expected; sending it again will not help."""

    code = "invalid_request"
    status = 400


class Unauthorized(CaesarionError):
    """No key, or one that nobody has."""

    code = "unauthorized"
    status = 401


class Forbidden(CaesarionError):
    """A known caller that may not do this, or a page of a foreign origin."""

    code = "forbidden"
    status = 403


class NotFound(CaesarionError):
    """The thing within a session does not exist."""

    code = "not_found"
    status = 404


class SessionNotFound(NotFound):
    """No such session for this principal; another principal's session looks the same."""

    code = "session_not_found"


class MethodNotAllowed(CaesarionError):
    """The path exists and does not take this method."""

    code = "method_not_allowed"
    status = 405


class Conflict(CaesarionError):
    """The request contradicts what was already admitted."""

    code = "conflict"
    status = 409


class SessionGone(CaesarionError):
    """What was asked for existed and is no longer kept."""

    code = "gone"
    status = 410


class TooLarge(CaesarionError):
    """A body, file or text over its limit."""

    code = "too_large"
    status = 413


class UnsupportedType(CaesarionError):
    """A file or body of a type that is not taken."""

    code = "unsupported_type"
    status = 415


class NotSatisfiable(CaesarionError):
    """A range that the file does not have."""

    code = "range_not_satisfiable"
    status = 416


class Unprocessable(CaesarionError):
    """An event that contradicts what was already admitted; a broker must not send it again."""

    code = "unprocessable"
    status = 422


class QuotaExceeded(CaesarionError):
    """The principal has as much as it may have now."""

    code = "quota_exceeded"
    status = 429
    retryable = True


class ModelError(CaesarionError):
    """The model's endpoint failed."""

    code = "model_error"
    status = 502
    retryable = True


class SandboxUnavailable(CaesarionError):
    """No sandbox is ready in time, or the session's sandbox does not answer."""

    code = "sandbox_unavailable"
    status = 503
    retryable = True


class ConfigError(CaesarionError):
    """The settings or the machine do not allow a start."""

    code = "config_error"


_BY_STATUS: dict[int, type[CaesarionError]] = {
    kind.status: kind
    for kind in (
        InvalidRequest, Unauthorized, Forbidden, NotFound, Conflict, SessionGone, TooLarge, UnsupportedType,
        QuotaExceeded, SandboxUnavailable,
    )
}  # fmt: skip


def error_body(error: CaesarionError, error_id: str) -> dict[str, Any]:
    """Return the one JSON shape of a failure; `error_id` stands in the log too."""
    return {"error": {"code": error.code, "message": error.message, "id": error_id}}


def error_from_body(status: int, body: object) -> CaesarionError:
    """Return the error that a sandbox server told, so that a function can tell it on unchanged."""
    kind = _BY_STATUS.get(status, SandboxUnavailable)
    match body:
        case {"error": {"code": str(code), "message": str(message)}}:
            return kind(message, code=code)
        case _:
            return kind(f"The sandbox answered with status {status} and no reason.")
