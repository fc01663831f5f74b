"""Ten thousand sandboxes in the API server: listing them, finding one, and a sweep; nobody runs their pods."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine, Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from bench.cluster_place import POOL, Place, image, place
from bench.report import Measured, Part, figure, several
from bench.statistics import p50_under
from caesarion import pods
from caesarion.adapters.kubernetes_api import Json
from caesarion.ids import PrincipalId, SessionId, SessionKey
from caesarion.pod_sessions import PodSession, secret
from caesarion.ports import Sandbox
from caesarion.settings import SandboxSettings, SweepSettings
from caesarion_cleanup.rules import Seen, could_be_due, decide

NAME = "10,000 sandboxes in the cluster"
SANDBOXES, PRINCIPALS = 10_000, 100
NODE = "caesarion-bench-nowhere"
NODES = "/api/v1/nodes"
AT_ONCE = 24
DECIDE_LIMIT_MS = 50
STATES: list[Json] = [
    {"name": name, "containerID": f"none://{name}", "image": "", "imageID": "", "ready": True, "restartCount": 0,
     "state": {"running": {}}}
    for name in ("server", "kernels")
]  # fmt: skip


async def measure(*, quick: bool) -> Part:
    """Make the objects, and look at them again and again."""
    count, times = (40, 2) if quick else (SANDBOXES, 5)
    now = datetime.now(UTC)
    policy = SweepSettings()
    async with place(0) as there, _node(there), _objects(there, count, now), there.sandboxes() as sandboxes:
        listed = await sandboxes.list(None)
        assert len(listed) == count
        assert {sandbox.state for sandbox in listed} == {"ready"}
        some = _key(count // 2)

        async def swept() -> None:
            found = await sandboxes.list(None)
            _decided(found, now, policy)
            await sandboxes.orphans()

        async def decided() -> None:
            _decided(listed, now, policy)

        async def compared() -> None:
            sum((now - sandbox.created_at).total_seconds() >= sandbox.idle_timeout_s for sandbox in listed)

        all_ms = await _times_ms(lambda: sandboxes.list(None), times)
        bare_ms = await _times_ms(lambda: _bare_list(there, pods.SESSION_LABEL), times)
        one = f"{pods.PRINCIPAL_LABEL}={pods.principal_label(some.principal)}"
        own_ms = await _times_ms(lambda: sandboxes.list(some.principal), 5 * times)
        bare_own_ms = await _times_ms(lambda: _bare_list(there, one), 5 * times)
        path = f"{there.secrets_path}/{secret(_session(some, now))['metadata']['name']}"
        find_ms = await _times_ms(lambda: sandboxes.get(some), 20 * times)
        bare_find_ms = await _times_ms(lambda: there.api.get(path), 20 * times)
        sweep_ms = await _times_ms(swept, times)
        decide_ms, compare_ms = await _times_ms(decided, 10 * times), await _times_ms(compared, 10 * times)
    reference = "a bare list of the pods"
    figures = (
        figure(f"list all {count}", "ms", all_ms, reference, bare_ms),
        figure(f"list those of one of {PRINCIPALS} principals", "ms", own_ms, reference, bare_own_ms),
        figure("find one", "ms", find_ms, "a bare GET of a Secret", bare_find_ms),
        figure("a sweep that finds nothing due: list, decision, orphans", "ms", sweep_ms, reference, bare_ms),
        figure(
            "its decision", "ms", decide_ms, "comparing ages only", compare_ms,
            [p50_under(decide_ms.samples, DECIDE_LIMIT_MS)],
        ),
    )  # fmt: skip
    return Part(NAME, figures, ("a pod and a Secret each, on a node that does not exist; no sandbox is asked",))


def _decided(listed: Sequence[Sandbox], now: datetime, policy: SweepSettings) -> None:
    due = sum(could_be_due(sandbox, now) for sandbox in listed)
    decisions = decide([Seen(sandbox) for sandbox in listed], now, policy)
    assert not due and not decisions.suspend and not decisions.remove


async def _bare_list(there: Place, selector: str) -> None:
    await there.api.list(there.pods_path, {"labelSelector": selector})


async def _times_ms(work: Callable[[], Awaitable[object]], times: int) -> Measured:
    taken = []
    for _ in range(times):
        began_s = time.perf_counter()
        await work()
        taken.append((time.perf_counter() - began_s) * 1000)
    return several(taken)


@contextlib.asynccontextmanager
async def _node(there: Place) -> AsyncIterator[None]:
    """Have a node that nothing runs on, as pods of a node that is not known are removed by the cluster."""
    await there.api.create(NODES, {"apiVersion": "v1", "kind": "Node", "metadata": {"name": NODE}})
    try:
        yield
    finally:
        await there.api.delete(f"{NODES}/{NODE}")


@contextlib.asynccontextmanager
async def _objects(there: Place, count: int, now: datetime) -> AsyncIterator[None]:
    """Have so many sessions, each with its pod."""
    pool = pods.pool_manifest(pods.Pool(POOL, there.name, image("sandbox")), SandboxSettings())
    try:
        await _some_at_once(_made(there, pool, _key(number), now) for number in range(count))
        yield
    finally:
        await there.api.request("DELETE", there.pods_path, body={"gracePeriodSeconds": 0})


async def _made(there: Place, pool: Json, key: SessionKey, now: datetime) -> None:
    pod = pods.cold_pod(pool, key, now, "new")
    place_of_it = {"nodeName": NODE, "tolerations": [{"operator": "Exists"}]}
    made = await there.api.create(there.pods_path, {**pod, "spec": {**pod["spec"], **place_of_it}})
    status = {"status": {"phase": "Running", "containerStatuses": STATES}}
    seen = await there.api.patch(f"{there.pods_path}/{made['metadata']['name']}/status", status)
    metadata = seen["metadata"]
    session = replace(_session(key, now), pod=metadata["name"], pod_uid=metadata["uid"], life=pods.life(seen) or "")
    await there.api.create(there.secrets_path, secret(session))


async def _some_at_once(work: Iterator[Coroutine[Any, Any, None]]) -> None:
    async def worker() -> None:
        for one in work:
            await one

    async with asyncio.TaskGroup() as group:
        for _ in range(AT_ONCE):
            group.create_task(worker())


def _key(number: int) -> SessionKey:
    return SessionKey(PrincipalId(f"p{number % PRINCIPALS}"), SessionId(f"s{number}"))


def _session(key: SessionKey, now: datetime) -> PodSession:
    return PodSession(key=key, created_at=now, idle_timeout_s=3600.0)
