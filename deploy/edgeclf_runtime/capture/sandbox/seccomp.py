"""Refuses system calls (seccomp-bpf, Linux 3.5 and later, x86-64 and arm64).

A filter stays until the process ends, applies to every thread started after it, and refuses calls with EPERM.
``capture/sandbox/confine.py`` decides what is refused.
"""

import ctypes
import errno
import os
import platform
import struct
import sys
from typing import Optional, Sequence

_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER = 22, 2
_ALLOW, _ERRNO = 0x7FFF0000, 0x00050000
# struct seccomp_data: int nr; u32 arch; u64 instruction_pointer; u64 args[6].
_NUMBER_AT, _ARCH_AT, _ARGUMENTS_AT = 0, 4, 16
_LOAD, _AND, _RETURN = 0x20, 0x54, 0x06
_IF_EQUAL, _IF_AT_LEAST, _IF_BITS = 0x15, 0x35, 0x45
_X32 = 0x40000000
_CLONE_THREAD = 0x10000
# O_WRONLY, O_RDWR, O_CREAT and O_TRUNC have the same values on both processors.
_WRITING = 0x1 | 0x2 | 0x40 | 0x200
# Machine: its AUDIT_ARCH_* number, and its column in SYSCALLS.
_MACHINES = {"x86_64": (0xC000003E, 0), "aarch64": (0xC00000B7, 1)}

# Name: numbers on x86-64 and arm64 (asm/unistd_64.h, asm-generic/unistd.h); None if the processor has no such call.
SYSCALLS = {
    "open": (2, None),
    "shmget": (29, 194),
    "shmat": (30, 196),
    "socket": (41, 198),
    "connect": (42, 203),
    "accept": (43, 202),
    "bind": (49, 200),
    "listen": (50, 201),
    "socketpair": (53, 199),
    "clone": (56, 220),
    "fork": (57, None),
    "vfork": (58, None),
    "execve": (59, 221),
    "kill": (62, 129),
    "semget": (64, 190),
    "msgget": (68, 186),
    "truncate": (76, 45),
    "rename": (82, None),
    "mkdir": (83, None),
    "rmdir": (84, None),
    "creat": (85, None),
    "link": (86, None),
    "unlink": (87, None),
    "symlink": (88, None),
    "chmod": (90, None),
    "fchmod": (91, 52),
    "chown": (92, None),
    "fchown": (93, 55),
    "lchown": (94, None),
    "ptrace": (101, 117),
    "syslog": (103, 116),
    "setuid": (105, 146),
    "setgid": (106, 144),
    "setreuid": (113, 145),
    "setregid": (114, 143),
    "setgroups": (116, 159),
    "setresuid": (117, 147),
    "setresgid": (119, 149),
    "capset": (126, 91),
    "rt_sigqueueinfo": (129, 138),
    "utime": (132, None),
    "mknod": (133, None),
    "personality": (135, 92),
    "modify_ldt": (154, None),
    "pivot_root": (155, 41),
    "adjtimex": (159, 171),
    "setrlimit": (160, 164),
    "chroot": (161, 51),
    "acct": (163, 89),
    "settimeofday": (164, 170),
    "mount": (165, 40),
    "umount2": (166, 39),
    "swapon": (167, 224),
    "swapoff": (168, 225),
    "reboot": (169, 142),
    "sethostname": (170, 161),
    "setdomainname": (171, 162),
    "iopl": (172, None),
    "ioperm": (173, None),
    "init_module": (175, 105),
    "delete_module": (176, 106),
    "quotactl": (179, 60),
    "setxattr": (188, 5),
    "lsetxattr": (189, 6),
    "fsetxattr": (190, 7),
    "removexattr": (197, 14),
    "lremovexattr": (198, 15),
    "fremovexattr": (199, 16),
    "tkill": (200, 130),
    "clock_settime": (227, 112),
    "tgkill": (234, 131),
    "utimes": (235, None),
    "mq_open": (240, 180),
    "kexec_load": (246, 104),
    "add_key": (248, 217),
    "request_key": (249, 218),
    "keyctl": (250, 219),
    "openat": (257, 56),
    "mkdirat": (258, 34),
    "mknodat": (259, 33),
    "fchownat": (260, 54),
    "futimesat": (261, None),
    "unlinkat": (263, 35),
    "renameat": (264, 38),
    "linkat": (265, 37),
    "symlinkat": (266, 36),
    "fchmodat": (268, 53),
    "unshare": (272, 97),
    "utimensat": (280, 88),
    "accept4": (288, 242),
    "rt_tgsigqueueinfo": (297, 240),
    "perf_event_open": (298, 241),
    "prlimit64": (302, 261),
    "name_to_handle_at": (303, 264),
    "open_by_handle_at": (304, 265),
    "clock_adjtime": (305, 266),
    "setns": (308, 268),
    "process_vm_readv": (310, 270),
    "process_vm_writev": (311, 271),
    "kcmp": (312, 272),
    "finit_module": (313, 273),
    "renameat2": (316, 276),
    "kexec_file_load": (320, 294),
    "bpf": (321, 280),
    "execveat": (322, 281),
    "userfaultfd": (323, 282),
    "pidfd_send_signal": (424, 424),
    "io_uring_setup": (425, 425),
    "io_uring_enter": (426, 426),
    "io_uring_register": (427, 427),
    "open_tree": (428, 428),
    "move_mount": (429, 429),
    "fsopen": (430, 430),
    "fsconfig": (431, 431),
    "fsmount": (432, 432),
    "fspick": (433, 433),
    "pidfd_open": (434, 434),
    "clone3": (435, 435),
    "openat2": (437, 437),
    "pidfd_getfd": (438, 438),
    "process_madvise": (440, 440),
    "mount_setattr": (442, 442),
    "fchmodat2": (452, 452),
    "setxattrat": (463, 463),
    "removexattrat": (466, 466),
    "open_tree_attr": (467, 467),
}
# Calls whose first argument is a process: it may signal itself (abort does), but no other.
_SIGNALS = ("kill", "tgkill")


def install(
    refused: Sequence[str], families: Optional[Sequence[int]] = None, writing: bool = True, starting: bool = True
) -> bool:
    """Refuse system calls from now on; returns whether this kernel and processor support it.

    refused     names in SYSCALLS
    families    address families that socket() may open; None allows all
    writing     whether files may be opened for writing, or created
    starting    whether processes may be started, other processes signaled, and limits changed; threads can always be started

    Requires ``PR_SET_NO_NEW_PRIVS`` to be set.
    """
    if not sys.platform.startswith("linux") or platform.machine() not in _MACHINES or struct.calcsize("P") != 8:
        return False
    return _load(program(platform.machine(), refused, families, writing, starting))


def program(
    machine: str,
    refused: Sequence[str],
    families: Optional[Sequence[int]] = None,
    writing: bool = True,
    starting: bool = True,
) -> bytes:
    """Return the filter for a machine, "x86_64" or "aarch64", as BPF bytes; see install()."""
    arch, column = _MACHINES[machine]
    code = _Program(column)
    for name in refused:
        code.refuse(name)
    if families is not None:
        code.refuse_sockets(families)
    if not writing:
        code.refuse_argument("open", 1, _IF_BITS, [_WRITING])
        code.refuse_argument("openat", 2, _IF_BITS, [_WRITING])
        # Its flags lie in memory, which a filter cannot read; the C library falls back to openat.
        code.refuse("openat2", errno.ENOSYS)
    if not starting:
        code.refuse_unless("clone", 0, _IF_BITS, [_CLONE_THREAD])
        code.refuse("clone3", errno.ENOSYS)
        for name in _SIGNALS:
            code.refuse_unless(name, 0, _IF_EQUAL, [os.getpid()])
        # Reading a limit is allowed: the third argument, the new limit, is then null.
        code.refuse_unless("prlimit64", 2, _IF_EQUAL, [0])
    return code.finish(arch)


def _load(code: bytes) -> bool:
    buffer = ctypes.create_string_buffer(code, len(code))
    filter_ = struct.pack("HxxxxxxQ", len(code) // 8, ctypes.addressof(buffer))
    arguments = ctypes.create_string_buffer(filter_, len(filter_))
    result = ctypes.CDLL(None).prctl(_PR_SET_SECCOMP, _SECCOMP_MODE_FILTER, ctypes.byref(arguments), 0, 0)
    return int(result) == 0


class _Program:
    """BPF instructions that refuse some calls.  Between any two of them the accumulator holds the call's number."""

    def __init__(self, column: int) -> None:
        self._column = column
        self._code = b""

    def refuse(self, name: str, error: int = errno.EPERM) -> None:
        """Refuse a call."""
        self._when(name, _step(_RETURN, _ERRNO | error))

    def refuse_argument(self, name: str, argument: int, test: int, values: Sequence[int]) -> None:
        """Refuse a call if an argument's lower half passes the test with any of the values."""
        tests = [_step(test, value, 0, 1) + _step(_RETURN, _ERRNO | errno.EPERM) for value in values]
        self._when(name, _load_argument(argument) + b"".join(tests) + _step(_LOAD, _NUMBER_AT))

    def refuse_unless(self, name: str, argument: int, test: int, values: Sequence[int]) -> None:
        """Refuse a call unless an argument's lower half passes the test with any of the values."""
        tests = [_step(test, value, len(values) - index) for index, value in enumerate(values)]
        refusal = _step(_RETURN, _ERRNO | errno.EPERM)
        self._when(name, _load_argument(argument) + b"".join(tests) + refusal + _step(_LOAD, _NUMBER_AT))

    def refuse_sockets(self, families: Sequence[int]) -> None:
        """Refuse sockets of other families, and raw sockets except AF_NETLINK's, which are all raw."""
        if not families:
            self.refuse("socket")
            return
        self.refuse_unless("socket", 0, _IF_EQUAL, families)
        raw = _load_argument(1) + _step(_AND, 0xF) + _step(_IF_EQUAL, 3, 0, 1) + _step(_RETURN, _ERRNO | errno.EPERM)
        internet = _load_argument(0) + _step(_IF_EQUAL, 16, len(raw) // 8) + raw
        self._when("socket", internet + _step(_LOAD, _NUMBER_AT))

    def _when(self, name: str, steps: bytes) -> None:
        number = SYSCALLS[name][self._column]
        if number is not None:
            self._code += _step(_IF_EQUAL, number, 0, len(steps) // 8) + steps

    def finish(self, arch: int) -> bytes:
        """Return the whole program, which also refuses calls that use another processor's numbering."""
        refusal = _step(_RETURN, _ERRNO | errno.EPERM)
        head = _step(_LOAD, _ARCH_AT) + _step(_IF_EQUAL, arch, 1) + refusal + _step(_LOAD, _NUMBER_AT)
        if arch == _MACHINES["x86_64"][0]:
            head += _step(_IF_AT_LEAST, _X32, 0, 1) + refusal
        return head + self._code + _step(_RETURN, _ALLOW)


def _load_argument(index: int) -> bytes:
    # Both processors are little-endian, so the lower half comes first.
    return _step(_LOAD, _ARGUMENTS_AT + 8 * index)


def _step(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
