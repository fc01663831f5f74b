"""A session's history as a notebook: valid, and showing what Jupyter would have saved."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import nbformat
import pytest

from caesarion.terminal_text import overwritten
from tests.platform.conftest import Session, failure, gate, temporary_session

Cell = dict[str, Any]


@pytest.fixture(scope="module")
def session(client: httpx.Client) -> Iterator[Session]:
    with temporary_session(client) as made:
        yield made


def exported(session: Session, context: str | None = None) -> Any:
    """Return the notebook as nbformat reads it; it has to be valid."""
    params = {"context": context} if context else None
    reply = session.client.get(f"{session.path}/notebook.ipynb", params=params)
    assert reply.status_code == 200, reply.text
    read = nbformat.reads(reply.text, as_version=nbformat.NO_CONVERT)
    nbformat.validate(read)
    assert (read.nbformat, read.nbformat_minor) == (4, 5)
    return read


def cell_of(session: Session, code: str) -> Cell:
    """Run code and return its cell in the notebook."""
    execution = session.run(code)[0]["execution"]
    cell: Cell = next(cell for cell in exported(session).cells if cell.id == execution)
    assert cell["source"] == code
    return cell


def shown(cell: Cell) -> list[Any]:
    """Return a cell's outputs: texts of streams, and plain texts of what was displayed."""
    return [output.get("text") or output["data"]["text/plain"] for output in cell["outputs"]]


def test_texts_tables_and_values_are_in_the_notebook(session: Session) -> None:
    code = "import pandas as pd, sys\nprint('hello')\nprint('oh', file=sys.stderr)\npd.DataFrame({'a': [1]})"
    cell = cell_of(session, code)
    assert [output["output_type"] for output in cell["outputs"]] == ["stream", "stream", "execute_result"]
    assert (cell["outputs"][0]["name"], cell["outputs"][1]["name"]) == ("stdout", "stderr")
    assert "<table" in cell["outputs"][2]["data"]["text/html"]
    assert cell["outputs"][2]["execution_count"] == cell["execution_count"]
    assert cell["metadata"]["execution"]["iopub.execute_input"].endswith("Z")


def test_a_plot_is_in_the_notebook_as_png(session: Session) -> None:
    cell = cell_of(session, "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()")
    assert cell["outputs"][0]["data"]["image/png"].startswith("iVBORw0KGgo")


def test_a_plot_is_shown_at_the_end_of_its_cell_without_being_asked_for(session: Session) -> None:
    for code in (
        "import matplotlib.pyplot as plt; plt.plot([1, 2]);",
        "import pandas as pd; pd.Series([1, 2]).plot();",
    ):
        assert "image/png" in cell_of(session, code)["outputs"][0]["data"]


def test_json_output_stays_json(session: Session) -> None:
    cell = cell_of(session, "from IPython.display import JSON; display(JSON({'a': [1, None]}))")
    assert cell["outputs"][0]["data"]["application/json"] == {"a": [1, None]}


def test_an_error_is_in_the_notebook_with_its_traceback(session: Session) -> None:
    cell = cell_of(session, "print('before')\n1 / 0")
    error = cell["outputs"][1]
    assert (error["output_type"], error["ename"], error["evalue"]) == (
        "error",
        "ZeroDivisionError",
        "division by zero",
    )
    assert any("1 / 0" in line or "ZeroDivisionError" in line for line in error["traceback"])


def test_a_display_shows_its_last_content_also_when_a_later_cell_changed_it(session: Session) -> None:
    first = cell_of(session, "handle = display('first', display_id=True)\nprint('x')")
    assert shown(first) == ["'first'", "x\n"]
    cell_of(session, "handle.update('last')")
    after = next(cell for cell in exported(session).cells if cell.id == first["id"])
    assert shown(after) == ["'last'", "x\n"]


def test_cleared_output_is_not_there(session: Session) -> None:
    clear = "from IPython.display import clear_output\n"
    assert shown(cell_of(session, f"{clear}print('old'); clear_output(); print('new')")) == ["new\n"]
    steps = f"{clear}for step in range(3): clear_output(wait=True); print(step)"
    assert shown(cell_of(session, steps)) == ["2\n"]
    assert shown(cell_of(session, f"{clear}print('stays'); clear_output(wait=True)")) == ["stays\n"]


def test_a_progress_bar_shows_its_end(session: Session) -> None:
    (text,) = shown(cell_of(session, "from tqdm import tqdm\nfor _ in tqdm(range(500)): pass"))
    assert "100%" in text
    assert text.count("it/s") == 1
    assert "\r" not in text


def test_output_over_the_limit_is_told_in_the_notebook(session: Session) -> None:
    outputs = cell_of(session, "for _ in range(30): print('x' * 1_000_000)")["outputs"]
    assert outputs[-1]["name"] == "stderr"
    assert "bytes of output were over the limit and are not kept" in outputs[-1]["text"]


def test_each_context_has_a_notebook_of_its_own_and_default_is_the_first(session: Session) -> None:
    session.client.post(f"{session.path}/contexts", json={"name": "other"}).raise_for_status()
    session.run("only = 'other'", context="other")
    assert [cell.source for cell in exported(session, "other").cells] == ["only = 'other'"]
    assert all(cell.source != "only = 'other'" for cell in exported(session).cells)
    session.client.delete(f"{session.path}/contexts/other").raise_for_status()
    assert failure(session.client.get(f"{session.path}/notebook.ipynb?context=other")) == (404, "context_not_found")


def test_a_notebook_is_a_download_that_names_its_session(session: Session) -> None:
    reply = session.client.get(f"{session.path}/notebook.ipynb")
    assert reply.headers["Content-Type"] == "application/x-ipynb+json"
    assert reply.headers["Content-Disposition"] == f'attachment; filename="{session.id}-default.ipynb"'


def test_a_session_in_which_nothing_ran_has_an_empty_notebook(client: httpx.Client) -> None:
    with temporary_session(client) as fresh:
        assert exported(fresh).cells == []
        with fresh.begun("print('begun', flush=True)\n" + gate("notebook")) as running:
            next(running.outputs)
            assert exported(fresh).cells == []
            fresh.open_gate("notebook")
            list(running.outputs)
        assert len(exported(fresh).cells) == 1


@pytest.mark.parametrize(("query", "told"), [("nobody", (404, "context_not_found")), ("../x", (400, "invalid_id"))])
def test_the_notebook_of_no_context_is_told(session: Session, query: str, told: tuple[int, str]) -> None:
    assert failure(session.client.get(f"{session.path}/notebook.ipynb", params={"context": query})) == told


def test_the_notebook_of_no_session_is_not_found(client: httpx.Client) -> None:
    assert failure(client.get("/sessions/nobody/notebook.ipynb")) == (404, "session_not_found")


def test_odd_text_leaves_the_notebook_readable(session: Session) -> None:
    cell = cell_of(session, "print('\\x00 \\x1b[31mred\\x1b[0m \\u2028 \\ud83d \\U0001f600')\nprint('größe')")
    assert cell["outputs"][0]["text"].endswith("größe\n")
    document = session.client.get(f"{session.path}/notebook.ipynb").content
    json.loads(document, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("plain\ntext\n", "plain\ntext\n"),
        ("10%\r20%", "20%"),
        ("longer\rab\n", "abnger\n"),
        ("windows\r\nlines\r\n", "windows\nlines\n"),
        ("a\r\rb", "b"),
        ("100%\r", "100%"),
        ("abc\b\bX", "aXc"),
        ("ab\rX\b\b\bYZ", "YZ"),
        ("", ""),
    ],
)
def test_text_is_what_a_terminal_would_show(text: str, seen: str) -> None:
    assert overwritten(text) == seen


def test_a_long_line_overwritten_a_million_times_is_shown_without_delay() -> None:
    assert overwritten("x" * 5_000_000 + "\rab" * 1_000_000) == "ab" + "x" * 4_999_998
