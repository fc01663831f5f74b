"""Results of events, kept so that the same event gets the same result whichever replica it comes to."""

import hashlib
import json

from caesarion.adapters.events import data_json, event_from_structured, structured
from caesarion.errors import InvalidRequest, NotFound, Unprocessable
from caesarion.events import Event, event_digest
from caesarion.ids import PrincipalId
from caesarion.ports import ObjectStore

FOLDER = "results"


class Results:
    """The first result of each event, for each principal. The sweep removes old ones."""

    def __init__(self, store: ObjectStore) -> None:
        self._store = store

    async def find(self, principal: PrincipalId, event: Event) -> Event | None:
        """Return the result that is kept of an event. Raises Unprocessable when it is of one that asked otherwise."""
        try:
            content = b"".join([piece async for piece in self._store.read(_path(principal, event))])
        except NotFound:
            return None
        request, _, result = content.partition(b"\n")
        if request.decode() != fingerprint(event):
            raise changed()
        return event_from_structured(result)

    async def keep(self, principal: PrincipalId, event: Event, result: Event) -> Event:
        """Keep the result of an event and return the one that is kept: the first one wins."""
        content = fingerprint(event).encode() + b"\n" + structured(result)
        if await self._store.create(_path(principal, event), content):
            return event_from_structured(structured(result))
        return await self.find(principal, event) or result


def fingerprint(event: Event) -> str:
    """Return what is the same for each delivery of an event, in whatever mode, and else tells two requests apart."""
    try:
        data = json.dumps(data_json(event), sort_keys=True).encode()
    except InvalidRequest:
        data = event.data or b""
    head = json.dumps([event.type, event.subject]).encode()
    return hashlib.sha256(head + b"\0" + data).hexdigest()


def changed() -> Unprocessable:
    """Return the failure of an event whose source and id are those of another one."""
    return Unprocessable(
        "An event with this source and id came before and asked for something else. Give each event an id of its own.",
        code="event_changed",
    )


def _path(principal: PrincipalId, event: Event) -> str:
    # Ids may be chosen by whoever sends, so one principal's must not lead to another's results; and one event may be
    # delivered to two functions, which tell each other's by the type.
    return f"{FOLDER}/{event_digest(f'{principal} {event.type} {event.source}', event.id)}"
