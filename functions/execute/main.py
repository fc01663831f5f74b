"""What functions-framework starts: settings are read here, and every request goes to the app."""

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
from caesarion.adapters.on_first_use import OnFirstUse
from caesarion.errors import ConfigError
from caesarion.ports import Sandboxes
from caesarion.principals import records_from_env
from caesarion.settings import check_binding
from caesarion_execute.app import build_app
from caesarion_execute.settings import Settings

FRAMEWORK_HOST = "0.0.0.0"


def local_sandboxes() -> Sandboxes:
    """Return the sandboxes of this machine."""
    from caesarion.adapters.local import LocalSandboxes

    return LocalSandboxes(settings.sandbox, settings.local)


def read_keys() -> Keys:
    """Return the keys, or refuse to start where others could call without one."""
    file = KeyFile(Path(settings.local.home) / "keys.json", records_from_env(settings.serving.api_keys.reveal()))
    check_binding(os.environ.get("HOST", FRAMEWORK_HOST), has_keys=bool(file.load()))
    return Keys(file)


logs.configure(sys.stdout)
try:
    settings = Settings.from_env(os.environ)
    app = build_app(OnFirstUse(local_sandboxes), settings, read_keys())
except ConfigError as error:
    raise SystemExit(error.message) from None


@functions_framework.aio.http
async def execute(request: Request) -> Response:
    """Hand the request to the app."""
    return Mounted(app)
