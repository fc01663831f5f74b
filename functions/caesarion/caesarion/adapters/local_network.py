"""The way from a sandbox to the internet: user-mode networking behind a packet filter.

The kernels have a network namespace of their own. slirp4netns carries what they send into it on as ordinary connections
of this machine, so it reaches all that this machine reaches, private networks and the machine's own addresses included.
What may leave the namespace is therefore decided inside it, by a filter that user code, which has no capability, cannot
change. Routes would not do: a socket bound to the device, which takes no right, passes them by.

Here are the filter and what it takes to set it; `confinement` has slirp4netns' command line, `local_machine` starts it.
"""

import asyncio
import contextlib
import fcntl
import ipaddress
import logging
import os
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from caesarion.adapters.confinement import DNS_ADDRESS
from caesarion.errors import ConfigError

logger = logging.getLogger(__name__)

TUN_DEVICE = "/dev/net/tun"
_NS_GET_USERNS = 0xB701  # ioctl_ns(2)

# IANA's special-purpose registry, those that are not globally reachable (RFC 6890), and multicast.
NOT_PUBLIC = (
    "0.0.0.0/8",
    "10.0.0.0/8",
    "100.64.0.0/10",
    "127.0.0.0/8",
    "169.254.0.0/16",
    "172.16.0.0/12",
    "192.0.0.0/24",
    "192.0.2.0/24",
    "192.168.0.0/16",
    "198.18.0.0/15",
    "198.51.100.0/24",
    "203.0.113.0/24",
    "224.0.0.0/4",
    "240.0.0.0/4",
)


@dataclass(frozen=True, slots=True)
class NetworkTools:
    """Paths of the programs that connect a sandbox."""

    slirp4netns: str
    nft: str
    nsenter: str


@dataclass(frozen=True, slots=True)
class Namespaces:
    """Open descriptors of a network namespace, and of the user namespace that owns it where that is not ours."""

    net_fd: int
    user_fd: int | None

    @property
    def fds(self) -> list[int]:
        return [self.net_fd] if self.user_fd is None else [self.net_fd, self.user_fd]


def find_tools() -> NetworkTools:
    """Return the programs that are needed. Raises ConfigError when this machine cannot connect sandboxes."""
    path = os.pathsep.join((os.environ.get("PATH", os.defpath), "/usr/sbin", "/sbin"))
    found = {name: shutil.which(name, path=path) for name in ("slirp4netns", "nft", "nsenter")}
    missing = [name for name, place in found.items() if place is None]
    if missing:
        raise ConfigError(
            f"CAESARION_SANDBOX_NETWORK=internet needs {' and '.join(missing)}. Install what is missing (Debian: "
            "apt-get install slirp4netns nftables util-linux), or use none."
        )
    if not os.access(TUN_DEVICE, os.R_OK | os.W_OK):
        raise ConfigError(
            f"CAESARION_SANDBOX_NETWORK=internet needs {TUN_DEVICE}, readable and writable for this user. Load the "
            f"kernel module tun and allow it (as root: modprobe tun && chmod 666 {TUN_DEVICE}), or use none."
        )
    return NetworkTools(**{name: place for name, place in found.items() if place is not None})


@contextlib.contextmanager
def open_namespaces(pid: int) -> Iterator[Namespaces]:
    """Open the network namespace of a process."""
    with contextlib.ExitStack() as opened:
        net_fd = os.open(f"/proc/{pid}/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        opened.callback(os.close, net_fd)
        user_fd = fcntl.ioctl(net_fd, _NS_GET_USERNS)
        opened.callback(os.close, user_fd)
        ours = os.path.samestat(os.fstat(user_fd), os.stat("/proc/self/ns/user"))
        yield Namespaces(net_fd, None if ours else user_fd)


async def set_filter(tools: NetworkTools, namespaces: Namespaces) -> None:
    """Let nothing out of the namespace but what is for the internet. Raises OSError when that fails."""
    rules = packet_filter(own_addresses(_routing_table()))
    enter = [tools.nsenter, f"--net=/proc/self/fd/{namespaces.net_fd}"]
    if namespaces.user_fd is not None:
        enter += [f"--user=/proc/self/fd/{namespaces.user_fd}", "--preserve-credentials"]
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        *enter, tools.nft, "-f", "-", stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.STDOUT, pass_fds=namespaces.fds
    )
    said, _ = await process.communicate(rules.encode())
    if process.returncode != 0:
        logger.error("the packet filter could not be set", extra={"reason": said.decode(errors="replace")[:2000]})
        raise OSError("the packet filter could not be set")


def packet_filter(own: Sequence[str]) -> str:
    """Return nftables' rules: the namespace's own loopback, name resolution, and IPv4 addresses that are public.

    `own` are this machine's addresses: what listens there may be behind a firewall that trusts the machine itself.
    Refused packets are answered, so that connections fail at once. Of IPv6 nothing leaves.
    """
    networks = [ipaddress.IPv4Network(network) for network in NOT_PUBLIC]
    public = [one for one in own if not any(ipaddress.IPv4Address(one) in network for network in networks)]
    return f"""
table inet caesarion {{
    chain output {{
        type filter hook output priority 0; policy drop;
        oifname "lo" accept
        ip daddr {DNS_ADDRESS} meta l4proto {{ tcp, udp }} th dport 53 accept
        ip daddr {{ {", ".join([*NOT_PUBLIC, *public])} }} reject with icmp type admin-prohibited
        meta nfproto ipv4 accept
    }}
}}
"""


def own_addresses(fib_trie: str) -> list[str]:
    """Return the machine's IPv4 addresses from its routing table as /proc/net/fib_trie shows it."""
    return sorted(set(re.findall(r"\|-- ([\d.]+)\n\s+/32 host LOCAL", fib_trie)))


def _routing_table() -> str:
    return Path("/proc/self/net/fib_trie").read_text(encoding="ascii")
