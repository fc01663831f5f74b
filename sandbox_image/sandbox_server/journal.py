"""The journal of what ran, on disk."""

import json
from pathlib import Path

from caesarion.errors import Conflict, NotFound, SessionGone
from caesarion.ids import new_id
from sandbox_server.execution import Execution, Variables, fingerprint, restore

KEPT_AT_LEAST = 20


class Executions:
    """Every execution of this sandbox by id. An id is admitted once: whoever comes later with it gets the same one."""

    def __init__(self, journal_dir: str, *, max_output_bytes: int, journal_bytes: int) -> None:
        self._folder = Path(journal_dir) / "executions"
        self._folder.mkdir(parents=True, exist_ok=True)
        self._max_output_bytes = max_output_bytes
        self._journal_bytes = journal_bytes
        self._by_id: dict[str, Execution] = {}
        self._prints: dict[str, str] = {}
        self._forgotten: set[str] = set()
        self._growing: list[Execution] = []
        self._finished_bytes = 0
        self._restore()

    def admit(
        self, code: str, context: str, timeout_s: float, wanted_id: str | None, variables: Variables
    ) -> tuple[Execution, bool]:
        """Return the execution of `wanted_id` and whether it is new.

        Raises Conflict when the id stands for something else, and SessionGone when what it gave is no longer kept.
        """
        key = wanted_id or new_id("e")
        known = self._prints.get(key)
        if known is not None:
            if known != fingerprint(code, context, variables.digest):
                raise Conflict(
                    f"The id or key of execution {key} was used before with other code, context or variables. "
                    "Use a new one.",
                    code="idempotency_conflict",
                )
            return self.get(key), False
        execution = Execution(key, code, context, timeout_s, self._folder, self._max_output_bytes, variables)
        execution.admit()
        self._by_id[key] = execution
        self._prints[key] = fingerprint(code, context, variables.digest)
        self._growing.append(execution)
        self._prune()
        return execution, True

    def knows(self, key: str) -> bool:
        """Whether this id was admitted before."""
        return key in self._prints

    def get(self, key: str) -> Execution:
        """Return an execution. Raises NotFound, or SessionGone when it ran but is no longer kept."""
        if key in self._forgotten:
            raise SessionGone(f"The outputs of execution {key} are no longer kept; the journal has a size limit.")
        if key not in self._by_id:
            raise NotFound(f"There is no execution {key!r} in this session.", code="execution_not_found")
        return self._by_id[key]

    def all(self) -> list[Execution]:
        """Return the executions that are kept, oldest first."""
        return list(self._by_id.values())

    def _restore(self) -> None:
        forgotten = self._folder.parent / "forgotten.json"
        if forgotten.exists():
            self._prints = json.loads(forgotten.read_text(encoding="utf-8"))
            self._forgotten = set(self._prints)
        found = sorted(self._folder.glob("*.json"), key=lambda path: path.with_suffix(".ndjson").stat().st_mtime_ns)
        for path in found:
            execution = restore(self._folder, json.loads(path.read_text(encoding="utf-8")), self._max_output_bytes)
            self._by_id[execution.id] = execution
            self._growing.append(execution)
            self._prints[execution.id] = fingerprint(execution.code, execution.context, execution.variables.digest)

    def _prune(self) -> None:
        """Forget the oldest finished executions once the journal is over its size; their ids stay admitted."""
        self._finished_bytes += sum(execution.size_bytes for execution in self._growing if execution.finished)
        self._growing = [execution for execution in self._growing if not execution.finished]
        if self._finished_bytes <= self._journal_bytes:
            return
        for execution in list(self._by_id.values())[:-KEPT_AT_LEAST]:
            if self._finished_bytes <= self._journal_bytes:
                return
            if execution.finished and not execution.readers:
                self._finished_bytes -= execution.size_bytes
                del self._by_id[execution.id]
                self._forgotten.add(execution.id)
                kept = {key: self._prints[key] for key in self._forgotten}
                (self._folder.parent / "forgotten.json").write_text(json.dumps(kept), encoding="utf-8")
                execution.path.with_suffix(".json").unlink(missing_ok=True)
                execution.path.unlink(missing_ok=True)
