"""Suspension, as every implementation of the port `Sandboxes` has to do it: a session goes into the store and back."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from caesarion.adapters.asgi.metrics import Metrics
from caesarion.adapters.background import Background
from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.sandbox_http import SandboxClient, SandboxClients
from caesarion.adapters.sessions import Sessions
from caesarion.adapters.sink import Announcer
from caesarion.errors import SandboxUnavailable
from caesarion.events import SANDBOX_CLAIMED, Event
from caesarion.ids import PrincipalId, SessionKey
from caesarion.ports import Sandbox, Sandboxes
from tests.contracts.conftest import DEADLINE_S, SPEC, key, open_folder, open_local, said
from tests.contracts.stores import Gate, Gated, Point

pytestmark = pytest.mark.anyio

PIECE = b"x" * 4_000_000


@pytest.fixture(scope="module")
def store(home: Path) -> Gated:
    return Gated(open_folder(home))


@pytest.fixture(scope="module")
async def sandboxes(home: Path, store: Gated) -> AsyncIterator[Sandboxes]:
    async with open_local(home, store=store) as opened:
        yield opened
    assert await store.list("checkpoints") == []


@pytest.fixture
async def sessions(sandboxes: LocalSandboxes) -> AsyncIterator[Sessions]:
    """Give what functions ask sessions through."""
    clients, background = SandboxClients(), Background()
    announcer = Announcer(None, background)
    yield Sessions(
        sandboxes,
        clients,
        background,
        Metrics(),
        max_sessions=0,
        max_kept_sessions=0,
        claim_timeout_s=DEADLINE_S,
        announcer=announcer,
    )
    await background.aclose()
    await clients.aclose()


@contextlib.contextmanager
def stopped(store: Gated, point: Point) -> Iterator[Gate]:
    """Stop the store at this point."""
    store.gates[point] = gate = Gate()
    try:
        yield gate
    finally:
        gate.open.set()
        del store.gates[point]


@contextlib.contextmanager
def failing(store: Gated, point: Point) -> Iterator[None]:
    """Have the store fail at this point."""
    store.failing.add(point)
    try:
        yield
    finally:
        store.failing.remove(point)


def soon() -> datetime:
    """Return a moment after all that was done so far."""
    return datetime.now(UTC) + timedelta(seconds=1)


async def begun(sandboxes: Sandboxes, owner: SessionKey) -> Sandbox:
    """Return the sandbox of a new session in which `n` is 1."""
    sandbox = await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S)
    await said(sandbox, "n = 1")
    return sandbox


async def goes_on(sandboxes: Sandboxes, owner: SessionKey) -> Sandbox:
    """Return the sandbox of a session in which `n` is 1 still."""
    sandbox = await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    assert await said(sandbox, "print(n)") == "1\n"
    return sandbox


async def test_variables_and_files_are_there_in_another_sandbox(sandboxes: Sandboxes, store: Gated) -> None:
    owner = key("returns")
    sandbox = await begun(sandboxes, owner)
    await said(sandbox, "def twice(): return 2 * n\nopen('kept.txt', 'w').write('kept')")
    before = datetime.now(UTC) - timedelta(seconds=1)
    assert await sandboxes.suspend(owner)
    suspended = await sandboxes.get(owner)
    assert suspended is not None
    assert (suspended.state, suspended.endpoint, suspended.created_at) == ("suspended", None, sandbox.created_at)
    assert suspended.suspended_at is not None and suspended.suspended_at > before
    assert suspended in await sandboxes.list(PrincipalId("alice"))
    assert len(await store.list("checkpoints")) == 1

    woken = await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    assert (woken.state, woken.suspended_at, woken.created_at) == ("ready", None, sandbox.created_at)
    assert woken.name != sandbox.name
    assert await said(woken, "n += 1; print(twice(), open('kept.txt').read())") == "4 kept\n"
    assert await store.list("checkpoints") == []
    await sandboxes.release(owner)


async def test_another_process_wakes_it_with_what_it_asked_for(sandboxes: Sandboxes, home: Path) -> None:
    owner = key("elsewhere")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    other = open_local(home, pool_size=0)
    try:
        woken = await goes_on(other, owner)
        assert woken == await sandboxes.get(owner)
        assert woken.idle_timeout_s == SPEC.idle_timeout_s
    finally:
        await other.aclose()
    await sandboxes.release(owner)


async def test_it_can_be_suspended_again_and_again(sandboxes: Sandboxes) -> None:
    owner = key("again")
    await begun(sandboxes, owner)
    for _ in range(2):
        assert await sandboxes.suspend(owner)
        assert await sandboxes.suspend(owner)
        assert not await sandboxes.suspend(owner, unused_since=soon())
        await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_who_was_used_later_is_spared(sandboxes: Sandboxes) -> None:
    owner = key("used")
    earlier = datetime.now(UTC)
    sandbox = await begun(sandboxes, owner)
    assert not await sandboxes.suspend(owner, unused_since=earlier)
    assert await sandboxes.get(owner) == sandbox
    assert await sandboxes.suspend(owner, unused_since=soon())
    await sandboxes.release(owner)


async def test_nobody_is_not_suspended(sandboxes: Sandboxes) -> None:
    assert not await sandboxes.suspend(key("nobody"))
    assert not await sandboxes.suspend(key("nobody"), unused_since=soon())


async def test_running_code_is_spared(sandboxes: Sandboxes, sessions: Sessions) -> None:
    owner = key("runs")
    sandbox = await begun(sandboxes, owner)
    document = {"code": "import os, time\nwhile not os.path.exists('go.txt'): time.sleep(0.01)\nn += 1", "id": "waits"}
    await sessions.call(owner, "POST", "/v1/executions", params={"detach": 1}, document=document)
    assert not await sandboxes.suspend(owner, unused_since=soon())
    assert await sandboxes.get(owner) == sandbox
    async with sessions.stream(owner, "PUT", "/v1/files/go.txt", body=_pieces(b"go")) as answer:
        assert answer.status in (200, 201, 204)
    async with sessions.stream(owner, "GET", "/v1/executions/waits/outputs") as answer:
        assert b'"status":"ok"' in b"".join([line async for line in answer.lines()]).replace(b" ", b"")
    assert await said(sandbox, "print(n)") == "2\n"
    await sandboxes.release(owner)


async def test_an_open_reader_is_spared(sandboxes: Sandboxes) -> None:
    owner = key("reads")
    sandbox = await begun(sandboxes, owner)
    assert sandbox.endpoint is not None
    client = SandboxClient(sandbox.endpoint)
    async with client.stream("GET", "/v1/journal/turn/hold") as answer:
        await anext(answer.lines())
        assert not await sandboxes.suspend(owner, unused_since=soon())
    await client.aclose()
    while not await sandboxes.suspend(owner, unused_since=soon()):
        pass  # until the sandbox has noticed
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_an_upload_is_spared(sandboxes: Sandboxes, sessions: Sessions) -> None:
    owner = key("uploads")
    sandbox = await begun(sandboxes, owner)
    taken, rest = asyncio.Event(), asyncio.Event()

    async def content() -> AsyncIterator[bytes]:
        yield PIECE  # more than fits between here and there, so that it has begun when the next is asked for
        taken.set()
        await rest.wait()
        yield b"end"

    async def upload() -> None:
        async with sessions.stream(owner, "PUT", "/v1/files/large.csv", body=content()):
            pass

    uploading = asyncio.ensure_future(upload())
    await taken.wait()
    assert not await sandboxes.suspend(owner, unused_since=soon())
    rest.set()
    await uploading
    assert await said(sandbox, "import os; print(os.path.getsize('large.csv'))") == f"{len(PIECE) + 3}\n"
    await sandboxes.release(owner)


async def test_requests_in_the_middle_of_it_are_answered_once(
    sandboxes: Sandboxes, sessions: Sessions, store: Gated
) -> None:
    owner = key("middle")
    sandbox = await begun(sandboxes, owner)

    async def add(seen: Sandbox | None = None) -> str:
        document = {"code": "n += 1; print(n)"}
        async with sessions.stream(owner, "POST", "/v1/executions", document=document, seen=seen) as answer:
            return b"".join([line async for line in answer.lines()]).decode()

    with stopped(store, "put") as gate:
        suspending = asyncio.ensure_future(sandboxes.suspend(owner, unused_since=soon()))
        await gate.reached.wait()
        during = await sandboxes.get(owner)
        assert during is not None and (during.state, during.endpoint) == ("starting", None)
        assert not await sandboxes.suspend(owner, unused_since=soon())
        assert not await sandboxes.release(owner, suspended_since=soon())
        asking = [asyncio.ensure_future(add()), asyncio.ensure_future(add(sandbox)), asyncio.ensure_future(add())]
        await asyncio.wait(asking, timeout=0.1)
        assert not any(task.done() for task in asking)
    assert await suspending
    answers = await asyncio.gather(*asking)
    assert all('"status": "ok"' in answer or '"status":"ok"' in answer for answer in answers), answers
    woken = await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    assert await said(woken, "print(n)") == "4\n"
    await sandboxes.release(owner)


async def test_an_upload_in_the_middle_of_it_is_kept(sandboxes: Sandboxes, sessions: Sessions, store: Gated) -> None:
    owner = key("uploads-late")
    sandbox = await begun(sandboxes, owner)

    async def upload(seen: Sandbox | None) -> None:
        name = "seen" if seen is not None else "unseen"
        body = _pieces(PIECE)
        async with sessions.stream(owner, "PUT", f"/v1/files/{name}.csv", body=body, seen=seen) as answer:
            assert answer.status < 300

    with stopped(store, "put") as gate:
        suspending = asyncio.ensure_future(sandboxes.suspend(owner, unused_since=soon()))
        await gate.reached.wait()
        asking = [asyncio.ensure_future(upload(sandbox)), asyncio.ensure_future(upload(None))]
        await asyncio.wait(asking, timeout=0.1)
    assert await suspending
    await asyncio.gather(*asking)
    woken = await goes_on(sandboxes, owner)
    sizes = await said(woken, "import os; print(*(os.path.getsize(f'{n}.csv') for n in ('seen', 'unseen')))")
    assert sizes == f"{len(PIECE)} {len(PIECE)}\n"
    await sandboxes.release(owner)


async def test_a_request_with_an_old_address_after_it_is_answered(sandboxes: Sandboxes, sessions: Sessions) -> None:
    owner = key("late")
    sandbox = await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    async with sessions.stream(owner, "GET", "/v1/files", seen=sandbox) as answer:
        assert answer.status == 200
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_several_at_once_do_no_harm(sandboxes: Sandboxes, home: Path) -> None:
    owner = key("several")
    await begun(sandboxes, owner)
    other = open_local(home, pool_size=0)
    try:
        done = await asyncio.gather(
            sandboxes.suspend(owner, unused_since=soon()),
            other.suspend(owner, unused_since=soon()),
            sandboxes.suspend(owner),
            other.suspend(owner),
        )
        assert any(done)
        woken = await asyncio.gather(*(one.claim(owner, deadline_s=DEADLINE_S) for one in (sandboxes, other)))
        assert woken[0] == woken[1]
    finally:
        await other.aclose()
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


@pytest.mark.parametrize("point", ["put", "kept"])
async def test_where_the_store_fails_the_session_goes_on_as_it_was(
    sandboxes: Sandboxes, store: Gated, point: Point
) -> None:
    owner = key(f"fails-{point}")
    sandbox = await begun(sandboxes, owner)
    with failing(store, point), pytest.raises(SandboxUnavailable):
        await sandboxes.suspend(owner)
    assert await sandboxes.get(owner) == sandbox
    assert await goes_on(sandboxes, owner) == sandbox
    assert await sandboxes.suspend(owner)
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_who_gives_up_suspending_leaves_the_session_as_it_was(sandboxes: Sandboxes, store: Gated) -> None:
    owner = key("given-up")
    sandbox = await begun(sandboxes, owner)
    with stopped(store, "put") as gate:
        suspending = asyncio.ensure_future(sandboxes.suspend(owner))
        await gate.reached.wait()
        suspending.cancel()
        with pytest.raises(asyncio.CancelledError):
            await suspending
    assert await goes_on(sandboxes, owner) == sandbox
    await sandboxes.release(owner)


async def test_where_the_store_cannot_be_read_it_stays_suspended(sandboxes: Sandboxes, store: Gated) -> None:
    owner = key("unread")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    with failing(store, "read"), pytest.raises(SandboxUnavailable):
        await sandboxes.claim(owner, deadline_s=DEADLINE_S)
    suspended = await sandboxes.get(owner)
    assert suspended is not None and suspended.state == "suspended" and suspended.suspended_at is not None
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_who_gives_up_waking_leaves_it_suspended(sandboxes: Sandboxes, store: Gated) -> None:
    owner = key("unwoken")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    with stopped(store, "read") as gate:
        waking = asyncio.ensure_future(sandboxes.claim(owner, deadline_s=DEADLINE_S))
        await gate.reached.wait()
        waking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waking
        suspended = await sandboxes.get(owner)
        assert suspended is not None and suspended.state == "suspended"
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


async def test_a_checkpoint_that_cannot_be_removed_is_removed_with_the_session(
    sandboxes: Sandboxes, store: Gated
) -> None:
    owner = key("undeleted")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    with failing(store, "delete"):
        await goes_on(sandboxes, owner)
        with pytest.raises(SandboxUnavailable):
            await sandboxes.release(owner)
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)
    assert await sandboxes.get(owner) is None
    assert await store.list("checkpoints") == []


async def test_release_removes_the_checkpoint(sandboxes: Sandboxes, store: Gated) -> None:
    owner = key("ended")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    assert await sandboxes.release(owner)
    assert await sandboxes.get(owner) is None
    assert await store.list("checkpoints") == []
    assert await sandboxes.release(owner)


async def test_a_session_that_woke_in_between_is_not_removed(sandboxes: Sandboxes) -> None:
    owner = key("spared")
    await begun(sandboxes, owner)
    assert not await sandboxes.release(owner, suspended_since=soon())
    await sandboxes.suspend(owner)
    first = await sandboxes.get(owner)
    assert first is not None and first.suspended_at is not None
    await goes_on(sandboxes, owner)
    assert not await sandboxes.release(owner, suspended_since=first.suspended_at)
    await sandboxes.suspend(owner)
    assert not await sandboxes.release(owner, suspended_since=first.suspended_at)
    second = await sandboxes.get(owner)
    assert second is not None and second.suspended_at is not None
    assert await sandboxes.release(owner, suspended_since=second.suspended_at)
    assert await sandboxes.get(owner) is None


async def test_a_wake_up_that_is_under_way_is_not_cut_off(sandboxes: Sandboxes, store: Gated) -> None:
    owner = key("rising")
    await begun(sandboxes, owner)
    await sandboxes.suspend(owner)
    with stopped(store, "read") as gate:
        waking = asyncio.ensure_future(sandboxes.claim(owner, deadline_s=DEADLINE_S))
        await gate.reached.wait()
        assert not await sandboxes.release(owner, suspended_since=soon())
        assert not await sandboxes.suspend(owner, unused_since=soon())
    await waking
    await goes_on(sandboxes, owner)
    await sandboxes.release(owner)


class Heard:
    """A sink that keeps what it is told."""

    def __init__(self) -> None:
        self.events: asyncio.Queue[Event] = asyncio.Queue()

    async def send(self, event: Event, principal: PrincipalId) -> None:
        await self.events.put(event)


async def test_who_asks_while_it_is_being_suspended_is_told_to_have_woken_it(
    sandboxes: Sandboxes, store: Gated
) -> None:
    owner = key("told")
    await begun(sandboxes, owner)
    sink, clients, background = Heard(), SandboxClients(), Background()
    asking = Sessions(
        sandboxes,
        clients,
        background,
        Metrics(),
        max_sessions=0,
        max_kept_sessions=0,
        claim_timeout_s=DEADLINE_S,
        announcer=Announcer(sink, background),
    )
    with stopped(store, "put") as gate:
        suspending = asyncio.ensure_future(sandboxes.suspend(owner))
        await gate.reached.wait()
        claiming = asyncio.ensure_future(asking.claim(owner))
        await asyncio.wait({claiming}, timeout=0.1)
    assert await suspending
    woken = await claiming
    event = await sink.events.get()
    assert (event.type, event.subject) == (SANDBOX_CLAIMED, owner.session)
    assert event.data is not None
    assert json.loads(event.data) == {"session": owner.session, "sandbox": woken.name, "reason": "woken"}
    await background.aclose()
    await clients.aclose()
    await sandboxes.release(owner)


async def _pieces(*pieces: bytes) -> AsyncIterator[bytes]:
    for piece in pieces:
        yield piece
