"""Which events a trigger takes, by the rules of Knative's, and when a failed delivery is tried again."""

from pathlib import Path
from typing import Any

import pytest

from caesarion.errors import ConfigError
from caesarion.events import Event
from caesarion.triggers import (
    Delivery,
    Trigger,
    built_in_triggers,
    hook_trigger,
    next_attempt,
    parse_duration,
    read_filter,
    read_triggers,
    shown_duration,
    ttl_of,
)

EVENT = Event(
    id="7",
    source="/shop/berlin",
    type="com.example.order.made",
    subject="order-7",
    extensions={"color": "red", "empty": "", "knativebrokerttl": "9"},
)


def takes(filters: Any, event: Event = EVENT) -> bool:
    def fail(expected: str, *further: str | int) -> Any:
        raise AssertionError((expected, further))

    return Trigger("t", read_filter(filters, fail), "/events/execute").takes(event)


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ([], True),
        ([{"exact": {"type": "com.example.order.made"}}], True),
        ([{"exact": {"type": "com.example.order"}}], False),
        ([{"exact": {"type": "com.example.order.made", "color": "red"}}], True),
        ([{"exact": {"type": "com.example.order.made", "color": "blue"}}], False),
        ([{"exact": {"type": "COM.EXAMPLE.ORDER.MADE"}}], False),
        ([{"exact": {"specversion": "1.0"}}], True),
        ([{"exact": {"id": "7"}}, {"exact": {"subject": "order-7"}}], True),
        ([{"exact": {"id": "7"}}, {"exact": {"subject": "order-8"}}], False),
        ([{"prefix": {"type": "com.example."}}], True),
        ([{"prefix": {"type": "com.example.order.made.x"}}], False),
        ([{"suffix": {"source": "/berlin"}}], True),
        ([{"suffix": {"source": "/hamburg"}}], False),
        ([{"exact": {"time": "2026-01-01T00:00:00Z"}}], False),
        ([{"prefix": {"missing": "a"}}], False),
        ([{"exact": {"empty": "x"}}], False),
        ([{"not": {"exact": {"missing": "a"}}}], True),
        ([{"not": {"exact": {"color": "red"}}}], False),
        ([{"all": [{"exact": {"color": "red"}}, {"prefix": {"type": "com."}}]}], True),
        ([{"all": [{"exact": {"color": "red"}}, {"prefix": {"type": "org."}}]}], False),
        ([{"any": [{"exact": {"color": "blue"}}, {"prefix": {"type": "com."}}]}], True),
        ([{"any": [{"exact": {"color": "blue"}}, {"prefix": {"type": "org."}}]}], False),
        ([{"any": [{"not": {"all": [{"exact": {"color": "blue"}}]}}]}], True),
        ({"exact": {"color": "red"}}, True),
        ({"attributes": {"type": "com.example.order.made", "color": ""}}, True),
        ({"attributes": {"missing": ""}}, False),
        ({"attributes": {"empty": ""}}, False),
        ({"attributes": {"time": ""}}, False),
        ({"attributes": {}}, True),
    ],
)
def test_a_filter_takes_what_knatives_takes(filters: Any, expected: bool) -> None:
    assert takes(filters) is expected


@pytest.mark.parametrize(
    ("type_", "source", "taken_by"),
    [
        ("dev.caesarion.execution.requested", "/x", {"caesarion-execute"}),
        ("dev.caesarion.chat.requested", "/x", {"caesarion-chat"}),
        ("dev.caesarion.execution.finished", "/x", set()),
        ("dev.knative.sources.ping", "/apis/v1/namespaces/local/pingsources/nightly", {"caesarion-schedules"}),
        ("dev.knative.sources.ping", "/apis/v1/namespaces/local/pingsources/caesarion-sweep", {"caesarion-sweep"}),
        ("dev.knative.sources.ping", "/elsewhere", set()),
    ],
)
def test_what_is_built_in_brings_each_event_to_its_function(type_: str, source: str, taken_by: set[str]) -> None:
    event = Event("1", source, type_)
    assert {trigger.name for trigger in built_in_triggers() if trigger.takes(event)} == taken_by


@pytest.mark.parametrize(
    ("failures", "status", "retry_after_s", "expected"),
    [
        (1, 503, None, 101.0),
        (2, None, None, 102.0),
        (3, 500, None, 104.0),
        (4, 500, None, None),
        (1, 400, None, None),
        (1, 410, 5, None),
        (1, 302, None, None),
        (1, 404, None, 101.0),
        (1, 503, 20.0, 120.0),
        (1, 429, 0.5, 101.0),
        (1, 500, 20.0, 101.0),
    ],
)
def test_the_larger_of_backoff_and_retry_after_counts(
    failures: int, status: int | None, retry_after_s: float | None, expected: float | None
) -> None:
    assert next_attempt(Delivery(retry=3, backoff_delay_s=1), failures, status, retry_after_s, 100.0) == expected


def test_what_was_accepted_for_a_function_is_tried_for_about_an_hour() -> None:
    for trigger in (*built_in_triggers(), hook_trigger("x", ())):
        delivery = trigger.delivery
        pauses_s = [delivery.pause_s(failures) for failures in range(1, delivery.retry + 1)]
        assert (pauses_s[0], pauses_s[-1]) == (1, 300)
        assert 3600 <= sum(pauses_s) < 4000
        assert delivery.knative_retry == 12
    assert Delivery().knative_retry == 10


def test_pauses_are_bounded_however_often_it_failed() -> None:
    assert next_attempt(Delivery(retry=1000), 900, 500, None, 0.0) == 86_400
    assert next_attempt(Delivery(retry=0), 1, 500, None, 0.0) is None
    assert next_attempt(Delivery(retry_after_max_s=0), 1, 503, 500.0, 0.0) == 0.2


@pytest.mark.parametrize(
    ("given", "left"),
    [(None, 255), ("255", 254), ("999", 254), ("2", 1), ("1", 0), ("-7", -8), ("x", 0), ("9" * 50, 0)],
)
def test_an_event_may_go_around_so_often(given: str | None, left: int) -> None:
    extensions = {} if given is None else {"knativebrokerttl": given}
    assert ttl_of(Event("1", "/x", "t", extensions=extensions)) == left


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("PT0.2S", 0.2), ("PT1M", 60), ("PT1H30M", 5400), ("P1D", 86_400), ("P1W", 604_800), ("P1DT1S", 86_401)],
)
def test_durations_are_those_of_iso_8601(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds
    assert parse_duration(shown_duration(seconds)) == seconds


@pytest.mark.parametrize("text", ["", "P", "PT", "1s", "PT1", "P1Y", "P1M", "-PT1S", "PT1S ", "pt1s", 5, None])
def test_other_texts_are_no_durations(text: object) -> None:
    with pytest.raises(ValueError, match="ISO 8601 duration"):
        parse_duration(text)


def test_a_file_says_what_goes_where(tmp_path: Path) -> None:
    path = tmp_path / "triggers.toml"
    path.write_text(
        """
        [[triggers]]
        name = "orders"
        filters = [{ prefix = { type = "com.example." } }, { not = { exact = { color = "red" } } }]
        subscriber = "https://example.com/in?x=1"
        [triggers.delivery]
        retry = 3
        backoffPolicy = "linear"
        backoffDelay = "PT1S"
        timeout = "PT1M"
        retryAfterMax = "PT0S"

        [[triggers]]
        name = "old"
        filter.attributes = { type = "" }
        subscriber = "/events/execute"

        [[triggers]]
        name = "all"
        subscriber = "/events/chat"
        """,
        encoding="utf-8",
    )
    orders, old, everything = read_triggers(str(path))
    assert orders.delivery == Delivery(3, "linear", 1.0, 60.0, 0.0)
    assert [one.takes(EVENT) for one in (orders, old, everything)] == [False, True, True]
    assert orders.takes(Event("1", "/x", "com.example.y"))
    assert (old.delivery, everything.filters) == (Delivery(), ())


@pytest.mark.parametrize(
    ("line", "given", "told"),
    [
        (2, "", "`name` must be a text, and is missing"),
        (2, 'name = "A"', "`name` must be 1 to 63 of a-z 0-9 and -"),
        (2, 'name = "caesarion-execute"', "`name` must be 1 to 63"),
        (2, 'name = "hook-x"', "`name` must be 1 to 63"),
        (3, 'subscriber = "/broker"', "`subscriber` must be one of /events/execute, /events/chat, "),
        (3, 'subscriber = "/events/../broker"', "`subscriber` must be one of"),
        (3, 'subscriber = "ftp://x"', "`subscriber` must be one of"),
        (3, 'subscriber = "http://user:word@x/"', "`subscriber` must be one of"),
        (3, 'subscriber = "http://x:99999/"', "`subscriber` must be one of"),
        (4, "filters = 5", "`filters` must be a list of filters, got 5"),
        (4, "filters = [\n{exact = {a = 'a'}},\n{exact = {type = ''}}]", "`filters[1].exact.type` must be a text"),
        (4, 'filters = [{ exact = { Type = "x" } }]', "`filters[0].exact.Type` must be named as an attribute is"),
        (4, 'filters = [{ exact = "x" }]', "`filters[0].exact` must be a table of attributes and values"),
        (4, "filters = [{ exact = {} }]", "`filters[0].exact` must be a table of attributes and values"),
        (4, 'filters = [{exact = {a = "1"}, prefix = {a = "1"}}]', "`filters[0]` must be a table with one of exact"),
        (4, 'filters = [{ cesql = "true" }]', "`filters[0]` must be a table with one of exact, prefix"),
        (4, "filters = [{ any = [] }]", "`filters[0].any` must be a list of at least one filter"),
        (4, "filters = [{ all = [{ not = 1 }] }]", "`filters[0].all[0].not` must be a table with one of"),
        (4, 'filters = [{ attributes = { a = "1" } }]', "`filters[0]` must be a table with one of"),
        (4, 'filter = { exact = { type = "x" } }', "`filter.exact` is not known here; known are `attributes`"),
        (4, "filter.attributes = { type = 1 }", "`filter.attributes.type` must be a text"),
        (4, 'filters = []\nfilter.attributes = { a = "b" }', "has either `filter` with attributes or `filters`"),
        (4, 'delivery = { retry = -1 }', "`delivery.retry` must be a whole number from 0 to 1000, got -1"),
        (4, '[triggers.delivery]\nbackoffDelay = "1s"', "`delivery.backoffDelay` must be an ISO 8601 duration"),
        (4, 'delivery.timeout = "PT0S"', "`delivery.timeout` must be a duration from PT0.001S to PT168H"),
        (4, 'delivery.backoffPolicy = "random"', "`delivery.backoffPolicy` must be one of 'linear', 'exponential'"),
        (4, 'delivery.deadLetterSink = "x"', "`delivery.deadLetterSink` is not known here"),
        (4, "extra = 1", "`extra` is not known here"),
        (4, '[[triggers]]\nname = "made"', "there is another trigger 'made' above"),
    ],
)  # fmt: skip
def test_what_is_wrong_in_a_file_is_told_with_its_line(tmp_path: Path, line: int, given: str, told: str) -> None:
    lines = ["[[triggers]]", 'name = "made"', 'subscriber = "/events/execute"', ""]
    lines[line - 1] = given
    path = tmp_path / "triggers.toml"
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigError) as refused:
        read_triggers(str(path))
    assert told in refused.value.message
    shown = {line + given.count("\n"), 1 if "missing" in told else line, 4 if "either" in told else line}
    assert int(refused.value.message.removeprefix(f"{path}:").partition(":")[0]) in shown
