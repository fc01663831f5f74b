"""Request bodies: JSON within its limit, and fields that say what they should have been."""

import json
import math
import re
from collections.abc import Collection, Mapping
from typing import Any, NoReturn, TypeGuard

from starlette.requests import Request

from caesarion.errors import InvalidRequest, TooLarge, UnsupportedType
from caesarion.ids import checked_id

_SURROGATE = re.compile("[\ud800-\udfff]")


async def read_limited(request: Request, max_bytes: int) -> bytes:
    """Return the body. Raises TooLarge as soon as it is known to be over the limit, before the rest comes in."""
    check_length(request, max_bytes)
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > max_bytes:
            raise _too_large(max_bytes)
    return bytes(body)


def check_length(request: Request, max_bytes: int) -> int | None:
    """Return the body's announced length. Raises TooLarge for one over the limit."""
    announced = request.headers.get("content-length")
    if announced is None:
        return None
    if not announced.isdecimal():
        raise InvalidRequest(f"Content-Length must be a whole number, got {announced[:40]!r}.")
    if int(announced) > max_bytes:
        raise _too_large(max_bytes)
    return int(announced)


async def read_fields(
    request: Request, known: Collection[str], *, max_bytes: int, may_be_empty: bool = False
) -> "Fields":
    """Return the fields of a JSON object. Raises InvalidRequest for anything else, and for a field not in `known`."""
    body = await read_limited(request, max_bytes)
    if not body.strip() and may_be_empty:
        return Fields({})
    check_json(request)
    document = decoded(body)
    if not isinstance(document, dict):
        raise InvalidRequest(f"The body must be a JSON object, got {_kind(document)}.", code="invalid_json")
    unknown = sorted(set(document) - set(known))
    if unknown:
        raise InvalidRequest(
            f"The field {unknown[0][:80]!r} is not known; known are {', '.join(sorted(known))}.", code="unknown_field"
        )
    return Fields(document)


def decoded(body: bytes) -> Any:
    """Return decoded JSON. Raises InvalidRequest, also for JSON nested too deeply and for NaN."""
    try:
        return json.loads(body.decode("utf-8-sig"), parse_constant=_not_json)
    except RecursionError:
        raise InvalidRequest("The body is nested too deeply.", code="invalid_json") from None
    except UnicodeDecodeError:
        raise InvalidRequest("The body must be JSON in UTF-8.", code="invalid_json") from None
    except json.JSONDecodeError as exc:
        raise InvalidRequest(
            f"The body must be JSON: {exc.msg} at line {exc.lineno}, column {exc.colno}.", code="invalid_json"
        ) from None
    except ValueError as exc:
        raise InvalidRequest(f"The body must be JSON: {str(exc)[:120]}.", code="invalid_json") from None


class Fields:
    """The fields of a JSON object, each asked for by the type it must have."""

    def __init__(self, document: Mapping[str, Any]) -> None:
        self._document = document

    def text(self, name: str) -> str:
        """Return a required text. Half of a surrogate pair is no character, so nobody could write it down."""
        value = self._document.get(name)
        if not _is_text(value):
            self._wrong(name, "a string of Unicode characters")
        return value

    def number(self, name: str, *, low: float, high: float) -> float | None:
        """Return a number within its range, or None when the field is absent or null."""
        value = self._document.get(name)
        if value is None:
            return None
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high or math.isnan(value):
            self._wrong(name, f"a number from {low:g} to {high:g}")
        return float(value)

    def whole(self, name: str, *, low: int, high: int) -> int | None:
        """Return a whole number within its range, or None when the field is absent or null."""
        value = self._document.get(name)
        if value is not None and (not isinstance(value, int) or isinstance(value, bool) or not low <= value <= high):
            self._wrong(name, f"a whole number from {low} to {high}")
        return value

    def name(self, name: str, default: str | None = None) -> str:
        """Return an id that a client may choose."""
        value = self._document.get(name)
        return default if value is None and default is not None else checked_id(value, what=f"`{name}`")

    def values(self, name: str) -> dict[str, Any]:
        """Return an object; empty when the field is absent or null."""
        value = self._document.get(name)
        if value is not None and not isinstance(value, dict):
            self._wrong(name, "an object")
        return value or {}

    def texts(self, name: str) -> dict[str, str]:
        """Return an object whose values are texts; empty when the field is absent or null."""
        value = self._document.get(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(_is_text(item) for item in value.values()):
            self._wrong(name, "an object whose values are strings of Unicode characters")
        return dict(value)

    def _wrong(self, name: str, expected: str) -> NoReturn:
        if name not in self._document:
            raise InvalidRequest(f"The field `{name}` is missing; it must be {expected}.", code="invalid_field")
        got = _kind(self._document[name])
        raise InvalidRequest(f"The field `{name}` must be {expected}, got {got}.", code="invalid_field")


def query_number(request: Request, name: str, *, default: float, low: float, high: float) -> float:
    """Return a number of the query. Raises InvalidRequest for another thing."""
    given = request.query_params.get(name)
    if given is None:
        return default
    try:
        value = float(given) if len(given) < 40 and not given.isspace() else math.nan
    except ValueError:
        value = math.nan
    if not low <= value <= high:
        raise InvalidRequest(
            f"`{name}` in the query must be a number from {low:g} to {high:g}, got {given[:40]!r}.",
            code="invalid_field",
        )
    return value


def check_json(request: Request) -> None:
    """Refuse a body that says it is something else. A page's form cannot say JSON, so it gets nothing done here."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type and media_type != "application/json" and not media_type.endswith("+json"):
        raise UnsupportedType(f"The body must be application/json, got {media_type[:80]!r}.")


def _is_text(value: object) -> TypeGuard[str]:
    return isinstance(value, str) and _SURROGATE.search(value) is None


def _kind(value: object) -> str:
    match value:
        case None:
            return "null"
        case bool():
            return "true" if value else "false"
        case int() | float():
            return f"the number {value!r}"[:60] if abs(value) < 1e18 else "a number out of range"
        case str():
            lone = " with a lone surrogate" if _SURROGATE.search(value) else ""
            return f"a string of {len(value)} characters{lone}"
        case list():
            return "an array"
    return "an object"


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _too_large(max_bytes: int) -> TooLarge:
    return TooLarge(f"The body is larger than {max_bytes} bytes, the most that is taken here.")
