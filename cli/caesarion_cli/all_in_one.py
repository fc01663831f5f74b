"""All functions as one app: their routes side by side on one platform, with the settings of all, broker and page."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from starlette.applications import Starlette

import caesarion_chat.app
import caesarion_chat.settings
import caesarion_cleanup.app
import caesarion_cleanup.settings
import caesarion_execute.app
import caesarion_execute.settings
from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.asgi.broker_routes import broker_paths, broker_routes
from caesarion.adapters.asgi.page import INDEX, Page
from caesarion.adapters.local_machine import UPLOAD_TYPES
from caesarion.adapters.platform import Platform
from caesarion.adapters.store import open_store
from caesarion.errors import ConfigError
from caesarion.ports import Sandboxes
from caesarion.settings import LocalSettings, PageSettings, Reader, SandboxSettings, ServingSettings
from caesarion.triggers import built_in_triggers
from caesarion_cli.automation import NOTHING, Automation, read_automation
from caesarion_cli.home_broker import HomeBroker

FUNCTIONS = (caesarion_execute, caesarion_chat, caesarion_cleanup)
CHECKOUT_PAGE = Path(__file__).parents[2] / "frontend" / "out"


@dataclass(frozen=True, slots=True)
class Settings:
    """Those of each function; what they share is the same, as it comes from the same variables."""

    execute: caesarion_execute.settings.Settings
    chat: caesarion_chat.settings.Settings
    cleanup: caesarion_cleanup.settings.Settings
    page: PageSettings

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Return the settings of `env`. Raises ConfigError that names every variable that cannot be used."""
        read: list[Any] = []
        problems: dict[str, None] = {}
        for from_env in (
            caesarion_execute.settings.Settings.from_env,
            caesarion_chat.settings.Settings.from_env,
            caesarion_cleanup.settings.Settings.from_env,
            _page_settings,
        ):
            try:
                read.append(from_env(env))
            except ConfigError as error:
                problems |= dict.fromkeys(error.message.splitlines())
        if problems:
            raise ConfigError("\n".join(problems))
        settings = cls(*read)
        if settings.execute.kubernetes.sandboxes != "local":
            raise ConfigError(
                "`caesarion serve` has sandboxes of this machine only. For those of a cluster run the functions under "
                "functions-framework, or leave CAESARION_SANDBOXES out."
            )
        return settings

    @property
    def serving(self) -> ServingSettings:
        return self.execute.serving

    @property
    def local(self) -> LocalSettings:
        return self.execute.local

    @property
    def sandbox(self) -> SandboxSettings:
        return self.execute.sandbox


def groups() -> list[type[Any]]:
    """Return the groups of settings of all functions and the page, each once."""
    kinds: list[Any] = [field.default_factory for function in FUNCTIONS for field in fields(function.settings.Settings)]
    return list(dict.fromkeys([*kinds, PageSettings]))


def automation_of(settings: Settings, env: Mapping[str, str]) -> Automation:
    """Return what the files of these settings say. Raises ConfigError."""
    return read_automation(
        settings.execute.event_files,
        settings.local.home,
        env,
        sweep=settings.cleanup.sweep.schedule,
        max_timeout_s=settings.sandbox.max_execution_timeout_s,
    )


def build_app(sandboxes: Sandboxes, settings: Settings, keys: Keys, automation: Automation = NOTHING) -> Starlette:
    """Return the app. Its connections and tasks end with its lifespan; `sandboxes` stay open."""
    execute = settings.execute
    max_bytes = settings.serving.max_body_bytes
    triggers = (*built_in_triggers(), *automation.triggers)
    broker = HomeBroker(
        Path(settings.local.home) / "broker.sqlite3", triggers, automation.schedules, max_event_bytes=max_bytes
    )
    store = open_store(execute.store, settings.local.home)
    sink = None if execute.events.sink else broker
    platform = Platform(sandboxes, settings.serving, execute.quotas, store=store, events=execute.events, sink=sink)
    platform.source(broker.start, broker.aclose)
    routes = [
        *caesarion_execute.app.execute_routes(platform, execute, automation.hooks),
        *caesarion_chat.app.chat_routes(platform, settings.chat),
        *caesarion_cleanup.app.cleanup_routes(platform, settings.cleanup),
        *broker_routes(broker.now, max_body_bytes=max_bytes),
    ]
    return platform.app(routes, keys, _document)


def with_page(functions: Starlette, settings: Settings) -> Page:
    """Return the page in front of the app of the functions; where none is built, a note that says so.

    Raises ConfigError when the page cannot be read.
    """
    page = settings.page
    directory = Path(page.directory) if page.directory else CHECKOUT_PAGE
    built = (directory / INDEX).is_file()
    try:
        return Page(functions, directory if built else None, page_config(settings), page.origins)
    except OSError as exc:
        raise ConfigError(f"The page cannot be read: {exc.strerror}, {exc.filename}.") from exc


def page_config(settings: Settings) -> dict[str, Any]:
    """Return what the page is told: where functions are (empty is where it came from), the model if any, uploads."""
    model, sandbox = settings.chat.model, settings.sandbox
    return {
        "execute_url": settings.page.execute_url,
        "chat_url": settings.page.chat_url,
        **({"model": model.model} if model.configured else {}),
        "max_upload_bytes": sandbox.max_upload_bytes,
        "upload_types": [f".{name}" for name in dict.fromkeys((*UPLOAD_TYPES, *sandbox.upload_types))],
    }


def _page_settings(env: Mapping[str, str]) -> PageSettings:
    reader = Reader(env)
    page = reader.group(PageSettings)
    if page.directory and not Path(page.directory, INDEX).is_file():
        reader.problem(f"CAESARION_PAGE_DIR must be a folder with the page's {INDEX}, got {page.directory!r}")
    reader.check()
    return page


def _document() -> dict[str, Any]:
    """Return the OpenAPI documents of all functions as one."""
    documents: list[dict[str, Any]] = [function.app.document() for function in FUNCTIONS]
    whole = documents[0]
    whole["info"]["title"] = "Caesarion"
    for other in documents[1:]:
        whole["paths"] |= other["paths"]
        whole["components"]["schemas"] = other["components"]["schemas"] | whole["components"]["schemas"]
    whole["paths"] |= broker_paths()
    return whole
