"""`caesarion manifests`: schedules and triggers as Knative objects, for `kubectl apply -f -`."""

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from caesarion.events import CHAT_REQUESTED, EXECUTION_REQUESTED, PING
from caesarion.settings import EventFiles, LocalSettings, Reader, SandboxSettings, SweepSettings
from caesarion.triggers import (
    CHAT,
    CLEANUP,
    EXECUTE,
    LASTING,
    OWN_PREFIX,
    SWEEP,
    AnyOf,
    Filter,
    Match,
    Trigger,
    filter_document,
    shown_duration,
)
from caesarion_cli.failures import failures_told

if TYPE_CHECKING:
    from caesarion.adapters.schedules import Schedule

Document = Mapping[str, Any]

DEAD = "/events/dead"
SERVICES = {EXECUTE: "execute", CHAT: "chat", CLEANUP: "cleanup", DEAD: "cleanup"}
LABELS = {"app.kubernetes.io/part-of": "caesarion"}

_PLAIN = re.compile(r"[A-Za-z][A-Za-z0-9._/-]*")
_RESERVED = frozenset({"y", "n", "yes", "no", "true", "false", "null", "on", "off"})
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff\ud800-\udfff]")


def manifests(
    broker: Annotated[str, typer.Option("--broker", metavar="NAME", help="Knative's broker.")] = "default",
    direct: Annotated[
        bool, typer.Option("--direct", help="Without a broker: ticks go straight to the functions; no triggers.")
    ] = False,
    namespace: Annotated[
        str | None, typer.Option("--namespace", metavar="NAME", help="Namespace.", show_default="kubectl's")
    ] = None,
) -> None:
    """Print PingSources and Triggers for what CAESARION_HOME has: schedules, the sweep, triggers and event hooks."""
    with failures_told():
        schedules, triggers = _read(os.environ)
        documents = [ping_source(schedule, None if direct else broker) for schedule in schedules]
        if not direct:
            documents += [trigger_object(trigger, broker) for trigger in (*own_triggers(schedules), *triggers)]
        for schedule in schedules:
            if schedule.principal is not None:
                print(
                    f"caesarion: {schedule.name}: on Knative it runs in the name of CAESARION_EVENTS_PRINCIPAL, not of "
                    f"{schedule.principal}.",
                    file=sys.stderr,
                )
        for trigger in () if direct else triggers:
            if trigger.delivery.retry_after_max_s is not None:
                print(
                    f"caesarion: {trigger.name}: Knative refuses `retryAfterMax` unless its feature "
                    "delivery-retryafter is enabled (config-features in knative-eventing).",
                    file=sys.stderr,
                )
        if namespace is not None:
            documents = [{**one, "metadata": {**one["metadata"], "namespace": namespace}} for one in documents]
        print("---\n".join(as_yaml(one) for one in documents), end="")


def ping_source(schedule: "Schedule", broker: str | None) -> Document:
    """Return a schedule as a PingSource that sends to a broker, or without one to the function."""
    data = {} if schedule.data is None else {"contentType": "application/json", "data": schedule.data.decode()}
    return {
        "apiVersion": "sources.knative.dev/v1",
        "kind": "PingSource",
        "metadata": {"name": schedule.name, "labels": LABELS},
        "spec": {
            "schedule": schedule.cron.line,
            "timezone": schedule.cron.time_zone,
            **data,
            "sink": _function(CLEANUP if schedule.name == SWEEP else EXECUTE) if broker is None else _broker(broker),
        },
    }


def own_triggers(schedules: "Sequence[Schedule]") -> list[Trigger]:
    """Return the triggers that `caesarion serve` has built in. There sources of ticks tell the namespace."""
    ping: Filter = Match("exact", (("type", PING),))
    named = {schedule.name: Match("suffix", (("source", f"/pingsources/{schedule.name}"),)) for schedule in schedules}
    sweep = named.pop(SWEEP, None)
    found = [
        Trigger(OWN_PREFIX + "execute", (Match("exact", (("type", EXECUTION_REQUESTED),)),), EXECUTE, LASTING),
        Trigger(OWN_PREFIX + "chat", (Match("exact", (("type", CHAT_REQUESTED),)),), CHAT, LASTING),
    ]
    if named:
        found.append(Trigger(OWN_PREFIX + "schedules", (ping, AnyOf(tuple(named.values()))), EXECUTE, LASTING))
    if sweep is not None:
        found.append(Trigger(SWEEP, (ping, sweep), CLEANUP, LASTING))
    return found


def trigger_object(trigger: Trigger, broker: str) -> Document:
    """Return a trigger as Knative has it."""
    match trigger.filters:
        case ():
            filters: Document = {}
        case (Match("attributes", values),):
            filters = {"filter": {"attributes": dict(values)}}
        case others:
            filters = {"filters": filter_document(others)}
    delivery = trigger.delivery
    longest = delivery.retry_after_max_s
    return {
        "apiVersion": "eventing.knative.dev/v1",
        "kind": "Trigger",
        "metadata": {"name": trigger.name, "labels": LABELS},
        "spec": {
            "broker": broker,
            **filters,
            "subscriber": (
                _function(trigger.subscriber) if trigger.subscriber.startswith("/") else {"uri": trigger.subscriber}
            ),
            "delivery": {
                "retry": delivery.knative_retry,
                "backoffPolicy": delivery.backoff_policy,
                "backoffDelay": shown_duration(delivery.backoff_delay_s),
                "timeout": shown_duration(delivery.timeout_s),
                **({} if longest is None else {"retryAfterMax": shown_duration(longest)}),
                "deadLetterSink": _function(DEAD),  # a Broker's is not that of Triggers with a delivery of their own
            },
        },
    }


def as_yaml(document: object, indent: str = "") -> str:
    """Return a value as YAML: mappings and lists in blocks, texts plain where that is safe, else quoted as in JSON."""
    match document:
        case dict() if document:
            return "".join(f"{indent}{_scalar(key)}:{_below(value, indent)}" for key, value in document.items())
        case list() | tuple() if document:
            return "".join(f"{indent}- {as_yaml(item, indent + '  ').lstrip(' ')}" for item in document)
        case dict():
            return f"{indent}{{}}\n"
        case list() | tuple():
            return f"{indent}[]\n"
    return f"{indent}{_scalar(document)}\n"


def _below(value: object, indent: str) -> str:
    if isinstance(value, dict | list | tuple) and value:
        return "\n" + as_yaml(value, indent + "  ")
    return " " + as_yaml(value)


def _scalar(value: object) -> str:
    if isinstance(value, str) and _PLAIN.fullmatch(value) and value.lower() not in _RESERVED:
        return value
    quoted = json.dumps(value, ensure_ascii=False)
    return _NOT_IN_YAML.sub(lambda found: f"\\u{ord(found[0]):04x}", quoted)


def _broker(name: str) -> Document:
    return {"ref": {"apiVersion": "eventing.knative.dev/v1", "kind": "Broker", "name": name}}


def _function(path: str) -> Document:
    service = SERVICES[path.partition("?")[0]]
    return {"ref": {"apiVersion": "serving.knative.dev/v1", "kind": "Service", "name": service}, "uri": path}


def _read(env: Mapping[str, str]) -> "tuple[Sequence[Schedule], Sequence[Trigger]]":
    """Return what the files say, the sweep first. Raises ConfigError."""
    from caesarion_cli.automation import read_automation

    reader = Reader(env)
    files, local = reader.group(EventFiles), reader.group(LocalSettings)
    sandbox, sweep = reader.group(SandboxSettings), reader.group(SweepSettings)
    reader.check()
    longest_s = sandbox.max_execution_timeout_s
    automation = read_automation(files, local.home, None, sweep=sweep.schedule, max_timeout_s=longest_s)
    return automation.schedules, automation.triggers
