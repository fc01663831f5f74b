"""An execution in a pod beside a bare kernel in the same pod, and the memory of sandboxes that wait, by isolation."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence

from bench.cluster_place import Place, asked, first_output_s, new_key, place, runtime_classes
from bench.loads import Outcomes
from bench.product import Unexpected
from bench.report import Figure, Measured, Part, figure, measured, several
from bench.statistics import at_most_more
from caesarion.ports import SessionSpec

NAME = "an execution in a pod, and its memory"
CODE = "print(1)"
OVER_BARE_MS = 5
PYTHON = "/opt/sandbox/bin/python"
START_DEADLINE_S, MEMORY_DEADLINE_S = 120.0, 120.0
LOOK_INTERVAL_S = 1.0
SETTLED_S = 20.0  # after which the kubelet has looked at a pod that is ready
BARE_CLIENT = f"""
import asyncio, os, sys, time
os.environ.update(HOME="/tmp", JUPYTER_RUNTIME_DIR="/tmp", IPYTHONDIR="/tmp")
from jupyter_client.manager import AsyncKernelManager
async def run(client):
    began_s = time.perf_counter()
    msg_id = client.execute({CODE!r})
    while True:
        message = await client.get_iopub_msg()
        if message["parent_header"].get("msg_id") == msg_id and message["content"].get("execution_state") == "idle":
            break
    await client.get_shell_msg()
    return (time.perf_counter() - began_s) * 1000
async def main():
    manager = AsyncKernelManager(transport="ipc", ip="/tmp/bare", kernel_name="python3")
    manager.kernel_spec_manager.ensure_native_kernel = True
    await manager.start_kernel()
    client = manager.client()
    client.start_channels()
    await client.wait_for_ready()
    print("ready", flush=True)
    for _ in sys.stdin:
        print(await run(client), flush=True)
    client.stop_channels()
    await manager.shutdown_kernel(now=True)
asyncio.run(main())
"""


async def measure(*, quick: bool) -> Part:
    """Run the same code in both kernels in turn; before that, look at the pods' memory."""
    warm_up, count = (1, 3) if quick else (20, 300)
    figures: list[Figure] = []
    memory: dict[str, Measured] = {}
    for runtime_class in await runtime_classes():
        async with place(1 if quick else 3, runtime_class) as there:
            memory[runtime_class] = several(await _memory_mb(there, 0 if quick else SETTLED_S))
            ours, bare = await _rounds(there, warm_up, count)
        first, second = measured(ours), measured(bare)
        verdicts = at_most_more(first.samples, second.samples, p50=OVER_BARE_MS)
        told = f", {runtime_class}" if runtime_class else ""
        name = f"`{CODE}` to its end{told}"
        figures.append(figure(name, "ms", first, "a bare kernel in the same pod", second, verdicts))
    plain, *isolated = memory.items()
    figures += [figure(f"a sandbox that waits, {name}", "MB", found, "runc", plain[1]) for name, found in isolated]
    if not isolated:
        figures.append(figure("a sandbox that waits", "MB", plain[1]))
    notes = (
        "from the function's side of the network to the last output; the bare kernel is asked by jupyter_client inside "
        "the container of the kernels, under the same limit of 0.5 cores",
        "memory is the pod's working set, of both containers, as the kubelet tells it",
    )
    return Part(NAME, tuple(figures), notes)


async def _rounds(there: Place, warm_up: int, count: int) -> tuple[Outcomes, Outcomes]:
    ours, bare = Outcomes(), Outcomes()
    key = new_key()
    async with there.sandboxes() as sandboxes:
        sandbox = await sandboxes.claim(key, SessionSpec(3600.0), deadline_s=60)
        async with asked(sandbox) as client, _bare_kernel(there.name, sandbox.name) as kernel:
            for number in range(-warm_up, count):
                began_s = time.perf_counter()
                await first_output_s(client, CODE)
                ours_ms = (time.perf_counter() - began_s) * 1000
                bare_ms = await kernel.round_ms()
                if number >= 0:
                    ours.samples_ms.append(ours_ms)
                    bare.samples_ms.append(bare_ms)
        await sandboxes.release(key)
    return ours, bare


class _BareKernel:
    """A kernel and its client in a pod, which run the code once for each line that they are given."""

    def __init__(self, process: asyncio.subprocess.Process) -> None:
        self._process = process

    async def said(self) -> str:
        assert self._process.stdout is not None
        async with asyncio.timeout(START_DEADLINE_S):
            line = (await self._process.stdout.readline()).decode().strip()
        if not line:
            raise Unexpected("the bare kernel in the pod ended")
        return line

    async def round_ms(self) -> float:
        assert self._process.stdin is not None
        self._process.stdin.write(b"\n")
        return float(await self.said())


@contextlib.asynccontextmanager
async def _bare_kernel(namespace: str, pod: str) -> AsyncIterator[_BareKernel]:
    command = ("kubectl", "-n", namespace, "exec", "-i", pod, "-c", "kernels", "--", PYTHON, "-c", BARE_CLIENT)
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(*command, stdin=pipe, stdout=pipe)
    try:
        kernel = _BareKernel(process)
        if (line := await kernel.said()) != "ready":
            raise Unexpected(f"the bare kernel in the pod said {line!r}")
        yield kernel
    finally:
        assert process.stdin is not None
        process.stdin.close()
        await process.wait()


async def _memory_mb(there: Place, settled_s: float) -> Sequence[float]:
    """Return the megabytes of each pod that waits, once the kubelet knows them."""
    await asyncio.sleep(settled_s)
    node = (await there.pods(""))[0]["spec"]["nodeName"]
    async with asyncio.timeout(MEMORY_DEADLINE_S):
        while True:
            told = await there.api.get(f"/api/v1/nodes/{node}/proxy/stats/summary")
            assert told is not None
            mine = [pod for pod in told["pods"] if pod["podRef"]["namespace"] == there.name]
            found = [pod.get("memory", {}).get("workingSetBytes", 0) / 1e6 for pod in mine]
            if len(found) == there.size and all(found):
                return found
            await asyncio.sleep(LOOK_INTERVAL_S)
