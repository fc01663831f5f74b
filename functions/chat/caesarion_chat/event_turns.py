"""Turns that events ask for: run to their end once, however often the event comes, and answered with one result event.

The turn's message has an id made from the event's source and id, so the session's journal tells whether the turn runs
(here or in another replica), has ended, or was left in the middle; then it is taken up again.
"""

import asyncio
import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NoReturn

from starlette.requests import Request
from starlette.routing import Route

from caesarion.adapters.asgi.bodies import Fields
from caesarion.adapters.asgi.event_routes import event_route, unhandled
from caesarion.adapters.asgi.facts import principal_of
from caesarion.adapters.background import joined
from caesarion.adapters.events import data_json, result_of
from caesarion.adapters.platform import Platform
from caesarion.adapters.results import changed, fingerprint
from caesarion.errors import (
    CaesarionError,
    Conflict,
    InvalidRequest,
    ModelError,
    SandboxUnavailable,
    SessionNotFound,
    TooLarge,
    Unprocessable,
)
from caesarion.events import CHAT_FINISHED, CHAT_REQUESTED, Event, event_digest
from caesarion.ids import PrincipalId, SessionId, SessionKey, checked_id
from caesarion.logs import bind
from caesarion.ports import SessionSpec
from caesarion_chat.settings import Settings
from caesarion_chat.transcript import Failure, Turn
from caesarion_chat.turns import MESSAGE_CHANGED, Admitted, Turns
from caesarion_chat.ui_request import UiRequest

PATH = "/events/chat"
SOURCE = "/events/chat"
FIELDS = ("message", "session", "model")
TAKEN_UP_AT_MOST = 3
LEFT_OUT = "\n[... the middle is left out here ...]\n"


@dataclass(frozen=True, slots=True)
class ChatRequest:
    """What an event asks for. Without a session it gets one of its own, which is closed after the turn."""

    message: str
    session: SessionId | None
    model: str | None


class EventTurns:
    """The events of the chat function."""

    def __init__(self, platform: Platform, turns: Turns, settings: Settings) -> None:
        self._platform = platform
        self._turns = turns
        self._settings = settings
        self._answering: dict[tuple[PrincipalId, str, str], asyncio.Task[Event]] = {}

    def route(self) -> Route:
        """Return the route that takes them."""
        limit = self._settings.serving.max_body_bytes
        return event_route(PATH, self._handle, max_bytes=limit, check=self._check, carries=False)

    async def run(self, principal: PrincipalId, event: Event, wanted: ChatRequest) -> Event:
        """Run the turn to its end, also when whoever asks has left, and return its result.

        The same event gets the same result. Raises what a broker should make of it: errors that a further delivery may
        mend are retryable.
        """
        which = (principal, event_digest(event.source, event.id), fingerprint(event))
        task = self._answering.get(which)
        if task is None:
            task = self._platform.background.start(self._answered(principal, event, wanted), name="chat event")
            self._answering[which] = task
            task.add_done_callback(lambda _: self._answering.pop(which, None))
        return await joined(task)

    async def _handle(self, request: Request, event: Event) -> Event | None:
        if event.type != CHAT_REQUESTED:
            unhandled(event)
            return None
        return await self.run(principal_of(request), event, self._wanted(event))

    def _check(self, event: Event) -> None:
        if event.type == CHAT_REQUESTED:
            self._wanted(event)

    def _wanted(self, event: Event) -> ChatRequest:
        names, limit = self._settings.model.names, self._settings.chat.max_message_chars
        return decode_chat_request(event, names, max_message_chars=limit)

    async def _answered(self, principal: PrincipalId, event: Event, wanted: ChatRequest) -> Event:
        """Return the kept result, or have the turn run and keep its result.

        A session that is only for this turn is closed once the result is kept. Who claims it after that makes it anew,
        so the kept result is looked for again then, once more when the turn is written down before anything of it is
        done, and whenever the session went away meanwhile.
        """
        results, sessions = self._platform.results, self._platform.sessions
        kept = await results.find(principal, event)
        if kept is not None:
            return kept
        digest = event_digest(event.source, event.id)
        key = SessionKey(principal, wanted.session or SessionId(f"ev-{digest}"))
        bind(session=key.session)
        request = UiRequest(
            session=key.session,
            message_id=f"ev-{digest}",
            text=wanted.message,
            trigger="submit-message",
            about=None,
            model=wanted.model,
            keyed=True,
        )

        async def nothing_kept() -> bool:
            return await results.find(principal, event) is None

        try:
            await sessions.claim(key, SessionSpec(self._settings.sandbox.idle_timeout_s))
            kept = await results.find(principal, event)
            finished = kept or self._finished(event, key, await self._ended(key, request, nothing_kept))
        except SessionNotFound:
            kept = await results.find(principal, event)
            if kept is None:
                raise Unprocessable(
                    "The session was closed in the middle of this turn.", code="session_closed"
                ) from None
            return kept
        finished = await results.keep(principal, event, finished)
        if wanted.session is None:
            with contextlib.suppress(SandboxUnavailable):  # the sweep removes what is left
                await sessions.release(key)
        return finished

    async def _ended(self, key: SessionKey, request: UiRequest, admitted: Admitted) -> Turn:
        """Return the turn once it has ended, taken up again when whoever drives it elsewhere goes away."""
        for _ in range(TAKEN_UP_AT_MOST):
            try:
                turn = await self._turns.ended(key, request, admitted)
            except Conflict as exc:
                raise (changed() if exc.code == MESSAGE_CHANGED else exc) from exc
            if turn is None:
                raise Unprocessable("The message was taken back in the middle of its turn.", code="message_dropped")
            if turn.reason == "error":
                _raise(turn.failure)
            if turn.reason is not None:
                return turn
        raise SandboxUnavailable("The turn was left in the middle again and again. Send the event once more.")

    def _finished(self, event: Event, key: SessionKey, turn: Turn) -> Event:
        """Return the result. It is made of the event and of what the journal says, so it is the same each time."""
        document = {
            "session": key.session,
            "text": bounded(turn.said, self._settings.events.max_result_bytes),
            "finish_reason": turn.reason,
            "executions": turn.ran,
        }
        return result_of(event, CHAT_FINISHED, source=SOURCE, session=key.session, time=turn.ended_at, data=document)


def decode_chat_request(event: Event, models: Sequence[str], *, max_message_chars: int) -> ChatRequest:
    """Return what the event asks for. Raises InvalidRequest or TooLarge that names what is wrong."""
    document = data_json(event)
    if not isinstance(document, dict):
        raise InvalidRequest('The event\'s data must be a JSON object such as {"message": "..."}.', code="invalid_data")
    unknown = sorted(set(document) - set(FIELDS))
    if unknown:
        raise InvalidRequest(
            f"The field {unknown[0][:80]!r} is not known; known are {', '.join(FIELDS)}.", code="unknown_field"
        )
    message = Fields(document).text("message")
    if not message.strip():
        raise InvalidRequest("The field `message` must be a text that is not empty.", code="invalid_field")
    if len(message) > max_message_chars:
        raise TooLarge(f"The message has {len(message)} characters; at most {max_message_chars} are taken.")
    session: str | None = None
    if document.get("session") is not None:
        session = checked_id(document["session"], what="The session's id")
    elif event.subject is not None:
        session = checked_id(event.subject, what="The event's subject, which is the session's id,")
    model = document.get("model")
    if model is not None and model not in models:
        raise InvalidRequest(
            f"There is no model {str(model)[:80]!r} here; there are {', '.join(models)}.", code="model_not_found"
        )
    return ChatRequest(message, None if session is None else SessionId(session), model)


def bounded(text: str, max_bytes: int) -> str:
    """Return a text of at most `max_bytes` in UTF-8; of a longer one the beginning and the end."""
    encoded = text.encode()
    if len(encoded) <= max_bytes:
        return text
    half = max(0, max_bytes - len(LEFT_OUT)) // 2
    return encoded[:half].decode(errors="ignore") + LEFT_OUT + encoded[-half:].decode(errors="ignore")


def _raise(failure: Failure | None) -> NoReturn:
    """Raise why a turn failed, as what a broker should make of it."""
    if failure is None:
        raise SandboxUnavailable("The turn failed. Send the event once more.")
    if not failure.retryable:
        raise Unprocessable(failure.message, code=failure.code)
    kind: type[CaesarionError] = ModelError if failure.code.startswith("model") else SandboxUnavailable
    raise kind(failure.message, code=failure.code, retry_after_s=failure.retry_after_s)
