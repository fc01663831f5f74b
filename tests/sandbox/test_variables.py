"""Variables that an execution brings beside its code."""

import json
from typing import Any

import pytest

from tests.sandbox.conftest import Server, only, text_of


def test_code_finds_the_variables_of_its_execution_as_they_were_sent(server: Server) -> None:
    payload = {"quoted": "'\"\\\n{0}%s\u2028\U0001f600", "n": [1, 2.5, None, True], "nested": {"a": {}}}
    sent = {"payload": payload, "größe": 1, "_x": "y"}
    outputs = server.outputs("import json; print(json.dumps([payload, größe, _x]))", variables=sent)
    assert json.loads(text_of(outputs)) == [payload, 1, "y"]
    assert text_of(server.outputs("print(größe)")) == "1\n"


def test_variables_reach_the_context_they_were_sent_to_and_no_other(server: Server) -> None:
    server.client.post("/v1/contexts", json={"name": "other"}).raise_for_status()
    assert text_of(server.outputs("print(only)", context="other", variables={"only": 1})) == "1\n"
    assert only(server.outputs("only"), "error")[0]["ename"] == "NameError"
    server.client.delete("/v1/contexts/other").raise_for_status()


def test_a_value_of_many_megabytes_arrives(server: Server) -> None:
    big = ["x" * 1000] * 7000
    outputs = server.outputs("print(len(big), sum(map(len, big)))", variables={"big": big})
    assert text_of(outputs) == "7000 7000000\n"


def test_a_name_means_what_it_means_in_code(server: Server) -> None:
    assert text_of(server.outputs("print(ﬁn)", variables={"ﬁn": 1})) == "1\n"


def test_numbers_that_json_does_not_know_arrive(server: Server) -> None:
    body = b'{"code": "print(a, b)", "variables": {"a": 1e999, "b": NaN}}'
    reply = server.client.post("/v1/executions", content=body)
    assert text_of([json.loads(line) for line in reply.text.splitlines()]) == "inf nan\n"


def test_the_same_id_with_other_variables_is_refused(server: Server) -> None:
    first = server.outputs("print(v)", id="brings", variables={"v": {"a": 1, "b": 2}})
    assert server.outputs("print(v)", id="brings", variables={"v": {"b": 2, "a": 1}}) == first
    for variables in ({"v": {"a": 1}}, {}, None):
        body = {"code": "print(v)", "id": "brings", "variables": variables}
        refused = server.client.post("/v1/executions", json=body)
        assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_conflict")


def test_a_new_life_of_the_server_still_tells_variables_apart(server: Server) -> None:
    first = server.outputs("print(v)", id="lives", variables={"v": 1})
    server.stop()
    server.start()
    assert server.outputs("print(v)", id="lives", variables={"v": 1}) == first
    refused = server.client.post("/v1/executions", json={"code": "print(v)", "id": "lives", "variables": {"v": 2}})
    assert refused.status_code == 409


def test_each_of_the_executions_that_wait_gets_its_own(server: Server) -> None:
    for number in range(5):
        body = {"code": "import time; time.sleep(0.05); print(n)", "id": f"n{number}", "variables": {"n": number}}
        server.client.post("/v1/executions?detach=1", json=body).raise_for_status()
    for number in range(5):
        lines = server.client.get(f"/v1/executions/n{number}/outputs").text.splitlines()
        assert text_of([json.loads(line) for line in lines]) == f"{number}\n"


@pytest.mark.parametrize(
    "variables", [[], "a", 1, {"": 1}, {"1a": 1}, {"a-b": 1}, {"a.b": 1}, {"class": 1}, {"None": 1}, {"a b": 1}]
)
def test_what_is_no_name_is_refused(server: Server, variables: Any) -> None:
    reply = server.client.post("/v1/executions", json={"code": "1", "variables": variables})
    assert (reply.status_code, reply.json()["error"]["code"]) == (400, "invalid_request")


def test_a_value_nested_as_deeply_as_can_be_read_does_not_hold_the_kernel_up(server: Server) -> None:
    for depth in (500, 900, 950, 980, 20_000):
        body = b'{"code": "print(1)", "variables": {"deep": ' + b"[" * depth + b"]" * depth + b"}}"
        reply = server.client.post("/v1/executions", content=body)
        if reply.status_code == 200:
            assert json.loads(reply.text.splitlines()[-1])["status"] in ("ok", "error")
        else:
            assert reply.status_code == 400
    assert text_of(server.outputs("print('next')")) == "next\n"
