"""Routes that every function has, and how a path and its methods become one route."""

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NoReturn

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route
from starlette.types import Lifespan

from caesarion.adapters.asgi.access import Access, Keys
from caesarion.adapters.asgi.front import Front
from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.asgi.responses import JsonResponse
from caesarion.errors import SandboxUnavailable
from caesarion.ids import PrincipalId
from caesarion.settings import ServingSettings

Endpoint = Callable[[Request], Awaitable[Response]]
Checks = Callable[[], Awaitable[Mapping[str, str | None]]]


def resource(path: str, **methods: Endpoint) -> Route:
    """Return the route of a path with an endpoint for each method, so that a wrong method is told which there are."""

    async def answer(request: Request) -> Response:
        return await methods[request.method if request.method in methods else "GET"](request)

    route = Route(path, answer, methods=list(methods))
    # Starlette's pattern lets a newline follow the path unseen, and does not find one within it at all.
    route.path_regex = re.compile(route.path_regex.pattern.removesuffix("$") + r"\Z", re.DOTALL)
    return route


def standard_routes(metrics: Metrics, ready: Checks, document: Callable[[], dict[str, Any]]) -> list[BaseRoute]:
    """Return health, metrics and the OpenAPI document. `ready` names each dependency with its trouble, or None."""

    async def live(request: Request) -> Response:
        return JsonResponse({"status": "ok"})

    async def told_ready(request: Request) -> Response:
        checks = await ready()
        troubles = [f"{name}: {trouble}" for name, trouble in checks.items() if trouble is not None]
        if troubles:
            raise SandboxUnavailable(f"Not ready. {'; '.join(troubles)}", code="not_ready")
        return JsonResponse({"status": "ready", "checks": dict.fromkeys(checks, "ok")})

    async def told_metrics(request: Request) -> Response:
        text, media_type = metrics.text()
        return Response(text, media_type=media_type)

    async def openapi(request: Request) -> Response:
        return JsonResponse(document())

    return [
        resource("/health/live", GET=live),
        resource("/health/ready", GET=told_ready),
        resource("/metrics", GET=told_metrics),
        resource("/openapi.json", GET=openapi),
    ]


def function_app(
    routes: list[BaseRoute],
    *,
    settings: ServingSettings,
    keys: Keys,
    metrics: Metrics,
    lifespan: Lifespan[Starlette] | None = None,
    events_principal: PrincipalId | None = None,
) -> Starlette:
    """Return the app of a function: `routes` behind the front and the access check."""
    app = Starlette(
        routes=routes,
        middleware=[
            Middleware(Front, metrics=metrics),
            Middleware(Access, settings=settings, keys=keys, events_principal=events_principal),
        ],
        exception_handlers={HTTPException: _passed_on},
        lifespan=lifespan,
    )
    app.router.redirect_slashes = False
    return app


async def _passed_on(request: Request, exc: Exception) -> NoReturn:
    raise exc
