"""What operators see: each metric that functions export, the dashboard made of them, and what they count."""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.conftest import ProductServer
from tests.platform.conftest import LogLines

DOCS = Path(__file__).parents[2] / "docs"
NAME = re.compile(r"caesarion_[a-z_]+")
PARTS = ("_bucket", "_count", "_sum")


@pytest.fixture(scope="module")
def client(product_server: ProductServer) -> Iterator[httpx.Client]:
    """A product with a model and a sink, neither of which is there, so that all metrics are."""
    env = {"OPENAI_BASE_URL": "http://127.0.0.1:9/v1", "K_SINK": "http://127.0.0.1:9"}
    with httpx.Client(base_url=product_server.serve(env), timeout=200) as client:
        yield client


def exported(client: httpx.Client) -> dict[str, str]:
    """Return the kinds of our metrics by their names, as a query has them."""
    lines = client.get("/metrics").text.splitlines()
    kinds = dict(line.split()[2:4] for line in lines if line.startswith("# TYPE caesarion_"))
    return {name: kind for name, kind in kinds.items() if not name.endswith("_created")}


def samples(client: httpx.Client) -> dict[tuple[str, frozenset[tuple[str, str]]], float]:
    """Return the values by names and labels."""
    families = text_string_to_metric_families(client.get("/metrics").text)
    return {(one.name, frozenset(one.labels.items())): one.value for family in families for one in family.samples}


def queried(dashboard: dict[str, Any]) -> set[str]:
    """Return the metrics of a dashboard's queries."""
    texts = [target["expr"] for panel in dashboard["panels"] for target in panel.get("targets", ())]
    texts += [variable["definition"] for variable in dashboard["templating"]["list"] if "definition" in variable]
    names = {name for text in texts for name in NAME.findall(text)}
    return {next((name.removesuffix(part) for part in PARTS if name.endswith(part)), name) for name in names}


def test_the_dashboard_shows_each_metric_and_no_other(client: httpx.Client) -> None:
    dashboard = json.loads((DOCS / "grafana" / "caesarion.json").read_text(encoding="utf-8"))
    assert queried(dashboard) == set(exported(client))
    sources = {panel["datasource"]["uid"] for panel in dashboard["panels"] if panel["type"] != "row"}
    assert sources == {"${datasource}"}
    ids = [panel["id"] for panel in dashboard["panels"]]
    assert len(set(ids)) == len(ids)


def test_each_metric_is_named_after_its_kind_and_explained(client: httpx.Client) -> None:
    page = (DOCS / "operations.md").read_text(encoding="utf-8")
    for name, kind in exported(client).items():
        assert name.endswith("_total") == (kind == "counter"), name
        assert kind != "histogram" or name.endswith("_seconds"), name
        assert f"`{name}" in page, name


def test_what_happened_is_counted_by_few_and_known_labels(client: httpx.Client) -> None:
    before = samples(client)

    def more(name: str, **labels: str) -> float:
        which = (name, frozenset(labels.items()))
        return samples(client).get(which, 0) - before.get(which, 0)

    session = client.post("/sessions").raise_for_status().json()["id"]
    client.post(f"/sessions/{session}/executions", json={"code": "print(1)"}).raise_for_status()
    client.post(f"/sessions/{session}/executions", json={"code": "1/0"}).raise_for_status()
    headers = {"ce-specversion": "1.0", "ce-id": "1", "ce-source": "/a", "ce-type": "com.example.unheard-of"}
    client.post("/events/execute", headers=headers).raise_for_status()
    client.post("/sweep").raise_for_status()
    client.delete(f"/sessions/{session}").raise_for_status()

    starts = [more("caesarion_claim_duration_seconds_count", start=start) for start in ("warm", "waited", "cold")]
    assert sum(starts) == 1
    assert more("caesarion_executions_total", status="ok") == more("caesarion_executions_total", status="error") == 1
    assert more("caesarion_execution_first_output_seconds_count") == 2
    assert more("caesarion_execution_duration_seconds_count") == 2
    assert more("caesarion_events_total", type="other", result="accepted") == 1
    assert samples(client)["caesarion_sandboxes", frozenset({("state", "ready")})] >= 1
    labels = {value for _, labels in samples(client) for _, value in labels}
    assert not {value for value in labels if session in value}


def test_one_line_tells_each_decision(product_server: ProductServer, log_lines: LogLines) -> None:
    with httpx.Client(base_url=product_server.url, timeout=200) as client:
        session = client.post("/sessions").raise_for_status().json()["id"]
        client.post(f"/sessions/{session}/executions", json={"code": "secret = 'of the user'"}).raise_for_status()
        client.delete(f"/sessions/{session}").raise_for_status()
        client.get("/sessions", headers={"Host": "foreign.example"})

    for message in ("claimed", "execution ended", "released"):
        (line,) = log_lines.having(message=message, session=session)
        assert line["duration_ms"] >= 0
        assert line["principal"] == "local"
        assert line["request"].startswith("r")
    assert log_lines.having(message="claimed", session=session)[0]["start"] in ("warm", "waited", "cold")
    assert log_lines.having(message="execution ended", session=session)[0]["status"] == "ok"
    assert log_lines.having(message="request", status=403)[0]["code"] == "forbidden_host"
    assert "of the user" not in json.dumps(log_lines)
