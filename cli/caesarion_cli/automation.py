"""Which code runs on what, as the files of hooks, schedules and triggers say."""

from collections.abc import Mapping
from dataclasses import dataclass

from caesarion.adapters.schedules import Schedule, read_schedules, sweep_schedule
from caesarion.config_files import found_file
from caesarion.settings import EventFiles
from caesarion.triggers import Trigger, hook_trigger, read_triggers
from caesarion_execute.hooks import Hook, read_hooks


@dataclass(frozen=True, slots=True)
class Automation:
    """Which code runs on what. `triggers` are those beside the built-in ones; the sweep's tick is a schedule."""

    hooks: tuple[Hook, ...] = ()
    schedules: tuple[Schedule, ...] = ()
    triggers: tuple[Trigger, ...] = ()


NOTHING = Automation()


def read_automation(
    files: EventFiles, home: str, env: Mapping[str, str] | None, *, sweep: str, max_timeout_s: float
) -> Automation:
    """Return what the files say; secrets of hooks are variables of `env`, and not looked up without one.

    Raises ConfigError that names file and line.
    """
    hooks_file = found_file(files.hooks, home, "hooks.toml")
    schedules_file = found_file(files.schedules, home, "schedules.toml")
    triggers_file = found_file(files.triggers, home, "triggers.toml")
    hooks = read_hooks(hooks_file, env, max_timeout_s=max_timeout_s) if hooks_file else ()
    schedules = read_schedules(schedules_file, max_timeout_s=max_timeout_s) if schedules_file else ()
    triggers = read_triggers(triggers_file) if triggers_file else ()
    of_hooks = tuple(hook_trigger(hook.name, hook.filters) for hook in hooks if hook.kind == "event")
    return Automation(hooks, (sweep_schedule(sweep), *schedules), (*triggers, *of_hooks))
