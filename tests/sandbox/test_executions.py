"""What a sandbox says when code runs in it."""

import json
import os
import threading
from collections.abc import Iterator
from itertools import groupby

import httpx
import pytest

from tests.sandbox.conftest import Server, only, shape, text_of


@pytest.fixture(autouse=True)
def _quiet(server: Server) -> Iterator[None]:
    """Each test begins with a kernel of its own and nothing running."""
    server.client.post("/v1/contexts/default/restart").raise_for_status()
    yield


def test_variables_survive_between_executions(server: Server) -> None:
    first = server.outputs("x = 20; print('set')")
    assert shape(first) == ["started", "stream", "finished"]
    second = server.outputs("x + 1")
    assert [result["data"] for result in only(second, "execute_result")] == [{"text/plain": "21"}]
    assert [output["seq"] for output in second] == list(range(1, len(second) + 1))


def test_an_error_is_an_output_and_variables_stay(server: Server) -> None:
    outputs = server.outputs("x = 1\n1 / 0")
    (error,) = only(outputs, "error")
    assert (error["ename"], outputs[-1]["status"]) == ("ZeroDivisionError", "error")
    assert "\x1b[" in "".join(error["traceback"])
    assert text_of(server.outputs("print(x)")) == "1\n"


def test_the_first_piece_arrives_while_the_code_still_runs(server: Server) -> None:
    code = (
        "import os, time\nprint('first', flush=True)\nwhile not os.path.exists('go'): time.sleep(0.01)\nos.remove('go')"
    )
    with server.client.stream("POST", "/v1/executions", json={"code": code}) as reply:
        lines = reply.iter_lines()
        assert [json.loads(next(lines))["type"] for _ in range(2)] == ["started", "stream"]
        (server.folder / "files" / "go").touch()
        assert json.loads(list(lines)[-1])["status"] == "ok"


def test_a_sleeping_cell_is_interrupted_and_its_state_kept(server: Server) -> None:
    code = "y = 5; print('set', flush=True)\nwhile True: pass"
    with server.client.stream("POST", "/v1/executions", json={"code": code, "id": "loop"}) as reply:
        lines = reply.iter_lines()
        assert [json.loads(next(lines))["type"] for _ in range(2)] == ["started", "stream"]
        assert server.client.delete("/v1/executions/loop").status_code == 204
        assert json.loads(list(lines)[-1])["status"] == "interrupted"
    assert text_of(server.outputs("print(y)")) == "5\n"


def test_code_that_ignores_the_interrupt_loses_its_kernel(server: Server) -> None:
    before = server.client.get("/v1/status").json()["generation"]
    ignore = "import signal\nsignal.signal(signal.SIGINT, signal.SIG_IGN)\nprint('set', flush=True)\nwhile True: pass"
    with server.client.stream("POST", "/v1/executions", json={"code": ignore, "id": "deaf"}) as reply:
        lines = reply.iter_lines()
        assert [json.loads(next(lines))["type"] for _ in range(2)] == ["started", "stream"]
        server.client.delete("/v1/executions/deaf").raise_for_status()
        outputs = [json.loads(line) for line in lines]
    assert outputs[-1]["status"] == "died"
    assert "ignored the interrupt" in outputs[-2]["evalue"]
    assert server.client.get("/v1/status").json()["generation"] == before + 1
    assert text_of(server.outputs("print('back')")) == "back\n"


def test_a_timeout_keeps_the_variables(server: Server) -> None:
    server.outputs("z = 1")
    assert server.outputs("import time; time.sleep(60)", timeout_s=0.3)[-1]["status"] == "timeout"
    assert text_of(server.outputs("print(z)")) == "1\n"


def test_a_kernel_that_ends_itself_is_noticed_and_replaced(server: Server) -> None:
    outputs = server.outputs("import os; os._exit(7)")
    assert outputs[-1]["status"] == "died"
    assert "exit status 7" in outputs[-2]["evalue"]
    assert text_of(server.outputs("print(1)")) == "1\n"


def test_a_kernel_that_ends_between_cells_is_replaced_and_the_loss_is_told(server: Server) -> None:
    before = server.client.get("/v1/status").json()["generation"]
    late_end = (
        "import os, threading, time\ndef end():\n    while not os.path.exists('end'): time.sleep(0.01)\n    os._exit(3)"
    )
    server.outputs(f"{late_end}\nz = 1; threading.Thread(target=end).start()")
    (server.folder / "files" / "end").touch()
    while server.client.get("/v1/status").json()["generation"] == before:
        pass
    (server.folder / "files" / "end").unlink()
    outputs = server.outputs("z")
    assert "exit status 3" in text_of(outputs, "stderr")
    assert (outputs[0]["execution_count"], outputs[-2]["ename"]) == (1, "NameError")


def test_a_folder_in_place_of_a_kernels_socket_holds_nothing_up(server: Server) -> None:
    folder = str(server.folder / "ipc")
    name = "get_ipython().kernel.parent.ip"
    outputs = server.outputs(f"import os; ip = {name}; os.mkdir(f'{{ip}}-9'); os._exit(1)")
    assert outputs[-1]["status"] == "died"
    assert text_of(server.outputs("print('on')")) == "on\n"
    for left in os.listdir(folder):
        if os.path.isdir(os.path.join(folder, left)):
            os.rmdir(os.path.join(folder, left))


def test_executions_of_a_context_run_in_order(server: Server) -> None:
    gate = "import os, time\nwhile not os.path.exists('gate'): time.sleep(0.01)\nos.remove('gate'); order = ['first']"
    server.client.post("/v1/executions?detach=1", json={"code": gate, "id": "gate"}).raise_for_status()
    with server.client.stream("GET", "/v1/executions/gate/outputs") as reply:
        next(reply.iter_lines())
    found: list[list[dict[str, object]]] = []
    second = threading.Thread(target=lambda: found.append(server.outputs("order.append('second'); print(order)")))
    with server.client.stream("POST", "/v1/executions", json={"code": "order.append('x')"}) as reply:
        lines = reply.iter_lines()
        assert json.loads(next(lines)) == {"seq": 1, "type": "queued", "position": 1}
        second.start()
        (server.folder / "files" / "gate").touch()
        assert json.loads(list(lines)[-1])["status"] == "ok"
    second.join()
    assert "second" in text_of(found[0])


def test_the_same_id_runs_once_and_other_code_is_refused(server: Server) -> None:
    first = server.outputs("import random; print(random.random())", id="once")
    assert server.outputs("import random; print(random.random())", id="once") == first
    refused = server.client.post("/v1/executions", json={"code": "2", "id": "once"})
    assert (refused.status_code, refused.json()["error"]["code"]) == (409, "idempotency_conflict")


def test_a_reader_resumes_after_the_last_output_it_saw(server: Server) -> None:
    whole = server.outputs("for i in range(3): display(i)", id="resume")
    rest = server.client.get("/v1/executions/resume/outputs?after=2").text.splitlines()
    assert [json.loads(line) for line in rest] == whole[2:]


def test_a_client_that_leaves_does_not_stop_the_code(server: Server) -> None:
    with server.client.stream(
        "POST", "/v1/executions", json={"code": "import time; time.sleep(0.3); print('done')", "id": "left"}
    ) as r:
        next(r.iter_lines())
    rest = [json.loads(line) for line in server.client.get("/v1/executions/left/outputs").text.splitlines()]
    assert text_of(rest) == "done\n"


def test_output_past_the_limit_is_counted_but_not_kept(server: Server) -> None:
    outputs = server.outputs("import sys\nfor _ in range(3000): sys.stdout.write('x' * 1000)")
    assert outputs[-2]["type"] == "truncated"
    kept = len(text_of(outputs))
    assert kept <= 1_000_000
    assert kept + outputs[-2]["dropped_bytes"] == 3_000_000


def test_closed_and_replaced_streams_do_not_outlive_their_cell(server: Server) -> None:
    assert server.outputs("import sys; sys.stdout.close()")[-1]["status"] == "ok"
    assert text_of(server.outputs("print('open again')")) == "open again\n"
    assert server.outputs("import io; sys.stdout = io.StringIO(); sys.stdout.close()")[-1]["status"] == "ok"
    assert text_of(server.outputs("print('mine again')")) == "mine again\n"


def test_what_a_thread_prints_between_cells_comes_with_the_next_and_names_its_origin(server: Server) -> None:
    wait = "    while not os.path.exists('now'): time.sleep(0.01)\n"
    late = f"def late():\n{wait}    print('late', flush=True); open('printed', 'w').close()\n"
    server.outputs(f"import threading, os, time\n{late}t = threading.Thread(target=late); t.start()", id="origin")
    (server.folder / "files" / "now").touch()
    while not (server.folder / "files" / "printed").exists():
        pass
    outputs = server.outputs("t.join(); os.remove('now'); os.remove('printed'); print('mine')")
    texts = groupby(only(outputs, "stream"), lambda output: output.get("origin"))
    assert [(origin, text_of(list(pieces))) for origin, pieces in texts] == [("origin", "late\n"), (None, "mine\n")]


def test_output_of_subprocesses_is_captured(server: Server) -> None:
    assert text_of(server.outputs("import os; os.system('echo from a child') and None")) == "from a child\n"


def test_input_says_what_to_do_instead(server: Server) -> None:
    outputs = server.outputs("input('name? ')")
    (error,) = only(outputs, "error")
    assert (error["ename"], outputs[-1]["status"]) == ("EOFError", "error")
    assert "nobody to ask" in error["evalue"]


def test_pip_says_why_it_cannot_install(server: Server) -> None:
    assert "no network" in text_of(server.outputs("%pip install left-pad"), "stderr")


def test_a_progress_bar_costs_what_is_seen_of_it(server: Server) -> None:
    outputs = server.outputs("for i in range(20000): print(f'\\r{i}', end='')")
    assert text_of(outputs).endswith("\r19999")
    assert len(outputs) < 100


def test_a_very_long_line_beside_a_carriage_return_ends_in_time(server: Server) -> None:
    outputs = server.outputs("import sys; n = sys.stdout.write('1%\\r2%\\n' + 'x' * 900_000 + '\\nend\\n')")
    assert text_of(outputs).startswith("\r2%\nxxx")
    assert text_of(outputs).endswith("xxx\nend\n")


RICH = {
    "import matplotlib.pyplot as plt; plt.plot([1, 2]); plt.show()": "image/png",
    "import pandas as pd; pd.DataFrame({'a': [1]})": "text/html",
    "from IPython.display import SVG; SVG('<svg xmlns=\"http://www.w3.org/2000/svg\"/>')": "image/svg+xml",
    "import sympy; sympy.Symbol('x') ** 2": "text/latex",
    "import altair as a; a.Chart(a.Data(values=[])).mark_bar()": "application/vnd.vegalite",
    "import plotly.graph_objects as go; go.Figure(go.Bar(y=[1])).show()": "application/vnd.plotly.v1+json",
}


@pytest.mark.parametrize(("code", "media_type"), RICH.items(), ids=list(RICH.values()))
def test_rich_output_keeps_every_mime_type(server: Server, code: str, media_type: str) -> None:
    outputs = server.outputs(code)
    assert outputs[-1]["status"] == "ok", outputs
    shown = [key for output in outputs for key in output.get("data", {})]
    assert any(key.startswith(media_type) for key in shown), shown


def test_displays_are_updated_and_cleared(server: Server) -> None:
    outputs = server.outputs(
        "h = display(1, display_id='d'); h.update(2)\nfrom IPython.display import clear_output; clear_output(wait=True)"
    )
    displays = [output for output in outputs if output["type"] not in ("started", "stream", "finished")]
    assert shape(displays) == ["display_data", "update_display_data", "clear_output"]
    assert displays[0]["display_id"] == displays[1]["display_id"] == "d"


def test_kernels_that_ended_leave_no_sockets_behind_in_the_server(server: Server) -> None:
    def descriptors() -> int:
        return len(os.listdir(f"/proc/{server.pid}/fd"))

    before = descriptors()
    kernels = 10
    for _ in range(kernels):
        server.client.post("/v1/contexts/default/restart").raise_for_status()
    assert descriptors() < before + kernels, "each kernel that ended has left one at least"


def test_contexts_do_not_share_variables(server: Server) -> None:
    assert server.client.post("/v1/contexts", json={"name": "other"}).status_code == 201
    server.outputs("only_here = 1", context="other")
    assert only(server.outputs("only_here"), "error")[0]["ename"] == "NameError"
    assert server.client.delete("/v1/contexts/other").status_code == 204


def test_env_of_the_claim_reaches_every_kernel(server: Server) -> None:
    server.client.post(
        "/v1/claim", json={"session": "s", "idle_timeout_s": 60, "env": {"GREETING": "hello"}}
    ).raise_for_status()
    assert text_of(server.outputs("import os; print(os.environ['GREETING'])")) == "hello\n"
    server.client.post("/v1/contexts/default/restart").raise_for_status()
    assert text_of(server.outputs("import os; print(os.environ['GREETING'])")) == "hello\n"


BAD_BODIES = {
    b"": 400,
    b"[1]": 400,
    b'{"code": 1}': 400,
    b"[" * 100_000: 400,
    b'{"code": "1", "timeout_s": -1}': 400,
    b'{"code": "1", "context": "../x"}': 400,
}


@pytest.mark.parametrize("body", BAD_BODIES, ids=range(len(BAD_BODIES)))
def test_bad_bodies_get_the_one_error_shape(server: Server, body: bytes) -> None:
    reply = server.client.post("/v1/executions", content=body)
    assert reply.status_code == BAD_BODIES[body]
    assert set(reply.json()["error"]) == {"code", "message", "id"}


def test_nothing_is_told_without_the_token(server: Server) -> None:
    transport = httpx.HTTPTransport(uds=str(server.folder / "run" / "control.sock"))
    with httpx.Client(transport=transport, timeout=200) as client:
        reply = client.get("http://sandbox/v1/status")
    assert (reply.status_code, reply.json()["error"]["code"]) == (401, "unauthorized")


def test_a_new_life_keeps_the_journal_and_says_that_variables_are_lost(server: Server) -> None:
    before = server.client.get("/v1/status").json()["generation"]
    server.outputs("print('kept')", id="kept")
    server.client.post("/v1/executions?detach=1", json={"code": "while True: pass", "id": "cut"}).raise_for_status()
    server.stop()
    server.start()
    assert "kept" in server.client.get("/v1/executions/kept/outputs").text
    cut = server.client.get("/v1/executions/cut/outputs").text.splitlines()
    assert json.loads(cut[-1])["status"] == "died"
    assert server.client.get("/v1/status").json()["generation"] == before + 1
    assert server.outputs("while True: pass", id="cut")[-1]["status"] == "died"
