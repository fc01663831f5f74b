"""A seccomp filter for user code: system calls that no program of data work needs and that reach deep into the kernel.

Pure: it makes the bytes of a classic BPF program, which bubblewrap installs. Sources: Linux `seccomp(2)` and
`linux/bpf_common.h` for the instructions, the kernel's syscall tables for the numbers.
"""

import struct

CLONE_NEWUSER = 0x10000000
_NAMESPACES = 0x7E020080 | CLONE_NEWUSER  # every CLONE_NEW* flag
_LOAD, _JUMP_EQUAL, _JUMP_SET, _JUMP_AT_LEAST, _RETURN = 0x20, 0x15, 0x45, 0x35, 0x06
_ALLOW, _ERRNO, _KILL = 0x7FFF0000, 0x00050000, 0x80000000
_EPERM, _ENOSYS, _EAFNOSUPPORT = 1, 38, 97
_NR_AT, _ARCH_AT, _ARG0_AT = 0, 4, 16

# name -> (number on x86_64, number on aarch64)
_REFUSED = {
    "ptrace": (101, 117), "process_vm_readv": (310, 270), "process_vm_writev": (311, 271), "mount": (165, 40),
    "umount2": (166, 39), "pivot_root": (155, 41), "chroot": (161, 51), "setns": (308, 268), "open_tree": (428, 428),
    "move_mount": (429, 429), "fsopen": (430, 430), "fsconfig": (431, 431), "fsmount": (432, 432), "fspick": (433, 433),
    "mount_setattr": (442, 442), "bpf": (321, 280), "perf_event_open": (298, 241), "userfaultfd": (323, 282),
    "io_uring_setup": (425, 425), "io_uring_enter": (426, 426), "io_uring_register": (427, 427), "add_key": (248, 217),
    "request_key": (249, 218), "keyctl": (250, 219), "kexec_load": (246, 104), "kexec_file_load": (320, 294),
    "init_module": (175, 105), "finit_module": (313, 273), "delete_module": (176, 106), "reboot": (169, 142),
    "swapon": (167, 224), "swapoff": (168, 225), "acct": (163, 89), "syslog": (103, 116), "quotactl": (179, 60),
    "open_by_handle_at": (304, 265), "name_to_handle_at": (303, 264), "pidfd_getfd": (438, 438), "kcmp": (312, 272),
    "settimeofday": (164, 170), "clock_settime": (227, 112), "adjtimex": (159, 171), "clock_adjtime": (305, 266),
}  # fmt: skip
_UNSHARE, _CLONE, _CLONE3, _SOCKET = (272, 97), (56, 220), (435, 435), (41, 198)
_SOCKET_FAMILIES = (1, 2, 10, 16)  # AF_UNIX, AF_INET, AF_INET6, AF_NETLINK (sys/socket.h); vsock passes by namespaces
_ARCHITECTURES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}
_X32_BIT = 0x40000000


def filter_program(machine: str) -> bytes | None:
    """Return the BPF program for a machine as `platform.machine()` names it, or None for one that is not known.

    Refused calls fail with EPERM; clone3 with ENOSYS, so that the C library falls back to clone, whose flags a filter
    can read. A call of another architecture's numbering ends the process.
    """
    if machine not in _ARCHITECTURES:
        return None
    arch, column = _ARCHITECTURES[machine]
    lines = [
        _instruction(_LOAD, _ARCH_AT),
        _instruction(_JUMP_EQUAL, arch, 1, 0),
        _instruction(_RETURN, _KILL),
        _instruction(_LOAD, _NR_AT),
    ]
    if machine == "x86_64":
        lines += [_instruction(_JUMP_AT_LEAST, _X32_BIT, 0, 1), _instruction(_RETURN, _KILL)]
    for numbers in _REFUSED.values():
        lines += [_instruction(_JUMP_EQUAL, numbers[column], 0, 1), _instruction(_RETURN, _ERRNO | _EPERM)]
    lines += [_instruction(_JUMP_EQUAL, _CLONE3[column], 0, 1), _instruction(_RETURN, _ERRNO | _ENOSYS)]
    count = len(_SOCKET_FAMILIES)
    lines += [_instruction(_JUMP_EQUAL, _SOCKET[column], 0, count + 3), _instruction(_LOAD, _ARG0_AT)]
    lines += [_instruction(_JUMP_EQUAL, family, count - at, 0) for at, family in enumerate(_SOCKET_FAMILIES)]
    lines += [_instruction(_RETURN, _ERRNO | _EAFNOSUPPORT), _instruction(_LOAD, _NR_AT)]
    for number in (_UNSHARE[column], _CLONE[column]):
        lines += [
            _instruction(_JUMP_EQUAL, number, 0, 4),
            _instruction(_LOAD, _ARG0_AT),
            _instruction(_JUMP_SET, _NAMESPACES, 0, 1),
            _instruction(_RETURN, _ERRNO | _EPERM),
            _instruction(_LOAD, _NR_AT),
        ]
    lines.append(_instruction(_RETURN, _ALLOW))
    return b"".join(lines)


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("=HBBI", code, if_true, if_false, value)
