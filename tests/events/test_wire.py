"""Events on the wire: a foreign decoder reads what we write, and we read a foreign encoder; what is wrong is named."""

import base64
import json
from typing import Any

import pytest
from cloudevents.conversion import to_binary, to_structured
from cloudevents.http import CloudEvent, from_http
from starlette.datastructures import Headers

from caesarion.adapters.events import (
    BATCH,
    STRUCTURED,
    batch,
    binary,
    data_json,
    decode,
    event_from_structured,
    structured,
)
from caesarion.errors import CaesarionError, InvalidRequest, UnsupportedType
from caesarion.events import Event

ATTRIBUTES = {"specversion": "1.0", "id": "1", "source": "/a", "type": "t"}
FULL = Event(
    id="id 1",
    source="urn:x:%25?a=1#b",
    type="a.b",
    subject='Größe "x" 100% 你 \U0001f600',
    time="2026-01-02T03:04:05.123Z",
    datacontenttype="application/json; charset=utf-8",
    dataschema="https://example.com/schema",
    extensions={"traceparent": "00-" + "a" * 32 + "-" + "b" * 16 + "-01", "empty": "", "zone": "a b"},
    data='{"text":"größe","n":[1,null,2.5]}'.encode(),
)
PLAIN = Event(id="1", source="/a", type="t")
BYTES = Event(id="1", source="/a", type="t", datacontenttype="application/octet-stream", data=b"\x00\xff")
TEXT = Event(id="1", source="/a", type="t", datacontenttype="text/plain", data=b"{")
EVENTS = [FULL, PLAIN, BYTES, TEXT]


def headers(**attributes: str) -> dict[str, str]:
    return {f"ce-{name}": value for name, value in {**ATTRIBUTES, **attributes}.items()}


def one(given: dict[str, str], body: bytes = b"") -> Event:
    (event,) = decode(given, body).events
    return event


def of_document(document: Any) -> Event:
    return one({"content-type": STRUCTURED}, json.dumps(document).encode())


def refused(given: dict[str, str], body: bytes = b"") -> str:
    with pytest.raises(InvalidRequest) as caught:
        decode(given, body)
    assert caught.value.status == 400
    return caught.value.message


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_comes_back_as_it_was_in_each_mode(event: Event) -> None:
    sent, body = binary(event)
    assert all(value.isascii() and value.isprintable() for value in sent.values())
    assert one(sent, body) == event
    assert event_from_structured(structured(event)) == event
    received = decode({"content-type": BATCH}, batch([event, event]))
    assert (received.events, received.mode) == ((event, event), "batch")


@pytest.mark.parametrize("event", EVENTS)
def test_a_foreign_decoder_reads_what_we_write(event: Event) -> None:
    read = from_http({"content-type": STRUCTURED}, structured(event), lambda data: data)
    attributes = {name: getattr(event, name) for name in ("id", "source", "type", "subject", "dataschema")}
    assert {name: read.get(name) for name in attributes} == attributes
    assert {name: read[name] for name in event.extensions} == dict(event.extensions)
    if event.data is not None and event is not FULL:
        assert read.data == event.data
    sent, body = binary(event)
    read = from_http(sent, body)
    assert (read["id"], read["type"]) == (sent["ce-id"], event.type)
    if event is FULL:
        assert read.data == data_json(event)


def test_we_read_what_a_foreign_encoder_writes() -> None:
    given = {**ATTRIBUTES, "time": "2026-01-02T03:04:05Z", "datacontenttype": "application/json", "zone": "x"}
    foreign = CloudEvent(given, {"text": "größe", "n": [1, None]})
    events = [one(*to_binary(foreign)), one(*to_structured(foreign))]
    for event in events:
        assert data_json(event) == {"text": "größe", "n": [1, None]}
        assert (event.id, event.time, event.extensions) == ("1", "2026-01-02T03:04:05Z", {"zone": "x"})
    raw = one(*to_structured(CloudEvent({**given, "datacontenttype": "image/png"}, b"\x89PNG")))
    assert raw.data == b"\x89PNG"


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        ("a%20b", "a b"),
        ("100%", "100%"),
        ("%zz%41", "%zzA"),
        ("%2541", "%41"),
        ("%E4%BD%A0", "你"),
        ('"quoted \\" b"', 'quoted " b'),
        ("größe".encode().decode("latin-1"), "größe"),
    ],
)
def test_header_values_are_decoded_once_and_as_utf_8(value: str, meant: str) -> None:
    assert one(headers(zone=value)).extensions["zone"] == meant


def test_names_of_headers_are_in_any_case_and_names_in_json_are_lower_case() -> None:
    sent = {name.title(): value for name, value in headers(zone="x").items()}
    assert one(sent).extensions == {"zone": "x"}
    with pytest.raises(InvalidRequest, match="'Zone'"):
        of_document({**ATTRIBUTES, "Zone": "x"})


def test_json_values_of_extensions_become_strings() -> None:
    event = of_document({**ATTRIBUTES, "yes": True, "count": -5, "absent": None, "subject": None})
    assert event.extensions == {"yes": "true", "count": "-5"}
    assert event.subject is None


@pytest.mark.parametrize("name", ["specversion", "id", "source", "type"])
def test_a_missing_attribute_is_named(name: str) -> None:
    sent = headers()
    del sent[f"ce-{name}"]
    assert f"`{name}`" in refused(sent)
    document = {key: value for key, value in ATTRIBUTES.items() if key != name}
    with pytest.raises(InvalidRequest, match=f"`{name}`"):
        of_document(document)
    with pytest.raises(InvalidRequest, match=f"`{name}`"):
        of_document({**ATTRIBUTES, name: None})


WRONG: list[tuple[str, Any]] = [
    ("specversion", "0.3"),
    ("specversion", "1.1"),
    ("specversion", 1.0),
    ("id", ""),
    ("id", 5),
    ("id", "x" * 5000),
    ("id", "a\nb"),
    ("id", "\ud800"),
    ("source", ""),
    ("source", "a b"),
    ("source", ["/a"]),
    ("type", ""),
    ("type", {}),
    ("subject", ""),
    ("subject", 1),
    ("time", "yesterday"),
    ("time", "2026-13-01T00:00:00Z"),
    ("time", "2026-01-02 03:04:05"),
    ("time", 5),
    ("datacontenttype", "json"),
    ("datacontenttype", ""),
    ("dataschema", "/relative"),
    ("count", 2**31),
    ("count", 1.5),
    ("list", [1]),
    ("data_base64", "%%%"),
    ("data_base64", 5),
]


@pytest.mark.parametrize(("name", "value"), WRONG, ids=repr)
def test_a_wrong_attribute_is_named(name: str, value: Any) -> None:
    document = {**ATTRIBUTES, name: value}
    with pytest.raises(InvalidRequest, match=f"`{name}`"):
        of_document(document)
    with pytest.raises(InvalidRequest, match=f"Event 1 of the batch: .*`{name}`"):
        decode({"content-type": BATCH}, json.dumps([ATTRIBUTES, document]).encode())
    if isinstance(value, str) and value.isascii() and name not in ("data_base64", "datacontenttype"):
        assert f"`{name}`" in refused(headers(**{name: value}))


@pytest.mark.parametrize("name", ["under_score", "größe", "a-b", "", "x" * 65, "datA"])
def test_a_wrong_name_is_told(name: str) -> None:
    with pytest.raises(InvalidRequest, match="Names of attributes"):
        of_document({**ATTRIBUTES, name: "x"})


@pytest.mark.parametrize("value", ["%ff", "\xff", "%00", "%0A", "%C2%85", "%ED%A0%80"])
def test_a_header_that_is_no_text_is_refused(value: str) -> None:
    assert "`subject`" in refused(headers(subject=value))


@pytest.mark.parametrize(
    "body",
    [b"", b"{", b"[]", b"1", b"null", b"\xff", b'{"a":NaN}', b"[" * 100_000, b'{"id":' + b"9" * 5000 + b"}"],
    ids=lambda body: repr(body[:12]),
)
def test_a_body_that_is_no_event_is_refused(body: bytes) -> None:
    refused({"content-type": STRUCTURED}, body)
    if body != b"[]":
        refused({"content-type": BATCH}, body)


def test_a_message_without_attributes_is_told_how_to_be_an_event() -> None:
    assert STRUCTURED in refused({"content-type": "application/json"}, b"{}")
    assert STRUCTURED in refused({})


def test_other_formats_and_charsets_are_unsupported() -> None:
    for content_type in ("application/cloudevents+avro", "application/cloudevents", f"{STRUCTURED}; charset=utf-16"):
        with pytest.raises(UnsupportedType):
            decode({"content-type": content_type}, structured(PLAIN))
    assert one({"content-type": f'{STRUCTURED}; charset="UTF-8"'}, structured(PLAIN)) == PLAIN


@pytest.mark.parametrize(
    ("content_type", "data"),
    [
        ("application/json", b"{"),
        ("application/json", b"\xff"),
        ("application/json", b'{"a":Infinity}'),
        ("application/json; charset=latin-1", b"{}"),
        ("text/plain", b"{}"),
    ],
)
def test_data_that_is_not_json_is_told_as_such(content_type: str, data: bytes) -> None:
    event = one({**headers(), "content-type": content_type}, data)
    with pytest.raises(InvalidRequest) as caught:
        data_json(event)
    assert caught.value.code == "invalid_data"
    assert "data" in caught.value.message


def test_data_json_takes_json_by_any_name() -> None:
    for content_type in (
        "application/json",
        "application/JSON; charset=UTF-8",
        "application/problem+json",
        "text/json",
    ):
        assert data_json(one({**headers(), "content-type": content_type}, b'{"a":1}')) == {"a": 1}
    assert data_json(one(headers(), b'{"a":1}')) == {"a": 1}
    assert data_json(PLAIN) is None
    document = {
        **ATTRIBUTES,
        "datacontenttype": "application/json",
        "data_base64": base64.b64encode(b'{"a":1}').decode(),
    }
    assert data_json(of_document(document)) == {"a": 1}


def test_both_kinds_of_data_at_once_are_refused() -> None:
    with pytest.raises(InvalidRequest, match="data_base64"):
        of_document({**ATTRIBUTES, "data": 1, "data_base64": "AA=="})
    assert "`data`" in refused(headers(data="x"))


def test_half_of_a_surrogate_pair_in_data_is_kept_as_it_is() -> None:
    event = of_document({**ATTRIBUTES, "data": {"text": "\ud800 größe"}})
    assert data_json(event) == {"text": "\ud800 größe"}
    assert event_from_structured(structured(event)) == event


def test_an_attribute_that_is_there_twice_is_refused() -> None:
    twice = Headers(raw=[(name.encode(), value.encode()) for name, value in [*headers().items(), ("ce-id", "2")]])
    with pytest.raises(InvalidRequest, match="`id`"):
        decode(twice, b"")


def test_too_many_attributes_are_refused() -> None:
    with pytest.raises(CaesarionError, match="64"):
        of_document({**ATTRIBUTES, **{f"e{number}": "x" for number in range(65)}})
