"""Settings: what `CAESARION_*` variables mean, as frozen dataclasses, one per concern. Pure.

A function composes the groups it needs and reads them once at start through one `Reader`, which tells all variables
that cannot be read together. Each field is annotated with its `Variable`; documentation and tests are made from that.
"""

import contextlib
import json
import os.path
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Annotated, Any, Literal, TypeVar, cast

from caesarion.errors import ConfigError, InvalidRequest
from caesarion.ids import checked_id
from caesarion.parsing import (
    boolean,
    extensions,
    host_names,
    one_of,
    origins,
    real_between,
    text,
    whole_between,
)

Group = TypeVar("Group")
Network = Literal["none", "internet"]
Confinement = Literal["bubblewrap", "none"]
Platform = Literal["local", "kubernetes"]

GIB = 1024**3
MIB = 1024**2
_LOOPBACK_NAMES = frozenset({"localhost", "::1"})
_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")
_ADDRESS = re.compile(r"https?://[a-z0-9._-]+(:[0-9]+)?(/[a-z0-9._~%/-]*)?", re.IGNORECASE)
_OCTET = re.compile(r"25[0-5]|2[0-4][0-9]|1?[0-9]{1,2}")


class Secret:
    """A text that must not be shown: `repr` and `str` give ``***``."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        self._value = value

    def reveal(self) -> str:
        """Return the text itself, for the one place that needs it."""
        return self._value

    def __bool__(self) -> bool:
        return bool(self._value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._value == self._value

    def __hash__(self) -> int:
        return hash(self._value)

    def __repr__(self) -> str:
        return "***"


NO_SECRET = Secret("")


@dataclass(frozen=True, slots=True)
class Variable:
    """How a field is set from outside: by the variable `name`, whose text `parse` reads, in `unit`."""

    name: str
    meaning: str
    parse: Callable[[str], Any]
    unit: str = ""


def label(value: str) -> str:
    """Return a name as Kubernetes wants it (RFC 1123, a DNS label)."""
    if not _LABEL.fullmatch(value):
        raise ValueError("1 to 63 of the characters a-z 0-9 -")
    return value


@dataclass(frozen=True, slots=True)
class SandboxSettings:
    """Limits of each sandbox, wherever it runs."""

    network: Annotated[
        Network,
        Variable(
            "CAESARION_SANDBOX_NETWORK",
            "What the user's code can reach: nothing, or the internet.",
            one_of("none", "internet"),
        ),
    ] = "none"
    memory_bytes: Annotated[
        int,
        Variable(
            "CAESARION_SANDBOX_MEMORY_BYTES",
            "Memory of all of a sandbox's processes.",
            whole_between(64 * MIB, 1024 * GIB),
            "bytes",
        ),
    ] = 2 * GIB
    cpus: Annotated[
        float, Variable("CAESARION_SANDBOX_CPUS", "Share of processor time.", real_between(0.01, 1024), "cores")
    ] = 0.5
    disk_bytes: Annotated[
        int,
        Variable("CAESARION_SANDBOX_DISK_BYTES", "Size of a session's files.", whole_between(MIB, 1024 * GIB), "bytes"),
    ] = GIB
    processes: Annotated[
        int,
        Variable(
            "CAESARION_SANDBOX_PROCESSES",
            "Processes and threads that the user's code may have.",
            whole_between(16, 65536),
        ),
    ] = 256
    open_files: Annotated[
        int,
        Variable(
            "CAESARION_SANDBOX_OPEN_FILES",
            "Open files of each process of the user's code.",
            whole_between(64, 1_048_576),
        ),
    ] = 4096
    max_output_bytes: Annotated[
        int,
        Variable(
            "CAESARION_MAX_OUTPUT_BYTES",
            "Outputs kept of one execution; more is counted and dropped.",
            whole_between(1024, 16 * GIB),
            "bytes",
        ),
    ] = 20 * MIB
    max_upload_bytes: Annotated[
        int, Variable("CAESARION_MAX_UPLOAD_BYTES", "Size of one uploaded file.", whole_between(1, 1024 * GIB), "bytes")
    ] = 100 * MIB
    upload_types: Annotated[
        tuple[str, ...],
        Variable(
            "CAESARION_UPLOAD_TYPES",
            "File extensions taken besides csv, txt, json and py, separated by commas.",
            extensions,
        ),
    ] = ()
    execution_timeout_s: Annotated[
        float,
        Variable(
            "CAESARION_EXECUTION_TIMEOUT_S",
            "Time that one execution has unless its request says otherwise.",
            real_between(0.1, 86_400),
            "seconds",
        ),
    ] = 300.0
    max_execution_timeout_s: Annotated[
        float,
        Variable(
            "CAESARION_MAX_EXECUTION_TIMEOUT_S",
            "Longest time that a request may ask for.",
            real_between(0.1, 604_800),
            "seconds",
        ),
    ] = 3600.0
    idle_timeout_s: Annotated[
        float,
        Variable(
            "CAESARION_IDLE_TIMEOUT_S",
            "Time without use after which a session is suspended, unless it asked for another.",
            real_between(1, 31_536_000),
            "seconds",
        ),
    ] = 3600.0


@dataclass(frozen=True, slots=True)
class LocalSettings:
    """Where sandboxes of this machine live and how many wait ready."""

    home: Annotated[
        str,
        Variable(
            "CAESARION_HOME",
            "Directory for sandboxes and keys; by default caesarion in the user's state directory.",
            text,
        ),
    ] = ""
    sandbox_python: Annotated[
        str,
        Variable(
            "CAESARION_SANDBOX_PYTHON",
            "Python interpreter of the sandboxes; by default .venv-sandbox/bin/python of the checkout.",
            text,
        ),
    ] = ""
    confinement: Annotated[
        Confinement,
        Variable(
            "CAESARION_SANDBOX_CONFINEMENT",
            "How user code is held: by bubblewrap, or not at all, which is for your own code only.",
            one_of("bubblewrap", "none"),
        ),
    ] = "bubblewrap"
    pool_size: Annotated[
        int, Variable("CAESARION_POOL_SIZE", "Sandboxes that wait started for new sessions.", whole_between(0, 1000))
    ] = 2
    keep_sandboxes: Annotated[
        bool, Variable("CAESARION_KEEP_SANDBOXES", "1: sandboxes live on when the product is stopped.", boolean)
    ] = False


@dataclass(frozen=True, slots=True)
class KubernetesSettings:
    """Which kind of sandboxes there are, and where those of a cluster are found."""

    sandboxes: Annotated[
        Platform,
        Variable(
            "CAESARION_SANDBOXES",
            "Where sandboxes run: as processes of this machine, or as pods of a Kubernetes cluster.",
            one_of("local", "kubernetes"),
        ),
    ] = "local"
    namespace: Annotated[
        str,
        Variable("CAESARION_KUBERNETES_NAMESPACE", "Namespace of the sandboxes' pods, and of nothing else.", label),
    ] = "caesarion-sandboxes"
    pool: Annotated[
        str, Variable("CAESARION_KUBERNETES_POOL", "ReplicaSet of the pods that wait for new sessions.", label)
    ] = "caesarion-sandboxes"
    image: Annotated[
        str, Variable("CAESARION_SANDBOX_IMAGE", "Image of the sandboxes, where the pool's manifest is printed.", text)
    ] = "caesarion-sandbox"
    runtime_class: Annotated[
        str,
        Variable(
            "CAESARION_SANDBOX_RUNTIME_CLASS",
            "RuntimeClass of the sandboxes, where the pool's manifest is printed; gvisor is a good one.",
            label,
        ),
    ] = ""
    sandbox_key: Annotated[
        Secret,
        Variable(
            "CAESARION_SANDBOX_KEY",
            "Secret of at least 32 characters from which the tokens of pods are made, the same for all functions.",
            Secret,
        ),
    ] = NO_SECRET


@dataclass(frozen=True, slots=True)
class QuotaSettings:
    """What one principal may have at once."""

    max_sessions: Annotated[
        int,
        Variable(
            "CAESARION_MAX_SESSIONS", "Live sandboxes of one principal; 0 is no limit.", whole_between(0, 1_000_000)
        ),
    ] = 20
    max_kept_sessions: Annotated[
        int,
        Variable(
            "CAESARION_MAX_KEPT_SESSIONS",
            "Sessions of one principal, live and suspended together; 0 is no limit.",
            whole_between(0, 1_000_000),
        ),
    ] = 200
    max_executions: Annotated[
        int,
        Variable(
            "CAESARION_MAX_EXECUTIONS",
            "Executions of one principal at once; 0 is no limit.",
            whole_between(0, 1_000_000),
        ),
    ] = 16
    queue_timeout_s: Annotated[
        float,
        Variable(
            "CAESARION_QUEUE_TIMEOUT_S",
            "Time that a request over the quota of executions waits for its turn.",
            real_between(0, 3600),
            "seconds",
        ),
    ] = 30.0
    max_inflight_upload_bytes: Annotated[
        int,
        Variable(
            "CAESARION_MAX_INFLIGHT_UPLOAD_BYTES",
            "Bytes that one principal may be uploading at once; 0 is no limit.",
            whole_between(0, 1024 * GIB),
            "bytes",
        ),
    ] = GIB


@dataclass(frozen=True, slots=True)
class ServingSettings:
    """Where a function listens and whom it answers."""

    host: Annotated[
        str, Variable("CAESARION_HOST", "Address to listen on; other than loopback only with keys.", text)
    ] = "127.0.0.1"
    port: Annotated[int, Variable("PORT", "Port to listen on.", whole_between(0, 65535))] = 8080
    allowed_origins: Annotated[
        tuple[str, ...],
        Variable(
            "CAESARION_ALLOWED_ORIGINS", "Origins of other pages that may call this API, separated by commas.", origins
        ),
    ] = ()
    allowed_hosts: Annotated[
        tuple[str, ...],
        Variable(
            "CAESARION_ALLOWED_HOSTS",
            "Host names under which requests are answered besides loopback, separated by commas.",
            host_names,
        ),
    ] = ()
    api_keys: Annotated[
        Secret,
        Variable(
            "CAESARION_API_KEYS",
            "Keys as principal:sha256hex, separated by commas, besides those of the key file.",
            Secret,
        ),
    ] = NO_SECRET
    max_body_bytes: Annotated[
        int,
        Variable(
            "CAESARION_MAX_BODY_BYTES",
            "Size of a request's JSON body, code included.",
            whole_between(1024, GIB),
            "bytes",
        ),
    ] = 4 * MIB
    log_level: Annotated[
        str,
        Variable(
            "CAESARION_LOG_LEVEL",
            "Least level of log lines; by default INFO, and WARNING under `caesarion serve`.",
            one_of("DEBUG", "INFO", "WARNING", "ERROR"),
        ),
    ] = ""
    claim_timeout_s: Annotated[
        float,
        Variable(
            "CAESARION_CLAIM_TIMEOUT_S",
            "Time that a request waits for a sandbox to be ready.",
            real_between(0.1, 3600),
            "seconds",
        ),
    ] = 60.0


def functions_address(value: str) -> str:
    """Return where functions answer, without a slash at the end: an origin that a header can name, perhaps a path."""
    address = value.rstrip("/")
    with contextlib.suppress(ValueError):
        if _ADDRESS.fullmatch(address) and origins(origin_of(address)):
            return address
    raise ValueError("an address such as 'https://api.example.com' or 'https://example.com/caesarion'")


_STORE = re.compile(r"(s3|gs|az)://[A-Za-z0-9._-]{1,255}(/[A-Za-z0-9._/=-]*)?")
_EXTENSION = re.compile(r"[a-z0-9]{1,20}")


def store_url(value: str) -> str:
    """Return the address of a bucket, without a slash at the end."""
    if not _STORE.fullmatch(value):
        raise ValueError("s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX")
    return value.rstrip("/")


def ce_overrides(value: str) -> Mapping[str, str]:
    """Return the extension attributes of Knative's `K_CE_OVERRIDES`."""
    with contextlib.suppress(ValueError, RecursionError):
        match json.loads(value):
            case {"extensions": dict(given)}:
                if all(_EXTENSION.fullmatch(name) and isinstance(text, str) for name, text in given.items()):
                    return given
            case {}:
                return {}
    raise ValueError('JSON such as {"extensions": {"name": "value"}}')


def principal_name(value: str) -> str:
    """Return the name of a principal."""
    try:
        return checked_id(value, what="a principal")
    except InvalidRequest:
        raise ValueError("1 to 64 of the characters A-Z a-z 0-9 _ -") from None


def origin_of(address: str) -> str:
    """Return scheme, host and port of an address of functions."""
    return "/".join(address.split("/")[:3]).lower()


@dataclass(frozen=True, slots=True)
class PageSettings:
    """The page that `caesarion serve` serves, and where its functions are."""

    directory: Annotated[
        str,
        Variable(
            "CAESARION_PAGE_DIR", "Folder of the page as it was built; by default frontend/out of the checkout.", text
        ),
    ] = ""
    execute_url: Annotated[
        str,
        Variable(
            "CAESARION_PAGE_EXECUTE_URL",
            "Where the page finds execute; by default where it came from.",
            functions_address,
        ),
    ] = ""
    chat_url: Annotated[
        str,
        Variable(
            "CAESARION_PAGE_CHAT_URL", "Where the page finds chat; by default where it came from.", functions_address
        ),
    ] = ""

    @property
    def origins(self) -> tuple[str, ...]:
        """The origins of functions that are elsewhere, each once."""
        return tuple(dict.fromkeys(origin_of(url) for url in (self.execute_url, self.chat_url) if url))


@dataclass(frozen=True, slots=True)
class StoreSettings:
    """Where checkpoints of suspended sessions and results of events are kept."""

    url: Annotated[
        str,
        Variable(
            "CAESARION_STORE_URL",
            "Where suspended sessions are kept: s3://BUCKET/PREFIX, gs://BUCKET/PREFIX or az://CONTAINER/PREFIX, a "
            "prefix for each installation, with credentials from the variables of that cloud; by default the folder "
            "store in CAESARION_HOME.",
            store_url,
        ),
    ] = ""


@dataclass(frozen=True, slots=True)
class SweepSettings:
    """When the sweep suspends and removes."""

    suspended_keep_s: Annotated[
        float,
        Variable(
            "CAESARION_SUSPENDED_KEEP_S",
            "Time after which a suspended session is removed with its files.",
            real_between(1, 315_360_000),
            "seconds",
        ),
    ] = 7 * 86_400.0
    orphan_after_s: Annotated[
        float,
        Variable(
            "CAESARION_ORPHAN_AFTER_S",
            "Age at which a sandbox without a session, or the rest of a session, is removed.",
            real_between(1, 31_536_000),
            "seconds",
        ),
    ] = 600.0
    results_keep_s: Annotated[
        float,
        Variable(
            "CAESARION_RESULTS_KEEP_S",
            "Time for which the result of an event is kept, so that the same event gets it again.",
            real_between(600, 31_536_000),  # a signed attempt, which is kept too, is valid for as long
            "seconds",
        ),
    ] = 86_400.0
    schedule: Annotated[
        str,
        Variable("CAESARION_SWEEP_SCHEDULE", "When the sweep's tick comes, as a cron line in UTC.", text),
    ] = "* * * * *"


@dataclass(frozen=True, slots=True)
class EventSettings:
    """How events come in and go out."""

    sink: Annotated[
        str,
        Variable(
            "K_SINK",
            "Address that gets our events (Knative sets it); under `caesarion serve` the broker in the process.",
            functions_address,
        ),
    ] = ""
    overrides: Annotated[
        Mapping[str, str],
        Variable(
            "K_CE_OVERRIDES",
            'Attributes that events to K_SINK get, as {"extensions": {"name": "value"}} (Knative sets it).',
            ce_overrides,
        ),
    ] = field(default_factory=dict)
    principal: Annotated[
        str,
        Variable(
            "CAESARION_EVENTS_PRINCIPAL",
            "Principal of events that come to /events/ without a key. Set it only where whoever reaches that path may "
            "run code in its name.",
            principal_name,
        ),
    ] = ""
    max_result_bytes: Annotated[
        int,
        Variable(
            "CAESARION_MAX_EVENT_RESULT_BYTES",
            "Size up to which outputs stand in a result event; past it the event names where they are.",
            whole_between(1024, 64 * MIB),
            "bytes",
        ),
    ] = 256 * 1024


@dataclass(frozen=True, slots=True)
class EventFiles:
    """Files that say which code runs on what; each is read at the start."""

    hooks: Annotated[
        str,
        Variable("CAESARION_HOOKS_FILE", "Webhooks; by default hooks.toml in CAESARION_HOME, if it is there.", text),
    ] = ""
    schedules: Annotated[
        str,
        Variable(
            "CAESARION_SCHEDULES_FILE", "Schedules; by default schedules.toml in CAESARION_HOME, if it is there.", text
        ),
    ] = ""
    triggers: Annotated[
        str,
        Variable(
            "CAESARION_TRIGGERS_FILE",
            "Triggers of the broker under `caesarion serve`; by default triggers.toml in CAESARION_HOME, if it is "
            "there.",
            text,
        ),
    ] = ""


class Reader:
    """Reads groups of settings from one mapping and keeps all that is wrong for one `ConfigError`."""

    def __init__(self, env: Mapping[str, str]) -> None:
        self._env = env
        self._problems: list[str] = []

    def group(self, kind: type[Group]) -> Group:
        """Return `kind` with its fields from the mapping; an empty variable counts as not set."""
        values: dict[str, Any] = {}
        for name, known in variables(kind).items():
            given = self._env.get(known.name, "").strip()
            if not given:
                continue
            try:
                values[name] = known.parse(given)
            except ValueError as exc:
                shown = "***" if known.parse is Secret else repr(given)[:80]
                self._problems.append(f"{known.name} must be {exc}, got {shown}")
        group = kind(**values)
        if isinstance(group, LocalSettings) and not group.home:
            return cast("Group", LocalSettings(**{**values, "home": default_home(self._env)}))
        return group

    def problem(self, text: str) -> None:
        """Note something wrong that is not about one variable alone."""
        self._problems.append(text)

    def check(self) -> None:
        """Raise ConfigError when anything was wrong, naming all of it."""
        if self._problems:
            raise ConfigError("The settings cannot be used:\n" + "\n".join(f"  - {text}" for text in self._problems))


def variables(kind: type[Any]) -> dict[str, Variable]:
    """Return the variables of a group by the names of its fields."""
    return {
        field.name: note
        for field in fields(kind)
        for note in getattr(field.type, "__metadata__", ())
        if isinstance(note, Variable)
    }


def default_home(env: Mapping[str, str]) -> str:
    """Return the directory for state when none is named: the user's state directory, by the XDG rules."""
    base = env.get("XDG_STATE_HOME") or os.path.join(env.get("HOME") or os.curdir, ".local", "state")
    return os.path.join(base, "caesarion")


def is_loopback(host: str) -> bool:
    """Whether an address or name can only mean this machine."""
    name = host.strip("[]").lower().rstrip(".")
    if name in _LOOPBACK_NAMES or name.endswith(".localhost"):
        return True
    parts = name.removeprefix("::ffff:").split(".")
    return len(parts) == 4 and parts[0] == "127" and all(_OCTET.fullmatch(part) for part in parts)


def check_binding(host: str, *, has_keys: bool) -> None:
    """Raise ConfigError for an address that others can reach while nobody needs a key."""
    if not has_keys and not is_loopback(host):
        raise ConfigError(
            f"Listening on {host!r} needs at least one API key, because others can reach it. Make one with "
            "`caesarion keys add NAME`, set CAESARION_API_KEYS, or listen on 127.0.0.1."
        )
