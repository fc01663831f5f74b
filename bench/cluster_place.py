"""A namespace of a cluster with a pool of sandboxes, for measuring, and what is asked of sandboxes there."""

import asyncio
import contextlib
import json
import os
import secrets
import socket
import tempfile
import time
from collections.abc import AsyncIterator, Sequence

from bench.product import NOT_YET_OUTPUT, Unexpected
from caesarion.adapters.kubernetes import KubernetesSandboxes
from caesarion.adapters.kubernetes_api import Api, Json
from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.adapters.store import open_store
from caesarion.ids import PrincipalId, SessionId, SessionKey
from caesarion.pods import POOL_LABEL, SANDBOX_NAME, Pool, is_ready, pool_manifest
from caesarion.ports import Sandbox
from caesarion.settings import KubernetesSettings, SandboxSettings, Secret, StoreSettings
from tests.kubernetes.namespaces import make_namespace, remove_namespace

TAG = os.environ.get("TAG", "test")
POOL = "caesarion-sandboxes"
GVISOR = "gvisor"
LABELLED_SANDBOX = f"app.kubernetes.io/name={SANDBOX_NAME}"
DEADLINE_S = 300.0
WATCH_INTERVAL_S = 0.1


def image(name: str) -> str:
    """Return the name of an image of ours."""
    return f"dev.local/caesarion-{name}:{TAG}"


class Place:
    """A namespace and its pool."""

    def __init__(self, api: Api, name: str, size: int, runtime_class: str) -> None:
        self.api = api
        self.name = name
        self.size = size
        self.runtime_class = runtime_class
        self.sandbox_key = secrets.token_hex(32)
        self.pods_path = f"/api/v1/namespaces/{name}/pods"
        self.secrets_path = f"/api/v1/namespaces/{name}/secrets"

    @contextlib.asynccontextmanager
    async def sandboxes(self) -> AsyncIterator[KubernetesSandboxes]:
        """Give what a replica of a function has."""
        settings = KubernetesSettings(namespace=self.name, pool=POOL, sandbox_key=Secret(self.sandbox_key))
        with tempfile.TemporaryDirectory(prefix="cb-", dir="/tmp") as folder:
            async with KubernetesSandboxes(settings, open_store(StoreSettings(), folder)) as opened:
                yield opened

    async def pods(self, selector: str) -> Sequence[Json]:
        """Return pods by their labels."""
        found, _ = await self.api.list(self.pods_path, {"labelSelector": selector})
        return found

    async def at_rest(self) -> None:
        """Return when the pool waits ready and nothing of earlier sandboxes is left. Raises TimeoutError."""
        async with asyncio.timeout(DEADLINE_S):
            while True:
                found = await self.pods(LABELLED_SANDBOX)
                if len(found) == self.size and all(map(_waits_ready, found)):
                    return
                await asyncio.sleep(WATCH_INTERVAL_S)


def new_key() -> SessionKey:
    """Return the key of a session that is not there."""
    return SessionKey(PrincipalId("bench"), SessionId(f"b{secrets.token_hex(8)}"))


async def first_output_s(client: SandboxClient, code: str) -> float:
    """Run code to its end and return when its first output came (time.perf_counter)."""
    first_s: float | None = None
    output: Json = {}
    async with client.stream("POST", "/v1/executions", document={"code": code}) as answer:
        async for lines in answer.lines():
            for line in lines.splitlines():
                output = json.loads(line)
                if first_s is None and output["type"] not in NOT_YET_OUTPUT:
                    first_s = time.perf_counter()
    if first_s is None or output.get("status") != "ok":
        raise Unexpected(f"an execution ended with {output!r}")
    return first_s


@contextlib.asynccontextmanager
async def asked(sandbox: Sandbox) -> AsyncIterator[SandboxClient]:
    """Give a client of a sandbox."""
    if sandbox.endpoint is None:
        raise Unexpected(f"a sandbox has no address: {sandbox!r}")
    client = SandboxClient(sandbox.endpoint)
    try:
        yield client
    finally:
        await client.aclose()


@contextlib.asynccontextmanager
async def place(size: int, runtime_class: str = "") -> AsyncIterator[Place]:
    """Give a namespace with a pool of `size` sandboxes that wait, 0 for none; nothing of it is left afterwards."""
    async with contextlib.aclosing(Api()) as api:
        made = Place(api, f"caesarion-bench-{secrets.token_hex(4)}", size, runtime_class)
        try:
            await make_namespace(api, made.name)
            pool = pool_manifest(Pool(POOL, made.name, image("sandbox"), size, runtime_class), SandboxSettings())
            await api.create(f"/apis/apps/v1/namespaces/{made.name}/replicasets", pool)
            await made.at_rest()
            yield made
        finally:
            await asyncio.wait_for(remove_namespace(api, made.name), DEADLINE_S)


async def runtime_classes() -> Sequence[str]:
    """Return the isolations to compare: what the nodes have anyway, and gVisor where it is."""
    async with contextlib.aclosing(Api()) as api:
        found = await api.get(f"/apis/node.k8s.io/v1/runtimeclasses/{GVISOR}")
    return ("", GVISOR) if found is not None else ("",)


def _waits_ready(pod: Json) -> bool:
    return POOL_LABEL in pod["metadata"]["labels"] and is_ready(pod)


def own_address_towards(address: str) -> str:
    """Return the address of this machine that something at `address` can reach."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        asking.connect((address, 1))
        return str(asking.getsockname()[0])
