"""Which events go to whom, and when a delivery that failed is tried again. Pure; the broker acts on it.

The rules are those of Knative's Trigger and DeliverySpec (eventing v1): an attribute that an event does not have reads
as none, a filter names attributes and values that are not empty, all filters of a trigger must pass, and the larger of
the backoff and the subscriber's Retry-After counts.
"""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal, NoReturn, Protocol
from urllib.parse import urlsplit

from caesarion.config_files import Table, read_tables
from caesarion.events import CHAT_REQUESTED, EXECUTION_REQUESTED, PING, Event

Dialect = Literal["exact", "prefix", "suffix", "attributes"]
BackoffPolicy = Literal["linear", "exponential"]

EXECUTE, CHAT, CLEANUP = "/events/execute", "/events/chat", "/events/cleanup"
FUNCTIONS = (EXECUTE, CHAT, CLEANUP)
PING_SOURCES = "/apis/v1/namespaces/local/pingsources/"
SWEEP = "caesarion-sweep"
OWN_PREFIX = "caesarion-"
TTL = "knativebrokerttl"
MAX_TTL = 255
MAX_RETRIES = 1000
MAX_BACKOFF_S = 86_400.0
MAX_TIMEOUT_S = 604_800.0
MAX_FILTER_DEPTH = 32

_DIALECTS = ("exact", "prefix", "suffix", "all", "any", "not")
_ATTRIBUTE = re.compile(r"[a-z][a-z0-9]*")
_NAME = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_DURATION = re.compile(
    r"P(?:(?P<w>\d+(?:\.\d+)?)W)?(?:(?P<d>\d+(?:\.\d+)?)D)?"
    r"(?:T(?=\d)(?:(?P<h>\d+(?:\.\d+)?)H)?(?:(?P<m>\d+(?:\.\d+)?)M)?(?:(?P<s>\d+(?:\.\d+)?)S)?)?"
)
_SECONDS = {"w": 604_800.0, "d": 86_400.0, "h": 3600.0, "m": 60.0, "s": 1.0}


class Fail(Protocol):
    """Raises for a value that is not `expected`; `further` leads to the part of it that is wrong."""

    def __call__(self, expected: str, *further: str | int) -> NoReturn: ...


@dataclass(frozen=True, slots=True)
class Match:
    """Passes when each of these attributes is there and fits its value.

    The dialect `attributes` is the old one of `filter.attributes`: as `exact`, but an empty value takes any.
    """

    dialect: Dialect
    values: tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class All:
    """Passes when each of these does."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """Passes when one of these does."""

    filters: tuple["Filter", ...]


@dataclass(frozen=True, slots=True)
class Not:
    """Passes when this does not."""

    filter: "Filter"


Filter = Match | All | AnyOf | Not


@dataclass(frozen=True, slots=True)
class Delivery:
    """How often and for how long a delivery is tried. `retry` counts what comes after the first attempt.

    No backoff is longer than `backoff_max_s`, which Knative does not know.
    """

    retry: int = 10
    backoff_policy: BackoffPolicy = "exponential"
    backoff_delay_s: float = 0.2
    timeout_s: float = 3600.0
    retry_after_max_s: float | None = None
    backoff_max_s: float = MAX_BACKOFF_S

    @property
    def knative_retry(self) -> int:
        """How many retries take as long as these where no pause is bounded."""
        if self.backoff_max_s == MAX_BACKOFF_S:
            return self.retry
        lasting_s = sum(self.pause_s(failures) for failures in range(1, self.retry + 1))
        unbounded = replace(self, backoff_max_s=MAX_BACKOFF_S)
        retries = 0
        while retries < self.retry and lasting_s > 0:
            retries += 1
            lasting_s -= unbounded.pause_s(retries)
        return retries

    def pause_s(self, failures: int) -> float:
        """Return the pause after so many failures."""
        growth = failures if self.backoff_policy == "linear" else 2.0 ** min(failures - 1, 60)
        return min(self.backoff_delay_s * growth, self.backoff_max_s)


LASTING = Delivery(retry=20, backoff_delay_s=1.0, backoff_max_s=300.0)
"""About an hour: what was accepted for a function will run, also when that is away for a while."""


@dataclass(frozen=True, slots=True)
class Trigger:
    """Events that pass all `filters` go to `subscriber`: a path of the same process, or a URL."""

    name: str
    filters: tuple[Filter, ...]
    subscriber: str
    delivery: Delivery = field(default_factory=Delivery)

    def takes(self, event: Event) -> bool:
        """Whether the event goes to this subscriber."""
        return all(passes(item, event) for item in self.filters)


def passes(item: Filter, event: Event) -> bool:
    """Whether an event passes a filter."""
    match item:
        case Match(dialect, values):
            return all(_fits(dialect, value, attribute(event, name)) for name, value in values)
        case All(filters):
            return all(passes(each, event) for each in filters)
        case AnyOf(filters):
            return any(passes(each, event) for each in filters)
        case Not(inner):
            return not passes(inner, event)


def attribute(event: Event, name: str) -> str | None:
    """Return an attribute of an event, extensions among them; None for one that it does not have, or has empty."""
    match name:
        case "specversion":
            return "1.0"
        case "id" | "source" | "type" | "subject" | "time" | "datacontenttype" | "dataschema":
            value: str | None = getattr(event, name)
            return value or None
        case _:
            return event.extensions.get(name) or None


def may_retry(status: int | None) -> bool:
    """Whether a delivery that got this status, or no answer at all, is tried again."""
    return status is None or status >= 500 or status in (404, 408, 409, 429)


def next_attempt(
    delivery: Delivery, failures: int, status: int | None, retry_after_s: float | None, now_s: float
) -> float | None:
    """Return when to try again after so many failures, the newest with `status`; None when it is dead."""
    if failures > delivery.retry or not may_retry(status):
        return None
    asked_s = retry_after_s or 0.0 if status in (429, 503) else 0.0
    if delivery.retry_after_max_s is not None:
        asked_s = min(asked_s, delivery.retry_after_max_s)
    return now_s + min(max(delivery.pause_s(failures), asked_s), MAX_BACKOFF_S)


def ttl_of(event: Event) -> int:
    """Return how many events one that came in may become with all that follows; 0 or less when it must be dropped."""
    given = event.extensions.get(TTL)
    if given is None:
        return MAX_TTL
    try:
        return min(int(given), MAX_TTL) - 1 if len(given) < 20 else 0
    except ValueError:
        return 0


def reply_ttl(ttl: int, triggers: int) -> int:
    """Return what is left for the reply of each of so many triggers, so that all of them together stay within it."""
    return (ttl - 1) // max(triggers, 1)


def built_in_triggers() -> tuple[Trigger, ...]:
    """Return those that are always there: requests for code and turns, ticks of schedules, and the sweep's tick."""
    ping = Match("exact", (("type", PING),))
    sweep = Match("exact", (("source", PING_SOURCES + SWEEP),))
    ours = Match("prefix", (("source", PING_SOURCES),))
    return (
        Trigger(OWN_PREFIX + "execute", (Match("exact", (("type", EXECUTION_REQUESTED),)),), EXECUTE, LASTING),
        Trigger(OWN_PREFIX + "schedules", (ping, ours, Not(sweep)), EXECUTE, LASTING),
        Trigger(OWN_PREFIX + "chat", (Match("exact", (("type", CHAT_REQUESTED),)),), CHAT, LASTING),
        Trigger(SWEEP, (ping, sweep), CLEANUP, LASTING),
    )


def hook_trigger(name: str, filters: tuple[Filter, ...]) -> Trigger:
    """Return the trigger of a hook of kind `event`: execute runs the code of this one."""
    return Trigger(f"hook-{name}", filters, f"{EXECUTE}?hook={name}", LASTING)


def read_filter(value: Any, fail: Fail) -> tuple[Filter, ...]:
    """Return the filters that a value of a TOML file stands for: one, or a list of which all must pass.

    A filter is a table with one of `exact`, `prefix`, `suffix` (attributes and values), `all`, `any` (lists of filters)
    and `not` (a filter); at the top also `attributes`. `fail` is called for anything else.
    """
    if isinstance(value, list):
        return tuple(_filter(item, fail, (index,)) for index, item in enumerate(value))
    if isinstance(value, dict) and set(value) == {"attributes"}:
        return (_match("attributes", value["attributes"], fail, ("attributes",)),)
    return (_filter(value, fail, ()),)


def read_triggers(path: str) -> tuple[Trigger, ...]:
    """Return the triggers of a file. Raises ConfigError that names file and line."""
    found: dict[str, Trigger] = {}
    for table in read_tables(path, "triggers"):
        table.check_known(("name", "filter", "filters", "subscriber", "delivery"))
        trigger = _trigger(table, found)
        found[trigger.name] = trigger
    return tuple(found.values())


def read_name(table: Table, what: str, taken: Collection[str] = ()) -> str:
    """Return the `name` of a table, which must fit a Kubernetes object too, and must not be one of `taken`."""
    name = table.text("name")
    if not _NAME.fullmatch(name) or name.startswith((OWN_PREFIX, "hook-")):
        table.fail("name", "1 to 63 of a-z 0-9 and -, not at an end, and not beginning with caesarion- or hook-")
    if name in taken:
        table.problem(f"there is another {what} {name!r} above", "name")
    return name


def parse_duration(text: object) -> float:
    """Return the seconds of an ISO 8601 duration such as PT0.2S, PT1M or P1D. Raises ValueError for another text."""
    found = _DURATION.fullmatch(text) if isinstance(text, str) and len(text) < 40 else None
    if found is None or not any(found.groupdict().values()):
        raise ValueError("an ISO 8601 duration such as 'PT0.2S', 'PT1M' or 'P1D'")
    return sum(float(value) * _SECONDS[unit] for unit, value in found.groupdict().items() if value)


def shown_duration(seconds: float) -> str:
    """Return seconds as an ISO 8601 duration."""
    text = "PT"
    for unit, size in (("H", 3600), ("M", 60)):
        if seconds >= size and seconds % 1 == 0 and (whole := int(seconds // size)):
            text += f"{whole}{unit}"
            seconds -= whole * size
    return text if text != "PT" and not seconds else f"{text}{seconds:.3f}".rstrip("0").rstrip(".") + "S"


def filter_document(filters: Sequence[Filter]) -> list[Mapping[str, Any]]:
    """Return filters as a Knative Trigger has them, each with one attribute only, as some of its versions want."""
    return [document for item in filters for document in _documents(item)]


def _trigger(table: Table, taken: Collection[str]) -> Trigger:
    name = read_name(table, "trigger", taken)
    filters: tuple[Filter, ...] = ()
    if "filter" in table.values and "filters" in table.values:
        table.problem("a trigger has either `filter` with attributes or `filters`", "filters")
    if "filter" in table.values:
        old = table.table("filter")
        old.check_known(("attributes",))
        filters = read_filter(old.values, lambda expected, *further: table.fail("filter", expected, *further))
    elif "filters" in table.values:
        given = table.values["filters"]
        if not isinstance(given, list):
            table.fail("filters", "a list of filters")
        filters = read_filter(given, lambda expected, *further: table.fail("filters", expected, *further))
    return Trigger(name, filters, _subscriber(table), _delivery(table) if "delivery" in table.values else Delivery())


def _subscriber(table: Table) -> str:
    expected = f"one of {', '.join(FUNCTIONS)}, or an http or https URL"
    value = table.text("subscriber", expected)
    if value in FUNCTIONS:
        return value
    try:
        parts = urlsplit(value)
        usable = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        usable = False
    if not usable or not value.isascii() or not value.isprintable() or " " in value or parts.username is not None:
        table.fail("subscriber", expected)
    return value


def _delivery(table: Table) -> Delivery:
    given = table.table("delivery", "a table such as {retry = 5, backoffPolicy = 'exponential', backoffDelay = 'PT1S'}")
    given.check_known(("retry", "backoffPolicy", "backoffDelay", "timeout", "retryAfterMax"))
    default = Delivery()
    policy: BackoffPolicy = "exponential"
    if given.one_of("backoffPolicy", ("linear", "exponential"), default=default.backoff_policy) == "linear":
        policy = "linear"
    return Delivery(
        retry=given.whole("retry", 0, MAX_RETRIES, default=default.retry),
        backoff_policy=policy,
        backoff_delay_s=_duration(given, "backoffDelay", 0.0, MAX_BACKOFF_S, default.backoff_delay_s),
        timeout_s=_duration(given, "timeout", 0.001, MAX_TIMEOUT_S, default.timeout_s),
        retry_after_max_s=(
            _duration(given, "retryAfterMax", 0.0, MAX_BACKOFF_S, 0.0) if "retryAfterMax" in given.values else None
        ),
    )


def _duration(table: Table, key: str, low: float, high: float, default: float) -> float:
    if key not in table.values:
        return default
    try:
        seconds = parse_duration(table.values[key])
    except ValueError as exc:
        table.fail(key, str(exc))
    if not low <= seconds <= high:
        table.fail(key, f"a duration from {shown_duration(low)} to {shown_duration(high)}")
    return seconds


def _filter(value: Any, fail: Fail, at: tuple[str | int, ...]) -> Filter:
    if len(at) > 2 * MAX_FILTER_DEPTH:
        fail(f"filters within each other at most {MAX_FILTER_DEPTH} deep", *at)
    if not isinstance(value, dict) or len(value) != 1 or not set(value) <= set(_DIALECTS):
        fail(f"a table with one of {', '.join(_DIALECTS)}", *at)
    ((dialect, inner),) = value.items()
    at = (*at, dialect)
    match dialect:
        case "exact" | "prefix" | "suffix":
            return _match(dialect, inner, fail, at)
        case "not":
            return Not(_filter(inner, fail, at))
        case _:
            if not isinstance(inner, list) or not inner:
                fail("a list of at least one filter", *at)
            filters = tuple(_filter(item, fail, (*at, index)) for index, item in enumerate(inner))
            return All(filters) if dialect == "all" else AnyOf(filters)


def _match(dialect: Dialect, value: Any, fail: Fail, at: tuple[str | int, ...]) -> Match:
    if not isinstance(value, dict) or (not value and dialect != "attributes"):
        fail("a table of attributes and values such as {type = 'com.example.made'}", *at)
    for name, wanted in value.items():
        if not _ATTRIBUTE.fullmatch(name):
            fail("named as an attribute is: a-z and 0-9, a letter first", *at, name)
        if not isinstance(wanted, str) or not (wanted or dialect == "attributes"):
            fail("a text that is not empty", *at, name)
    return Match(dialect, tuple(value.items()))


def _fits(dialect: Dialect, wanted: str, given: str | None) -> bool:
    if given is None:
        return False
    match dialect:
        case "prefix":
            return given.startswith(wanted)
        case "suffix":
            return given.endswith(wanted)
        case "attributes" if not wanted:
            return True
        case _:
            return given == wanted


def _documents(item: Filter) -> list[Mapping[str, Any]]:
    match item:
        case Match(dialect, values):
            return [{dialect: {name: value}} for name, value in values]
        case All(filters):
            return [{"all": filter_document(filters)}]
        case AnyOf(filters):
            return [{"any": [_one(each) for each in filters]}]
        case Not(inner):
            return [{"not": _one(inner)}]


def _one(item: Filter) -> Mapping[str, Any]:
    documents = _documents(item)
    return documents[0] if len(documents) == 1 else {"all": documents}
