"""CloudEvents on the wire: binary, structured and batched, decoded strictly and encoded the same each time.

Sources: CloudEvents 1.0.2, its JSON format and its HTTP binding. The `cloudevents` package (1.12) is not used for it:
it knows no batches and no percent-encoding, makes up a `time` where there is none, and takes attributes of any name and
value. The tests let it judge what is written here.
"""

import base64
import binascii
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal, NoReturn

from caesarion.errors import CaesarionError, InvalidRequest, UnsupportedType
from caesarion.events import JSON_TYPE, Event, event_digest

Mode = Literal["binary", "structured", "batch"]

STRUCTURED = "application/cloudevents+json"
BATCH = "application/cloudevents-batch+json"
SPEC_VERSION = "1.0"
MAX_ATTRIBUTE_BYTES = 4096
MAX_EXTENSIONS = 64

_NAMED = ("id", "source", "type", "subject", "time", "datacontenttype", "dataschema")
_NAME = re.compile(r"[a-z0-9]{1,64}")
_BAD_CHARACTER = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff]")
_NOT_IN_URI = re.compile(r'[\s<>"{}|\\^`]')
_SCHEME = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*:")
_MEDIA_TYPE = re.compile(r"[A-Za-z0-9!#$&^_.+-]+/[A-Za-z0-9!#$&^_.+-]+\s*(;.*)?")
_JSON_MEDIA_TYPE = re.compile(r"[^/]+/([^/]*\+)?json")
_TIME = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)")
_FRACTION = re.compile(r"\.(\d+)")
_ESCAPED = re.compile(rb"%([0-9A-Fa-f]{2})")
_TO_ESCAPE = re.compile(r'[^\x21-\x7e]|["%]')


@dataclass(frozen=True, slots=True)
class Received:
    """The events of a request, and how they came, which is how the reply goes."""

    events: tuple[Event, ...]
    mode: Mode


def decode(headers: Mapping[str, str], body: bytes) -> Received:
    """Return the events of an HTTP message. `headers` are looked up in lower case.

    Raises InvalidRequest that names the attribute, and in a batch the event's index; UnsupportedType for an event
    format that is not JSON in UTF-8.
    """
    content_type = headers.get("content-type", "")
    match media_type(content_type):
        case "application/cloudevents+json":
            _check_utf8(content_type)
            return Received((event_from_structured(body),), "structured")
        case "application/cloudevents-batch+json":
            _check_utf8(content_type)
            return Received(_from_batch(body), "batch")
        case other if other.startswith("application/cloudevents"):
            raise UnsupportedType(f"Events are taken as {STRUCTURED} or {BATCH}, or in headers; got {other[:80]!r}.")
    return Received((_from_headers(headers, content_type, body),), "binary")


def event_from_structured(body: bytes) -> Event:
    """Return the event of a body in structured mode. Raises InvalidRequest."""
    return _from_document(_decoded(body))


def data_json(event: Event) -> Any:
    """Return the event's data decoded, or None when it has none. Raises InvalidRequest for what is not JSON."""
    if event.data is None:
        return None
    if not is_json(event.datacontenttype):
        shown = repr(event.datacontenttype)[:80]
        raise InvalidRequest(f"The event's data must be {JSON_TYPE}, got {shown}.", code="invalid_data")
    charset = _charset(event.datacontenttype or "")
    if charset not in ("", "utf-8", "utf8", "us-ascii"):
        raise InvalidRequest(f"The event's data must be JSON in UTF-8, got {charset[:40]!r}.", code="invalid_data")
    try:
        return _decoded(event.data)
    except InvalidRequest as exc:
        told = exc.message.replace("The body", "The event's data", 1)
        raise InvalidRequest(told, code="invalid_data") from None


def binary(event: Event) -> tuple[dict[str, str], bytes]:
    """Return headers, their names in lower case and sorted, and the body of an event in binary mode."""
    attributes = _attributes(event)
    content_type = attributes.pop("datacontenttype", None)
    headers = {f"ce-{name}": _escaped(value) for name, value in sorted(attributes.items())}
    return ({"content-type": content_type} if content_type else {}) | headers, event.data or b""


def structured(event: Event) -> bytes:
    """Return the JSON of an event, the same each time; its type is `STRUCTURED`."""
    return json_bytes(_document(event))


def batch(events: Iterable[Event]) -> bytes:
    """Return the JSON of several events; its type is `BATCH`."""
    return json_bytes([_document(event) for event in events])


def json_bytes(value: object) -> bytes:
    """Return JSON without blanks, the same for the same value. Raises ValueError for what JSON cannot say."""
    try:
        return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
    except UnicodeEncodeError:  # half of a surrogate pair can only be written escaped
        return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def media_type(content_type: str) -> str:
    """Return a content type without its parameters, in lower case."""
    return content_type.partition(";")[0].strip().lower()


def is_json(content_type: str | None) -> bool:
    """Whether data of this type is JSON; where no type is told it is."""
    return content_type is None or _JSON_MEDIA_TYPE.fullmatch(media_type(content_type)) is not None


def _from_headers(headers: Mapping[str, str], content_type: str, body: bytes) -> Event:
    given: dict[str, Any] = {}
    for header, value in headers.items():
        name = header.lower()
        if name.startswith("ce-") and name != "ce-datacontenttype":
            if name[3:] in given:
                _refuse(name[3:], "there once")
            given[name[3:]] = _unescaped(name[3:], value)
    if content_type:
        given["datacontenttype"] = content_type
    if "data" in given or "data_base64" in given:
        _refuse("data", "in the body; no attribute has that name")
    if not given.keys() - {"datacontenttype"}:
        raise InvalidRequest(
            "The attribute `specversion` is missing: this is no event. Send its attributes as headers `ce-...`, or "
            f"the whole event as {STRUCTURED}.",
            code="invalid_event",
        )
    return _checked(given, body or None)


def _from_batch(body: bytes) -> tuple[Event, ...]:
    documents = _decoded(body)
    if not isinstance(documents, list):
        raise InvalidRequest("A batch must be a JSON array of events.", code="invalid_event")
    events = []
    for index, document in enumerate(documents):
        try:
            events.append(_from_document(document))
        except CaesarionError as exc:
            raise at_index(exc, index) from None
    return tuple(events)


def at_index(error: CaesarionError, index: int) -> CaesarionError:
    """Return the failure of one event of a batch, which says which one it is."""
    return type(error)(
        f"Event {index} of the batch: {error.message}", code=error.code, retry_after_s=error.retry_after_s
    )


def _from_document(document: Any) -> Event:
    if not isinstance(document, dict):
        raise InvalidRequest("An event must be a JSON object.", code="invalid_event")
    given = {name: value for name, value in document.items() if value is not None}
    data, encoded = given.pop("data", None), given.pop("data_base64", None)
    if data is not None and encoded is not None:
        _refuse("data_base64", "absent where `data` is there")
    if encoded is not None:
        return _checked(given, _from_base64(encoded))
    event = _checked(given, None)
    if data is None:
        return event
    return _checked(given, _data_bytes(data, event.datacontenttype))


def _checked(given: Mapping[str, Any], data: bytes | None) -> Event:
    """Return the event of these attributes. Raises InvalidRequest that names the one that is wrong."""
    version = given.get("specversion")
    if version is None:
        _missing("specversion")
    if version != SPEC_VERSION:
        _refuse("specversion", f"{SPEC_VERSION!r}", version)
    texts = {name: _text(name, value) for name, value in given.items() if name != "specversion"}
    for name in ("id", "source", "type"):
        if name not in texts:
            _missing(name)
    if _NOT_IN_URI.search(texts["source"]):
        _refuse("source", "a URI reference", texts["source"])
    if "time" in texts and not _is_time(texts["time"]):
        _refuse("time", "a time such as 2026-01-02T03:04:05Z", texts["time"])
    if "datacontenttype" in texts and not _MEDIA_TYPE.fullmatch(texts["datacontenttype"]):
        _refuse("datacontenttype", "a media type", texts["datacontenttype"])
    if "dataschema" in texts and (_NOT_IN_URI.search(texts["dataschema"]) or not _SCHEME.match(texts["dataschema"])):
        _refuse("dataschema", "a URI", texts["dataschema"])
    extensions = {name: text for name, text in sorted(texts.items()) if name not in _NAMED}
    if len(extensions) > MAX_EXTENSIONS:
        raise InvalidRequest(f"An event may have {MAX_EXTENSIONS} extension attributes.", code="invalid_event")
    return Event(**{name: texts[name] for name in _NAMED if name in texts}, extensions=extensions, data=data)


def _text(name: str, value: object) -> str:
    if not _NAME.fullmatch(name):
        shown = repr(name)[:80]
        raise InvalidRequest(
            f"Names of attributes are lower case letters and digits, at most 64, got {shown}.", code="invalid_event"
        )
    match value:
        case bool() if name not in _NAMED:
            return "true" if value else "false"
        case int() if name not in _NAMED and -(2**31) <= value < 2**31:
            return str(value)
        case str():
            pass
        case _:
            wanted = "a string" if name in _NAMED else "a string, a boolean or a whole number of 32 bits"
            _refuse(name, wanted, value)
    if _BAD_CHARACTER.search(value):
        _refuse(name, "a string without control characters and lone surrogates", value)
    if not value and name in _NAMED:
        _refuse(name, "a string that is not empty", value)
    if len(value.encode()) > MAX_ATTRIBUTE_BYTES:
        _refuse(name, f"at most {MAX_ATTRIBUTE_BYTES} bytes", value)
    return value


def _is_time(text: str) -> bool:
    if not _TIME.fullmatch(text):
        return False
    plain = _FRACTION.sub(lambda found: "." + found[1][:6].ljust(6, "0"), text.upper())
    try:
        datetime.fromisoformat(plain)
    except ValueError:
        return False
    return True


def _unescaped(name: str, value: str) -> str:
    """Return a header's value decoded: quotes first, then percent signs, then UTF-8 (HTTP binding, 3.1.3.2)."""
    try:
        raw = value.encode("latin-1")
    except UnicodeEncodeError:
        raw = value.encode("utf-8", "surrogatepass")
    if len(raw) > 1 and raw[:1] == raw[-1:] == b'"':
        raw = re.sub(rb"\\(.)", rb"\1", raw[1:-1])
    raw = _ESCAPED.sub(lambda found: bytes([int(found[1], 16)]), raw)
    try:
        return raw.decode()
    except UnicodeDecodeError:
        _refuse(name, "UTF-8, with percent-encoding where it is not ASCII")


def _escaped(value: str) -> str:
    def escape(found: re.Match[str]) -> str:
        return "".join(f"%{byte:02X}" for byte in found[0].encode())

    return _TO_ESCAPE.sub(escape, value)


def _from_base64(encoded: object) -> bytes:
    if isinstance(encoded, str):
        try:
            return base64.b64decode(encoded, validate=True)
        except (binascii.Error, ValueError):
            pass
    _refuse("data_base64", "a string in base64")


def _data_bytes(data: object, content_type: str | None) -> bytes:
    try:
        if isinstance(data, str) and not is_json(content_type):
            return data.encode()
        return json_bytes(data)
    except ValueError:
        raise InvalidRequest(
            "The event's data must be JSON without numbers out of range and lone surrogates.", code="invalid_data"
        ) from None


def _attributes(event: Event) -> dict[str, str]:
    named = {name: getattr(event, name) for name in _NAMED}
    given = {name: value for name, value in named.items() if value is not None}
    return {**event.extensions, **given, "specversion": SPEC_VERSION}


def _document(event: Event) -> dict[str, Any]:
    document: dict[str, Any] = dict(sorted(_attributes(event).items()))
    if event.data is None:
        return document
    if is_json(event.datacontenttype):
        try:
            return {**document, "data": data_json(event)}
        except InvalidRequest:
            pass  # it says JSON and is not: bytes are told as they are
    return {**document, "data_base64": base64.b64encode(event.data).decode()}


def _decoded(body: bytes) -> Any:
    from caesarion.adapters.asgi.bodies import decoded

    return decoded(body)


def _charset(content_type: str) -> str:
    for parameter in content_type.split(";")[1:]:
        name, _, value = parameter.partition("=")
        if name.strip().lower() == "charset":
            return value.strip().strip('"').lower()
    return ""


def _check_utf8(content_type: str) -> None:
    charset = _charset(content_type)
    if charset not in ("", "utf-8", "utf8"):
        raise UnsupportedType(f"Events are JSON in UTF-8, got charset {charset[:40]!r}.")


def _missing(name: str) -> NoReturn:
    raise InvalidRequest(f"The attribute `{name}` is missing.", code="invalid_event")


def _refuse(name: str, wanted: str, got: object = None) -> NoReturn:
    shown = f", got {got!r}"[:120] if got is not None else ""
    raise InvalidRequest(f"The attribute `{name}` must be {wanted}{shown}.", code="invalid_event")


def result_of(
    request: Event, kind: str, *, source: str, session: str, time: str | None, data: Mapping[str, Any]
) -> Event:
    """Return the result of an event: made of the event and of what came of it, so it is the same each time.

    It has the event's extension attributes, and its data says at the end which event it is the result of.
    """
    return Event(
        id=event_digest(request.source, request.id),
        source=source,
        type=kind,
        subject=session,
        time=time,
        datacontenttype=JSON_TYPE,
        extensions=dict(sorted(request.extensions.items())),
        data=json_bytes({**data, "request": {"source": request.source, "id": request.id}}),
    )
