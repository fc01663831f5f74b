"""The examples, run as the README tells, against the product as it is started."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import nbformat
import pytest

from tests.platform.served import NO_POOL, ROOT, Home, Served, home

EXAMPLES = ROOT / "examples"
ROWS = 100_000


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    with home() as made:
        yield made


@pytest.fixture(scope="module")
def served(place: Home) -> Iterator[Served]:
    with place.serve(**NO_POOL) as running:
        yield running


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sales") / "sales.csv"
    assert example("01_make_csv.py", str(path)) == f"{ROWS:,} rows in {path}\n"
    return path


def example(name: str, *arguments: str, url: str = "") -> str:
    """Run an example and return what it prints."""
    command = [str(EXAMPLES / name), *arguments]
    if name.endswith(".py"):
        command.insert(0, sys.executable)
    env = {**os.environ, "CAESARION_URL": url, "LC_ALL": "C.UTF-8"}
    done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    return done.stdout


def test_the_csv_has_100_000_rows_and_is_the_same_each_time(sales: Path, tmp_path: Path) -> None:
    lines = sales.read_text(encoding="utf-8").splitlines()
    assert lines[0] == "date,region,product,units,price"
    assert len(lines) == ROWS + 1
    example("01_make_csv.py", str(tmp_path / "again.csv"))
    assert (tmp_path / "again.csv").read_bytes() == sales.read_bytes()


def test_a_first_session_by_curl_keeps_its_variable(served: Served) -> None:
    shown = example("02_first_session.sh", url=str(served.client.base_url))
    assert '"text/plain": "42"' in shown
    assert [line for line in shown.splitlines() if line.startswith(">")][:2] == ["> x = 41", "> x + 1"]
    assert served.client.get("/sessions/first").status_code == 404


def test_the_sales_story_ends_with_a_plot_a_summary_and_a_notebook(served: Served, sales: Path) -> None:
    shown = example("03_sales_story.py", str(sales), url=str(served.client.base_url))
    assert f"{ROWS:,} rows, 2023-01-01 to 2024-12-30" in shown
    assert "interrupted: interrupted" in shown
    assert f"steps, and still {ROWS:,} rows and 5 regions" in shown
    assert sales.with_name("sales-by-month.png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    summary = sales.with_name("summary.csv").read_text(encoding="utf-8").splitlines()
    assert summary[0] == "region,revenue"
    assert summary[1].startswith("Île-de-France,")
    notebook = nbformat.read(sales.with_name("sales.ipynb"), as_version=4)
    nbformat.validate(notebook)
    assert len(notebook.cells) == 6
    assert "image/png" in str(notebook.cells[2].outputs)
    assert notebook.cells[4].outputs[-1].ename == "KeyboardInterrupt"


def test_the_story_goes_on_after_the_functions_are_killed(sales: Path) -> None:
    with home() as place:
        with place.serve(**NO_POOL) as first:
            first.client.post("/sessions/story/initialize").raise_for_status()
            with sales.open("rb") as file:
                first.client.post("/sessions/story/files", files={"file": file}).raise_for_status()
            code = "import pandas as pd; sales = pd.read_csv('sales.csv')"
            first.client.post("/sessions/story/executions", json={"code": code}).raise_for_status()
            first.process.kill()
            first.process.wait()
        with place.serve(**NO_POOL) as second:
            reply = second.client.post("/sessions/story/executions", json={"code": "len(sales)"})
            assert json.loads(reply.text.splitlines()[1])["data"]["text/plain"] == str(ROWS)
            assert second.client.get("/sessions/story/files").json()["files"][0]["path"] == "sales.csv"
            notebook = nbformat.reads(second.client.get("/sessions/story/notebook.ipynb").text, as_version=4)
            assert [cell.source for cell in notebook.cells] == [code, "len(sales)"]
