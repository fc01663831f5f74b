"""The execute function as an ASGI app: decode, call, encode."""

import asyncio
import contextlib
import json
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.bodies import Fields, query_number, read_fields
from caesarion.adapters.asgi.facts import principal_of
from caesarion.adapters.asgi.responses import JsonResponse
from caesarion.adapters.asgi.routes import resource
from caesarion.adapters.platform import Platform
from caesarion.adapters.quotas import UploadsInFlight
from caesarion.adapters.runs import RunRequest, Runs
from caesarion.adapters.sessions import Sessions
from caesarion.adapters.store import open_store
from caesarion.ids import DEFAULT_CONTEXT, SessionId, SessionKey, checked_id, new_id
from caesarion.ports import Sandbox, Sandboxes
from caesarion_execute.event_runs import EventRuns
from caesarion_execute.files import FileRoutes
from caesarion_execute.forms import first_line, form_response, seq_of
from caesarion_execute.hooks import Hook
from caesarion_execute.requests import (
    SPEC_FIELDS,
    after_of,
    context_of,
    execution_of,
    key_of,
    spec_of,
    timeout_of,
    variables_of,
    wanted_execution,
)
from caesarion_execute.settings import Settings
from caesarion_execute.streams import EVENTS, accepted_form, outputs_response
from caesarion_execute.webhooks import EventHooks, webhook_routes

MAX_WAIT_S = 60.0


def build_app(sandboxes: Sandboxes, settings: Settings, keys: Keys, hooks: Sequence[Hook] = ()) -> Starlette:
    """Return the app. Its connections and tasks end with its lifespan, where there is one; `sandboxes` stay open."""
    store = open_store(settings.store, settings.local.home)
    platform = Platform(sandboxes, settings.serving, settings.quotas, store=store, events=settings.events)
    return platform.app(execute_routes(platform, settings, hooks), keys, document)


def execute_routes(platform: Platform, settings: Settings, hooks: Sequence[Hook] = ()) -> list[BaseRoute]:
    """Return the routes of this function, for an app of their own or beside those of others."""
    sessions = platform.sessions
    event_runs = EventRuns(platform, settings)
    uploads = UploadsInFlight(settings.quotas.max_inflight_upload_bytes)
    limit = settings.sandbox.max_upload_bytes
    return [
        *SessionRoutes(sessions, settings).routes(),
        *ExecutionRoutes(sessions, platform.runs, settings).routes(),
        *ContextRoutes(sessions, settings).routes(),
        *FileRoutes(sessions, uploads, platform.metrics, max_upload_bytes=limit).routes(),
        *webhook_routes(platform, hooks, event_runs, settings),
        event_runs.route("/events/execute", EventHooks(platform, hooks, event_runs).handle),
    ]


class SessionRoutes:
    """Sessions made, shown and closed."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self._sessions = sessions
        self._settings = settings

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        return [
            resource("/sessions", GET=self.list, POST=self.create),
            resource("/sessions/{session}", GET=self.get, DELETE=self.close),
            resource("/sessions/{session}/initialize", POST=self.initialize),
            resource("/sessions/{session}/notebook.ipynb", GET=self.notebook),
        ]

    async def list(self, request: Request) -> Response:
        """Own sessions, oldest first."""
        return JsonResponse({"sessions": await self._sessions.all_described(principal_of(request))})

    async def create(self, request: Request) -> Response:
        """A new session with an unguessable id, ready."""
        spec = spec_of(await self._spec_fields(request), default_idle_timeout_s=self._settings.sandbox.idle_timeout_s)
        key = SessionKey(principal_of(request), SessionId(new_id("s")))
        document = await self._sessions.described(await self._sessions.claim(key, replace(spec, new=True)))
        return JsonResponse(document, 201, {"Location": f"{request.scope.get('root_path', '')}/sessions/{key.session}"})

    async def initialize(self, request: Request) -> Response:
        """Makes or wakes the session; 202 while it starts, which goes on when nobody asks."""
        key = key_of(request)
        wait_s = query_number(request, "wait_s", default=MAX_WAIT_S, low=0, high=MAX_WAIT_S)
        spec = spec_of(await self._spec_fields(request), default_idle_timeout_s=self._settings.sandbox.idle_timeout_s)
        return await self._told(key, await self._sessions.claim_within(key, spec, wait_s))

    async def get(self, request: Request) -> Response:
        """One session as it is, without waking it; 202 while its first start goes on."""
        key = key_of(request)
        return await self._told(key, await self._sessions.seen(key))

    async def close(self, request: Request) -> Response:
        """Ends the session, its variables and files."""
        await self._sessions.release(key_of(request))
        return Response(status_code=204)

    async def notebook(self, request: Request) -> Response:
        """What ran in a context, as a notebook with outputs."""
        key = key_of(request)
        context = checked_id(request.query_params.get("context", DEFAULT_CONTEXT), what="The context's name")
        async with self._sessions.stream(key, "GET", "/v1/history", params={"context": context}) as answer:
            history = [line async for lines in answer.lines() for line in lines.splitlines() if line]
        headers = {"Content-Disposition": f'attachment; filename="{key.session}-{context}.ipynb"'}
        body = await asyncio.to_thread(_notebook, history)
        return Response(body, headers=headers, media_type="application/x-ipynb+json")

    async def _told(self, key: SessionKey, sandbox: Sandbox | None) -> Response:
        if sandbox is None:
            return JsonResponse({"id": key.session, "state": "starting"}, 202, {"Retry-After": "1"})
        return JsonResponse(await self._sessions.described(sandbox))

    async def _spec_fields(self, request: Request) -> Fields:
        return await read_fields(
            request, SPEC_FIELDS, max_bytes=self._settings.serving.max_body_bytes, may_be_empty=True
        )


class ExecutionRoutes:
    """Code run, followed, listed and interrupted."""

    def __init__(self, sessions: Sessions, runs: Runs, settings: Settings) -> None:
        self._sessions = sessions
        self._runs = runs
        self._settings = settings

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        one = "/sessions/{session}/executions/{execution}"
        return [
            resource("/sessions/{session}/executions", GET=self.list, POST=self.run),
            resource(one, GET=self.get, DELETE=self.interrupt),
            resource(f"{one}/outputs", GET=self.outputs),
            resource(f"{one}/outputs/{{seq}}", GET=self.form),
        ]

    async def run(self, request: Request) -> Response:
        """Runs code and gives its outputs in the form accepted."""
        key = key_of(request)
        known = ("code", "context", "timeout_s", "variables")
        fields = await read_fields(request, known, max_bytes=self._settings.serving.max_body_bytes)
        wanted = RunRequest(
            id=wanted_execution(request),
            code=fields.text("code"),
            context=fields.name("context", DEFAULT_CONTEXT),
            timeout_s=timeout_of(fields, self._settings.sandbox),
            keyed="idempotency-key" in request.headers,
            variables=variables_of(fields),
        )
        form = accepted_form(request.headers.get("accept", ""))
        after = after_of(request) if form == EVENTS else 0
        sandbox = await self._sessions.get(key)
        return await outputs_response(request, await self._runs.begin(sandbox, wanted, after=after), form)

    async def list(self, request: Request) -> Response:
        """What ran, oldest first."""
        _, document = await self._sessions.call(key_of(request), "GET", "/v1/executions")
        return JsonResponse(document)

    async def get(self, request: Request) -> Response:
        """One execution."""
        path = f"/v1/executions/{execution_of(request)}"
        _, document = await self._sessions.call(key_of(request), "GET", path)
        return JsonResponse(document)

    async def interrupt(self, request: Request) -> Response:
        """Interrupts an execution; variables stay."""
        await self._sessions.call(key_of(request), "DELETE", f"/v1/executions/{execution_of(request)}")
        return Response(status_code=204)

    async def outputs(self, request: Request) -> Response:
        """Outputs after a sequence number, then live to the end.

        A browser's event source asks again after every end; 204 tells it that there is nothing left.
        """
        key, execution, after = key_of(request), execution_of(request), after_of(request)
        form = accepted_form(request.headers.get("accept", ""))
        following = await self._runs.follow(key, execution, after=after)
        async with contextlib.AsyncExitStack() as stack:
            stack.push_async_callback(following.aclose)
            if form == EVENTS and after and await following.nothing_left():
                return Response(status_code=204, headers={"X-Execution-Id": execution})
            stack.pop_all()
        return await outputs_response(request, following, form)

    async def form(self, request: Request) -> Response:
        """One form of one output, such as a picture. What user code made never runs as a page of ours."""
        kind = request.query_params.get("form", "")
        path = f"/v1/executions/{execution_of(request)}/outputs"
        seq = seq_of(request)
        async with self._sessions.stream(key_of(request), "GET", path, params={"after": seq - 1}) as answer:
            line = await first_line(answer)
        return form_response(line, seq, kind)


class ContextRoutes:
    """Kernels of a session: listed, added, restarted, removed, and asked about code that is being typed."""

    def __init__(self, sessions: Sessions, settings: Settings) -> None:
        self._sessions = sessions
        self._max_bytes = settings.serving.max_body_bytes

    def routes(self) -> list[BaseRoute]:
        """Return the routes."""
        one = "/sessions/{session}/contexts/{name}"
        return [
            resource("/sessions/{session}/contexts", GET=self.list, POST=self.add),
            resource(one, DELETE=self.remove),
            resource(f"{one}/restart", POST=self.restart),
            resource(f"{one}/complete", POST=self.complete),
            resource(f"{one}/is_complete", POST=self.is_complete),
        ]

    async def list(self, request: Request) -> Response:
        """All contexts."""
        return await self._passed(request, "GET", "")

    async def add(self, request: Request) -> Response:
        """A further context; 200 when it is there already."""
        fields = await read_fields(request, ("name",), max_bytes=self._max_bytes)
        return await self._passed(request, "POST", "", {"name": fields.name("name")})

    async def remove(self, request: Request) -> Response:
        """Ends a context and its variables."""
        return await self._passed(request, "DELETE", f"/{context_of(request)}")

    async def restart(self, request: Request) -> Response:
        """A context without variables again."""
        return await self._passed(request, "POST", f"/{context_of(request)}/restart")

    async def complete(self, request: Request) -> Response:
        """What could stand at the cursor."""
        fields = await read_fields(request, ("code", "cursor_pos"), max_bytes=self._max_bytes)
        code = fields.text("code")
        cursor = fields.whole("cursor_pos", low=0, high=len(code))
        document = {"code": code, "cursor_pos": len(code) if cursor is None else cursor}
        return await self._passed(request, "POST", f"/{context_of(request)}/complete", document)

    async def is_complete(self, request: Request) -> Response:
        """Whether code would run as it is, or a further line is expected."""
        fields = await read_fields(request, ("code",), max_bytes=self._max_bytes)
        path = f"/{context_of(request)}/is_complete"
        return await self._passed(request, "POST", path, {"code": fields.text("code")})

    async def _passed(self, request: Request, method: str, path: str, document: object = None) -> Response:
        status, answer = await self._sessions.call(key_of(request), method, f"/v1/contexts{path}", document=document)
        return Response(status_code=status) if status == 204 else JsonResponse(answer, status)


def _notebook(history: list[bytes]) -> bytes:
    """Return the notebook file of a history of lines; a long one takes seconds, so not on the event loop."""
    from caesarion_execute.notebook import notebook

    return json.dumps(notebook(map(json.loads, history)), indent=1).encode()


def document() -> dict[str, Any]:
    """Return the OpenAPI document of this function."""
    from caesarion_execute.openapi import document

    return document()
