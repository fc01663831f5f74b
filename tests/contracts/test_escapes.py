"""What user code must not be able to do. The test asks user code, and does not look from outside."""

import ast
import contextlib
import os
import socket
import tempfile
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from caesarion.adapters.local import LocalSandboxes
from caesarion.ports import Sandbox
from tests.contracts.conftest import DEADLINE_S, SPEC, key, restart, run, said

pytestmark = pytest.mark.anyio


@pytest.fixture(scope="module")
async def victim(sandboxes: LocalSandboxes) -> AsyncIterator[Sandbox]:
    claimed = await sandboxes.claim(key("victim"), SPEC, deadline_s=DEADLINE_S)
    await said(claimed, "open('secret.txt', 'w').write('treasure')")
    yield claimed
    assert await said(claimed, "print('untouched')") == "untouched\n"
    await sandboxes.release(key("victim"))


@pytest.fixture(scope="module")
async def attacker(sandboxes: LocalSandboxes, victim: Sandbox) -> AsyncIterator[Sandbox]:
    yield await sandboxes.claim(key("attacker", "mallory"), SPEC, deadline_s=DEADLINE_S)
    await sandboxes.release(key("attacker", "mallory"))


@pytest.fixture
def host_paths(home: Path) -> Iterator[list[str]]:
    with tempfile.NamedTemporaryFile(dir=Path.home()) as file:
        paths = [file.name, "/etc/shadow", str(home), "/var", __file__, "/etc/hostname", f"/proc/{os.getpid()}/environ"]
        assert all(os.path.exists(path) for path in paths)
        yield paths


async def test_the_hosts_files_are_not_there(attacker: Sandbox, host_paths: list[str]) -> None:
    code = f"import os; print([p for p in {host_paths!r} if os.path.exists(p)])"
    assert await said(attacker, code) == "[]\n"


async def test_another_sessions_files_cannot_be_found(attacker: Sandbox) -> None:
    find = "import os; print([r for r, d, f in os.walk('/') if 'secret.txt' in f])"
    assert await said(attacker, find) == "[]\n"


async def test_only_own_processes_are_seen_and_none_is_ours(attacker: Sandbox) -> None:
    code = (
        "import os\n"
        "def command(pid):\n"
        "    try: return open(f'/proc/{pid}/cmdline').read().split(chr(0))[-2]\n"
        "    except (IndexError, OSError): return None\n"
        "print({command(p) for p in os.listdir('/proc') if p.isdigit()} - {None})"
    )
    assert await said(attacker, code) == "{'sandbox_server.zygote'}\n"


async def test_the_parent_cannot_be_ended_or_stopped(attacker: Sandbox) -> None:
    await said(attacker, "y = 3")
    signals = "for name in ('KILL', 'TERM', 'INT', 'HUP', 'QUIT', 'STOP', 'USR1', 'CHLD', 'SEGV'):"
    code = f"import os, signal\nassert os.getppid() == 1\n{signals}\n    os.kill(1, getattr(signal, 'SIG' + name))"
    await said(attacker, code)
    assert await said(attacker, "print(y)") == "3\n"
    assert (await run(attacker, "import os; os._exit(0)"))[-1]["status"] == "died"
    assert await said(attacker, "print('another kernel')") == "another kernel\n"


async def test_memory_and_descriptors_of_the_zygote_cannot_be_read(attacker: Sandbox) -> None:
    for tried in (
        "open('/proc/1/mem', 'rb')",
        "open('/proc/1/environ')",
        "open('/proc/1/maps')",
        "os.listdir('/proc/1/fd')",
    ):
        outputs = await run(attacker, f"import os; {tried}")
        assert outputs[-2]["ename"] == "PermissionError"


async def test_no_network_is_reached(attacker: Sandbox) -> None:
    with socket.create_server(("0.0.0.0", 0)) as listening:
        port = listening.getsockname()[1]
        with socket.create_connection(("127.0.0.1", port)):
            pass  # from here it can be reached
        for address in ("127.0.0.1", "0.0.0.0", "10.0.0.1", "169.254.169.254", "1.1.1.1"):
            code = (
                f"import socket; s = socket.socket(); s.settimeout(2); print(s.connect_ex(('{address}', {port})) != 0)"
            )
            assert await said(attacker, code) == "True\n"
    assert await said(attacker, "import socket; print([name for _, name in socket.if_nameindex()])") == "['lo']\n"


async def test_sockets_that_namespaces_do_not_hold_cannot_be_made(attacker: Sandbox) -> None:
    for family in ("AF_VSOCK", "AF_PACKET", "AF_BLUETOOTH", "AF_ALG"):
        outputs = await run(
            attacker, f"import socket; socket.socket(getattr(socket, '{family}', 40), socket.SOCK_STREAM)"
        )
        assert outputs[-2]["ename"] == "OSError"


async def test_the_control_socket_and_the_journal_are_not_there(attacker: Sandbox) -> None:
    places = ["/run", "/journal", "/run/caesarion/control.sock"]
    assert await said(attacker, f"import os; print([p for p in {places!r} if os.path.exists(p)])") == "[]\n"
    assert "sock" not in await said(attacker, "print(os.listdir('/ipc'))")


async def test_no_capability_is_had_or_gained(attacker: Sandbox) -> None:
    code = "print([line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')])"
    assert await said(attacker, code) == str(["0" * 16] * 5) + "\n"
    tried = (
        "import ctypes, os; libc = ctypes.CDLL(None, use_errno=True)\n"
        "print(libc.unshare(0x10000000), libc.mount(b'none', b'/tmp', b'tmpfs', 0, None), libc.ptrace(0, 0, 0, 0),"
        " libc.chroot(b'/tmp'), libc.setuid(0), libc.syscall(321, 0, 0, 0))"
    )
    assert await said(attacker, tried) == "-1 -1 -1 -1 -1 -1\n"


async def test_only_own_folders_can_be_written(attacker: Sandbox) -> None:
    places = [
        "/",
        "/usr",
        "/etc",
        "/etc/passwd",
        "/proc/sys/kernel/core_pattern",
        "/sys",
        "/root",
        "/bin",
        "/home",
        "/dev",
    ]
    code = f"import os, sys; print([p for p in {places!r} + [sys.prefix, sys.base_prefix] if os.access(p, os.W_OK)])"
    assert await said(attacker, code) == "[]\n"


async def test_no_descriptor_of_the_functions_is_inherited(attacker: Sandbox) -> None:
    links = "{os.readlink(f'/proc/self/fd/{n}') for n in range(4096) if os.path.lexists(f'/proc/self/fd/{n}')}"
    told = ast.literal_eval((await said(attacker, f"import os; print({links})")).strip())
    assert not told & (_descriptors() - {"/dev/null"})


def _descriptors() -> set[str]:
    """Return what this process has open: files by path, pipes and sockets by inode."""
    links = set()
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(FileNotFoundError):
            links.add(os.readlink(f"/proc/self/fd/{number}"))
    return {link for link in links if not link.startswith("anon_inode:")}


async def test_a_fork_bomb_ends_with_its_cell(attacker: Sandbox) -> None:
    outputs = await run(attacker, "import os\nwhile True: os.fork()", timeout_s=3)
    assert outputs[-1]["status"] in ("error", "timeout", "died")
    await restart(attacker)  # the kernel may have survived, and with it what it forked
    # what the forks said last may come first
    assert (await said(attacker, "print('after the bomb')")).endswith("after the bomb\n")


async def test_memory_past_the_limit_ends_the_kernel_and_says_why(attacker: Sandbox) -> None:
    outputs = await run(attacker, "x = bytearray(2 * 2**30); x[::4096] = b'1' * len(x[::4096])", timeout_s=200)
    assert outputs[-1]["status"] in ("died", "error")
    assert any(word in outputs[-2]["evalue"] + outputs[-2]["ename"] for word in ("memory", "Memory"))
    assert await said(attacker, "print('again')") == "again\n"
    await restart(attacker)


async def test_a_full_disk_is_an_error_of_the_code(attacker: Sandbox) -> None:
    outputs = await run(attacker, "with open('big', 'wb') as f:\n    while True: f.write(bytes(2**20))", timeout_s=200)
    assert outputs[-1]["status"] in ("error", "died")
    await restart(attacker)
    await said(attacker, "import os; os.path.exists('big') and os.remove('big')")
    await restart(attacker)


async def test_many_files_past_the_disk_limit_end_the_kernel(attacker: Sandbox) -> None:
    code = "n = 0\nwhile True:\n    n += 1\n    open(f'part{n}', 'wb').write(bytes(2**20))"
    outputs = await run(attacker, code, timeout_s=200)
    assert outputs[-1]["status"] == "died"
    assert "files took more than" in outputs[-2]["evalue"]
    await said(attacker, "import glob, os; [os.remove(p) for p in glob.glob('part*')]; None")
    await restart(attacker)
