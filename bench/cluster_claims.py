"""A warm claim and its first output on a cluster, beside the writes that no claim could do without."""

import asyncio
import secrets
import time
from dataclasses import dataclass, replace

from bench.cluster_place import Place, asked, first_output_s, new_key, place, runtime_classes
from bench.loads import Outcomes, burst, tried
from bench.report import Figure, Part, figure, measured, once
from bench.statistics import none_fails, p50_under
from caesarion.adapters.kubernetes import KubernetesSandboxes
from caesarion.adapters.kubernetes_api import Json
from caesarion.ports import SessionSpec

NAME = "a claim from a warm pool"
CODE = "print(1)"
CLAIM_LIMIT_MS, OUTPUT_LIMIT_MS = 30, 100
SPEC = SessionSpec(3600.0)
BARE = "a bare PATCH of a pod and POST of a Secret"
THERE = "the same in a sandbox that is there"


@dataclass(frozen=True, slots=True)
class Sizes:
    """How often each thing is done, and how many claims there are at once."""

    claims: int
    claims_isolated: int
    at_once: int


FULL, QUICK = Sizes(20, 8, 8), Sizes(2, 1, 2)


async def measure(*, quick: bool) -> Part:
    """Claim one after the other from a pool at rest, and then all at once, under each isolation."""
    sizes = QUICK if quick else FULL
    figures: list[Figure] = []
    for runtime_class in await runtime_classes():
        told = f", {runtime_class}" if runtime_class else ""
        count = sizes.claims_isolated if runtime_class else sizes.claims
        async with place(2, runtime_class) as there, there.sandboxes() as sandboxes:
            figures += await _one_by_one(there, sandboxes, count, told)
        if not runtime_class:
            async with place(sizes.at_once) as there, there.sandboxes() as sandboxes:
                figures += await _at_once(there, sandboxes, sizes.at_once)
    notes = (
        "through the adapter that functions have, in a process of its own; the pool is at rest before each claim",
        "a new id was made just now; with an id of one's own the function looks first whether there is such a session",
    )
    return Part(NAME, tuple(figures), notes)


async def _one_by_one(there: Place, sandboxes: KubernetesSandboxes, count: int, told: str) -> list[Figure]:
    new, own, bare, output, again = (Outcomes() for _ in range(5))
    for number in range(-1, count):
        for spec, outcomes in ((replace(SPEC, new=True), (new, output, again)), (SPEC, (own, Outcomes(), Outcomes()))):
            await there.at_rest()
            kept = number >= 0
            await tried(lambda: _bare_ms(there), bare if kept else Outcomes())
            await _claimed(sandboxes, spec, outcomes if kept else (Outcomes(), Outcomes(), Outcomes()))
    writes = measured(bare)
    claim_ms, own_ms, output_ms, again_ms = map(measured, (new, own, output, again))
    claims = {"a new id": claim_ms, "an id of one's own": own_ms}
    return [
        *(
            figure(f"claim, {name}{told}", "ms", found, BARE, writes, [p50_under(found.samples, CLAIM_LIMIT_MS)])
            for name, found in claims.items()
        ),
        figure(
            f"claim to first output of `{CODE}`{told}", "ms", output_ms, THERE, again_ms,
            [p50_under(output_ms.samples, OUTPUT_LIMIT_MS)],
        ),
    ]  # fmt: skip


async def _claimed(
    sandboxes: KubernetesSandboxes, spec: SessionSpec, outcomes: tuple[Outcomes, Outcomes, Outcomes]
) -> None:
    """Claim, run code, and run it again; keep the milliseconds of the claim, of both together, and of the last."""
    claim, output, again = outcomes
    key = new_key()
    began_s = time.perf_counter()
    try:
        sandbox = await sandboxes.claim(key, spec, deadline_s=60)
        claim.samples_ms.append((time.perf_counter() - began_s) * 1000)
        async with asked(sandbox) as client:
            output.samples_ms.append((await first_output_s(client, CODE) - began_s) * 1000)
            began_s = time.perf_counter()
            again.samples_ms.append((await first_output_s(client, CODE) - began_s) * 1000)
    except Exception as exc:
        claim.failed(exc)
    finally:
        await sandboxes.release(key)


async def _at_once(there: Place, sandboxes: KubernetesSandboxes, count: int) -> list[Figure]:
    """Claim as many as wait, all at the same moment."""
    keys = [new_key() for _ in range(count)]
    left = iter(keys)

    async def one() -> float:
        key = next(left)
        began_s = time.perf_counter()
        await sandboxes.claim(key, replace(SPEC, new=True), deadline_s=60)
        return (time.perf_counter() - began_s) * 1000

    await _warmed_up(there, sandboxes)
    await there.at_rest()
    ours = await burst(one, count)
    await asyncio.gather(*(sandboxes.release(key) for key in keys))
    await there.at_rest()
    reference = await burst(lambda: _bare_ms(there), count)
    ours_ms, bare_ms = measured(ours), measured(reference)
    return [
        figure(
            f"{count} claims at once", "ms", ours_ms, f"{BARE}, {count} at once", bare_ms,
            [none_fails(len(ours.samples_ms), ours.tried)],
        ),
        figure("claims per second, so many at once", "claims/s", once(_rate(ours)), BARE, once(_rate(reference))),
    ]  # fmt: skip


async def _warmed_up(there: Place, sandboxes: KubernetesSandboxes) -> None:
    """Have the client imported and connected."""
    key = new_key()
    await sandboxes.claim(key, SPEC, deadline_s=60)
    await sandboxes.release(key)


async def _bare_ms(there: Place) -> float:
    """Return how long the two writes of a claim take, on a pod that nobody runs."""
    name = f"bare-{secrets.token_hex(4)}"
    await there.api.create(there.pods_path, _pod(name))
    try:
        began_s = time.perf_counter()
        await there.api.patch(f"{there.pods_path}/{name}", {"metadata": {"labels": {"taken": "yes"}}})
        await there.api.create(
            there.secrets_path, {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name}, "data": {}}
        )
        return (time.perf_counter() - began_s) * 1000
    finally:
        await there.api.delete(f"{there.pods_path}/{name}", {"gracePeriodSeconds": 0})
        await there.api.delete(f"{there.secrets_path}/{name}")


def _pod(name: str) -> Json:
    containers = [{"name": "none", "image": "none"}]
    spec = {"nodeName": "nowhere", "containers": containers}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name}, "spec": spec}


def _rate(outcomes: Outcomes) -> float:
    return len(outcomes.samples_ms) / outcomes.took_s
