"""A namespace of a real cluster and ways to look into it from outside of what is tested."""

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from caesarion.adapters.kubernetes import KubernetesSandboxes
from caesarion.adapters.kubernetes_api import Api, Json
from caesarion.ports import ObjectStore
from tests.contracts import cluster
from tests.contracts.conftest import open_folder


@pytest.fixture(scope="module")
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def home() -> Iterator[Path]:
    folder = Path(tempfile.mkdtemp(prefix="cz-", dir="/tmp"))
    try:
        with cluster.namespace(folder):
            yield folder
    finally:
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
def store(home: Path) -> ObjectStore:
    return open_folder(home)


@pytest.fixture
async def sandboxes(home: Path, store: ObjectStore) -> AsyncIterator[KubernetesSandboxes]:
    async with cluster.open_pods(home, store) as opened:
        yield opened


class Namespace:
    """The namespace of the tests, through the API."""

    def __init__(self, api: Api, name: str) -> None:
        self.api = api
        self.name = name
        self.pods_path = f"/api/v1/namespaces/{name}/pods"

    async def pod(self, name: str) -> Json:
        """Return a pod as it is."""
        found = await self.api.get(f"{self.pods_path}/{name}")
        assert found is not None
        return found

    async def claimed_pods(self) -> list[str]:
        """Return the names of pods that the pool does not have and that are not being ended."""
        found, _ = await self.api.list(self.pods_path)
        owned = [pod for pod in found if "ownerReferences" not in pod["metadata"]]
        return sorted(pod["metadata"]["name"] for pod in owned if "deletionTimestamp" not in pod["metadata"])

    async def until_restarted(self, name: str) -> None:
        """Wait until all containers of a pod have been started again."""
        selector = {"fieldSelector": f"metadata.name={name}"}
        while True:
            [pod], version = await self.api.list(self.pods_path, selector)
            if _is_restarted(pod):
                return
            async for _, seen in self.api.watch(self.pods_path, selector, version):
                if _is_restarted(seen):
                    return


@pytest.fixture
async def namespace(home: Path) -> AsyncIterator[Namespace]:
    api = Api()
    yield Namespace(api, cluster.name_of(home))
    await api.aclose()


def _is_restarted(pod: Json) -> bool:
    containers = pod["status"].get("containerStatuses", ())
    return all(one["restartCount"] > 0 and "running" in one["state"] for one in containers)
