"""All functions as one app: their routes side by side on one platform, with the settings of all of them."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any

from starlette.applications import Starlette

import caesarion_chat.app
import caesarion_chat.settings
import caesarion_execute.app
import caesarion_execute.settings
from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.platform import Platform
from caesarion.errors import ConfigError
from caesarion.ports import Sandboxes
from caesarion.settings import LocalSettings, SandboxSettings, ServingSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """Those of each function; what they share is the same, as it comes from the same variables."""

    execute: caesarion_execute.settings.Settings
    chat: caesarion_chat.settings.Settings

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Return the settings of `env`. Raises ConfigError that names every variable that cannot be used."""
        read: list[Any] = []
        problems: dict[str, None] = {}
        for kind in (caesarion_execute.settings.Settings, caesarion_chat.settings.Settings):
            try:
                read.append(kind.from_env(env))
            except ConfigError as error:
                problems |= dict.fromkeys(error.message.splitlines())
        if problems:
            raise ConfigError("\n".join(problems))
        return cls(*read)

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
    """Return the groups of settings of all functions, each once."""
    kinds: list[Any] = [
        field.default_factory
        for settings in (caesarion_execute.settings.Settings, caesarion_chat.settings.Settings)
        for field in fields(settings)
    ]
    return list(dict.fromkeys(kinds))


def build_app(sandboxes: Sandboxes, settings: Settings, keys: Keys) -> Starlette:
    """Return the app. Its connections and tasks end with its lifespan; `sandboxes` stay open."""
    platform = Platform(sandboxes, settings.serving, settings.execute.quotas)
    routes = [
        *caesarion_execute.app.execute_routes(platform, settings.execute),
        *caesarion_chat.app.chat_routes(platform, settings.chat),
    ]
    return platform.app(routes, keys, _document)


def _document() -> dict[str, Any]:
    """Return the OpenAPI documents of all functions as one."""
    documents = [caesarion_execute.app.document(), caesarion_chat.app.document()]
    whole = documents[0]
    whole["info"]["title"] = "Caesarion"
    for other in documents[1:]:
        whole["paths"] |= other["paths"]
        whole["components"]["schemas"] = other["components"]["schemas"] | whole["components"]["schemas"]
    return whole
