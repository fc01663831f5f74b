"""The story of the README: a CSV, a question about it, an answer by code that ran, with a picture."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.chat.scripted_model import Call, CallTools, Say, ScriptedModel, Step, scripted
from tests.chat.ui import judged
from tests.platform.served import NO_POOL, ROOT, Home, home

QUESTION = "Which region grew fastest? Show it."
GROWTH = """
import pandas as pd
sales = pd.read_csv("sales.csv", parse_dates=["date"])
sales["revenue"] = sales.units * sales.price
years = sales.groupby(["region", sales.date.dt.year]).revenue.sum().unstack()
growth = (years[2024] / years[2023] - 1).sort_values()
print(growth.idxmax(), "grew fastest")
growth
"""
PLOT = "ax = growth.plot.barh(title='Growth of revenue')"


@pytest.fixture(scope="module")
def place() -> Iterator[Home]:
    with home() as made:
        yield made


@pytest.fixture(scope="module")
def sales(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("story") / "sales.csv"
    command = [sys.executable, str(ROOT / "examples" / "01_make_csv.py"), str(path)]
    subprocess.run(command, check=True, capture_output=True)
    return path


def model_env(model: ScriptedModel) -> dict[str, str]:
    return {"OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-test", **NO_POOL}


def looks_at_the_file(body: dict[str, Any]) -> None:
    """Expect that the model was told of the file in a tool's result, and nowhere else."""
    told = [message for message in body["messages"] if "sales.csv" in str(message["content"])]
    assert [message["role"] for message in told] == ["tool"]
    assert "date,region,product,units,price" in told[0]["content"]


def knows_the_growth(body: dict[str, Any]) -> None:
    """Expect the code's output and its table as text."""
    text = body["messages"][-1]["content"]
    assert "grew fastest" in text
    assert "Île-de-France" in text


STEPS: list[Step] = [
    CallTools([Call("python", {"code": GROWTH})], expects=looks_at_the_file),
    CallTools([Call("python", {"code": PLOT})], expects=knows_the_growth),
    Say("That region, as the plot shows."),
]


def test_a_question_about_a_csv_is_answered_by_code_with_a_picture(place: Home, sales: Path) -> None:
    with scripted(STEPS) as model, place.serve(**model_env(model)) as served:
        served.client.post("/sessions/growth/initialize").raise_for_status()
        with sales.open("rb") as file:
            served.client.post("/sessions/growth/files", files={"file": ("sales.csv", file)}).raise_for_status()
        answer = judged(str(served.client.base_url), "growth", QUESTION)
        assert answer.errors == []
        assert answer.text == "That region, as the plot shows."
        shown = [chunk["output"] for chunk in answer.chunks if chunk["type"] == "tool-output-available"]
        urls = [url for output in shown[-1]["outputs"] for url in output.get("urls", {}).values()]
        assert served.client.get(urls[0]).content.startswith(b"\x89PNG")


def test_the_same_by_openais_client(place: Home, sales: Path) -> None:
    again = CallTools([Call("python", {"code": "print(growth.idxmax())"})])
    steps: list[Step] = [*STEPS, again, Say("In one sentence: that one.")]
    with scripted(steps) as model, place.serve(**model_env(model)) as served:
        command = [sys.executable, str(ROOT / "examples" / "04_ask_with_openai.py"), str(sales)]
        env = {**os.environ, "CAESARION_URL": str(served.client.base_url), "LC_ALL": "C.UTF-8"}
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=200, check=False)
        assert (done.returncode, done.stderr) == (0, "")
        assert "grew fastest" in done.stdout
        assert f"![picture]({served.client.base_url}/sessions/" in done.stdout
        assert "In one sentence: that one." in done.stdout
