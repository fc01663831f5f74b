"""What the pods of a real cluster do to sessions, besides the contract of `Sandboxes`."""

import asyncio
import contextlib
import json
import os
import subprocess
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from caesarion import pods
from caesarion.adapters import kubernetes
from caesarion.adapters.checkpoints import unseal
from caesarion.adapters.kubernetes import KubernetesSandboxes
from caesarion.adapters.kubernetes_api import Json
from caesarion.adapters.kubernetes_pods import Pods
from caesarion.adapters.kubernetes_sessions import PodSessions
from caesarion.adapters.sandbox_http import ForeignSandbox, SandboxClient
from caesarion.errors import SandboxUnavailable, SessionNotFound
from caesarion.ids import SessionKey
from caesarion.pod_sessions import PodSession, Suspending
from caesarion.ports import Endpoint, ObjectStore, Sandbox, SessionSpec
from tests.contracts import cluster
from tests.contracts.conftest import DEADLINE_S, SPEC, key, run, said
from tests.contracts.stores import Gate, Gated
from tests.kubernetes.conftest import Namespace

pytestmark = pytest.mark.anyio

END_SERVER = "import os, signal; os.kill(1, signal.SIGTERM)"


@contextlib.asynccontextmanager
async def another(home: Path, store: ObjectStore) -> AsyncIterator[KubernetesSandboxes]:
    """Give what another replica of a function has."""
    async with cluster.open_pods(home, store) as opened:
        yield opened


async def test_a_sandbox_whose_processes_ended_keeps_its_files_and_gets_its_variables_again(
    sandboxes: KubernetesSandboxes, namespace: Namespace
) -> None:
    owner = key("ended")
    spec = SessionSpec(idle_timeout_s=600, env={"GREETING": "hello"})
    sandbox = await sandboxes.claim(owner, spec, deadline_s=DEADLINE_S)
    await said(sandbox, "open('kept.txt', 'w').write('kept'); x = 1")
    await asyncio.to_thread(_in_container, namespace, sandbox, END_SERVER)
    await namespace.until_restarted(sandbox.name)
    ended = await sandboxes.get(owner)
    assert ended is not None
    assert (ended.state, ended.endpoint, ended.suspended_at) == ("suspended", None, None)
    again = await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    assert again == sandbox
    assert await said(again, "import os; print(open('kept.txt').read(), os.environ['GREETING'])") == "kept hello\n"
    assert (await run(again, "x"))[-2]["ename"] == "NameError"
    await sandboxes.release(owner)


async def test_a_session_whose_pod_was_removed_is_gone_and_can_be_made_again(
    sandboxes: KubernetesSandboxes, namespace: Namespace
) -> None:
    owner = key("removed")
    sandbox = await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
    await namespace.api.delete(f"{namespace.pods_path}/{sandbox.name}")
    assert await sandboxes.get(owner) is None
    assert [orphan.kind for orphan in await sandboxes.orphans()] == ["session"]
    with pytest.raises(SessionNotFound):
        await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    again = await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
    assert again.name != sandbox.name
    assert await said(again, "print(1)") == "1\n"
    await sandboxes.release(owner)


async def test_replicas_that_make_or_wake_a_session_at_once_meet_at_one_sandbox(
    sandboxes: KubernetesSandboxes, home: Path, store: ObjectStore, namespace: Namespace
) -> None:
    owner = key("meet")
    async with another(home, store) as second, another(home, store) as third:
        replicas = (sandboxes, second, third)
        made = await asyncio.gather(*(one.claim(owner, SPEC, deadline_s=DEADLINE_S) for one in replicas))
        assert made == [made[0]] * 3
        await said(made[0], "n = 1")
        assert await namespace.claimed_pods() == [made[0].name]
        await sandboxes.suspend(owner)
        woken = await asyncio.gather(*(one.claim(owner, deadline_s=DEADLINE_S) for one in replicas))
        assert woken == [woken[0]] * 3
        assert await said(woken[0], "print(n)") == "1\n"
        assert await namespace.claimed_pods() == [woken[0].name]
    await sandboxes.release(owner)
    assert await store.list("checkpoints") == []


async def test_twenty_sessions_at_once_get_a_sandbox_each(
    sandboxes: KubernetesSandboxes, home: Path, store: ObjectStore, namespace: Namespace
) -> None:
    owners = [key(f"many-{number}") for number in range(20)]
    async with another(home, store) as second:
        replicas = (sandboxes, second)
        claims = [replicas[n % 2].claim(owner, SPEC, deadline_s=DEADLINE_S) for n, owner in enumerate(owners)]
        claimed = await asyncio.gather(*claims)
        assert len({sandbox.name for sandbox in claimed}) == 20
        assert await namespace.claimed_pods() == sorted(sandbox.name for sandbox in claimed)
        answers = await asyncio.gather(*(said(sandbox, f"print({n})") for n, sandbox in enumerate(claimed)))
        assert answers == [f"{n}\n" for n in range(20)]
        assert {sandbox.key for sandbox in await second.list(None)} == set(owners)
        await asyncio.gather(*(replicas[n % 2].release(owner) for n, owner in enumerate(owners)))


async def test_what_a_crash_leaves_is_an_orphan_until_it_is_removed(
    sandboxes: KubernetesSandboxes, store: ObjectStore, namespace: Namespace
) -> None:
    owner = key("crashed")
    pod = await Pods(namespace.api, namespace.name, cluster.POOL).take(owner, "new")
    assert await store.create(f"checkpoints/{owner.digest}-0", b"half")
    assert await sandboxes.get(owner) is None
    found = await sandboxes.orphans()
    assert {(orphan.kind, orphan.name) for orphan in found} == {
        ("sandbox", pod["metadata"]["name"]),
        ("checkpoint", f"{owner.digest}-0"),
    }
    assert all(datetime.now(UTC) - orphan.since < timedelta(minutes=5) for orphan in found)
    assert [await sandboxes.remove_orphan(orphan) for orphan in found] == [True, True]
    assert [await sandboxes.remove_orphan(orphan) for orphan in found] == [False, False]
    assert await sandboxes.orphans() == []


async def test_a_claim_that_was_cut_off_is_taken_up_by_the_next_one(
    sandboxes: KubernetesSandboxes, namespace: Namespace
) -> None:
    owner = key("cut-off")
    pod = await Pods(namespace.api, namespace.name, cluster.POOL).take(owner, "new")
    sandbox = await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
    assert sandbox.name == pod["metadata"]["name"]
    [orphan_of_nothing] = await sandboxes.list(None)
    assert orphan_of_nothing == sandbox
    await sandboxes.release(owner)


async def test_a_session_whose_sandbox_was_not_handed_over_gets_its_variables_with_the_next_claim(
    sandboxes: KubernetesSandboxes, namespace: Namespace
) -> None:
    owner = key("not-handed-over")
    pod = await _taken(namespace, owner)
    ready = await Pods(namespace.api, namespace.name, cluster.POOL).ready(pod)
    assert ready is not None
    written = PodSession(
        key=owner,
        created_at=datetime.now(UTC),
        idle_timeout_s=600,
        env={"GREETING": "hello"},
        pod=ready["metadata"]["name"],
        pod_uid=ready["metadata"]["uid"],
        life=pods.life(ready) or "",
    )
    assert await PodSessions(namespace.api, namespace.name).write(written)
    found = await sandboxes.get(owner)
    assert found is not None and found.state == "ready"
    with pytest.raises(ForeignSandbox):
        await said(found, "print(1)")
    for shown in ("hello", "mine"):
        sandbox = await sandboxes.claim(owner, deadline_s=DEADLINE_S)
        assert sandbox == found
        assert await said(sandbox, "import os; print(os.environ['GREETING'])") == f"{shown}\n"
        await said(sandbox, "os.environ['GREETING'] = 'mine'")
    await sandboxes.release(owner)


async def test_a_session_is_made_also_when_the_pods_that_were_seen_waiting_are_taken(
    sandboxes: KubernetesSandboxes, home: Path, store: ObjectStore
) -> None:
    owners = [key(f"taken-{number}") for number in range(4)]
    specs = [SPEC, replace(SPEC, new=True)]
    async with another(home, store) as second:
        replicas = (sandboxes, second)
        for one in replicas:
            await one.ready()
            await one.claim(owners[0], SPEC, deadline_s=DEADLINE_S)
        claims = [replicas[n % 2].claim(owner, specs[n % 2], deadline_s=DEADLINE_S) for n, owner in enumerate(owners)]
        claimed = await asyncio.gather(*claims)
        assert len({sandbox.name for sandbox in claimed}) == 4
        for owner in owners:
            await second.release(owner)


async def test_the_next_claim_ends_a_suspension_whose_process_is_gone(
    sandboxes: KubernetesSandboxes, namespace: Namespace
) -> None:
    owner = key("left")
    sandbox = await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
    await said(sandbox, "n = 1")
    await _seal_and_leave(sandbox, namespace, owner)
    again = await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    assert again == sandbox
    assert await said(again, "print(n)") == "1\n"
    assert await sandboxes.suspend(owner)
    assert await said(await sandboxes.claim(owner, deadline_s=DEADLINE_S), "print(n)") == "1\n"
    await sandboxes.release(owner)


async def test_a_long_suspension_shows_that_it_goes_on(
    home: Path, store: ObjectStore, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "HEARTBEAT_S", 0.05)
    owner, gated = key("long"), Gated(store)
    sessions = PodSessions(namespace.api, namespace.name)
    async with another(home, gated) as sandboxes:
        await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
        gated.gates["kept"] = gate = Gate()
        suspending = asyncio.ensure_future(sandboxes.suspend(owner))
        await gate.reached.wait()
        marked = await sessions.read(owner)
        assert marked is not None and marked.suspending is not None
        await sessions.changed(marked)
        renewed = await sessions.read(owner)
        assert renewed is not None and renewed.suspending is not None
        assert renewed.suspending.heard_at > marked.suspending.heard_at
        gate.open.set()
        assert await suspending
        assert await sandboxes.release(owner)


async def test_a_suspension_that_was_given_up_by_others_leaves_the_session_as_it_was(
    home: Path, store: ObjectStore, namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(kubernetes, "HEARTBEAT_S", 0.05)
    owner, gated = key("overruled"), Gated(store)
    sessions = PodSessions(namespace.api, namespace.name)
    async with another(home, gated) as sandboxes:
        sandbox = await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
        gated.gates["put"] = gate = Gate()
        suspending = asyncio.ensure_future(sandboxes.suspend(owner))
        await gate.reached.wait()
        written = None
        while written is None:  # the mark is renewed all the time
            marked = await sessions.read(owner)
            assert marked is not None
            written = await sessions.write(replace(marked, suspending=None))
        with pytest.raises(SandboxUnavailable):
            await suspending
        del gated.gates["put"]
        assert await sandboxes.claim(owner, deadline_s=DEADLINE_S) == sandbox
        assert await said(sandbox, "print(1)") == "1\n"
        assert await sandboxes.release(owner)
        assert await store.list("checkpoints") == []


async def test_user_code_finds_nothing_of_the_cluster_and_cannot_reach_the_servers_folders(
    sandboxes: KubernetesSandboxes,
) -> None:
    owner = key("inside")
    sandbox = await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
    assert await said(sandbox, "import os; print([n for n in os.environ if 'KUBE' in n or 'CAESARION' in n])") == "[]\n"
    seen = "print(open('/proc/self/environ').read().count('KUBERNETES'), os.path.exists('/var/run/secrets'))"
    assert await said(sandbox, seen) == "0 False\n"
    assert await said(sandbox, "print(os.listdir('/journal'), os.path.exists('/run/caesarion'))") == "[] False\n"
    assert await said(sandbox, "import socket; print(socket.gethostname(), os.getuid())") == "sandbox 65532\n"
    read_only = "try:\n    open('/opt/x', 'w')\nexcept OSError as error:\n    print(error.errno)"
    assert await said(sandbox, read_only) in ("30\n", "13\n")
    assert await said(sandbox, "print(os.access('/proc/1/mem', os.R_OK))") == "False\n"
    assert sandbox.endpoint is not None
    stranger = SandboxClient(Endpoint("x" * 43, base_url=sandbox.endpoint.base_url))
    with pytest.raises(ForeignSandbox):
        await stranger.call("GET", "/v1/status")
    with pytest.raises(ForeignSandbox):
        await stranger.call("POST", "/v1/claim", document={"idle_timeout_s": 1})
    await stranger.aclose()
    await sandboxes.release(owner)


async def test_a_waiting_sandbox_tells_strangers_nothing(sandboxes: KubernetesSandboxes, namespace: Namespace) -> None:
    await sandboxes.ready()
    found, _ = await namespace.api.list(namespace.pods_path)
    waiting = next(pod for pod in found if "ownerReferences" in pod["metadata"] and pods.is_ready(pod))
    stranger = SandboxClient(Endpoint("x" * 43, base_url=pods.base_url(waiting)))
    with pytest.raises(ForeignSandbox):
        await stranger.call("GET", "/v1/status")
    await stranger.aclose()


async def test_a_connection_to_the_api_server_that_breaks_is_not_noticed(
    home: Path, store: ObjectStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with _Forwarder.open(tmp_path, monkeypatch) as forwarder, another(home, store) as sandboxes:
        owner = key("disconnected")
        await sandboxes.list(None)
        assert forwarder.connections
        claiming = asyncio.ensure_future(sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S))
        while not claiming.done():
            forwarder.cut()
            await asyncio.wait({claiming}, timeout=0.05)
            if len(forwarder.cuts) > 3:
                break
        sandbox = await claiming
        forwarder.cut()
        assert await said(sandbox, "print(1)") == "1\n"
        forwarder.cut()
        assert await sandboxes.get(owner) == sandbox
        forwarder.cut()
        assert await sandboxes.release(owner)


class _Forwarder:
    """Stands between us and the API server, so that connections can be cut."""

    def __init__(self, host: str, port: int) -> None:
        self._target = host, port
        self.connections: set[asyncio.StreamWriter] = set()
        self.cuts: list[int] = []
        self._serving: set[asyncio.Task[None] | None] = set()

    @classmethod
    @contextlib.asynccontextmanager
    async def open(cls, folder: Path, monkeypatch: pytest.MonkeyPatch) -> "AsyncIterator[_Forwarder]":
        """Give one, and have KUBECONFIG name it."""
        config = json.loads(await asyncio.to_thread(Path(os.environ["KUBECONFIG"]).read_text, "utf-8"))
        place = config["clusters"][0]["cluster"]
        host, _, port = place["server"].removeprefix("https://").partition(":")
        forwarder = cls(host, int(port))
        server = await asyncio.start_server(forwarder._serve, "127.0.0.1", 0)
        place["server"] = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        await asyncio.to_thread((folder / "kubeconfig").write_text, json.dumps(config), "utf-8")
        monkeypatch.setenv("KUBECONFIG", str(folder / "kubeconfig"))
        try:
            yield forwarder
        finally:
            server.close()
            forwarder.cut()
            await asyncio.gather(*(task for task in forwarder._serving if task is not None))

    def cut(self) -> None:
        """Break all connections."""
        self.cuts.append(len(self.connections))
        for writer in self.connections:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._serving.add(asyncio.current_task())
        self.connections.add(writer)
        there_reader, there_writer = await asyncio.open_connection(*self._target)
        await asyncio.gather(_carry(reader, there_writer), _carry(there_reader, writer))
        self.connections.discard(writer)
        for one in (writer, there_writer):
            with contextlib.suppress(OSError):
                await one.wait_closed()


async def _carry(source: asyncio.StreamReader, sink: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while piece := await source.read(65536):
            sink.write(piece)
            await sink.drain()
    sink.close()


async def _taken(namespace: Namespace, owner: SessionKey) -> Json:
    """Do what a process does that begins to make a session and dies."""
    async with contextlib.aclosing(Pods(namespace.api, namespace.name, cluster.POOL)) as taking:
        return await taking.take(owner, "new")


async def _seal_and_leave(sandbox: Sandbox, namespace: Namespace, owner: SessionKey) -> None:
    """Do what a process does that begins to suspend a session and dies, some minutes ago."""
    assert sandbox.endpoint is not None
    client = SandboxClient(sandbox.endpoint)
    await unseal(client)
    await client.call("POST", "/v1/seal", document={})
    await client.aclose()
    sessions = PodSessions(namespace.api, namespace.name)
    session = await sessions.read(owner)
    assert session is not None
    left = Suspending("nobody", datetime.now(UTC) - timedelta(minutes=5))
    assert await sessions.write(replace(session, suspending=left, checkpoint=f"{owner.digest}-left"))


def _in_container(namespace: Namespace, sandbox: Sandbox, code: str) -> None:
    command = ["kubectl", "-n", namespace.name, "exec", sandbox.name, "-c", "server", "--"]
    subprocess.run([*command, "/opt/sandbox/bin/python", "-c", code], check=True, capture_output=True, timeout=60)
