"""A machine with an internet that is made up: `python -m tests.contracts.made_up_internet HOME [UID]`.

Run it in new network and mount namespaces (and as their root): nothing that is sent from there leaves them. The machine
has addresses of every kind with a server at each, a resolver at 127.0.0.53, and one neighbour, which is the internet.
In that machine a process with local sandboxes makes the sessions `SESSIONS`; its pid is printed when they are there.
With UID it is not root, but that user. The machine ends with its standard input. It takes iproute2.
"""

import asyncio
import contextlib
import os
import socket
import socketserver
import subprocess
import sys
import threading
from pathlib import Path

from caesarion.adapters.local import LocalSandboxes
from caesarion.settings import LocalSettings, SandboxSettings
from tests.contracts.conftest import DEADLINE_S, PYTHON, SPEC, key, open_folder

PORT = 8000
INTERNET = "192.88.99.7"  # of a retired range that nobody has any more (RFC 7526)
NAME = "somewhere.example"
OWN_PUBLIC = "192.88.99.1"
OWN_PRIVATE = ("10.1.2.3", "172.16.5.5", "192.168.7.7", "169.254.169.254", "100.64.1.1", "198.18.0.9", "203.0.113.9")
RESOLVER = "127.0.0.53"
SESSIONS = ("first", "second", "third")


def main(home: str, uid: str | None = None) -> None:
    """Be the machine until standard input ends."""
    with contextlib.ExitStack() as running:
        neighbour = subprocess.Popen(
            ["unshare", "--net", sys.executable, "-m", __spec__.name, "neighbour"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        running.callback(neighbour.communicate)
        _line(neighbour)
        _ip("link", "set", "lo", "up")
        for address in OWN_PRIVATE:
            _ip("address", "add", f"{address}/32", "dev", "lo")
        _ip("link", "add", "outside", "type", "veth", "peer", "name", "inside", "netns", str(neighbour.pid))
        _ip("address", "add", f"{OWN_PUBLIC}/24", "dev", "outside")
        _ip("link", "set", "outside", "up")
        assert neighbour.stdin is not None
        neighbour.stdin.write("connected\n")
        neighbour.stdin.flush()
        _line(neighbour)
        _serve(socketserver.ThreadingTCPServer(("", PORT), _Greeting))
        _serve(socketserver.UDPServer((RESOLVER, 53), _Resolving))
        resolver = Path(home) / "resolv.conf"
        resolver.write_text(f"nameserver {RESOLVER}\n", encoding="ascii")
        subprocess.run(["mount", "--bind", str(resolver), "/etc/resolv.conf"], check=True)
        become = ["unshare", "--user", f"--map-user={uid}", f"--map-group={uid}"] if uid else []
        functions = subprocess.Popen(
            [*become, sys.executable, "-m", __spec__.name, "functions", home], stdout=subprocess.PIPE, text=True
        )
        running.callback(functions.wait)
        running.callback(functions.kill)
        _say(_line(functions))
        sys.stdin.read()


def be_the_neighbour() -> None:
    """Be the internet: one address with a server."""
    _say("ready")
    sys.stdin.readline()
    _ip("address", "add", f"{INTERNET}/24", "dev", "inside")
    _ip("link", "set", "inside", "up")
    _serve(socketserver.ThreadingTCPServer(("", PORT), _Greeting))
    _say("ready")
    sys.stdin.read()


async def be_the_functions(home: str) -> None:
    """Make the sessions, say so, and wait for a violent end."""
    settings = SandboxSettings(network="internet", memory_bytes=600_000_000)
    local = LocalSettings(home=home, sandbox_python=PYTHON, pool_size=0)
    async with LocalSandboxes(settings, local, open_folder(Path(home))) as sandboxes:
        await asyncio.gather(*(sandboxes.claim(key(session), SPEC, deadline_s=DEADLINE_S) for session in SESSIONS))
        _say(str(os.getpid()))
        await asyncio.Event().wait()


class _Greeting(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Say at which address the caller arrived, whatever is asked."""
        self.request.recv(4096)
        address = self.request.getsockname()[0]
        self.request.sendall(f"HTTP/1.0 200 OK\r\n\r\nyou reached {address}".encode())


class _Resolving(socketserver.BaseRequestHandler):
    def handle(self) -> None:
        """Answer a question for an A record with the internet's address, and any other with nothing (RFC 1035)."""
        query, answers = self.request
        end = query.index(0, 12) + 5
        is_a = query[end - 4 : end - 2] == b"\0\1"
        header = query[:2] + b"\x81\x80" + b"\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x05\0\x04" + socket.inet_aton(INTERNET)
        answers.sendto(header + query[12:end] + (record if is_a else b""), self.client_address)


def _serve(server: socketserver.BaseServer) -> None:
    threading.Thread(target=server.serve_forever, daemon=True).start()


def _ip(*words: str) -> None:
    subprocess.run(["ip", *words], check=True)


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise EOFError(f"{process.args!r} ended")
    return line.strip()


if __name__ == "__main__":
    match sys.argv[1:]:
        case ["neighbour"]:
            be_the_neighbour()
        case ["functions", home]:
            asyncio.run(be_the_functions(home))
        case arguments:
            main(*arguments)
