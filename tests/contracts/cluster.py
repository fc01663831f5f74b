"""A namespace of a real cluster with a pool of sandboxes, for the contract tests.

They run on a cluster where KUBECONFIG names one, from a place that reaches its pods. With the cluster of tests:

    CLUSTER=../shared/cluster/cluster
    $CLUSTER up && scripts/images sandbox
    $CLUSTER exec env -C "$PWD" .venv/bin/python -m pytest tests/contracts tests/kubernetes \
      -n 0 -k "kubernetes or cluster"

CAESARION_TEST_SANDBOX_IMAGE names another image, CAESARION_TEST_RUNTIME_CLASS an isolation such as gvisor.
"""

import asyncio
import contextlib
import json
import os
import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from caesarion.adapters.kubernetes import KubernetesSandboxes
from caesarion.adapters.kubernetes_api import Api
from caesarion.adapters.kubernetes_pods import Pods
from caesarion.errors import SandboxUnavailable
from caesarion.pods import NAME_LABEL, PORT, SANDBOX_NAME, Pool, is_ready, pool_manifest
from caesarion.ports import ObjectStore
from caesarion.settings import KubernetesSettings, SandboxSettings, Secret
from tests.kubernetes.namespaces import make_namespace, remove_namespace

IMAGE = os.environ.get("CAESARION_TEST_SANDBOX_IMAGE", "dev.local/caesarion-sandbox:test")
RUNTIME_CLASS = os.environ.get("CAESARION_TEST_RUNTIME_CLASS", "")
POOL, POOL_SIZE = "caesarion-sandboxes", 2
PLACE = "cluster.json"
START_DEADLINE_S, CONNECT_DEADLINE_S, GONE_DEADLINE_S = 120.0, 3.0, 60.0
HOW = "needs a cluster (KUBECONFIG) with the sandbox's image; the head of tests/contracts/cluster.py says how"
LIMITS = SandboxSettings(disk_bytes=60_000_000, memory_bytes=600_000_000, processes=64)
RESTRICTED = {"pod-security.kubernetes.io/enforce": "restricted"}


def in_cluster(home: Path) -> bool:
    """Whether this home stands for a namespace of a cluster."""
    return (home / PLACE).exists()


def name_of(home: Path) -> str:
    """Return the name of the namespace that this home stands for."""
    return str(json.loads((home / PLACE).read_text(encoding="utf-8"))["namespace"])


def open_pods(home: Path, store: ObjectStore) -> KubernetesSandboxes:
    """Return the sandboxes of the namespace that this home stands for."""
    place = json.loads((home / PLACE).read_text(encoding="utf-8"))
    settings = KubernetesSettings(namespace=place["namespace"], pool=POOL, sandbox_key=Secret(place["key"]))
    return KubernetesSandboxes(settings, store)


@contextlib.contextmanager
def namespace(home: Path) -> Iterator[None]:
    """Have `home` stand for a namespace of its own, with a pool, until the end; then nothing of it is left."""
    if "KUBECONFIG" not in os.environ:
        pytest.skip(HOW)
    asyncio.run(_check_image())
    name = f"caesarion-contracts-{secrets.token_hex(4)}"
    (home / PLACE).write_text(json.dumps({"namespace": name, "key": secrets.token_hex(32)}), encoding="utf-8")
    try:
        asyncio.run(_set_up(name))
        yield
    finally:
        left = asyncio.run(_tear_down(name))
    assert not left, f"sessions or sandboxes outlived their tests: {left}"


async def _check_image() -> None:
    async with contextlib.aclosing(Api()) as api:
        try:
            nodes, _ = await api.list("/api/v1/nodes")
        except SandboxUnavailable:
            pytest.skip(f"the cluster of KUBECONFIG cannot be reached: {HOW}")
        if not any(IMAGE in image.get("names", ()) for node in nodes for image in node["status"].get("images", ())):
            pytest.skip(f"the cluster has no image {IMAGE}: run `scripts/images sandbox`")


async def _set_up(name: str) -> None:
    async with contextlib.aclosing(Api()) as api:
        await make_namespace(api, name, RESTRICTED)
        pool = pool_manifest(Pool(POOL, name, IMAGE, POOL_SIZE, RUNTIME_CLASS), LIMITS)
        await api.create(f"/apis/apps/v1/namespaces/{name}/replicasets", pool)
        address = await asyncio.wait_for(_address_of_ready_pod(api, name), START_DEADLINE_S)
        try:
            _, writer = await asyncio.wait_for(asyncio.open_connection(address, PORT), CONNECT_DEADLINE_S)
        except (OSError, TimeoutError):
            pytest.skip("pods cannot be reached from here: run pytest by `cluster exec`")
        writer.close()


async def _address_of_ready_pod(api: Api, name: str) -> str:
    await Pods(api, name, POOL).pool_is_ready()
    found, _ = await api.list(f"/api/v1/namespaces/{name}/pods")
    return str(next(pod["status"]["podIP"] for pod in found if is_ready(pod)))


async def _tear_down(name: str) -> list[str]:
    """Remove the namespace, and return what is there besides its pool."""
    async with contextlib.aclosing(Api()) as api:
        if await api.get(f"/api/v1/namespaces/{name}") is None:
            return []
        left = await _left(api, name)
        if left:
            await _tell(api, name)
        await api.delete(f"/apis/apps/v1/namespaces/{name}/replicasets/{POOL}", {"propagationPolicy": "Foreground"})
        await asyncio.wait_for(remove_namespace(api, name), GONE_DEADLINE_S)
        return left


async def _left(api: Api, name: str) -> list[str]:
    pods, _ = await api.list(f"/api/v1/namespaces/{name}/pods", {"labelSelector": f"{NAME_LABEL}={SANDBOX_NAME}"})
    pods = [pod for pod in pods if "ownerReferences" not in pod["metadata"]]
    secrets_, _ = await api.list(f"/api/v1/namespaces/{name}/secrets")
    return [found["metadata"]["name"] for found in (*pods, *secrets_)]


async def _tell(api: Api, name: str) -> None:
    """Print what happened in the namespace, for a test that failed."""
    events, _ = await api.list(f"/api/v1/namespaces/{name}/events")
    for event in events:
        print(event["involvedObject"]["name"], event["reason"], event.get("message", ""))  # noqa: T201
