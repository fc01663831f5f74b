"""Who may ask, from which pages and under which names.

Without keys the only caller is this machine's user, `local`, so a request must come from loopback, to a loopback name:
a page that made its name resolve here (DNS rebinding) is refused, as is one of a foreign origin.

Three kinds of request need no key: one to a webhook, whose signature is checked where it is read; the question whether
events may be sent here, which tells nothing; and, where the settings name a principal for it, an event of the broker.
"""

import asyncio
import re
import time
from collections.abc import Iterable
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from caesarion.adapters.asgi.facts import facts_of
from caesarion.adapters.key_file import KeyFile
from caesarion.errors import Forbidden, Unauthorized
from caesarion.ids import LOCAL_PRINCIPAL, PrincipalId
from caesarion.principals import KeyRing
from caesarion.settings import ServingSettings, is_loopback

KEYS_RECHECKED_S = 1.0
HEALTH = "/health/"
OPEN_PATHS = frozenset({"/metrics", "/openapi.json"})
PRINCIPAL_KEY = "caesarion.principal"
"""In a request's scope: whose it is. Only code of this process can set it, such as the broker when it delivers."""
EVENTS = re.compile(r"/events/[a-z]+")
WEBHOOK = re.compile(r"/webhooks/[^/]+")
PREFLIGHT_HEADERS = (
    (b"access-control-allow-methods", b"GET, HEAD, POST, PUT, DELETE"),
    (
        b"access-control-allow-headers",
        b"authorization, content-type, idempotency-key, last-event-id, range, if-none-match, if-range, traceparent, "
        b"x-session-id",
    ),
    (b"access-control-max-age", b"600"),
)
EXPOSED = (
    b"x-execution-id, x-session-id, x-request-id, x-vercel-ai-ui-message-stream, retry-after, etag, content-range, "
    b"content-disposition, location"
)


class Keys:
    """The keys of this process; a change of the key file counts within a second."""

    def __init__(self, file: KeyFile) -> None:
        self._file = file
        self._checked_s: float | None = None

    async def ring(self) -> KeyRing:
        """Return the keys that are valid now."""
        now_s = time.monotonic()
        if self._checked_s is None or now_s - self._checked_s > KEYS_RECHECKED_S:
            self._checked_s = now_s
            await asyncio.to_thread(self._file.refresh)
        return self._file.ring


class Access:
    """Lets a request through with its principal, or refuses it."""

    def __init__(
        self, app: ASGIApp, *, settings: ServingSettings, keys: Keys, events_principal: PrincipalId | None = None
    ) -> None:
        self._app = app
        self._settings = settings
        self._keys = keys
        self._events_principal = events_principal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        path = scope["path"].removeprefix(scope.get("root_path", ""))
        if path.startswith(HEALTH):
            await self._app(scope, receive, send)
            return
        facts = facts_of(scope)
        headers = Headers(scope=scope)
        ring = await self._keys.ring()
        check_host(headers.get("host", ""), self._settings.allowed_hosts, any_name=bool(ring))
        check_origin(headers, self._settings.allowed_origins)
        origin = headers.get("origin")
        if origin is not None and origin.lower() in self._settings.allowed_origins:
            facts.headers += [
                (b"access-control-allow-origin", origin.encode("latin-1")),
                (b"access-control-expose-headers", EXPOSED),
                (b"vary", b"Origin"),
            ]
            if scope["method"] == "OPTIONS" and "access-control-request-method" in headers:
                await send({"type": "http.response.start", "status": 204, "headers": list(PREFLIGHT_HEADERS)})
                await send({"type": "http.response.body"})
                return
        if path not in OPEN_PATHS and not needs_no_key(scope["method"], path, headers):
            facts.principal = self._principal(scope, path, headers, ring)
        await self._app(scope, receive, send)

    def _principal(self, scope: Scope, path: str, headers: Headers, ring: KeyRing) -> PrincipalId:
        inside: PrincipalId | None = scope.get(PRINCIPAL_KEY)
        if inside is not None:
            return inside
        is_event = scope["method"] == "POST" and EVENTS.fullmatch(path) is not None
        if self._events_principal is not None and is_event and "authorization" not in headers:
            return self._events_principal
        return principal_for(scope.get("client"), headers, ring)


def needs_no_key(method: str, path: str, headers: Headers) -> bool:
    """Whether this is a webhook, or the question of a sender of events; neither gets a principal."""
    if method == "OPTIONS":
        is_place_of_events = path == "/broker" or EVENTS.fullmatch(path) is not None
        return is_place_of_events and "webhook-request-origin" in headers
    return method == "POST" and WEBHOOK.fullmatch(path) is not None


def check_host(host: str, allowed: Iterable[str], *, any_name: bool) -> None:
    """Refuse a request under a name that is neither loopback nor allowed. With keys, no list means any name."""
    allowed = tuple(allowed)
    name = _host_name(host)
    if (any_name and not allowed) or is_loopback(name):
        return
    if any(name == item or (item.startswith("*.") and name.endswith(item[1:])) for item in allowed):
        return
    raise Forbidden(
        f"The name {host[:120]!r} is not answered here. Use localhost, or add it to CAESARION_ALLOWED_HOSTS.",
        code="forbidden_host",
    )


def check_origin(headers: Headers, allowed: Iterable[str]) -> None:
    """Refuse a request that a page of a foreign origin makes. Programs send no origin and pass."""
    origin = headers.get("origin")
    if origin is None:
        embedded = headers.get("sec-fetch-site") == "cross-site" and headers.get("sec-fetch-mode") != "navigate"
        if not embedded:
            return
    elif origin.lower() in allowed or _netloc(origin) == headers.get("host", "").lower():
        return
    raise Forbidden(
        f"Pages of {(origin or 'another origin')[:120]!r} may not call this. Add it to CAESARION_ALLOWED_ORIGINS.",
        code="forbidden_origin",
    )


def principal_for(client: tuple[str, int] | None, headers: Headers, ring: KeyRing) -> PrincipalId:
    """Return who asks. Raises Unauthorized for nobody known."""
    if not ring:
        forwarded = ",".join(headers.getlist("x-forwarded-for")).split(",")
        addresses = [client[0] if client else "", *filter(None, (address.strip() for address in forwarded))]
        if all(is_loopback(address) for address in addresses) and "forwarded" not in headers:
            return LOCAL_PRINCIPAL
        raise Unauthorized(
            "No API key is configured here, so only this machine may ask. Make one with `caesarion keys add`."
        )
    scheme, _, key = headers.get("authorization", "").partition(" ")
    principal = ring.principal_of(key.strip()) if scheme.lower() == "bearer" else None
    if principal is None:
        raise Unauthorized("A valid API key is needed, as `Authorization: Bearer KEY`.")
    return principal


def _host_name(host: str) -> str:
    name, bracket, _ = host.lower().partition("]")
    return name + bracket if bracket else host.lower().rpartition(":")[0] or host.lower()


def _netloc(origin: str) -> str | None:
    try:
        return urlsplit(origin.lower()).netloc or None
    except ValueError:
        return None
