"""The pool of local sandboxes when settings change between two lives of the product."""

import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.local_record import Home
from caesarion.settings import LocalSettings, SandboxSettings
from tests.contracts.conftest import DEADLINE_S, PYTHON, SPEC, key, open_folder, said

pytestmark = pytest.mark.anyio

SMALL, LARGE = SandboxSettings(open_files=256), SandboxSettings(open_files=512)
OPEN_FILES = "import resource; print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])"


@pytest.fixture
def own_home() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="cz-", dir="/tmp") as folder:
        yield Path(folder)


def opened(home: Path, settings: SandboxSettings, pool_size: int) -> LocalSandboxes:
    local = LocalSettings(home=str(home), sandbox_python=PYTHON, pool_size=pool_size)
    return LocalSandboxes(settings, local, open_folder(home))


async def test_a_sandbox_that_waits_with_other_limits_is_given_to_nobody(own_home: Path) -> None:
    first = opened(own_home, SMALL, 1)
    await first.ready()
    home = Home(str(own_home))
    [waiting] = home.pooled()
    async with opened(own_home, LARGE, 0) as second:
        claimed = await second.claim(key("s"), SPEC, deadline_s=DEADLINE_S)
        assert await said(claimed, OPEN_FILES) == "512\n"
        assert home.pooled() == [waiting], "the process that started it is alive and may give it away"
        await second.release(key("s"))
    await first.shutdown(keep=False)


async def test_sandboxes_of_a_crashed_product_with_other_limits_are_ended(own_home: Path) -> None:
    first = opened(own_home, SMALL, 1)
    await first.ready()
    await first.shutdown(keep=True)
    home = Home(str(own_home))
    [waiting] = home.pooled()
    record = home.record(waiting)
    assert record is not None
    home.write_record(replace(record, starter=None))
    async with opened(own_home, LARGE, 1) as second:
        await second.ready()
        assert waiting not in home.names()
    assert not record.alive
