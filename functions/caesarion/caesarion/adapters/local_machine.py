"""Starts and ends the processes of one local sandbox, confined as far as this machine allows."""

import asyncio
import contextlib
import hashlib
import json
import logging
import os
import platform
import select
import shutil
import signal
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from caesarion.adapters import confinement, seccomp
from caesarion.adapters.cgroups import Cgroups, GroupLimits, find_cgroups
from caesarion.adapters.confinement import Confinement, Role
from caesarion.adapters.local_network import NetworkTools, find_tools, open_namespaces, set_filter
from caesarion.adapters.local_record import Home, Process, Record, start_ticks
from caesarion.errors import ConfigError, SandboxUnavailable
from caesarion.settings import LocalSettings, SandboxSettings

logger = logging.getLogger(__name__)

UID_RANGE = (200_000, 265_000)
END_DEADLINE_S = 10.0
LOG_TAIL_BYTES = 2000
UPLOAD_TYPES = ("csv", "txt", "json", "py")


@dataclass(frozen=True, slots=True)
class _Started:
    """A process we started, and the one that matters: where they are not the same, the first waits for the other.

    `status_fd` is a pipe's end that hangs up when the first has ended.
    """

    process: asyncio.subprocess.Process
    init: Process
    status_fd: int


class Machine:
    """This machine as a place for sandboxes. Raises ConfigError when it cannot confine them.

    `template` stands for all that a sandbox is started with: two with the same one are alike.
    """

    def __init__(self, home: Home, settings: SandboxSettings, local: LocalSettings) -> None:
        self._home = home
        self._settings = settings
        self._python = _checked_python(local.sandbox_python)
        self._bwrap = _has_bubblewrap(local.confinement)
        self._cgroups: Cgroups | None = find_cgroups() if self._bwrap else None
        self._seccomp = seccomp.filter_program(platform.machine())
        self.uid_range = UID_RANGE if self._bwrap and os.geteuid() == 0 else None
        self._network_tools = find_tools() if settings.network == "internet" and self._bwrap else None
        told = repr((settings, self._python, self._bwrap))
        self.template = hashlib.sha256(told.encode()).hexdigest()[:16]
        self._warn()

    async def start(self, record: Record, *, deadline_s: float) -> Record:
        """Start a sandbox's processes and return its record once its kernel answers.

        Raises SandboxUnavailable when that fails or takes longer than `deadline_s`; nothing is left running then.
        """
        folder = self._home.folder(record.name)
        started: list[_Started] = []
        ready_read, ready_write = os.pipe()
        try:
            async with asyncio.timeout(deadline_s):
                self._prepare(record, folder)
                for role in ("kernels", "server"):
                    one = await self._spawn(record, folder, role, ready_write)
                    started.append(one)
                    self._home.write_record(replace(record, begun=tuple(one.init for one in started)))
                    if role == "kernels" and self._cgroups is not None:
                        self._cgroups.add(record.name, one.init.pid)
                    await _give(one.process, self._configuration(role, folder, ready_write))
                os.close(ready_write)
                ready_write = -1
                await _until_ready(ready_read)
                if self._network_tools is not None:
                    await self._connect(record, folder, started, self._network_tools)
            if self._cgroups is not None:
                self._cgroups.limit_cpu(record.name, self._settings.cpus)
            alive = replace(record, processes=tuple(one.init for one in started), begun=())
            self._home.write_record(alive)
            return alive
        except BaseException as exc:
            await self.end(replace(record, processes=tuple(one.init for one in started)))
            if isinstance(exc, TimeoutError | EOFError | OSError):
                raise SandboxUnavailable(self._failure(folder, exc, deadline_s), retry_after_s=5) from exc
            raise
        finally:
            os.close(ready_read)
            if ready_write >= 0:
                os.close(ready_write)
            for one in started:
                os.close(one.status_fd)

    async def end(self, record: Record) -> None:
        """End a sandbox's processes and return when they are gone. Idempotent."""
        await asyncio.to_thread(self._end, record)

    def _end(self, record: Record) -> None:
        for process in reversed((*record.processes, *record.begun)):
            if process.alive:
                _kill(process, group=not self._bwrap)
        if self._cgroups is not None:
            self._cgroups.remove(record.name)

    def _prepare(self, record: Record, folder: Path) -> None:
        for stale in ("ready", "run/control.sock"):
            (folder / stale).unlink(missing_ok=True)
        for name, _ in confinement.SHARED:  # user code owns these and may have done anything to them
            (folder / name).chmod(0o700)
        for child in (folder / "ipc").iterdir():
            shutil.rmtree(child, ignore_errors=True) if child.is_dir() and not child.is_symlink() else child.unlink()
        uid = record.uid if record.uid is not None else 1000
        texts = {
            "passwd": confinement.passwd(uid),
            "group": confinement.group(uid),
            "resolv.conf": confinement.RESOLV_CONF,
            "hosts": confinement.HOSTS,
        }
        for name, text in texts.items():
            (folder / name).write_text(text, encoding="ascii")
            (folder / name).chmod(0o644)
        if self._cgroups is not None:
            settings = self._settings
            limits = GroupLimits(settings.memory_bytes, settings.processes, settings.cpus)
            self._cgroups.remove(record.name)
            self._cgroups.make(record.name, limits)

    async def _spawn(self, record: Record, folder: Path, role: Role, ready_fd: int) -> _Started:
        seccomp_fd = _memory_file(self._seccomp) if self._bwrap and self._seccomp else None
        passed = [seccomp_fd] if seccomp_fd is not None else []
        passed += [ready_fd] if role == "server" else []
        try:
            return await self._launch(
                folder / f"{role}.log",
                lambda status_fd: self._command(record, folder, role, seccomp_fd, status_fd),
                passed,
            )
        finally:
            if seccomp_fd is not None:
                os.close(seccomp_fd)

    async def _connect(self, record: Record, folder: Path, started: list[_Started], tools: NetworkTools) -> None:
        """Connect the kernels, the first of `started`, with the internet. User code has not run yet.

        What carries the packets is added to `started`; it ends by itself when the kernels do.
        """
        kernels = started[0]
        ready_read, ready_write = os.pipe()
        try:
            with open_namespaces(kernels.init.pid) as namespaces:
                await set_filter(tools, namespaces)
                network = await self._launch(
                    folder / "network.log",
                    lambda status_fd: confinement.network_command(
                        self._place(record, folder),
                        tools.slirp4netns,
                        net_fd=namespaces.net_fd,
                        user_fd=namespaces.user_fd,
                        status_fd=status_fd,
                        ready_fd=ready_write,
                        exit_fd=kernels.status_fd,
                    ),
                    [*namespaces.fds, ready_write, kernels.status_fd],
                    stdin=asyncio.subprocess.DEVNULL,
                )
            started.append(network)
            if self._cgroups is not None:
                self._cgroups.add(record.name, network.init.pid)
            os.close(ready_write)
            ready_write = -1
            await _until_ready(ready_read)
        finally:
            os.close(ready_read)
            if ready_write >= 0:
                os.close(ready_write)

    async def _launch(
        self,
        log: Path,
        command: Callable[[int], list[str]],
        passed: Sequence[int],
        *,
        stdin: int = asyncio.subprocess.PIPE,
    ) -> _Started:
        """Start what `command` says when it is told where bubblewrap may report its status.

        Who is cancelled meanwhile leaves nothing running: the start goes on to where it can be ended.
        """
        launching = asyncio.ensure_future(self._launched(log, command, passed, stdin))
        try:
            return await asyncio.shield(launching)
        except asyncio.CancelledError:
            with contextlib.suppress(EOFError, OSError):
                started = await launching
                os.close(started.status_fd)
                await asyncio.to_thread(_kill, started.init, group=not self._bwrap)
            raise

    async def _launched(
        self, log: Path, command: Callable[[int], list[str]], passed: Sequence[int], stdin: int
    ) -> _Started:
        status_read, status_write = os.pipe()
        log_fd = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            process = await asyncio.create_subprocess_exec(
                *command(status_write),
                stdin=stdin,
                stdout=log_fd,
                stderr=log_fd,
                pass_fds=[status_write, *passed],
                start_new_session=True,
                env=None if self._bwrap else _plain_environment(log.parent),
                cwd="/",
            )
            os.close(status_write)
            status_write = -1
            pid = await asyncio.to_thread(_child_pid, status_read) if self._bwrap else process.pid
            ticks = start_ticks(pid)
            if ticks is None:
                raise EOFError(f"{log.stem} ended at its start")
        except BaseException:
            os.close(status_read)
            raise
        finally:
            os.close(log_fd)
            if status_write >= 0:
                os.close(status_write)
        return _Started(process, Process(pid, ticks), status_read)

    def _command(self, record: Record, folder: Path, role: Role, seccomp_fd: int | None, status_fd: int) -> list[str]:
        if not self._bwrap:
            module = "sandbox_server" if role == "server" else "sandbox_server.zygote"
            return [self._python, "-m", module]
        return confinement.command(self._place(record, folder), role, seccomp_fd=seccomp_fd, status_fd=status_fd)

    def _place(self, record: Record, folder: Path) -> Confinement:
        binds = self._cgroups.binds(record.name) if self._cgroups is not None else []
        return Confinement(
            folder=str(folder),
            python=self._python,
            interpreter_dirs=_interpreter_dirs(self._python),
            network=self._settings.network,
            uid=record.uid,
            system_dirs=[path for path in confinement.SYSTEM_DIRS if os.path.isdir(path) and not os.path.islink(path)],
            links=[(os.readlink(path), path) for path in confinement.SYSTEM_DIRS if os.path.islink(path)],
            etc=confinement.ETC,
            cgroup_binds=binds,
        )

    def _configuration(self, role: Role, folder: Path, ready_fd: int) -> dict[str, Any]:
        settings = self._settings
        inside = dict(confinement.MOUNTS["server"])
        places = inside if self._bwrap else {name: str(folder / name) for name in inside}
        shared: dict[str, Any] = {f"{name}_dir": places[name] for name, _ in confinement.SHARED}
        shared["network"] = settings.network
        if role == "kernels":
            limited = self._cgroups is not None
            rlimits = {
                "nofile": settings.open_files,
                "nproc": settings.processes if self._bwrap and not limited else None,
                "fsize_bytes": settings.disk_bytes,
                "data_bytes": None if limited else settings.memory_bytes,
            }
            return {**shared, "rlimits": rlimits}
        limits = {
            "memory_bytes": settings.memory_bytes,
            "disk_bytes": settings.disk_bytes,
            "max_output_bytes": settings.max_output_bytes,
            "max_upload_bytes": settings.max_upload_bytes,
            "execution_timeout_s": settings.execution_timeout_s,
            "max_execution_timeout_s": settings.max_execution_timeout_s,
        }
        types = (*UPLOAD_TYPES, *(name for name in settings.upload_types if name not in UPLOAD_TYPES))
        return {
            **shared,
            "token": self._home.token(folder.name),
            "socket_path": f"{places['run']}/control.sock",
            "journal_dir": places["journal"],
            "ready_fd": ready_fd,
            "limits": limits,
            "upload_types": types,
        }

    def _failure(self, folder: Path, exc: Exception, deadline_s: float) -> str:
        for role in ("server", "kernels", "network"):
            with contextlib.suppress(OSError):
                tail = (folder / f"{role}.log").read_bytes()[-LOG_TAIL_BYTES:].decode(errors="replace")
                logger.error("a sandbox did not start", extra={"sandbox": folder.name, "role": role, "log_tail": tail})
        happened = f"was not ready within {deadline_s:g} s" if isinstance(exc, TimeoutError) else "could not be started"
        return f"A sandbox {happened}. Try again; the log of the functions says more."

    def _warn(self) -> None:
        if not self._bwrap:
            logger.warning(
                "sandboxes are plain processes here: user code can read and write what this user can, reach the "
                "network, and see other sessions. Use them for your own code only.",
            )
        elif self._cgroups is None:
            logger.warning(
                "no control group may be written: memory is limited per process, processor time is not limited"
            )
        if self._bwrap and self._seccomp is None:
            logger.warning("no system call filter for this processor", extra={"machine": platform.machine()})


def _has_bubblewrap(wanted: Literal["bubblewrap", "none"]) -> bool:
    if wanted == "none":
        return False
    missing = [name for name in ("bwrap", "setpriv") if shutil.which(name) is None]
    if missing and sys.platform == "linux":
        raise ConfigError(
            f"{' and '.join(missing)} not found, so sandboxes could not be confined. Install them (Debian: apt-get "
            "install bubblewrap util-linux), or set CAESARION_SANDBOX_CONFINEMENT=none to run user code unconfined."
        )
    return not missing


def _checked_python(python: str) -> str:
    found = python or os.path.join(os.getcwd(), ".venv-sandbox", "bin", "python")
    if not os.access(found, os.X_OK):
        raise ConfigError(f"CAESARION_SANDBOX_PYTHON must name the sandboxes' interpreter; {found!r} is not there.")
    return os.path.abspath(found)


def _interpreter_dirs(python: str) -> list[str]:
    """Return the environment's directory and that of the interpreter it is made from (pyvenv.cfg, PEP 405)."""
    environment = Path(python).parent.parent
    dirs = [environment]
    with contextlib.suppress(OSError):
        for line in (environment / "pyvenv.cfg").read_text(encoding="utf-8").splitlines():
            name, _, value = line.partition("=")
            if name.strip() == "home":
                dirs.append(Path(value.strip()).parent)
    return [str(path) for path in dirs if not str(path).startswith("/usr")]


def _plain_environment(folder: Path) -> dict[str, str]:
    return {**confinement.ENVIRONMENT, "PATH": os.environ.get("PATH", ""), "HOME": str(folder / "home")}


def _memory_file(content: bytes) -> int:
    fd = os.memfd_create("seccomp")
    os.write(fd, content)
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _child_pid(status_fd: int) -> int:
    """Return the pid of the namespace's first process, from bubblewrap's status (bwrap(1), --json-status-fd)."""
    text = b""
    while b"child-pid" not in text or b"\n" not in text:
        piece = os.read(status_fd, 4096)
        if not piece:
            raise EOFError("bubblewrap ended at its start")
        text += piece
    return int(json.loads(text.splitlines()[0])["child-pid"])


async def _give(process: asyncio.subprocess.Process, document: dict[str, Any]) -> None:
    if process.stdin is None:
        raise EOFError("the process has no standard input")
    process.stdin.write(json.dumps(document).encode())
    await process.stdin.drain()
    process.stdin.close()


async def _until_ready(fd: int) -> None:
    """Wait for the line of the process that has the other end; its end closes the pipe and raises EOFError."""
    loop = asyncio.get_running_loop()
    readable = asyncio.Event()
    loop.add_reader(fd, readable.set)
    try:
        await readable.wait()
    finally:
        loop.remove_reader(fd)
    if not os.read(fd, 16):
        raise EOFError("a process of the sandbox ended at its start")


def _kill(process: Process, *, group: bool) -> None:
    """Send SIGKILL and wait until the process is gone. With `group` also to its process group."""
    try:
        fd = os.pidfd_open(process.pid)
    except ProcessLookupError:
        return
    try:
        if process.alive:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL) if group else os.kill(process.pid, signal.SIGKILL)
            select.select([fd], [], [], END_DEADLINE_S)
    finally:
        os.close(fd)
