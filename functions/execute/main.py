"""What functions-framework starts: settings are read here, and every request goes to the app.

    HOST=127.0.0.1 functions-framework --asgi --source functions/execute/main.py --target execute

Sandboxes live on when such a process ends. On another address than loopback it does not start without a key.
"""

import os

import functions_framework.aio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.responses import Mounted
from caesarion.adapters.asgi.started import started
from caesarion.config_files import found_file
from caesarion.ports import Sandboxes
from caesarion_execute.app import build_app
from caesarion_execute.hooks import read_hooks
from caesarion_execute.settings import Settings


def with_hooks(sandboxes: Sandboxes, settings: Settings, keys: Keys) -> Starlette:
    """Return the app with the hooks of the file that is set, or of the one in CAESARION_HOME if there is one."""
    path = found_file(settings.event_files.hooks, settings.local.home, "hooks.toml")
    longest_s = settings.sandbox.max_execution_timeout_s
    return build_app(sandboxes, settings, keys, read_hooks(path, os.environ, max_timeout_s=longest_s) if path else ())


app = started(Settings.from_env, with_hooks)


@functions_framework.aio.http
async def execute(request: Request) -> Response:
    """Hand the request to the app."""
    return Mounted(app)
