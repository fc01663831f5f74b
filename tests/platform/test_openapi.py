"""The OpenAPI document says what there is: every route, and what answers look like."""

import importlib
import re
from typing import Any

import httpx
import pytest
from starlette.routing import Route

from caesarion.adapters.asgi.access import Keys
from caesarion.adapters.key_file import KeyFile
from caesarion_cli.all_in_one import Settings, build_app
from tests.conftest import ProductServer
from tests.platform.conftest import Session

# It comes with nbformat and has no types.
jsonschema: Any = importlib.import_module("jsonschema")

RICH = """
import sys, threading
from IPython.display import clear_output, display
print('out')
print('err', file=sys.stderr)
shown = display(1, display_id='d')
shown.update({'a': 1})
clear_output(wait=True)
import matplotlib.pyplot as plt
plt.plot([1, 2]); plt.show()
1 / 0
"""


@pytest.fixture(scope="module")
def document(client: httpx.Client) -> dict[str, Any]:
    return dict(client.get("/openapi.json").json())


def check(document: dict[str, Any], schema: str, value: object) -> None:
    """Fail when the value is not what the schema says, or has a field that the schema does not tell of."""
    strict = {
        name: {"unevaluatedProperties": False, **kind} for name, kind in document["components"]["schemas"].items()
    }
    root = {"$ref": f"#/components/schemas/{schema}", "components": {"schemas": strict}}
    jsonschema.Draft202012Validator(root).validate(value)


def test_every_route_stands_in_the_document_and_the_other_way_round(
    document: dict[str, Any], product_server: ProductServer
) -> None:
    keys = Keys(KeyFile(product_server.home / "keys.json"))
    app = build_app(product_server.sandboxes, Settings.from_env({}), keys)
    told = {(method.upper(), path) for path, calls in document["paths"].items() for method in calls}
    served = set()
    for route in app.routes:
        assert isinstance(route, Route)
        assert route.methods is not None
        path = re.sub(r":\w+\}", "}", route.path)
        implied = {"HEAD"} if ("HEAD", path) not in told else set()
        served |= {(method, path) for method in route.methods - implied}
    assert served == told


def test_every_path_parameter_and_reference_of_the_document_is_there(document: dict[str, Any]) -> None:
    for path, calls in document["paths"].items():
        for call in calls.values():
            named = [one["name"] for one in call.get("parameters", []) if one["in"] == "path"]
            assert named == re.findall(r"\{(\w+)\}", path)
            assert {"4XX", "5XX"} < set(call["responses"])
    references = set(re.findall(r"#/components/schemas/(\w+)", str(document)))
    assert references <= set(document["components"]["schemas"])
    for schema in document["components"]["schemas"].values():
        jsonschema.Draft202012Validator.check_schema(schema)


def test_outputs_are_what_the_document_says(document: dict[str, Any], session: Session) -> None:
    outputs = session.run(RICH) + session.run("import time; time.sleep(9)", timeout_s=0.1)
    outputs += [{"seq": 1, "type": "queued", "position": 1}, {"seq": 2, "type": "truncated", "dropped_bytes": 1}]
    assert {output["type"] for output in outputs} == set(
        document["components"]["schemas"]["Output"]["discriminator"]["mapping"]
    ) - {"execute_result"}
    for output in [*outputs, session.run("1")[1]]:
        check(document, "Output", output)
    with pytest.raises(jsonschema.ValidationError):
        check(document, "Output", {"seq": 1, "type": "unheard"})


def test_answers_are_what_the_document_says(document: dict[str, Any], session: Session) -> None:
    client, default = session.client, f"{session.path}/contexts/default"
    execution = session.run("1 + 1")[0]["execution"]
    session.open_gate("listed-file")
    answers = {
        "Sessions": client.get("/sessions"),
        "Session": client.get(session.path),
        "Executions": client.get(session.executions),
        "Execution": client.get(f"{session.executions}/{execution}"),
        "Contexts": client.get(f"{session.path}/contexts"),
        "Context": client.post(f"{default}/restart"),
        "Completion": client.post(f"{default}/complete", json={"code": "impor"}),
        "Completeness": client.post(f"{default}/is_complete", json={"code": "for i in x:"}),
        "Files": client.get(f"{session.path}/files"),
        "FinishedExecution": client.post(
            session.executions, json={"code": "1"}, headers={"Accept": "application/json"}
        ),
        "Failure": client.get("/nope"),
    }
    for schema, answer in answers.items():
        check(document, schema, answer.json())
