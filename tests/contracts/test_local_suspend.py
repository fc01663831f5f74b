"""What local suspended sessions stand: processes that are killed half-way, and leavings that belong to nobody."""

import asyncio
import contextlib
import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from caesarion.adapters import local_machine, local_pool
from caesarion.adapters.checkpoints import Checkpoints, unseal
from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.local_record import UNFINISHED_AGE_S, WAKING, Claim, Home
from caesarion.adapters.sandbox_http import SandboxClient
from caesarion.errors import SandboxUnavailable
from caesarion.ids import PrincipalId, SessionKey
from caesarion.ports import ObjectStore, Orphan, OrphanKind, Sandbox
from tests.contracts import conftest
from tests.contracts.conftest import DEADLINE_S, SPEC, key, open_folder, open_local, run, said
from tests.contracts.stores import Gate, Gated, Point

pytestmark = pytest.mark.anyio

ROOT = Path(__file__).parents[2]
EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@pytest.fixture
def kept(home: Path) -> ObjectStore:
    return open_folder(home)


async def begun(sandboxes: LocalSandboxes, owner: SessionKey) -> Sandbox:
    """Return the sandbox of a new session in which `n` is 1."""
    sandbox = await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
    await said(sandbox, "n = 1")
    return sandbox


async def goes_on(sandboxes: LocalSandboxes, owner: SessionKey) -> Sandbox:
    """Return the sandbox of a session in which `n` is 1 still."""
    sandbox = await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    assert await said(sandbox, "print(n)") == "1\n"
    return sandbox


async def killed(home: Path, work: str, point: str, session: str) -> None:
    """Have another process suspend or claim the session, and kill it at this point."""
    command = [sys.executable, "-m", __spec__.name, str(home), conftest.PYTHON, work, point, session]
    child = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, cwd=ROOT)
    assert child.stdout is not None
    assert await child.stdout.readline() == b"there\n"
    child.send_signal(signal.SIGKILL)
    await child.wait()


async def be_killed(home: str, python: str, work: str, point: str, session: str) -> None:
    """Do the work up to the point, say so, and wait for a violent end."""
    conftest.PYTHON = python
    store, gate = Gated(open_folder(Path(home))), Gate()
    if point == "discard":
        never = asyncio.Event()

        async def discard(self: local_pool.Pool, name: str) -> None:
            gate.reached.set()
            await never.wait()

        setattr(local_pool.Pool, point, discard)
    elif point == "_until_ready":

        async def wait(_: int) -> None:
            gate.reached.set()
            await asyncio.Event().wait()

        setattr(local_machine, point, wait)
    else:
        store.gates[point] = gate  # type: ignore[index]
    sandboxes = open_local(Path(home), pool_size=0, store=store)
    owner = key(session)
    spec = SPEC if work == "make" else None
    doing: Any = sandboxes.suspend(owner) if work == "suspend" else sandboxes.claim(owner, spec, deadline_s=DEADLINE_S)
    working = asyncio.ensure_future(doing)
    await gate.reached.wait()
    print("there", flush=True)  # noqa: T201
    await working


async def test_a_sandbox_that_ended_by_itself_is_woken_with_its_files(sandboxes: LocalSandboxes, home: Path) -> None:
    sandbox = await sandboxes.claim(key("woken"), SPEC, deadline_s=DEADLINE_S)
    await said(sandbox, "open('kept.txt', 'w').write('kept'); x = 1")
    end(home, sandbox)
    suspended = await sandboxes.get(key("woken"))
    assert suspended is not None
    assert (suspended.state, suspended.endpoint, suspended.suspended_at) == ("suspended", None, None)
    assert not await sandboxes.release(key("woken"), suspended_since=datetime.now(UTC))
    assert await sandboxes.suspend(key("woken"), unused_since=datetime.now(UTC))
    marked = await sandboxes.get(key("woken"))
    assert marked is not None and marked.suspended_at is not None
    woken = await sandboxes.claim(key("woken"), deadline_s=DEADLINE_S)
    assert (woken.name, woken.state, woken.suspended_at) == (sandbox.name, "ready", None)
    assert await said(woken, "print(open('kept.txt').read())") == "kept\n"
    assert (await run(woken, "x"))[-2]["ename"] == "NameError"
    await sandboxes.release(key("woken"))


def end(home: Path, sandbox: Sandbox) -> None:
    """End the processes of a sandbox as the system does when memory is short, and wait until they are gone."""
    record = Home(str(home)).record(sandbox.name)
    assert record is not None
    endings = [os.pidfd_open(process.pid) for process in record.processes]
    os.kill(record.processes[0].pid, signal.SIGKILL)  # the other ends as this one does
    for ending in endings:
        select.select([ending], [], [])
        os.close(ending)
    assert not record.alive


@pytest.mark.parametrize("point", ["put", "kept"])
async def test_a_session_survives_the_end_of_who_suspends_it(
    sandboxes: LocalSandboxes, home: Path, kept: ObjectStore, point: str
) -> None:
    owner = key(f"killed-{point}")
    sandbox = await begun(sandboxes, owner)
    await killed(home, "suspend", point, owner.session)
    assert await sandboxes.get(owner) == sandbox
    assert await goes_on(sandboxes, owner) == sandbox
    assert await kept.list("checkpoints") == []
    assert await sandboxes.suspend(owner)
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_a_suspended_session_survives_the_end_of_who_removes_its_sandbox(
    sandboxes: LocalSandboxes, home: Path
) -> None:
    owner = key("killed-discard")
    sandbox = await begun(sandboxes, owner)
    await killed(home, "suspend", "discard", owner.session)
    suspended = await sandboxes.get(owner)
    assert suspended is not None and suspended.state == "suspended"
    woken = await goes_on(sandboxes, owner)
    assert woken.name != sandbox.name
    while sandbox.name in Home(str(home)).names():  # the pool removes it too
        await sandboxes.remove_orphan(Orphan("sandbox", sandbox.name, EPOCH))
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_a_session_survives_the_end_of_who_wakes_it(sandboxes: LocalSandboxes, home: Path) -> None:
    owner = key("killed-waking")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    await killed(home, "claim", "read", owner.session)
    half = Home(str(home)).claim(owner.digest + WAKING)
    assert half is not None
    await goes_on(sandboxes, owner)
    assert half.name not in Home(str(home)).names()
    assert Home(str(home)).claim(owner.digest + WAKING) is None
    await sandboxes.release(owner)


async def test_the_sandbox_of_a_wake_up_that_was_cut_off_is_an_orphan(sandboxes: LocalSandboxes, home: Path) -> None:
    owner = key("killed-and-left")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    await killed(home, "claim", "read", owner.session)
    half = Home(str(home)).claim(owner.digest + WAKING)
    assert half is not None
    orphan = await listed(sandboxes, "sandbox", half.name)
    assert await sandboxes.remove_orphan(orphan)
    assert not await sandboxes.remove_orphan(orphan)
    assert half.name not in Home(str(home)).names()
    assert Home(str(home)).claim(owner.digest + WAKING) is None
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_a_sandbox_that_was_taken_and_not_handed_over_is_an_orphan(sandboxes: LocalSandboxes, home: Path) -> None:
    owner = key("half-given")
    name = await taken(sandboxes, home, owner)
    orphan = await listed(sandboxes, "sandbox", name)
    assert orphan.since <= datetime.now(UTC)
    assert await sandboxes.remove_orphan(orphan)
    assert name not in Home(str(home)).names()
    assert await sandboxes.get(owner) is None


async def test_an_orphan_that_was_claimed_meanwhile_is_not_removed(sandboxes: LocalSandboxes, home: Path) -> None:
    owner = key("given-after-all")
    name = await taken(sandboxes, home, owner)
    orphan = await listed(sandboxes, "sandbox", name)
    sandbox = await begun(sandboxes, owner)
    assert sandbox.name == name
    assert not await sandboxes.remove_orphan(orphan)
    assert await goes_on(sandboxes, owner) == sandbox
    await sandboxes.release(owner)


async def listed(sandboxes: LocalSandboxes, kind: OrphanKind, name: str) -> Orphan:
    """Return what is told of an orphan."""
    [found] = [orphan for orphan in await sandboxes.orphans() if orphan.name == name]
    assert found.kind == kind
    return found


async def taken(sandboxes: LocalSandboxes, home: Path, owner: SessionKey) -> str:
    """Return the sandbox of the pool that a process took for this session before it ended."""
    await sandboxes.ready()
    on_disk = Home(str(home))
    [waiting] = on_disk.pooled()
    record = on_disk.record(waiting)
    assert record is not None
    assert on_disk.take(owner.digest, record.template) == waiting
    return waiting


async def test_a_sandbox_that_is_only_being_made_is_not_removed(sandboxes: LocalSandboxes, home: Path) -> None:
    owner, on_disk = key("being-made"), Home(str(home))
    await sandboxes.ready()
    there = set(on_disk.names())
    other = open_local(home, pool_size=0)
    await other.start()
    for name in on_disk.pooled():  # so that the next one has to be made
        assert on_disk.withdraw(name)
        await sandboxes.remove_orphan(Orphan("sandbox", name, EPOCH))
    claiming = asyncio.ensure_future(other.claim(owner, SPEC, deadline_s=DEADLINE_S))
    try:
        while not (made := set(on_disk.names()) - there):
            await asyncio.wait({claiming}, timeout=0.01)
        for name in made:
            assert not await sandboxes.remove_orphan(Orphan("sandbox", name, EPOCH))
    finally:
        sandbox = await claiming
        await other.aclose()
    await said(sandbox, "print(1)")
    await sandboxes.release(owner)


async def test_a_session_whose_sandbox_is_gone_is_an_orphan(sandboxes: LocalSandboxes, home: Path) -> None:
    owner = key("no-folder")
    lost = await begun(sandboxes, owner)
    shutil.rmtree(home / "sandboxes" / lost.name)
    orphan = await listed(sandboxes, "session", owner.digest)
    assert await sandboxes.remove_orphan(orphan)
    assert not await sandboxes.remove_orphan(orphan)
    assert await sandboxes.get(owner) is None


async def test_a_session_whose_checkpoint_is_not_in_the_store_stays_suspended(
    sandboxes: LocalSandboxes, home: Path, kept: ObjectStore
) -> None:
    owner = key("no-checkpoint")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    path = f"checkpoints/{owner.digest}"
    content = b"".join([piece async for piece in kept.read(path)])
    await kept.delete(path)
    with pytest.raises(SandboxUnavailable, match="Check that CAESARION_STORE_URL"):
        await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    assert owner.digest not in {orphan.name for orphan in await sandboxes.orphans()}
    assert not await sandboxes.remove_orphan(Orphan("session", owner.digest, EPOCH))
    suspended = await sandboxes.get(owner)
    assert suspended is not None and suspended.state == "suspended"
    await kept.create(path, content)
    await goes_on(sandboxes, owner)
    await sandboxes.suspend(owner)
    await kept.delete(path)
    assert await sandboxes.release(owner, suspended_since=datetime.now(UTC))
    assert await sandboxes.get(owner) is None


@contextlib.asynccontextmanager
async def opened_again(home: Path, kept: ObjectStore) -> AsyncIterator[tuple[LocalSandboxes, Gated]]:
    """Give other sandboxes of the same home, with a store that can be stopped."""
    store = Gated(kept)
    other = open_local(home, pool_size=0, store=store)
    try:
        yield other, store
    finally:
        await other.aclose()


async def waking_in(home: Path, other: LocalSandboxes, gate: Gate, owner: SessionKey) -> str:
    """Have nobody wait any more for a session that is being restored, and return the sandbox in which it is."""
    with pytest.raises(SandboxUnavailable) as raised:
        await other.claim(owner, deadline_s=0.1)
    assert raised.value.retry_after_s
    await gate.reached.wait()
    half = Home(str(home)).claim(owner.digest + WAKING)
    assert half is not None
    return half.name


async def test_waking_goes_on_when_who_asked_has_no_more_time(
    sandboxes: LocalSandboxes, home: Path, kept: ObjectStore
) -> None:
    owner = key("slow")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    async with opened_again(home, kept) as (other, store):
        store.gates["read"] = gate = Gate()
        name = await waking_in(home, other, gate, owner)
        assert await waking_in(home, other, gate, owner) == name
        gate.open.set()
        woken = await goes_on(other, owner)
        assert woken.name == name
    await sandboxes.release(owner)


async def test_waking_ends_with_the_process_and_with_the_session(
    sandboxes: LocalSandboxes, home: Path, kept: ObjectStore
) -> None:
    owner = key("slow-and-left")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    async with opened_again(home, kept) as (other, store):
        store.gates["read"] = gate = Gate()
        name = await waking_in(home, other, gate, owner)
    assert name not in Home(str(home)).names()
    await goes_on(sandboxes, owner)
    await sandboxes.suspend(owner)
    async with opened_again(home, kept) as (other, store):
        store.gates["read"] = gate = Gate()
        name = await waking_in(home, other, gate, owner)
        assert await other.release(owner)
    assert name not in Home(str(home)).names()
    assert await sandboxes.get(owner) is None


@pytest.mark.parametrize("point", ["put", "kept"])
async def test_a_sandbox_that_ends_while_it_is_being_suspended_is_started_again(
    sandboxes: LocalSandboxes, home: Path, kept: ObjectStore, point: Point
) -> None:
    owner = key(f"ended-{point}")
    sandbox = await begun(sandboxes, owner)
    await said(sandbox, "open('kept.txt', 'w').write('kept')")
    async with opened_again(home, kept) as (other, store):
        store.gates[point] = gate = Gate()
        suspending = asyncio.ensure_future(other.suspend(owner))
        await gate.reached.wait()
        end(home, sandbox)
        during = await sandboxes.get(owner)
        assert during is not None and during.state == "starting"
        gate.open.set()
        with pytest.raises(SandboxUnavailable):
            await suspending
        after = await sandboxes.get(owner)
        assert after is not None and after.state == "suspended"
    woken = await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    assert await said(woken, "print(open('kept.txt').read())") == "kept\n"
    await sandboxes.release(owner)


async def test_a_session_whose_seal_opened_meanwhile_is_not_suspended(
    sandboxes: LocalSandboxes, home: Path, kept: ObjectStore
) -> None:
    owner = key("opened")
    sandbox = await begun(sandboxes, owner)
    assert sandbox.endpoint is not None
    async with opened_again(home, kept) as (other, store):
        store.gates["kept"] = gate = Gate()
        suspending = asyncio.ensure_future(other.suspend(owner))
        await gate.reached.wait()
        client = SandboxClient(sandbox.endpoint)
        assert await unseal(client)  # as it does by itself when nobody comes back to it for long
        await client.aclose()
        await said(sandbox, "m = 2")
        gate.open.set()
        assert not await suspending
    assert await kept.list("checkpoints") == []
    assert await goes_on(sandboxes, owner) == sandbox
    assert await said(sandbox, "print(m)") == "2\n"
    await sandboxes.release(owner)


async def test_a_checkpoint_past_its_limit_is_refused(sandboxes: LocalSandboxes, kept: ObjectStore) -> None:
    owner = key("too-large")
    sandbox = await begun(sandboxes, owner)
    assert sandbox.endpoint is not None
    client = SandboxClient(sandbox.endpoint)
    with pytest.raises(SandboxUnavailable, match="more than 10 bytes"):
        await Checkpoints(kept, limit_bytes=10).save(owner.digest, client)
    assert await unseal(client)
    await client.aclose()
    assert await kept.list("checkpoints") == []
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_nothing_is_left_of_a_sandbox_whose_starter_was_killed() -> None:
    with tempfile.TemporaryDirectory(prefix="cz-", dir="/tmp") as folder:
        home = Path(folder)
        await killed(home, "make", "_until_ready", "made")
        on_disk = Home(folder)
        [name] = on_disk.names()
        record = on_disk.record(name)
        assert record is not None and len(record.begun) == 2 and not record.alive
        await open_local(home, pool_size=0).shutdown(keep=False)
        assert not any(process.alive for process in record.begun)
        assert on_disk.names() == []


def test_old_files_that_were_never_finished_are_removed() -> None:
    with tempfile.TemporaryDirectory(prefix="cz-", dir="/tmp") as folder:
        home = Home(folder)
        old, fresh = Path(folder) / "sessions" / "a.1.new", Path(folder) / "sessions" / "b.2.new"
        for path in (old, fresh):
            path.touch()
        long_ago_s = time.time() - 2 * UNFINISHED_AGE_S
        os.utime(old, (long_ago_s, long_ago_s))
        home.remove_unfinished()
        assert (old.exists(), fresh.exists()) == (False, True)


async def test_a_checkpoint_of_no_session_is_an_orphan(sandboxes: LocalSandboxes, kept: ObjectStore) -> None:
    owner = key("suspended")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    nobody = key("nobody").digest
    await kept.create(f"checkpoints/{nobody}", b"x")
    orphan = await listed(sandboxes, "checkpoint", nobody)
    assert owner.digest not in {orphan.name for orphan in await sandboxes.orphans()}
    assert orphan.since <= datetime.now(UTC) + timedelta(seconds=1)
    assert await sandboxes.remove_orphan(orphan)
    assert not await sandboxes.remove_orphan(orphan)
    assert not await sandboxes.remove_orphan(Orphan("checkpoint", owner.digest, EPOCH))
    assert not await sandboxes.remove_orphan(Orphan("session", owner.digest, EPOCH))
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_what_is_in_use_is_no_orphan(sandboxes: LocalSandboxes, home: Path) -> None:
    owner = key("in-use")
    sandbox = await begun(sandboxes, owner)
    await sandboxes.ready()
    known = {sandbox.name, owner.digest, *Home(str(home)).pooled()}
    assert not known & {orphan.name for orphan in await sandboxes.orphans()}
    assert not await sandboxes.remove_orphan(Orphan("sandbox", sandbox.name, EPOCH))
    assert not await sandboxes.remove_orphan(Orphan("session", owner.digest, EPOCH))
    assert await goes_on(sandboxes, owner) == sandbox
    await sandboxes.release(owner)


def test_ten_thousand_sessions_are_listed_by_one_piece_of_work() -> None:
    with tempfile.TemporaryDirectory(prefix="cz-", dir="/tmp") as folder:
        asyncio.run(_list_ten_thousand(Path(folder)))


async def _list_ten_thousand(home: Path) -> None:
    created_at = "2026-01-02T03:04:05.678Z"
    counting = Counting()
    asyncio.get_running_loop().set_default_executor(counting)
    sandboxes = open_local(home, pool_size=0)
    on_disk = Home(str(home))
    for number in range(10_000):
        principal, session = f"p{number % 10}", f"s{number}"
        claim = Claim(f"sb-{number:012}", principal, session, created_at, 60.0, {}, created_at, stored=True)
        on_disk.write_claim(key(session, principal).digest, claim)
    assert len(await sandboxes.list(None)) == 10_000
    assert len(await sandboxes.list(PrincipalId("p3"))) == 1000
    assert counting.given == 2
    assert await sandboxes.release(key("s0", "p0"))
    assert len(await sandboxes.list(PrincipalId("p0"))) == 999
    await sandboxes.aclose()


class Counting(ThreadPoolExecutor):
    """Counts what it is given to do."""

    given = 0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        self.given += 1
        return super().submit(fn, *args, **kwargs)


if __name__ == "__main__":
    asyncio.run(be_killed(*sys.argv[1:]))
