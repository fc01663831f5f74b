"""What functions-framework starts: settings are read here, and every request goes to the app.

    HOST=127.0.0.1 functions-framework --asgi --source functions/execute/main.py --target execute

Sandboxes live on when such a process ends. On another address than loopback it does not start without a key.
"""

import logging
import os
import sys
from pathlib import Path

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from caesarion import logs
from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.responses import Mounted
from caesarion.adapters.key_file import KeyFile
from caesarion.adapters.open_sandboxes import open_sandboxes
from caesarion.adapters.store import open_store
from caesarion.config_files import found_file
from caesarion.errors import ConfigError
from caesarion.principals import records_from_env
from caesarion.settings import check_binding
from caesarion_execute.app import build_app
from caesarion_execute.hooks import Hook, read_hooks
from caesarion_execute.settings import Settings

FRAMEWORK_HOST = "0.0.0.0"


def read_keys() -> Keys:
    """Return the keys, or refuse to start where others could call without one."""
    file = KeyFile(Path(settings.local.home) / "keys.json", records_from_env(settings.serving.api_keys.reveal()))
    check_binding(os.environ.get("HOST", FRAMEWORK_HOST), has_keys=bool(file.load()))
    return Keys(file)


def read_hooks_of_settings() -> tuple[Hook, ...]:
    """Return the hooks of the file that is set, or of the one in CAESARION_HOME if there is one."""
    path = found_file(settings.event_files.hooks, settings.local.home, "hooks.toml")
    if path is None:
        return ()
    return read_hooks(path, os.environ, max_timeout_s=settings.sandbox.max_execution_timeout_s)


logs.configure(sys.stdout)
try:
    settings = Settings.from_env(os.environ)
    logging.getLogger().setLevel(settings.serving.log_level or "INFO")
    store = open_store(settings.store, settings.local.home)
    sandboxes = open_sandboxes(settings.kubernetes, settings.sandbox, settings.local, store)
    app = build_app(sandboxes, settings, read_keys(), read_hooks_of_settings())
except ConfigError as error:
    raise SystemExit(error.message) from None


@functions_framework.aio.http
async def execute(request: Request) -> Response:
    """Hand the request to the app."""
    return Mounted(app)
