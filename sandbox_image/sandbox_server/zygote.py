"""The process from which kernels are forked: `python -m sandbox_server.zygote`.

It is process 1 of its own pid namespace where sandboxes are confined, so user code can neither end it nor see the
server. It talks to the server over one SOCK_SEQPACKET connection, a JSON object a packet:

    fork   {"op": "fork", "id": ..., "connection": {...}, "env": {...}, "may_write": true}
                                                                         ->  {"event": "forked", "id", "pid"}
                                                                         or  {"event": "refused", "id", "reason"}
    signal {"op": "signal", "pid": ..., "signum": ...}                   (to the kernel's whole process group)
    usage  {"op": "usage", "id": ...}                                    ->  {"event": "usage", "id", "memory_bytes"}
    exited                                                               ->  {"event": "exited", "pid", "status"}

It ends, and everything with it, when the server's connection closes. Kernels are forked from a single thread.
"""

import contextlib
import json
import os
import resource
import select
import signal
import socket
import sys
from typing import Any

from sandbox_server import kernel_process, processes
from sandbox_server.usage import memory_used_bytes

SOCKET_NAME = "zygote.sock"
MAX_PACKET_BYTES = 200_000
SERVER_DEADLINE_S = 120.0  # whoever started us may have ended before it started the server


def main() -> None:
    """Be the zygote that standard input describes."""
    run(json.load(sys.stdin))


def run(config: dict[str, Any]) -> None:
    """Import the stack, and fork kernels until the server goes away."""
    os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    address = socket_address(config.get("sockets_dir") or config["ipc_dir"])
    _unlink(address)
    listener.bind(address)
    listener.listen(1)
    _limit(config["rlimits"])
    _settle(config)
    app = kernel_process.prepare(config["network"])
    listener.settimeout(SERVER_DEADLINE_S)
    connection, _ = listener.accept()
    connection.setblocking(True)
    listener.close()
    _unlink(address)
    kernel_process.hide_process()
    Zygote(app, connection).serve()


def socket_address(folder: str) -> str:
    """Return the address of the zygote's socket in a folder, which is not of the file system if it begins with @."""
    address = os.path.join(folder, SOCKET_NAME)
    return "\0" + address[1:] if address.startswith("@") else address


def _unlink(address: str) -> None:
    if not address.startswith("\0"):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(address)


def _limit(rlimits: dict[str, int | None]) -> None:
    names = {"nofile": resource.RLIMIT_NOFILE, "fsize_bytes": resource.RLIMIT_FSIZE, "data_bytes": resource.RLIMIT_DATA}
    if sys.platform == "linux":
        names["nproc"] = resource.RLIMIT_NPROC
    for name, which in names.items():
        wanted = rlimits.get(name)
        if wanted is not None:
            _, hard = resource.getrlimit(which)
            value = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
            resource.setrlimit(which, (value, value))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _settle(config: dict[str, Any]) -> None:
    """Make the folder of files the working directory, and packages that users install importable."""
    os.chdir(config["files_dir"])
    os.environ["PIP_TARGET"] = config["packages_dir"]
    os.environ["PYTHONPATH"] = config["packages_dir"]
    sys.path[:] = ["", *(p for p in sys.path if p not in ("", os.getcwd())), config["packages_dir"]]
    sys.argv[:] = ["ipykernel"]


class Zygote:
    """The loop that serves one connection; everything in it is single-threaded by intent."""

    def __init__(self, app: Any, connection: socket.socket) -> None:
        self._app = app
        self._connection = connection
        self._kernels: set[int] = set()
        self._wake_read, self._wake_write = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)

    def serve(self) -> None:
        """Handle requests and children's ends until the connection closes."""
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.set_wakeup_fd(self._wake_write, warn_on_full_buffer=False)
        self._send({"event": "ready", "pid": os.getpid()})
        while True:
            readable, _, _ = select.select([self._connection.fileno(), self._wake_read], [], [])
            if self._wake_read in readable:
                os.read(self._wake_read, 4096)
                self._reap()
            if self._connection.fileno() in readable:
                packet = self._connection.recv(MAX_PACKET_BYTES)
                if not packet:
                    break
                self._handle(json.loads(packet))
        for pid in self._kernels:
            processes.kill_group(pid)
        processes.kill_orphans(spare=set())

    def _send(self, event: dict[str, Any]) -> None:
        self._connection.send(json.dumps(event).encode())

    def _handle(self, request: dict[str, Any]) -> None:
        match request["op"]:
            case "fork":
                self._fork(request)
            case "signal" if request["pid"] in self._kernels:
                if request["signum"] == signal.SIGKILL:
                    processes.kill_group(request["pid"])
                else:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(request["pid"], request["signum"])
            case "usage":
                self._send({"event": "usage", "id": request["id"], "memory_bytes": memory_used_bytes()})
            case _:
                pass

    def _fork(self, request: dict[str, Any]) -> None:
        try:
            pid = os.fork()
        except OSError as exc:  # user code holds all processes; this one has to live on
            self._send({"event": "refused", "id": request["id"], "reason": os.strerror(exc.errno or 0)})
            return
        if pid == 0:
            try:
                kernel_process.leave_parent([self._connection.fileno(), self._wake_read, self._wake_write])
                if not request["may_write"]:
                    resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))
                kernel_process.run(self._app, request["connection"], request["env"])
            finally:
                os._exit(1)
        self._kernels.add(pid)
        self._send({"event": "forked", "id": request["id"], "pid": pid})

    def _reap(self) -> None:
        ended: list[tuple[int, int]] = []
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                break
            if pid == 0:
                break
            if pid in self._kernels:
                ended.append((pid, status))
        for pid, status in ended:
            self._kernels.discard(pid)
            processes.kill_group(pid)
            processes.kill_orphans(spare=self._kernels)
            self._send({"event": "exited", "pid": pid, "status": os.waitstatus_to_exitcode(status)})


if __name__ == "__main__":
    main()
