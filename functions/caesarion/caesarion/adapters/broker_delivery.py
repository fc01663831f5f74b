"""One delivery of the broker: an event in binary mode to a subscriber, and what its answer says.

As with Knative's broker an answer is an event or empty; another body counts as a failure (502) and is delivered again.
aiohttp is imported with the first delivery to a URL.
"""

import asyncio
import email.utils
import http
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from typing import TYPE_CHECKING

from starlette.types import ASGIApp

from caesarion.adapters.asgi.inside import Answer, AnswerTooLarge, post
from caesarion.adapters.events import binary, decode, media_type
from caesarion.errors import CaesarionError, InvalidRequest
from caesarion.events import Event
from caesarion.ids import PrincipalId
from caesarion.triggers import Trigger

if TYPE_CHECKING:
    import aiohttp

CONNECT_TIMEOUT_S = 10.0
MAX_RETRY_AFTER_S = 86_400.0
BAD_ANSWER = 502
TOO_LARGE = 413
MAX_REASON_CHARACTERS = 500
_TRACE = ("traceparent", "tracestate")
_NOT_TEXT = re.compile("[\x00-\x1f\x7f-\x9f\ud800-\udfff]+")


@dataclass(frozen=True, slots=True)
class Outcome:
    """How a delivery went. `status` is None when there was no answer; `reason` says what was wrong, if anything."""

    status: int | None
    reply: Event | None = None
    retry_after_s: float | None = None
    reason: str = ""

    @property
    def arrived(self) -> bool:
        """Whether the subscriber has taken the event."""
        return self.status is not None and 200 <= self.status < 300


class Subscribers:
    """Delivers to paths of `app` and to URLs."""

    def __init__(self, app: ASGIApp, *, max_answer_bytes: int, now_s: Callable[[], float]) -> None:
        self._app = app
        self._now_s = now_s
        self._max_answer_bytes = max_answer_bytes
        self._session: aiohttp.ClientSession | None = None

    async def deliver(self, trigger: Trigger, event: Event, principal: PrincipalId) -> Outcome:
        """Deliver an event and return how it went; whatever goes wrong is an outcome too."""
        outcome = await self._delivered(trigger, event, principal)
        return replace(outcome, reason=_plain(outcome.reason))

    async def _delivered(self, trigger: Trigger, event: Event, principal: PrincipalId) -> Outcome:
        timeout_s = trigger.delivery.timeout_s
        limit: asyncio.Timeout | None = None
        try:
            headers, body = binary(event)
            headers |= {name: value for name in _TRACE if (value := event.extensions.get(name)) and value.isascii()}
            headers["prefer"] = "reply"
            async with asyncio.timeout(timeout_s) as limit:
                if trigger.subscriber.startswith("/"):
                    answer = await post(
                        self._app,
                        trigger.subscriber,
                        headers,
                        body,
                        principal=principal,
                        max_answer_bytes=self._max_answer_bytes,
                    )
                else:
                    answer = await self._post(trigger.subscriber, headers, body)
            return _outcome(answer, self._now_s())
        except AnswerTooLarge:
            return Outcome(TOO_LARGE, reason=f"the answer is larger than {self._max_answer_bytes} bytes")
        except Exception as exc:
            if isinstance(exc, TimeoutError) and limit is not None and limit.expired():
                return Outcome(None, reason=f"no answer within {timeout_s:g} s")
            return Outcome(None, reason=f"no answer: {exc or type(exc).__name__}")

    async def aclose(self) -> None:
        """Close the connections."""
        if self._session is not None:
            await self._session.close()

    async def _post(self, url: str, headers: Mapping[str, str], body: bytes) -> Answer:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                timeout=aiohttp.ClientTimeout(total=None, connect=CONNECT_TIMEOUT_S),
                cookie_jar=aiohttp.DummyCookieJar(),
                connector=aiohttp.TCPConnector(limit=0),
                skip_auto_headers=("Content-Type",),
            )
        async with self._session.post(url, data=body, headers=headers, allow_redirects=False) as response:
            content = bytearray()
            async for block in response.content.iter_any():
                content += block
                if len(content) > self._max_answer_bytes:
                    raise AnswerTooLarge
            given = {name.lower(): value for name, value in response.headers.items()}
            return Answer(response.status, given, bytes(content))


def _outcome(answer: Answer, now_s: float) -> Outcome:
    if not 200 <= answer.status < 300:
        retry_after_s = retry_after(answer.headers.get("retry-after", ""), now_s)
        return Outcome(answer.status, retry_after_s=retry_after_s, reason=_told(answer))
    is_event = "ce-specversion" in answer.headers or media_type(answer.headers.get("content-type", "")).startswith(
        "application/cloudevents"
    )
    if not is_event:
        if answer.body:
            return Outcome(BAD_ANSWER, reason="the answer must be an event or empty")
        return Outcome(answer.status)
    try:
        received = decode(answer.headers, answer.body)
        for event in received.events:
            check_sendable(event)
    except CaesarionError as error:
        return Outcome(BAD_ANSWER, reason=f"the answer is no valid event: {error.message}")
    if len(received.events) != 1:
        return Outcome(BAD_ANSWER, reason="the answer must be one event, not a batch")
    return Outcome(answer.status, reply=received.events[0])


def check_sendable(event: Event) -> None:
    """Raise InvalidRequest for an event that cannot be sent in binary mode: the type of its data goes as it is."""
    if event.datacontenttype is not None and not event.datacontenttype.isascii():
        shown = repr(event.datacontenttype)[:80]
        raise InvalidRequest(f"The attribute `datacontenttype` must be ASCII, got {shown}.", code="invalid_event")


def retry_after(value: str, now_s: float) -> float | None:
    """Return the seconds that a Retry-After asks for, as a number or a date (RFC 9110, 10.2.3); None without one."""
    value = value.strip()
    if value.isascii() and value.isdecimal():
        return min(float(value[:12]), MAX_RETRY_AFTER_S)
    try:
        moment = email.utils.parsedate_to_datetime(value)
        asked = moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)
        return min(max(asked.timestamp() - now_s, 0.0), MAX_RETRY_AFTER_S)
    except (ValueError, OverflowError):
        return None


def _told(answer: Answer) -> str:
    """Return what a failed answer says of itself, when it is in the one shape of our failures."""
    try:
        document = json.loads(answer.body)
    except (ValueError, RecursionError):
        document = None
    match document:
        case {"error": {"message": str(message)}}:
            return message
    try:
        return http.HTTPStatus(answer.status).phrase
    except ValueError:
        return "no reason was given"


def _plain(reason: str) -> str:
    """Return a reason without what is no text, of a length that may be kept."""
    return _NOT_TEXT.sub(" ", reason[: 2 * MAX_REASON_CHARACTERS]).strip()[:MAX_REASON_CHARACTERS]
