"""The settings of the cleanup function."""

from dataclasses import dataclass, field

from caesarion.function_settings import FunctionSettings
from caesarion.settings import SweepSettings


@dataclass(frozen=True, slots=True)
class Settings(FunctionSettings):
    """Those of every function, and the sweep's."""

    sweep: SweepSettings = field(default_factory=SweepSettings)
