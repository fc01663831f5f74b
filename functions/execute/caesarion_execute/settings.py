"""The settings of the execute function."""

from collections.abc import Iterator
from dataclasses import dataclass, field

from caesarion.function_settings import FunctionSettings
from caesarion.settings import EventFiles


@dataclass(frozen=True, slots=True)
class Settings(FunctionSettings):
    """Those of every function, and the files that say which code runs on what."""

    event_files: EventFiles = field(default_factory=EventFiles)

    def problems(self) -> Iterator[str]:
        """See `FunctionSettings`."""
        if self.sandbox.execution_timeout_s > self.sandbox.max_execution_timeout_s:
            yield "CAESARION_EXECUTION_TIMEOUT_S must not be over CAESARION_MAX_EXECUTION_TIMEOUT_S"
        yield from FunctionSettings.problems(self)
