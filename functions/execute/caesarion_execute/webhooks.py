"""Webhooks: a signed request becomes an execution whose code a hook names and whose payload is a variable.

The signature is the key here, so nothing but it and the body's size is looked at before it is known to be right. Which
names there are is no secret (a sender keeps the address in the clear), so an unknown one is told as such: a mistyped
address is the commonest mistake, and as a 401 it would be looked for in the secret.
"""

import asyncio
import contextlib
import json
import logging
import math
import re
import time
from collections.abc import AsyncIterator, Callable, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, NoReturn
from urllib.parse import parse_qs

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from caesarion.adapters.asgi.bodies import check_json, read_limited
from caesarion.adapters.asgi.event_routes import told_to_broker, unhandled
from caesarion.adapters.asgi.facts import facts_of, principal_of
from caesarion.adapters.asgi.responses import JsonResponse
from caesarion.adapters.asgi.routes import resource
from caesarion.adapters.events import data_json, json_bytes
from caesarion.adapters.platform import Platform
from caesarion.errors import (
    CaesarionError,
    InvalidRequest,
    NotFound,
    SessionGone,
    TooLarge,
    Unauthorized,
    Unprocessable,
)
from caesarion.events import Event, event_digest
from caesarion.ids import PrincipalId
from caesarion.logs import bind
from caesarion_execute.event_runs import EventRuns, ExecutionRequest, requested_event
from caesarion_execute.hooks import Hook
from caesarion_execute.settings import Settings
from caesarion_execute.signatures import (
    GITHUB_EVENT,
    ID,
    BadSignature,
    Signed,
    verify_github,
    verify_standard,
)

logger = logging.getLogger(__name__)

MAX_DEPTH = 100
MAX_FORM_FIELDS = 16
FORM = "application/x-www-form-urlencoded"
GITHUB_HEADERS = "x-github-"
UNSTABLE_ATTRIBUTES = ("traceparent", "tracestate", "knative")
_GITHUB_EVENT = re.compile(r"[a-z0-9_]{1,64}")
REFUSED = (
    "The webhook is not signed as it must be. Check that the hook's secret here is the sender's, that the signature is "
    "made over the bytes that are sent, that the sender's clock is right (5 minutes either way), and that each attempt "
    "is signed anew; the reason stands in the log under this id."
)


def webhook_routes(
    platform: Platform,
    hooks: Sequence[Hook],
    runs: EventRuns,
    settings: Settings,
    *,
    now_s: Callable[[], float] = time.time,
) -> list[BaseRoute]:
    """Return the route of signed webhooks. Hooks of the kind `event` have no address here."""
    return [resource("/webhooks/{name}", POST=Webhooks(platform, hooks, runs, settings, now_s).receive)]


class Webhooks:
    """Takes webhooks: checks them and has their code run once for each delivery."""

    def __init__(
        self,
        platform: Platform,
        hooks: Sequence[Hook],
        runs: EventRuns,
        settings: Settings,
        now_s: Callable[[], float],
    ) -> None:
        self._platform = platform
        self._hooks = {hook.name: hook for hook in hooks if hook.kind != "event"}
        self._runs = runs
        self._max_request_bytes = settings.serving.max_body_bytes
        self._now_s = now_s

    async def receive(self, request: Request) -> Response:
        """Runs the hook's code for a signed delivery; 202, or the result if the hook waits for it."""
        hook = self._hooks.get(request.path_params["name"])
        if hook is None:
            raise NotFound(
                f"There is no webhook {request.path_params['name'][:80]!r} here. Hooks are named in hooks.toml, which "
                "is read when the function starts.",
                code="hook_not_found",
            )
        bind(hook=hook.name)
        body = await read_limited(request, hook.max_bytes)
        headers = _headers(request)
        signed = _verified(hook, headers, body, self._now_s())
        bind(delivery=event_digest(hook.source, signed.delivery))
        facts_of(request.scope).principal = hook.principal
        payload = _payload(request, hook, body)
        event_name = _github_event(headers) if hook.kind == "github" else None
        if event_name == "ping":
            logger.info("webhook pinged", extra={"size_bytes": len(body)})
            return JsonResponse({"id": signed.delivery, "accepted": False, "reason": "a ping runs nothing"})
        if hook.events and event_name not in hook.events:
            logger.info("webhook dropped", extra={"size_bytes": len(body), "event": event_name})
            reason = f"this hook runs for {', '.join(hook.events)} only"
            return JsonResponse({"id": signed.delivery, "accepted": False, "reason": reason}, 202)
        delivery = {"id": signed.delivery, "hook": hook.name, **({"event": event_name} if event_name else {})}
        wanted = _execution(hook, payload, _kept(hook, headers), delivery)
        event = self._requested(hook, signed, wanted)
        async with self._attempt(hook, signed):
            answer = await self._answered(hook, event, wanted)
        logger.info("webhook accepted", extra={"size_bytes": len(body), "status": answer.status_code})
        return answer

    def _requested(self, hook: Hook, signed: Signed, wanted: ExecutionRequest) -> Event:
        now = datetime.fromtimestamp(self._now_s(), UTC)
        event = requested_event(hook.source, signed.delivery, wanted, time=now)
        size_bytes = len(event.data or b"")
        if size_bytes > self._max_request_bytes:
            raise TooLarge(
                f"Code and payload make a request of {size_bytes} bytes; one may have {self._max_request_bytes}."
            )
        return event

    async def _answered(self, hook: Hook, event: Event, wanted: ExecutionRequest) -> Response:
        """Answer with what came of it if the hook waits for that and it is quick, else once it is sure to run."""
        try:
            if hook.answer == "result":
                running = self._platform.background.start(self._runs.run(hook.principal, event, wanted), name="webhook")
                await asyncio.wait({running}, timeout=hook.wait_s)
                if running.done():
                    self._platform.announcer.announce(running.result(), hook.principal)
                    return JsonResponse(data_json(running.result()))
            if self._platform.sink is not None:
                await self._platform.sink.send(event, hook.principal)
            else:
                await self._runs.begin(hook.principal, event, wanted)
        except SessionGone as exc:  # to senders of Standard Webhooks 410 means that the address is gone for ever
            raise Unprocessable(exc.message, code=exc.code) from exc
        except CaesarionError as exc:
            raise told_to_broker(exc) from exc
        return _accepted(event)

    @contextlib.asynccontextmanager
    async def _attempt(self, hook: Hook, signed: Signed) -> AsyncIterator[None]:
        """Hold an attempt that can be told from its repetition, which is refused.

        One that failed for a reason that may pass is let go: the same bytes may then come again.
        """
        if signed.attempt is None:
            yield
            return
        path = f"deliveries/{event_digest(hook.source, signed.attempt)}"
        if not await self._platform.store.create(path, signed.attempt.encode()):
            _refuse("this attempt was taken before")
        try:
            yield
        except BaseException as exc:
            if not isinstance(exc, CaesarionError) or exc.retryable:
                with contextlib.suppress(CaesarionError):
                    await asyncio.shield(self._platform.store.delete(path))
            raise


class EventHooks:
    """The hooks whose code runs for events, in the name of the principal whose event it is."""

    def __init__(self, platform: Platform, hooks: Sequence[Hook], runs: EventRuns) -> None:
        self._platform = platform
        self._hooks = tuple(hook for hook in hooks if hook.kind == "event")
        self._runs = runs

    def match(self, event: Event, name: str | None = None) -> list[Hook]:
        """Return the hooks that take an event, in the order of the file; with a `name` at most the one that has it."""
        return [hook for hook in self._hooks if name in (None, hook.name) and hook.takes(event)]

    async def handle(self, request: Request, event: Event) -> Event | None:
        """Run the code of the hooks that take an event, once each, and return the result; None when there is none.

        `hook` in the query names the one that is meant. One reply is all that a broker takes: where several hooks take
        the event, the results of the others are sent to the sink first.
        """
        hooks = self.match(event, request.query_params.get("hook"))
        if not hooks:
            unhandled(event)
            return None
        principal = principal_of(request)
        payload = checked_payload(data_json(event))
        running = [self._result(principal, hook, event, payload) for hook in hooks]
        outcomes = await asyncio.gather(*running, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        if failures:  # the one that a further delivery may mend comes first
            raise max(failures, key=lambda exc: isinstance(exc, CaesarionError) and exc.retryable)
        first, *others = (outcome for outcome in outcomes if isinstance(outcome, Event))
        if self._platform.sink is not None:
            for other in others:
                await self._platform.sink.send(other, principal)
        return first

    async def _result(self, principal: PrincipalId, hook: Hook, event: Event, payload: Any) -> Event:
        delivery = {"id": event.id, "hook": hook.name, "event": event.type}
        wanted = _execution(hook, payload, _attributes(event), delivery)
        key = event_digest(event.source, event.id)
        requested = requested_event(hook.source, key, wanted, extensions=event.extensions)
        result = await self._runs.run(principal, requested, wanted)
        data = {**data_json(result), "request": {"source": event.source, "id": event.id}}
        return replace(result, data=json_bytes(data))


def decoded_payload(body: bytes) -> Any:
    """Return decoded JSON. Raises InvalidRequest for anything else, and as `checked_payload` does."""
    try:
        return checked_payload(json.loads(body.decode("utf-8-sig"), parse_constant=_not_json))
    except RecursionError:
        _too_deep()
    except UnicodeDecodeError:
        _not_a_payload("it is no UTF-8")
    except json.JSONDecodeError as exc:
        _not_a_payload(f"{exc.msg} at line {exc.lineno}, column {exc.colno}")
    except ValueError as exc:
        _not_a_payload(str(exc)[:120])


def checked_payload(payload: Any) -> Any:
    """Return a payload as it is. Raises InvalidRequest for one that would not reach the code as it is.

    That is one with a number that is infinite as a float, and one nested deeper than all on its way can take.
    """
    level = [payload]
    for depth in range(MAX_DEPTH + 1):
        below: list[Any] = []
        for value in level:
            match value:
                case dict() | list() if depth == MAX_DEPTH:
                    _too_deep()
                case dict():
                    below += value.values()
                case list():
                    below += value
                case float() if math.isinf(value):
                    _not_a_payload("a number is out of range")
        level = below
    return payload


def _headers(request: Request) -> Mapping[str, Sequence[str]]:
    return {name: request.headers.getlist(name) for name in request.headers}


def _verified(hook: Hook, headers: Mapping[str, Sequence[str]], body: bytes, now_s: float) -> Signed:
    try:
        if hook.kind == "github":
            return verify_github(headers, body, hook.keys)
        return verify_standard(headers, body, hook.keys, now_s=now_s)
    except BadSignature as exc:
        _refuse(exc.reason, size_bytes=len(body))


def _refuse(reason: str, **facts: int) -> NoReturn:
    """Refuse a request; the client is told what to check, and the log what it was."""
    logger.warning("webhook refused", extra={"reason": reason, **facts})
    raise Unauthorized(REFUSED, code="invalid_signature")


def _payload(request: Request, hook: Hook, body: bytes) -> Any:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if hook.kind == "github" and media_type == FORM:
        return decoded_payload(_payload_of_form(body))
    check_json(request)
    return decoded_payload(body)


def _payload_of_form(body: bytes) -> bytes:
    try:
        fields = parse_qs(body.decode("ascii"), strict_parsing=True, errors="strict", max_num_fields=MAX_FORM_FIELDS)
        (payload,) = fields["payload"]
    except (ValueError, KeyError):
        raise InvalidRequest("The form must have one field `payload` with JSON in it.", code="invalid_form") from None
    return payload.encode()


def _github_event(headers: Mapping[str, Sequence[str]]) -> str:
    values = headers.get(GITHUB_EVENT, ())
    if len(values) != 1 or not _GITHUB_EVENT.fullmatch(values[0]):
        raise InvalidRequest("X-GitHub-Event must be the name of an event, such as push.", code="invalid_field")
    return values[0]


def _kept(hook: Hook, headers: Mapping[str, Sequence[str]]) -> dict[str, str]:
    """Return the headers that are the same for each attempt of a delivery, as two that differ would be two requests."""
    return {
        name: ", ".join(values)
        for name, values in headers.items()
        if (name.startswith(GITHUB_HEADERS) if hook.kind == "github" else name == ID)
    }


def _attributes(event: Event) -> dict[str, str]:
    """Return the attributes that stay the same when an event is delivered again, as headers of the binary mode."""
    standard = {
        "id": event.id,
        "source": event.source,
        "type": event.type,
        "subject": event.subject,
        "time": event.time,
        "dataschema": event.dataschema,
    }
    extensions = {name: text for name, text in event.extensions.items() if not name.startswith(UNSTABLE_ATTRIBUTES)}
    return {f"ce-{name}": text for name, text in {**standard, **extensions}.items() if text is not None}


def _execution(hook: Hook, payload: Any, headers: dict[str, str], delivery: dict[str, str]) -> ExecutionRequest:
    return ExecutionRequest(
        code=hook.code,
        session=hook.session.session_of(payload),
        context=hook.context,
        timeout_s=hook.timeout_s,
        variables={"payload": payload, "headers": headers, "delivery": delivery},
    )


def _accepted(event: Event) -> Response:
    result_id = event_digest(event.source, event.id)
    return JsonResponse({"id": event.id, "accepted": True, "result_event_id": result_id}, 202)


def _not_json(word: str) -> NoReturn:
    raise ValueError(f"{word} is not JSON")


def _not_a_payload(reason: str) -> NoReturn:
    raise InvalidRequest(f"The payload must be JSON: {reason}.", code="invalid_json")


def _too_deep() -> NoReturn:
    raise InvalidRequest(f"The payload is nested deeper than {MAX_DEPTH} levels.", code="invalid_json")
