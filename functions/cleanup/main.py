"""What functions-framework starts: settings are read here, and every request goes to the app.

    HOST=127.0.0.1 functions-framework --asgi --source functions/cleanup/main.py --target cleanup

It only ends sandboxes, so it keeps no pool of them. On another address than loopback it does not start without a key.
"""

from collections.abc import Mapping
from dataclasses import replace

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from caesarion.adapters.asgi.responses import Mounted
from caesarion.adapters.asgi.started import started
from caesarion_cleanup.app import build_app
from caesarion_cleanup.settings import Settings


def settings_without_pool(env: Mapping[str, str]) -> Settings:
    """Return the settings; this function starts no sandboxes."""
    settings = Settings.from_env(env)
    return replace(settings, local=replace(settings.local, pool_size=0))


app = started(settings_without_pool, build_app)


@functions_framework.aio.http
async def cleanup(request: Request) -> Response:
    """Hand the request to the app."""
    return Mounted(app)
