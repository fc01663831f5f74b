"""What user code reaches where the internet is allowed, and what not. The internet is made up (`made_up_internet`)."""

import os
import select
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from caesarion.adapters import local_network
from caesarion.adapters.local import LocalSandboxes
from caesarion.adapters.local_network import find_tools, own_addresses
from caesarion.adapters.local_record import Home, Record
from caesarion.errors import ConfigError
from caesarion.ports import Sandbox
from caesarion.settings import LocalSettings, SandboxSettings
from tests.contracts.conftest import PYTHON, key, open_folder, said
from tests.contracts.made_up_internet import INTERNET, NAME, OWN_PRIVATE, OWN_PUBLIC, PORT, SESSIONS

pytestmark = pytest.mark.anyio

ROOT = os.geteuid() == 0
ENDED_DEADLINE_S = 200.0
USER = "1000"
FETCH = f"""
import socket
def fetch(address, port={PORT}, device=None):
    with socket.socket() as s:
        s.settimeout(60)
        if device:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
        try:
            s.connect((address, port))
            s.sendall(b'GET / HTTP/1.0' + 2 * b'\\r\\n')
            return s.recv(4096).decode().split(2 * '\\r\\n')[1]
        except TimeoutError:
            return 'no answer'
        except OSError:
            return 'refused'
"""


@dataclass(frozen=True, slots=True)
class Place:
    """The machine's state on disk, and a set of sandboxes that finds there what a process that was killed has left."""

    home: Home
    sandboxes: LocalSandboxes

    def record(self, name: str) -> Record:
        """Return what is on disk about a sandbox."""
        found = self.home.record(name)
        assert found is not None
        return found


def interfaces(pid: int) -> list[str]:
    """Return the names of a process's network devices."""
    lines = Path(f"/proc/{pid}/net/dev").read_text(encoding="ascii").splitlines()[2:]
    return [line.split(":")[0].strip() for line in lines]


@pytest.fixture(scope="module", params=["as root", "without root"])
def left(request: pytest.FixtureRequest) -> Iterator[str]:
    """Return the CAESARION_HOME in which a process that was killed has left its sandboxes."""
    if request.param == "as root" and not ROOT:
        pytest.skip("this user is not root; run the tests as root to see sandboxes that are users of their own")
    try:
        find_tools()
    except ConfigError as exc:
        pytest.skip(str(exc))
    if shutil.which("ip") is None:
        pytest.skip("ip is not there to make up an internet; install it (Debian: apt-get install iproute2)")
    namespaces = ["unshare", "--net", "--mount", *([] if ROOT else ["--user", "--map-root-user"])]
    if subprocess.run([*namespaces, "true"], check=False).returncode:
        pytest.skip("no namespaces can be made here; run the tests as root, or allow user namespaces (sysctl)")
    folder = tempfile.mkdtemp(prefix="cz-", dir="/tmp")
    arguments = [folder, *([USER] if request.param == "without root" else [])]
    machine = subprocess.Popen(
        [*namespaces, sys.executable, "-m", "tests.contracts.made_up_internet", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert machine.stdout is not None
        functions = machine.stdout.readline()
        assert functions, "the made-up machine did not start; its standard error says why"
        os.kill(int(functions), signal.SIGKILL)
        yield folder
    finally:
        machine.communicate()
        shutil.rmtree(folder)


@pytest.fixture(scope="module")
async def place(left: str) -> AsyncIterator[Place]:
    settings = LocalSettings(home=left, sandbox_python=PYTHON, pool_size=0)
    async with LocalSandboxes(
        SandboxSettings(network="internet"), settings, open_folder(Path(settings.home))
    ) as sandboxes:
        yield Place(Home(left), sandboxes)


@pytest.fixture(scope="module")
async def first(place: Place) -> AsyncIterator[Sandbox]:
    found = await place.sandboxes.get(key(SESSIONS[0]))
    assert found is not None and found.state == "ready"
    await said(found, FETCH)
    yield found
    record = place.record(found.name)
    await place.sandboxes.release(key(SESSIONS[0]))
    assert len(record.processes) == 3 and not any(process.alive for process in record.processes)


async def test_public_addresses_are_reached_by_number_and_by_name(first: Sandbox) -> None:
    code = f"print(fetch({INTERNET!r}), fetch(socket.gethostbyname({NAME!r})), sep=', ')"
    assert await said(first, code) == f"you reached {INTERNET}, you reached {INTERNET}\n"


@pytest.mark.parametrize("device", [None, b"tap0"], ids=["as routed", "forced out"])
@pytest.mark.parametrize("address", ["127.0.0.1", "127.0.0.53", *OWN_PRIVATE, OWN_PUBLIC, "10.0.2.2", "10.0.2.3"])
async def test_the_machine_and_its_networks_are_not_reached(first: Sandbox, address: str, device: bytes | None) -> None:
    assert await said(first, f"print(fetch({address!r}, device={device!r}))") == "refused\n"


async def test_nothing_is_sent_to_many_at_once(first: Sandbox) -> None:
    code = """
import struct
def send(address, *options):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as s:
        for option in options:
            s.setsockopt(*option)
        try:
            return s.sendto(b'hello', (address, 5353))
        except OSError:
            return 'refused'
out = (socket.IPPROTO_IP, socket.IP_MULTICAST_IF, socket.inet_aton('10.0.2.100'))
device = (socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'tap0')
all = (socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
print(send('224.0.0.251'), send('224.0.0.251', out), send('239.255.255.250', device),
      send('255.255.255.255', all), send('255.255.255.255', all, device), send('10.0.2.255', all))
"""
    assert await said(first, code) == " ".join(["refused"] * 6) + "\n"


async def test_another_sandbox_is_not_reached(place: Place, first: Sandbox) -> None:
    second = await place.sandboxes.get(key(SESSIONS[1]))
    assert second is not None
    await said(second, "import socket; listening = socket.create_server(('0.0.0.0', 9000))")
    addresses = await said(second, "import subprocess; print(socket.gethostbyname(socket.gethostname()), '10.0.2.100')")
    code = f"print({{fetch(a, 9000, d) for a in {addresses.split()!r} for d in (None, b'tap0')}})"
    assert await said(first, code) == "{'refused'}\n"


async def test_ipv6_is_off(first: Sandbox) -> None:
    code = """
def send(address, scope):
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as s:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b'tap0')
        try:
            return s.sendto(b'hello', (address, 5353, 0, scope))
        except OSError:
            return 'refused'
tap = socket.if_nametoindex('tap0')
print(send('2606:4700::1', 0), send('fe80::2', tap), send('ff02::fb', tap), send('::ffff:127.0.0.1', tap))
"""
    assert await said(first, code) == "refused refused refused refused\n"


async def test_user_code_cannot_change_its_network(first: Sandbox) -> None:
    code = """
import fcntl, struct
def tried(work):
    try:
        return work()
    except OSError as exc:
        return exc.strerror
def ask(family, kind, flags, body):
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, family) as s:
        s.send(struct.pack('=IHHII', 16 + len(body), kind, flags | 5, 1, 0) + body)
        return struct.unpack_from('=i', s.recv(4096), 16)[0]
def interface(request):
    with socket.socket() as s:
        return fcntl.ioctl(s, request, struct.pack('16sH22x', b'tap0', 1))
route = struct.pack('=8BI', socket.AF_INET, 0, 0, 0, 254, 3, 0, 1, 0)
print(ask(socket.NETLINK_ROUTE, 24, 0x400, route), ask(socket.NETLINK_ROUTE, 25, 0, route))
print(ask(12, 10 << 8 | 2, 0, struct.pack('=BBH', 1, 0, 0)))
print(tried(lambda: interface(0x8914)), tried(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW)), sep=', ')
print(tried(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_UDP)))
"""
    denied = "Operation not permitted"
    assert await said(first, code) == f"-1 -1\n-1\n{denied}, Address family not supported by protocol\n{denied}\n"
    assert await said(first, f"print(fetch({INTERNET!r}), fetch('10.1.2.3'))") == f"you reached {INTERNET} refused\n"
    capabilities = "print({line.split()[1] for line in open('/proc/self/status') if line.startswith('Cap')})"
    assert await said(first, capabilities) == "{'0000000000000000'}\n"


async def test_the_server_beside_has_no_network(place: Place, first: Sandbox) -> None:
    server = place.record(first.name).processes[1]
    assert interfaces(server.pid) == ["lo"]


async def test_a_package_can_be_installed(first: Sandbox) -> None:
    code = """
import zipfile
with zipfile.ZipFile('tiny-1.0-py3-none-any.whl', 'w') as wheel:
    wheel.writestr('tiny.py', 'size = 1')
    wheel.writestr('tiny-1.0.dist-info/METADATA', 'Metadata-Version: 2.1\\nName: tiny\\nVersion: 1.0\\n')
    wheel.writestr('tiny-1.0.dist-info/WHEEL', 'Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n')
    wheel.writestr('tiny-1.0.dist-info/RECORD', '')
"""
    await said(first, code)
    assert "Successfully installed tiny-1.0" in await said(first, "%pip install --no-index tiny-1.0-py3-none-any.whl")
    assert await said(first, "import tiny; print(tiny.__file__)") == "/packages/tiny.py\n"


async def test_what_connects_a_sandbox_ends_with_it(place: Place) -> None:
    third = await place.sandboxes.get(key(SESSIONS[2]))
    assert third is not None
    kernels, _, network = place.record(third.name).processes
    ended = os.pidfd_open(network.pid)
    try:
        assert network.alive
        os.kill(kernels.pid, signal.SIGKILL)
        readable, _, _ = select.select([ended], [], [], ENDED_DEADLINE_S)
        assert readable
    finally:
        os.close(ended)


@pytest.mark.parametrize(
    ("programs", "device", "says"),
    [
        (("bwrap", "setpriv", "nsenter", "nft"), "/dev/null", r"needs slirp4netns\. .*apt-get install slirp4netns"),
        (("bwrap", "setpriv", "nsenter", "nft", "slirp4netns"), "/no/tun", r"needs /no/tun, .*modprobe tun"),
    ],
)
def test_what_is_missing_is_named_with_how_to_get_it(
    programs: Sequence[str], device: str, says: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for name in programs:
        (tmp_path / name).symlink_to("/bin/true")
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(local_network, "TUN_DEVICE", device)
    with tempfile.TemporaryDirectory(prefix="cz-", dir="/tmp") as folder, pytest.raises(ConfigError, match=says):
        settings = LocalSettings(home=folder, sandbox_python=PYTHON, pool_size=0)
        LocalSandboxes(SandboxSettings(network="internet"), settings, open_folder(Path(settings.home)))


def test_the_machines_own_addresses_are_found() -> None:
    table = """Local:
  +-- 0.0.0.0/0 3 0 5
     +-- 127.0.0.0/8 2 0 2
           |-- 127.0.0.0
              /8 host LOCAL
           |-- 127.0.0.1
              /32 host LOCAL
     |-- 192.88.99.1
        /32 host LOCAL
     |-- 192.88.99.255
        /32 link BROADCAST
"""
    assert own_addresses(table) == ["127.0.0.1", "192.88.99.1"]
