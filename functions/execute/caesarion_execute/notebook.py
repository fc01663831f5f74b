"""A session's history as a notebook, format 4.5. Pure, and written by hand: the result is validated in tests only.

Outputs become what Jupyter would have saved: text of one stream is joined and what was overwritten with carriage
returns is gone, updated displays show their last content, cleared outputs are not there.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from caesarion.terminal_text import overwritten

Document = dict[str, Any]

_JSON_TYPE = re.compile(r"application/(.*\+)?json")
NOT_KEPT = "of output were over the limit and are not kept"
_CELL_ID = re.compile(r"[A-Za-z0-9_-]{1,64}")


def notebook(history: Iterable[Mapping[str, Any]]) -> Document:
    """Return the notebook of executions, oldest first, each with `id`, `code`, `execution_count` and `outputs`."""
    displays: dict[str, list[Document]] = {}
    cells = [_cell(number, execution, displays) for number, execution in enumerate(history, start=1)]
    return {
        "nbformat": 4,
        "nbformat_minor": 5,
        "metadata": {
            "kernelspec": {"display_name": "Python 3", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "file_extension": ".py", "mimetype": "text/x-python"},
        },
        "cells": cells,
    }


def _cell(number: int, execution: Mapping[str, Any], displays: dict[str, list[Document]]) -> Document:
    execution_id = str(execution.get("id", ""))
    metadata: Document = {}
    if "started_at" in execution:
        metadata["execution"] = {"iopub.execute_input": execution["started_at"]}
    return {
        "cell_type": "code",
        "id": execution_id if _CELL_ID.fullmatch(execution_id) else f"cell-{number}",
        "metadata": metadata,
        "execution_count": execution.get("execution_count"),
        "source": execution["code"],
        "outputs": _outputs(execution.get("outputs", ()), displays),
    }


def _outputs(records: Iterable[Mapping[str, Any]], displays: dict[str, list[Document]]) -> list[Document]:
    shown: list[Document] = []
    clear_with_next = False
    dropped_bytes = 0
    for record in records:
        if record["type"] == "update_display_data":
            for display in displays.get(record.get("display_id", ""), ()):
                display.update(data=_bundle(record["data"]), metadata=dict(record.get("metadata") or {}))
            continue
        if record["type"] == "clear_output":
            clear_with_next = bool(record.get("wait"))
            if not clear_with_next:
                shown.clear()
            continue
        if record["type"] == "truncated":
            dropped_bytes = record["dropped_bytes"]
        output = _output(record)
        if output is None:
            continue
        if clear_with_next:
            shown.clear()
            clear_with_next = False
        if record.get("display_id") is not None:
            displays.setdefault(record["display_id"], []).append(output)
        _append(shown, output)
    if dropped_bytes:
        _append(shown, {"output_type": "stream", "name": "stderr", "text": [f"[{dropped_bytes} bytes {NOT_KEPT}]\n"]})
    for output in shown:
        if output["output_type"] == "stream":
            output["text"] = overwritten("".join(output["text"]))
    return shown


def _output(record: Mapping[str, Any]) -> Document | None:
    match record["type"]:
        case "stream":
            return {"output_type": "stream", "name": record["name"], "text": [record["text"]]}
        case "display_data":
            return {"output_type": "display_data", **_shown(record)}
        case "execute_result":
            count = record.get("execution_count")
            return {"output_type": "execute_result", "execution_count": count, **_shown(record)}
        case "error":
            told = {name: record[name] for name in ("ename", "evalue", "traceback")}
            return {"output_type": "error", **told}
    return None


def _append(shown: list[Document], output: Document) -> None:
    """Add an output; a stream's text, here still in pieces, goes on where the last one of the same stream ended."""
    last = shown[-1] if shown else None
    if last and output["output_type"] == last["output_type"] == "stream" and output["name"] == last["name"]:
        last["text"] += output["text"]
    else:
        shown.append(output)


def _shown(record: Mapping[str, Any]) -> Document:
    return {"data": _bundle(record["data"]), "metadata": dict(record.get("metadata") or {})}


def _bundle(data: Mapping[str, Any]) -> Document:
    """Return MIME data as the format wants it: JSON types as JSON, all others as text."""
    return {
        kind: value if isinstance(value, str) or _JSON_TYPE.fullmatch(kind) else json.dumps(value)
        for kind, value in data.items()
    }
