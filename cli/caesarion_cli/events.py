"""`caesarion events`: what goes through the broker of `caesarion serve`, and what it could not deliver."""

import base64
import json
import re
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any
from urllib.parse import urlencode, urlsplit

import typer

from caesarion.clock import rfc3339
from caesarion.ids import new_id
from caesarion.settings import Secret
from caesarion_cli.client import Api
from caesarion_cli.failures import INTERRUPTED, Failure, failures_told
from caesarion_cli.listings import moment, printable, size, table
from caesarion_cli.options import DEFAULT_URL, AsJson, Url, command_group, connected

SOURCE = "/caesarion/cli"
STRUCTURED = "application/cloudevents+json"
JSON_TYPE = "application/json"
PAGE = 100
MAX_SHOWN_CHARACTERS = 100

_EXTENSION = re.compile(r"([a-z0-9]{1,64})=(.*)", re.DOTALL)
_OWN = frozenset({"id", "source", "type", "specversion", "subject", "time", "datacontenttype", "data", "dataschema"})

group = command_group("Events of the broker that `caesarion serve` has.")


@group.command()
def send(
    kind: Annotated[str, typer.Argument(metavar="TYPE", help="Type, such as dev.caesarion.execution.requested.")],
    data: Annotated[
        str | None, typer.Option("--data", metavar="JSON|@FILE", help="Data: JSON, or a file; @- is standard input.")
    ] = None,
    source: Annotated[str, typer.Option("--source", metavar="URI", help="Where it comes from.")] = SOURCE,
    event_id: Annotated[
        str | None, typer.Option("--id", metavar="ID", help="The same source and id is the same event.")
    ] = None,
    subject: Annotated[str | None, typer.Option("--subject", metavar="TEXT", help="What it is about.")] = None,
    ext: Annotated[list[str] | None, typer.Option("--ext", metavar="NAME=VALUE", help="A further attribute.")] = None,
    content_type: Annotated[
        str, typer.Option("--content-type", metavar="TYPE", help="Type of the data.", show_default="JSON")
    ] = JSON_TYPE,
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="URL", help="Send it there instead of to the broker, without an API key."),
    ] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Send an event. To the broker: it is accepted when this ends. To another address: its answer is shown."""
    event: dict[str, object] = {
        "specversion": "1.0",
        "id": event_id or new_id("e"),
        "source": source,
        "type": kind,
        "time": rfc3339(datetime.now(UTC)),
        **_extensions(ext or ()),
        **({} if subject is None else {"subject": subject}),
        **({} if data is None else _data(data, content_type)),
    }
    with failures_told(as_json=as_json):
        if to is None:
            with connected(url) as api:
                _post(api, "/broker", event)
            told = {name: event[name] for name in ("id", "source", "type")}
            print(json.dumps(told) if as_json else f"accepted {printable(str(event['id']))}")
            return
        reply = _send_to(to, event)
        if reply is not None:
            print(json.dumps(reply) if as_json else json.dumps(reply, indent=2))
        elif not as_json:
            print(f"accepted {printable(str(event['id']))}")


@group.command()
def tail(
    last: Annotated[int, typer.Option("-n", "--last", metavar="COUNT", min=0, help="So many of the newest.")] = 10,
    kind: Annotated[str, typer.Option("--type", metavar="PREFIX", help="Only types that begin so.")] = "",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on with what comes; Ctrl-C ends it.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Show own events that the broker accepted, the newest last."""
    with failures_told(as_json=as_json), connected(url) as api:
        try:
            query = urlencode({"last": last, "follow": int(follow), "type": kind})
            for line in _lines(api, f"/broker/events?{query}"):
                kept = json.loads(line)
                print(line if as_json else _event_line(kept["accepted_at"], kept["event"]), flush=True)
        except KeyboardInterrupt:
            raise typer.Exit(INTERRUPTED) from None


@group.command()
def dead(
    dead_id: Annotated[int | None, typer.Argument(metavar="[ID]", help="Show this one, with its data.")] = None,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """List what could not be delivered: dead letters, oldest first."""
    with failures_told(as_json=as_json), connected(url) as api:
        if dead_id is not None:
            letter = api.call("GET", f"/broker/dead/{dead_id}")
            print(json.dumps(letter) if as_json else json.dumps(letter, indent=2))
            return
        letters = list(_dead_letters(api))
        if as_json:
            print(json.dumps({"dead": letters}))
            return
        rows = [
            (
                str(letter["id"]),
                letter["trigger"],
                letter["event"]["type"],
                size(letter["data_bytes"]),
                str(letter["attempts"]),
                moment(letter["dead_at"]),
                _reason(letter),
            )
            for letter in letters
        ]
        print(table(("ID", "TRIGGER", "TYPE", "DATA", "TRIED", "GIVEN UP", "REASON"), rows))


@group.command()
def resend(
    dead_ids: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Dead letters.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Deliver dead letters again, each with all its attempts."""
    _each(url, dead_ids, everything, as_json, "resent", lambda api, path: api.call("POST", f"{path}/resend"))


@group.command()
def rm(
    dead_ids: Annotated[list[int] | None, typer.Argument(metavar="ID...", help="Dead letters.")] = None,
    everything: Annotated[bool, typer.Option("--all", help="All dead letters.")] = False,
    as_json: AsJson = False,
    url: Url = DEFAULT_URL,
) -> None:
    """Remove dead letters. One that is not there is as good."""
    _each(url, dead_ids, everything, as_json, "removed", lambda api, path: api.call("DELETE", path))


def _each(
    url: str,
    dead_ids: Sequence[int] | None,
    everything: bool,
    as_json: bool,
    done_word: str,
    act: Callable[[Api, str], object],
) -> None:
    """Do something with each of the dead letters that were named, and say so."""
    with failures_told(as_json=as_json), connected(url) as api:
        done = []
        for dead_id in _chosen(api, dead_ids or (), everything=everything):
            act(api, f"/broker/dead/{dead_id}")
            done.append(dead_id)
            if not as_json:
                print(f"{done_word} {dead_id}")
        if as_json:
            print(json.dumps({done_word: done}))


def _chosen(api: Api, dead_ids: Sequence[int], *, everything: bool) -> list[int]:
    if everything == bool(dead_ids):
        raise typer.BadParameter("name dead letters by their ids, or give --all.")
    return [letter["id"] for letter in _dead_letters(api)] if everything else list(dead_ids)


def _dead_letters(api: Api) -> Iterator[Mapping[str, Any]]:
    after = 0
    while True:
        page = api.call("GET", f"/broker/dead?after={after}&limit={PAGE}")["dead"]
        yield from page
        if len(page) < PAGE:
            return
        after = page[-1]["id"]


def _reason(letter: Mapping[str, Any]) -> str:
    """Return why a dead letter was given up, its status once."""
    status, reason = str(letter["status"] or ""), str(letter["reason"])
    return (reason if status in reason else f"{status} {reason}")[:MAX_SHOWN_CHARACTERS]


def _extensions(given: Sequence[str]) -> dict[str, str]:
    found = {}
    for text in given:
        parts = _EXTENSION.fullmatch(text)
        if parts is None or parts[1] in _OWN:
            raise typer.BadParameter(
                f"must be like color=red, with a name of a-z and 0-9; got {text!r}.", param_hint="--ext"
            )
        found[parts[1]] = parts[2]
    return found


def _data(given: str, content_type: str) -> dict[str, object]:
    """Return the data as members of the event's JSON. Data that is said to be JSON has to be."""
    try:
        if given == "@-":
            content = sys.stdin.buffer.read()
        elif given.startswith("@"):
            content = Path(given[1:]).read_bytes()
        else:
            content = given.encode()
    except OSError as exc:
        raise typer.BadParameter(f"{given[1:]!r} cannot be read: {exc.strerror}.", param_hint="--data") from exc
    if content_type != JSON_TYPE:
        return {"datacontenttype": content_type, "data_base64": base64.b64encode(content).decode()}
    try:
        return {"datacontenttype": JSON_TYPE, "data": json.loads(content)}
    except (ValueError, RecursionError) as exc:
        raise typer.BadParameter(
            'must be JSON, such as \'{"code": "1 + 1"}\', or have its type told by --content-type.', param_hint="--data"
        ) from exc


def _post(api: Api, path: str, event: Mapping[str, object]) -> tuple[Mapping[str, str], bytes]:
    """Post an event in structured mode and return headers and body of the answer."""
    import httpx

    try:
        with api.outputs("POST", path, document=event, headers={"Content-Type": STRUCTURED, "Accept": "*/*"}) as answer:
            return answer.headers, answer.read()
    except httpx.TransportError as exc:
        raise api.unreachable(exc) from exc


def _send_to(to: str, event: Mapping[str, object]) -> Any:
    """Send an event to any receiver and return the event that it answers with, or None."""
    from caesarion.adapters.events import decode, structured

    parts = urlsplit(to)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise typer.BadParameter(f"must be like http://localhost:8080/events/execute, got {to!r}.", param_hint="--to")
    origin = f"{parts.scheme}://{parts.netloc}"
    api = Api(origin, Secret(""))
    try:
        headers, body = _post(api, to.removeprefix(origin) or "/", event)
    except Failure as failure:
        if failure.code != "unexpected_answer":
            raise
        raise Failure(
            f"{to} answered with status {failure.status}.", code="refused", status=failure.status
        ) from failure
    finally:
        api.close()
    if not body:
        return None
    return json.loads(structured(decode(headers, body).events[0]))


def _lines(api: Api, path: str) -> Iterator[str]:
    """Yield lines that are not empty, as they come."""
    import httpx

    try:
        with api.outputs("GET", path) as answer:
            for line in answer.iter_lines():
                if line:
                    yield line
    except httpx.TransportError as exc:
        raise api.unreachable(exc) from exc


def _event_line(accepted_at: str, event: Mapping[str, Any]) -> str:
    if "data" in event:
        data = json.dumps(event["data"], ensure_ascii=False)
    elif "data_base64" in event:
        data = f"({event.get('datacontenttype', 'data')}, {size(len(event['data_base64']) * 3 // 4)})"
    else:
        data = ""
    shown = data if len(data) <= MAX_SHOWN_CHARACTERS else f"{data[:MAX_SHOWN_CHARACTERS]}..."
    told = [moment(accepted_at), event["type"], event["source"], event["id"], event.get("subject", ""), shown]
    return printable("  ".join(part for part in told if part))
