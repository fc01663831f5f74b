"""Hooks: which code runs for a signed webhook or an event, as `hooks.toml` says it. Read once, at the start.

Whatever is wrong in the file, in a code file or with a secret is a ConfigError that names file and line; values of
secrets are never in it.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NoReturn, cast

from caesarion.code_files import read_code
from caesarion.config_files import Table, read_tables
from caesarion.errors import ConfigError, Unprocessable
from caesarion.events import Event
from caesarion.ids import DEFAULT_CONTEXT, LOCAL_PRINCIPAL, ContextName, PrincipalId, SessionId
from caesarion.settings import MIB, SandboxSettings
from caesarion.triggers import Filter, passes, read_filter, read_name
from caesarion_execute.signatures import github_key, standard_key

Kind = Literal["standard", "github", "event"]
Answer = Literal["accepted", "result"]

DEFAULT_MAX_BYTES = MIB
MAX_BYTES = 4 * MIB
DEFAULT_WAIT_S = 8.0  # GitHub leaves after 10
MAX_WAIT_S = 300.0
MIN_TIMEOUT_S = 0.001
MAX_ID_CHARACTERS = 64
HASH_CHARACTERS = 16

_COMMON = ("name", "kind", "code", "session", "context", "timeout_s")
_SIGNED = ("secrets", "answer", "wait_s", "max_bytes", "principal")
KEYS: Mapping[str, tuple[str, ...]] = {
    "standard": (*_COMMON, *_SIGNED),
    "github": (*_COMMON, *_SIGNED, "events"),
    "event": (*_COMMON, "filter"),
}
KEY_OF_SECRET: Mapping[str, Callable[[str], bytes]] = {"standard": standard_key, "github": github_key}
SESSION_EXPECTED = (
    '"delivery" (one of its own for each delivery), { fixed = "ID" }, or { key = "a.path.into.the.payload" } with or '
    'without prefix = "..."'
)

_UNSAFE = re.compile(r"[^A-Za-z0-9_-]+")
_LOOKS_HASHED = re.compile(rf"(.*-)?[0-9a-f]{{{HASH_CHARACTERS}}}")
_INDEX = re.compile(r"\[(\d+)\]")
_WHOLE = re.compile(r"\d{1,9}")
_VARIABLE = re.compile(r"[A-Z_][A-Z0-9_]*")
_GITHUB_EVENT = re.compile(r"[a-z0-9_]{1,64}")
_SAFE_PREFIX = re.compile(r"[A-Za-z0-9_-]{0,32}")


@dataclass(frozen=True, slots=True)
class SessionRule:
    """Which session a delivery's code runs in.

    It is `fixed`, or the one that the value at `path` of the payload names, or without both one for this delivery.
    """

    fixed: SessionId | None = None
    path: tuple[str, ...] = ()
    prefix: str = ""

    def session_of(self, payload: Any) -> SessionId | None:
        """Return the session, or None for one of the delivery's own. Raises Unprocessable that names the path."""
        if not self.path:
            return self.fixed
        return SessionId(readable_id(_text_at(payload, self.path), prefix=self.prefix))

    def __str__(self) -> str:
        return f"fixed {self.fixed}" if self.fixed else f"by {'.'.join(self.path)}" if self.path else "delivery"


@dataclass(frozen=True, slots=True)
class Hook:
    """One hook.

    `keys` are those of its secrets, `events` the names of X-GitHub-Event that it runs for (all when empty), `filters`
    what an event must pass that it runs for. `principal` is whose sessions a webhook's are; an event has one itself.
    """

    name: str
    kind: Kind
    code: str = field(repr=False)
    code_path: str
    session: SessionRule = SessionRule()
    context: ContextName = DEFAULT_CONTEXT
    timeout_s: float | None = None
    principal: PrincipalId = LOCAL_PRINCIPAL
    secrets: tuple[str, ...] = ()
    keys: tuple[bytes, ...] = field(default=(), repr=False)
    answer: Answer = "accepted"
    wait_s: float = DEFAULT_WAIT_S
    max_bytes: int = DEFAULT_MAX_BYTES
    events: tuple[str, ...] = ()
    filters: tuple[Filter, ...] = ()

    @property
    def source(self) -> str:
        """What its requests say as their source."""
        return f"/{'hooks' if self.kind == 'event' else 'webhooks'}/{self.name}"

    def takes(self, event: Event) -> bool:
        """Whether its code runs for an event that comes to the function."""
        return self.kind == "event" and all(passes(item, event) for item in self.filters)


def read_hooks(
    path: str,
    env: Mapping[str, str] | None,
    *,
    max_timeout_s: float = SandboxSettings().max_execution_timeout_s,
) -> tuple[Hook, ...]:
    """Return the hooks of a file with their code and the keys of their secrets, which are variables of `env`.

    With None for `env` secrets are not looked up. Raises ConfigError that names file and line.
    """
    hooks: dict[str, Hook] = {}
    lines: dict[str, int] = {}
    for table in read_tables(path, "hooks"):
        hook = _hook(table, env, max_timeout_s)
        if hook.name in hooks:
            table.problem(f"the name {hook.name!r} is that of the hook in line {lines[hook.name]}", "name")
        hooks[hook.name] = hook
        lines[hook.name] = table.line_of("name")
    return tuple(hooks.values())


def secret_keys(hook: Hook, env: Mapping[str, str]) -> tuple[bytes, ...]:
    """Return the keys of a hook that was read without its secrets. Raises ConfigError that names the variable."""
    keys = []
    for variable in hook.secrets:
        try:
            keys.append(_key(variable, KEY_OF_SECRET[hook.kind], env))
        except ValueError as exc:
            raise ConfigError(f"The hook {hook.name!r} cannot be used: {exc}.") from None
    return tuple(keys)


def readable_id(text: str, *, prefix: str = "") -> str:
    """Return an id that stands for any text: the text itself where it is one, else what is safe of it and a hash.

    Two texts never get the same id: one that looks as if it had a hash gets one, too.
    """
    whole = prefix + text
    if text and len(whole) <= MAX_ID_CHARACTERS and not _UNSAFE.search(text) and not _LOOKS_HASHED.fullmatch(text):
        return whole
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:HASH_CHARACTERS]
    room = MAX_ID_CHARACTERS - len(prefix) - HASH_CHARACTERS - 1
    shown = _UNSAFE.sub("-", text[: 4 * room]).strip("-")[:room].rstrip("-")
    return f"{prefix}{shown}-{digest}" if shown else f"{prefix}{digest}"


def _text_at(payload: Any, path: tuple[str, ...]) -> str:
    """Return the text of the value at `path`. Raises Unprocessable when there is none, or no single value."""
    value = payload
    for number, step in enumerate(path):
        match value:
            case dict() if step in value:
                value = value[step]
            case list() if _WHOLE.fullmatch(step) and int(step) < len(value):
                value = value[int(step)]
            case _:
                _no_session(path, f"there is no {'.'.join(path[: number + 1])!r}")
    match value:
        case str() if value:
            return value
        case bool() | int() | float():
            return json.dumps(value)
        case _:
            _no_session(path, f"it is {_kind(value)}")


def _kind(value: Any) -> str:
    match value:
        case dict():
            return "an object"
        case list():
            return "an array"
    return "null" if value is None else "an empty text"


def _no_session(path: tuple[str, ...], reason: str) -> NoReturn:
    raise Unprocessable(
        f"The payload must have a text, number or boolean at {'.'.join(path)!r}, which names the session; {reason}.",
        code="no_session_key",
    )


def _hook(table: Table, env: Mapping[str, str] | None, max_timeout_s: float) -> Hook:
    kind = cast("Kind", table.one_of("kind", tuple(KEYS)))
    table.check_known(KEYS[kind])
    name = read_name(table, "hook") if kind == "event" else table.id("name")
    answer = cast("Answer", table.one_of("answer", ("accepted", "result"), default="accepted"))
    if "wait_s" in table.values and answer != "result":
        table.problem(
            '`wait_s` is how long an answer = "result" is waited for; without that it means nothing', "wait_s"
        )
    secrets, keys = _secrets(table, kind, env) if kind in KEY_OF_SECRET else ((), ())
    code_path, code = read_code(table)
    has_timeout = "timeout_s" in table.values
    return Hook(
        name=name,
        kind=kind,
        code=code,
        code_path=code_path,
        session=_session(table),
        context=ContextName(table.id("context", default=DEFAULT_CONTEXT)),
        timeout_s=table.number("timeout_s", MIN_TIMEOUT_S, max_timeout_s) if has_timeout else None,
        principal=PrincipalId(table.id("principal", default=LOCAL_PRINCIPAL)),
        secrets=secrets,
        keys=keys,
        answer=answer,
        wait_s=table.number("wait_s", 0.1, MAX_WAIT_S, default=DEFAULT_WAIT_S),
        max_bytes=table.whole("max_bytes", 1, MAX_BYTES, default=DEFAULT_MAX_BYTES),
        events=_github_events(table),
        filters=_filters(table) if kind == "event" else (),
    )


def _session(table: Table) -> SessionRule:
    match table.values.get("session", "delivery"):
        case "delivery":
            return SessionRule()
        case {"fixed": _, **rest} if not rest:
            return SessionRule(fixed=SessionId(table.table("session").id("fixed")))
        case {"key": str(key), **rest} if rest.keys() <= {"prefix"}:
            steps = tuple(_INDEX.sub(r".\1", key).split("."))
            if not all(steps):
                table.fail("session", 'a path such as "repository.full_name" or "items.0.id"', "key")
            prefix = rest.get("prefix", "")
            if not isinstance(prefix, str) or not _SAFE_PREFIX.fullmatch(prefix):
                table.fail("session", "at most 32 of the characters A-Z a-z 0-9 _ -", "prefix")
            return SessionRule(path=steps, prefix=prefix)
    table.fail("session", SESSION_EXPECTED)


def _filters(table: Table) -> tuple[Filter, ...]:
    value = table.values.get("filter")
    if not value:
        table.fail("filter", "a filter such as { exact = { type = 'com.example.made' } }")
    return read_filter(value, lambda expected, *further: table.fail("filter", expected, *further))


def _github_events(table: Table) -> tuple[str, ...]:
    events = table.values.get("events", [])
    expected = 'a list of names of X-GitHub-Event, such as ["push", "pull_request"]'
    if not isinstance(events, list) or ("events" in table.values and not events):
        table.fail("events", f"{expected}; leave it out to take all")
    for number, event in enumerate(events):
        if not isinstance(event, str) or not _GITHUB_EVENT.fullmatch(event):
            table.fail("events", "a name of X-GitHub-Event, such as 'push'", number)
    return tuple(events)


def _secrets(table: Table, kind: Kind, env: Mapping[str, str] | None) -> tuple[tuple[str, ...], tuple[bytes, ...]]:
    # What stands here by mistake may be the secret itself, so no message shows it.
    names = table.values.get("secrets")
    if not isinstance(names, list) or not names:
        table.problem('`secrets` must be a list of names of environment variables, such as ["HOOK_SECRET"]', "secrets")
    keys = []
    for number, name in enumerate(names):
        line = table.line_of("secrets", number)
        if not isinstance(name, str) or not _VARIABLE.fullmatch(name):
            raise ConfigError(
                f"{table.path}:{line}: `secrets[{number}]` must be the name of the environment variable with the "
                "secret, in capital letters, and not the secret itself"
            )
        if env is None:
            continue
        try:
            keys.append(_key(name, KEY_OF_SECRET[kind], env))
        except ValueError as exc:
            raise ConfigError(f"{table.path}:{line}: {exc}") from None
    return tuple(names), tuple(keys)


def _key(variable: str, decode: Callable[[str], bytes], env: Mapping[str, str]) -> bytes:
    secret = env.get(variable, "")
    if not secret:
        raise ValueError(f"the variable {variable} is not set; it holds a secret of this hook")
    try:
        return decode(secret)
    except ValueError as exc:
        raise ValueError(f"the secret in {variable} must be {exc}") from None
