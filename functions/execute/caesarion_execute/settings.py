"""The settings of the execute function."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from caesarion.errors import ConfigError
from caesarion.principals import records_from_env
from caesarion.settings import (
    EventFiles,
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
class Settings:
    """All that the function can be told, in groups."""

    serving: ServingSettings = field(default_factory=ServingSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    kubernetes: KubernetesSettings = field(default_factory=KubernetesSettings)
    quotas: QuotaSettings = field(default_factory=QuotaSettings)
    store: StoreSettings = field(default_factory=StoreSettings)
    events: EventSettings = field(default_factory=EventSettings)
    event_files: EventFiles = field(default_factory=EventFiles)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Return the settings of `env`. Raises ConfigError that names every variable that cannot be used."""
        reader = Reader(env)
        settings = cls(
            serving=reader.group(ServingSettings),
            sandbox=reader.group(SandboxSettings),
            local=reader.group(LocalSettings),
            kubernetes=reader.group(KubernetesSettings),
            quotas=reader.group(QuotaSettings),
            store=reader.group(StoreSettings),
            events=reader.group(EventSettings),
            event_files=reader.group(EventFiles),
        )
        if settings.sandbox.execution_timeout_s > settings.sandbox.max_execution_timeout_s:
            reader.problem("CAESARION_EXECUTION_TIMEOUT_S must not be over CAESARION_MAX_EXECUTION_TIMEOUT_S")
        try:
            records_from_env(settings.serving.api_keys.reveal())
        except ConfigError as error:
            reader.problem(error.message)
        reader.check()
        return settings
