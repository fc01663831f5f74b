"""What is different where the server and the kernels are containers of a pod."""

import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.sandbox.conftest import PYTHON, ROOT, Server, new_server

FIRST, OTHER = "a" * 43, "b" * 43
CLAIM = {"idle_timeout_s": 60}


@pytest.fixture(scope="module")
def unclaimed() -> Iterator[Server]:
    """Give a server whose token is brought by who claims it, as those of a pool are."""
    with tempfile.TemporaryDirectory() as folder, new_server(token="", token_path=f"{folder}/token") as running:
        yield running


def status(server: Server, method: str, path: str, authorization: str) -> int:
    return server.client.request(method, path, headers={"Authorization": authorization}, json=CLAIM).status_code


def test_who_claims_it_first_brings_the_token_for_good(unclaimed: Server) -> None:
    for early in ("", "Bearer", "Bearer short", f"Basic {FIRST}"):
        assert status(unclaimed, "POST", "/v1/claim", early) == 401
    assert status(unclaimed, "GET", "/v1/status", f"Bearer {FIRST}") == 401
    assert status(unclaimed, "POST", "/v1/executions", f"Bearer {FIRST}") == 401
    assert status(unclaimed, "POST", "/v1/claim", f"Bearer {FIRST}") == 204
    for _ in range(2):
        assert status(unclaimed, "POST", "/v1/claim", f"Bearer {OTHER}") == 401
        assert status(unclaimed, "PUT", "/v1/checkpoint", f"Bearer {OTHER}") == 401
        assert status(unclaimed, "GET", "/v1/status", f"Bearer {FIRST}") == 200
        unclaimed.stop()
        unclaimed.start()


def test_kernels_begin_without_what_kubernetes_has_put_there(tmp_path: Path) -> None:
    for name in ("ipc", "files", "packages", "home"):
        (tmp_path / name).mkdir()
    (tmp_path / "ipc" / "of-an-earlier-life").mkdir()
    sources = os.pathsep.join(str(ROOT / name) for name in ("sandbox_image", "functions/caesarion"))
    code = f"""
import json, os, sys
sys.path[:0] = {sources.split(os.pathsep)!r}
import sandbox_server.zygote
told = lambda config: print(json.dumps([sorted(os.environ), os.listdir(config["ipc_dir"])]))
sandbox_server.zygote.run = told
from sandbox_server import pod
pod.main()
"""
    given = {
        "KUBERNETES_SERVICE_HOST": "10.0.0.1",
        "HOSTNAME": "pod",
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
    }
    command = [str(PYTHON), "-c", code, "kernels", json.dumps({"ipc_dir": str(tmp_path / "ipc")})]
    done = subprocess.run(command, env=given, capture_output=True, text=True, check=True, timeout=60)
    names, left = json.loads(done.stdout)
    assert set(names) <= {"PATH", "HOME", "LC_CTYPE"}
    assert left == []
