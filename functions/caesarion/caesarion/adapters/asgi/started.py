"""A function's app as functions-framework needs it: made when its module is imported, or the process ends."""

import logging
import os
import sys
from collections.abc import Callable, Mapping
from typing import TypeVar

from starlette.applications import Starlette

from caesarion import logs
from caesarion.adapters import tracing
from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.key_file import key_file_of
from caesarion.adapters.open_sandboxes import open_sandboxes
from caesarion.adapters.store import open_store
from caesarion.errors import ConfigError
from caesarion.function_settings import FunctionSettings
from caesarion.ports import Sandboxes
from caesarion.settings import check_binding

FRAMEWORK_HOST = "0.0.0.0"

S = TypeVar("S", bound=FunctionSettings)


def started(read: Callable[[Mapping[str, str]], S], build: Callable[[Sandboxes, S, Keys], Starlette]) -> Starlette:
    """Set up logs and traces, `read` the settings and `build` the app. A bad setting ends the process, named.

    It does not start on an address that others reach without a key.
    """
    logs.configure(sys.stdout)
    try:
        settings = read(os.environ)
        logging.getLogger().setLevel(settings.serving.log_level or "INFO")
        tracing.configure(os.environ)
        store = open_store(settings.store, settings.local.home)
        sandboxes = open_sandboxes(settings.kubernetes, settings.sandbox, settings.local, store)
        file = key_file_of(settings.local, settings.serving)
        check_binding(os.environ.get("HOST", FRAMEWORK_HOST), has_keys=bool(file.load()))
        return build(sandboxes, settings, Keys(file))
    except ConfigError as error:
        raise SystemExit(error.message) from None
