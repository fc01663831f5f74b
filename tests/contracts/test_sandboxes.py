"""What every implementation of the port `Sandboxes` has to do."""

import asyncio
from pathlib import Path

import pytest

from caesarion.adapters.local import LocalSandboxes
from caesarion.errors import SessionNotFound
from caesarion.ids import PrincipalId
from caesarion.ports import SessionSpec
from tests.contracts.conftest import DEADLINE_S, SPEC, key, open_local, said

pytestmark = pytest.mark.anyio


async def test_concurrent_claims_of_a_session_meet_at_one_sandbox(sandboxes: LocalSandboxes) -> None:
    claims = [sandboxes.claim(key("meet"), SPEC, deadline_s=DEADLINE_S) for _ in range(5)]
    assert len({sandbox.name for sandbox in await asyncio.gather(*claims)}) == 1
    await sandboxes.release(key("meet"))


async def test_two_sessions_get_two_sandboxes_and_two_principals_never_meet(sandboxes: LocalSandboxes) -> None:
    owners = [key("same"), key("same", "bob"), key("other")]
    claimed = [await sandboxes.claim(owner, SPEC, deadline_s=DEADLINE_S) for owner in owners]
    assert len({sandbox.name for sandbox in claimed}) == 3
    assert [sandbox.key for sandbox in await sandboxes.list(PrincipalId("bob"))] == [owners[1]]
    assert await sandboxes.get(key("other", "bob")) is None
    for owner in owners:
        await sandboxes.release(owner)


async def test_a_session_that_was_not_made_is_not_found(sandboxes: LocalSandboxes) -> None:
    assert await sandboxes.get(key("nobody")) is None
    with pytest.raises(SessionNotFound):
        await sandboxes.claim(key("nobody"), deadline_s=DEADLINE_S)
    await sandboxes.release(key("nobody"))


async def test_env_reaches_user_code_and_nothing_of_ours_does(sandboxes: LocalSandboxes) -> None:
    spec = SessionSpec(idle_timeout_s=60, env={"GREETING": "hello"})
    sandbox = await sandboxes.claim(key("env"), spec, deadline_s=DEADLINE_S)
    assert await said(sandbox, "import os; print(os.environ['GREETING'])") == "hello\n"
    assert "CAESARION" not in await said(sandbox, "print(dict(os.environ))")
    await sandboxes.release(key("env"))


async def test_another_process_finds_the_sandbox_with_its_variables(sandboxes: LocalSandboxes, home: Path) -> None:
    sandbox = await sandboxes.claim(key("found"), SPEC, deadline_s=DEADLINE_S)
    await said(sandbox, "x = 41")
    other = open_local(home, pool_size=0)
    again = await other.claim(key("found"), SPEC, deadline_s=DEADLINE_S)
    assert again == sandbox
    assert await said(again, "print(x + 1)") == "42\n"
    await other.aclose()
    await sandboxes.release(key("found"))


async def test_release_leaves_nothing_and_may_be_repeated(sandboxes: LocalSandboxes, home: Path) -> None:
    sandbox = await sandboxes.claim(key("gone"), SPEC, deadline_s=DEADLINE_S)
    await said(sandbox, "import os; os.makedirs('a/b'); open('a/b/c', 'w').close(); os.chmod('a', 0)")
    await said(sandbox, "import subprocess; p = subprocess.Popen(['sleep', '1000'], start_new_session=True)")
    await sandboxes.release(key("gone"))
    await sandboxes.release(key("gone"))
    assert await sandboxes.get(key("gone")) is None
    assert not (home / "sandboxes" / sandbox.name).exists()


async def test_the_pool_is_filled_again_behind_a_claim(sandboxes: LocalSandboxes) -> None:
    await sandboxes.ready()
    await sandboxes.claim(key("pool"), SPEC, deadline_s=DEADLINE_S)
    await sandboxes.ready()
    await sandboxes.release(key("pool"))
