"""The implementations of the port `Sandboxes`, and a way to ask user code what it sees."""

import json
import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.adapters.store import open_store
from caesarion.ids import PrincipalId, SessionId, SessionKey
from caesarion.ports import ObjectStore, Sandbox, SessionSpec
from caesarion.settings import LocalSettings, SandboxSettings, StoreSettings
from tests.contracts import cluster

PYTHON = str(Path(__file__).parents[2] / ".venv-sandbox" / "bin" / "python")
SPEC = SessionSpec(idle_timeout_s=600)
DEADLINE_S = 200.0
ON_EVERY_PLATFORM = ("test_sandboxes", "test_suspend")
PLATFORMS = ("local", "kubernetes")


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run what every implementation has to do on each of them."""
    if "home" in metafunc.fixturenames and metafunc.module.__name__.rpartition(".")[2] in ON_EVERY_PLATFORM:
        metafunc.parametrize("home", PLATFORMS, indirect=True, scope="module")


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


def key(session: str, principal: str = "alice") -> SessionKey:
    """Return the key of a session."""
    return SessionKey(PrincipalId(principal), SessionId(session))


def open_folder(home: Path) -> ObjectStore:
    """Return the store in this home."""
    return open_store(StoreSettings(), str(home))


def open_local(home: Path, pool_size: int = 1, store: ObjectStore | None = None) -> LocalSandboxes:
    """Return the sandboxes of this home, by default with the store in it; those of a cluster if it stands for one."""
    if cluster.in_cluster(home):
        return cast("LocalSandboxes", cluster.open_pods(home, store or open_folder(home)))
    limits = SandboxSettings(disk_bytes=60_000_000, memory_bytes=600_000_000, processes=64)
    local = LocalSettings(home=str(home), sandbox_python=PYTHON, pool_size=pool_size)
    return LocalSandboxes(limits, local, store or open_folder(home))


async def run(sandbox: Sandbox, code: str, **fields: Any) -> list[dict[str, Any]]:
    """Run code as the user and return its outputs."""
    assert sandbox.endpoint is not None
    client = SandboxClient(sandbox.endpoint)
    try:
        async with client.stream("POST", "/v1/executions", document={"code": code, **fields}) as answer:
            return [json.loads(line) async for lines in answer.lines() for line in lines.splitlines()]
    finally:
        await client.aclose()


async def restart(sandbox: Sandbox) -> None:
    """Give the sandbox a kernel without variables, which may write files if there is room."""
    assert sandbox.endpoint is not None
    client = SandboxClient(sandbox.endpoint)
    try:
        await client.call("POST", "/v1/contexts/default/restart", deadline_s=DEADLINE_S)
    finally:
        await client.aclose()


async def said(sandbox: Sandbox, code: str) -> str:
    """Run code as the user and return what it printed; an error of the code fails the test."""
    outputs = await run(sandbox, code)
    assert outputs[-1]["status"] == "ok", outputs
    return "".join(output["text"] for output in outputs if output["type"] == "stream")


@pytest.fixture(scope="module")
def home(request: pytest.FixtureRequest) -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cz-", dir="/tmp"))
    try:
        if getattr(request, "param", "local") == "kubernetes":
            with cluster.namespace(folder):
                yield folder
        else:
            yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
async def sandboxes(home: Path) -> AsyncIterator[LocalSandboxes]:
    async with open_local(home) as opened:
        yield opened
    assert cluster.in_cluster(home) or not list((home / "sandboxes").iterdir())
