"""The bubblewrap command lines that confine a sandbox's two process groups, and what connects them. Pure.

`server` is ours and sees the control socket, the journal and the files; `kernels` runs the user's code and sees the
files alone. Of the host both see the system's and the interpreter's directories, read-only, and nothing else. Where the
internet is allowed, `kernels` reaches it through a third process, which sees less still (`local_network` says how).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Literal

Role = Literal["server", "kernels"]

MIB = 1024**2
SCRATCH_BYTES = 256 * MIB
SYSTEM_DIRS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
ETC = (
    "alternatives",
    "fonts",
    "ld.so.cache",
    "ld.so.conf",
    "ld.so.conf.d",
    "localtime",
    "mime.types",
    "nsswitch.conf",
    "protocols",
    "services",
    "ssl",
)
DNS_ADDRESS = "10.0.2.3"  # slirp4netns passes what comes here at port 53 on to the host's resolver
RESOLV_CONF = f"nameserver {DNS_ADDRESS}\n"
HOSTS = "127.0.0.1 localhost sandbox\n"
SHARED = (("files", "/uploaded_files"), ("packages", "/packages"), ("ipc", "/ipc"))
MOUNTS = {
    "server": (("run", "/run/caesarion"), ("journal", "/journal"), *SHARED),
    "kernels": SHARED,
}
ENVIRONMENT = {
    "PATH": "/usr/local/bin:/usr/bin:/bin",
    "HOME": "/home/user",
    "USER": "user",
    "LANG": "C.UTF-8",
    "TMPDIR": "/tmp",
    "PYTHONDONTWRITEBYTECODE": "1",
    "PIP_DISABLE_PIP_VERSION_CHECK": "1",
    "PIP_RETRIES": "1",
}


@dataclass(frozen=True, slots=True)
class Confinement:
    """How processes are confined on this machine.

    `uid` is there when we are root: the processes then become that user, who owns nothing but the sandbox's folder.
    Without it they are our own user in a user namespace of their own. `interpreter_dirs` are bound read-only.
    """

    folder: str
    python: str
    interpreter_dirs: Sequence[str]
    network: Literal["none", "internet"]
    uid: int | None
    system_dirs: Sequence[str]
    etc: Sequence[str]
    links: Sequence[tuple[str, str]] = ()
    cgroup_binds: Sequence[tuple[str, str]] = ()


def command(confinement: Confinement, role: Role, *, seccomp_fd: int | None, status_fd: int) -> list[str]:
    """Return the argument list that starts `role`; it reads its configuration from standard input."""
    args = ["bwrap", "--unshare-pid", "--unshare-net", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    args += ["--hostname", "sandbox"]
    args += ["--new-session", "--as-pid-1", "--clearenv", "--json-status-fd", str(status_fd)]
    for name, value in _environment(confinement).items():
        args += ["--setenv", name, value]
    args += _open_parents([*(path for _, path in MOUNTS[role]), "/home/user", "/etc/passwd", "/sys/fs/cgroup/memory"])
    args += _system(confinement)
    if role == "kernels" and confinement.network == "internet":
        for name in ("resolv.conf", "hosts"):
            args += ["--ro-bind", f"{confinement.folder}/{name}", f"/etc/{name}"]
    for name, place in MOUNTS[role]:
        args += ["--bind", f"{confinement.folder}/{name}", place]
    if role == "server":
        for source, place in confinement.cgroup_binds:
            args += ["--ro-bind", source, place]
    for path in ("/dev", "/"):  # file systems in memory that the user would own where we are not root
        args += ["--remount-ro", path]
    args += ["--chdir", "/", "--cap-drop", "ALL"]
    if seccomp_fd is not None:
        args += ["--seccomp", str(seccomp_fd)]
    args += _identity(confinement.uid)
    module = "sandbox_server" if role == "server" else "sandbox_server.zygote"
    return [*args, confinement.python, "-X", "frozen_modules=on", "-m", module]


def network_command(
    confinement: Confinement,
    slirp4netns: str,
    *,
    net_fd: int,
    user_fd: int | None,
    status_fd: int,
    ready_fd: int,
    exit_fd: int,
) -> list[str]:
    """Return the argument list that connects the network namespace `net_fd`, which the user namespace `user_fd` owns.

    slirp4netns stays in the host's network and parses what user code sends, so it sees no more than its libraries and
    the resolver's address. The capabilities are for its start; it drops them. It writes to `ready_fd` when the
    namespace is connected and ends when `exit_fd` hangs up.
    """
    args = ["bwrap", "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--unshare-cgroup-try"]
    args += ["--userns", str(user_fd)] if user_fd is not None else []
    args += ["--new-session", "--as-pid-1", "--clearenv", "--json-status-fd", str(status_fd)]
    args += _system_dirs(confinement)
    for path in ("/etc/ld.so.cache", "/etc/resolv.conf"):
        args += ["--ro-bind-try", path, path]
    args += ["--dir", "/run", "--dir", "/tmp", "--proc", "/proc", "--dev-bind", "/dev/net/tun", "/dev/net/tun"]
    args += ["--chdir", "/", "--cap-drop", "ALL"]
    for name in ("CAP_SYS_ADMIN", "CAP_NET_ADMIN", "CAP_SETPCAP", "CAP_NET_BIND_SERVICE"):
        args += ["--cap-add", name]
    args += ["--", slirp4netns, "--configure", "--mtu=65520", "--disable-host-loopback"]
    args += ["--enable-sandbox", "--enable-seccomp", f"--ready-fd={ready_fd}", f"--exit-fd={exit_fd}"]
    return [*args, "--netns-type=path", f"/proc/self/fd/{net_fd}", "tap0"]


def _environment(confinement: Confinement) -> dict[str, str]:
    bin_dir = confinement.python.rpartition("/")[0]
    return {**ENVIRONMENT, "PATH": f"{bin_dir}:{ENVIRONMENT['PATH']}"}


def _system_dirs(confinement: Confinement) -> list[str]:
    args: list[str] = []
    for path in confinement.system_dirs:
        args += ["--ro-bind", path, path]
    for target, path in confinement.links:
        args += ["--symlink", target, path]
    return args


def _system(confinement: Confinement) -> list[str]:
    args = _system_dirs(confinement)
    for name in confinement.etc:
        args += ["--ro-bind-try", f"/etc/{name}", f"/etc/{name}"]
    for name in ("passwd", "group"):
        args += ["--ro-bind", f"{confinement.folder}/{name}", f"/etc/{name}"]
    args += ["--proc", "/proc", "--dev", "/dev"]
    for path in ("/tmp", "/home/user", "/dev/shm"):
        args += ["--perms", "1777", "--size", str(SCRATCH_BYTES), "--tmpfs", path]
    args += _open_parents(confinement.interpreter_dirs)  # after /tmp and /home/user, where a checkout may lie too
    for path in confinement.interpreter_dirs:
        args += ["--ro-bind", path, path]
    return args


def _open_parents(paths: Sequence[str]) -> list[str]:
    """Make the folders above mount points passable; those that bubblewrap makes by itself are its own user's alone."""
    parents = {str(parent) for path in paths for parent in PurePosixPath(path).parents if str(parent) != "/"}
    return [word for path in sorted(parents) for word in ("--perms", "0755", "--dir", path)]


def _identity(uid: int | None) -> list[str]:
    """Return what makes the processes powerless: a user namespace of their own, or (as root) another user."""
    if uid is None:
        return ["--unshare-user", "--uid", "1000", "--gid", "1000"]
    needed = ["--cap-add", "CAP_SETUID", "--cap-add", "CAP_SETGID", "--cap-add", "CAP_SETPCAP"]
    become = ["setpriv", f"--reuid={uid}", f"--regid={uid}", "--clear-groups", "--bounding-set=-all", "--inh-caps=-all"]
    return [*needed, "--", *become, "--no-new-privs"]


def passwd(uid: int) -> str:
    """Return the sandbox's own user database."""
    return f"root:x:0:0:root:/:/bin/sh\nuser:x:{uid}:{uid}:user:/home/user:/bin/sh\n"


def group(uid: int) -> str:
    """Return the sandbox's own group database."""
    return f"root:x:0:\nuser:x:{uid}:\n"
