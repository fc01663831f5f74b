"""The settings of the execute function."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from caesarion.errors import ConfigError
from caesarion.principals import records_from_env
from caesarion.settings import LocalSettings, QuotaSettings, Reader, SandboxSettings, ServingSettings


@dataclass(frozen=True, slots=True)
class Settings:
    """All that the function can be told, in groups."""

    serving: ServingSettings = field(default_factory=ServingSettings)
    sandbox: SandboxSettings = field(default_factory=SandboxSettings)
    local: LocalSettings = field(default_factory=LocalSettings)
    quotas: QuotaSettings = field(default_factory=QuotaSettings)

    @classmethod
    def from_env(cls, env: Mapping[str, str]) -> "Settings":
        """Return the settings of `env`. Raises ConfigError that names every variable that cannot be used."""
        reader = Reader(env)
        settings = cls(
            serving=reader.group(ServingSettings),
            sandbox=reader.group(SandboxSettings),
            local=reader.group(LocalSettings),
            quotas=reader.group(QuotaSettings),
        )
        if settings.sandbox.execution_timeout_s > settings.sandbox.max_execution_timeout_s:
            reader.problem("CAESARION_EXECUTION_TIMEOUT_S must not be over CAESARION_MAX_EXECUTION_TIMEOUT_S")
        try:
            records_from_env(settings.serving.api_keys.reveal())
        except ConfigError as error:
            reader.problem(error.message)
        reader.check()
        return settings
