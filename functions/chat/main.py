"""What functions-framework starts: settings are read here, and every request goes to the app.

    HOST=127.0.0.1 functions-framework --asgi --source functions/chat/main.py --target chat

Sandboxes live on when such a process ends. On another address than loopback it does not start without a key.
"""

import functions_framework.aio
from starlette.requests import Request
from starlette.responses import Response

from caesarion.adapters.asgi.responses import Mounted
from caesarion.adapters.asgi.started import started
from caesarion_chat.app import build_app
from caesarion_chat.settings import Settings

app = started(Settings.from_env, build_app)


@functions_framework.aio.http
async def chat(request: Request) -> Response:
    """Hand the request to the app."""
    return Mounted(app)
