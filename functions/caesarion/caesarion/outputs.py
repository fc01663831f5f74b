"""What an execution says, in Jupyter's words; the same values over the wire, in the journal and to clients.

Source of names and meanings: Jupyter messaging, "Messages on the IOPub channel". `started`, `queued`, `truncated`
and `finished` are ours.
"""

from dataclasses import dataclass, fields
from typing import Any, ClassVar, Literal, get_args

ExecutionStatus = Literal["ok", "error", "interrupted", "timeout", "died"]
MimeBundle = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Queued:
    """Another execution of the context runs; `position` 1 is the next to run."""

    type: ClassVar = "queued"
    position: int


@dataclass(frozen=True, slots=True)
class Started:
    """The kernel has begun with the code."""

    type: ClassVar = "started"
    execution: str
    context: str
    execution_count: int | None = None


@dataclass(frozen=True, slots=True)
class Stream:
    """Text written to stdout or stderr. `origin` names the finished execution whose thread or process wrote it."""

    type: ClassVar = "stream"
    name: Literal["stdout", "stderr"]
    text: str
    origin: str | None = None


@dataclass(frozen=True, slots=True)
class DisplayData:
    """Something shown, in as many forms (MIME type -> data) as the kernel has."""

    type: ClassVar = "display_data"
    data: MimeBundle
    metadata: dict[str, Any]
    display_id: str | None = None


@dataclass(frozen=True, slots=True)
class UpdateDisplayData:
    """New content for every display with this `display_id`."""

    type: ClassVar = "update_display_data"
    data: MimeBundle
    metadata: dict[str, Any]
    display_id: str | None = None


@dataclass(frozen=True, slots=True)
class ClearOutput:
    """What was shown so far is to go: now, or (`wait`) when the next output comes."""

    type: ClassVar = "clear_output"
    wait: bool


@dataclass(frozen=True, slots=True)
class ExecuteResult:
    """The value of the code's last expression."""

    type: ClassVar = "execute_result"
    execution_count: int | None
    data: MimeBundle
    metadata: dict[str, Any]
    display_id: str | None = None


@dataclass(frozen=True, slots=True)
class Error:
    """The code raised, or the kernel was lost; `traceback` lines may carry ANSI colours."""

    type: ClassVar = "error"
    ename: str
    evalue: str
    traceback: list[str]


@dataclass(frozen=True, slots=True)
class Truncated:
    """Output past the limit was dropped: `dropped_bytes` in all so far. The last one of an execution has the total."""

    type: ClassVar = "truncated"
    dropped_bytes: int


@dataclass(frozen=True, slots=True)
class Finished:
    """Always the last. Variables are kept unless `status` is "died"."""

    type: ClassVar = "finished"
    status: ExecutionStatus
    execution_count: int | None
    duration_ms: float


Output = (
    Queued
    | Started
    | Stream
    | DisplayData
    | UpdateDisplayData
    | ClearOutput
    | ExecuteResult
    | Error
    | Truncated
    | Finished
)

_TYPES: dict[str, Any] = {kind.type: kind for kind in get_args(Output)}


def encode_output(output: Output, seq: int) -> dict[str, Any]:
    """Return the JSON form of `output` as number `seq` of its execution; absent fields are left out."""
    record: dict[str, Any] = {"seq": seq, "type": output.type}
    for field in fields(output):
        value = getattr(output, field.name)
        if value is not None:
            record[field.name] = value
    return record


def decode_output(record: dict[str, Any]) -> Output:
    """Return the output that `encode_output` wrote. Raises KeyError for an unknown type or a missing field."""
    kind = _TYPES[record["type"]]
    values: dict[str, Any] = {}
    for field in fields(kind):
        if field.name in record:
            values[field.name] = record[field.name]
        elif field.name == "execution_count" or field.default is None:
            values[field.name] = None
        else:
            raise KeyError(field.name)
    output: Output = kind(**values)
    return output
