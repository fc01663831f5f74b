"""The settings that every function has, read in one go. Pure."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Self

from caesarion.errors import ConfigError
from caesarion.principals import records_from_env
from caesarion.settings import (
    EventSettings,
    KubernetesSettings,
    LocalSettings,
    QuotaSettings,
    Reader,
    SandboxSettings,
    ServingSettings,
    StoreSettings,
)


@dataclass(frozen=True, slots=True)
class FunctionSettings:
    """What a function is told, in groups: each field is one. A function adds its own."""

    serving: ServingSettings = field(default_factory=ServingSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)
    quotas: QuotaSettings = field(default_factory=QuotaSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    events: EventSettings = field(default_factory=EventSettings)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> Self:
        """Return the settings of `env`. Raises ConfigError that names every variable that cannot be used."""
        reader = Reader(env)
        groups: dict[str, Any] = {group.name: group.default_factory for group in fields(cls)}
        settings = cls(**{name: reader.group(kind) for name, kind in groups.items()})
        for problem in settings.problems():
            reader.problem(problem)
        reader.check()
        return settings

    def problems(self) -> Iterator[str]:
        """Yield what is wrong with settings that can each be read."""
        try:
            records_from_env(self.serving.api_keys.reveal())
        except ConfigError as error:
            yield error.message
