"""Gives up rights of the capture process before it opens a source.

Decoders read data from strangers with the rights of the user who started the runtime.  What a decoder needs depends on
the source: to read one file, or to connect to one port.  Each kernel enforces what it can: Landlock (5.13) for files and
ports, seccomp (3.5) for system calls, resource limits on every Linux.  ``confine`` reports which of them are in force.
"""

import glob
import os
import sys
from typing import TYPE_CHECKING, List, Tuple
from urllib.parse import urlsplit

from ... import __file__ as package_file
from . import landlock, seccomp
from .landlock import IOCTL, LIST, READ, WRITE

if TYPE_CHECKING:
    from types import ModuleType

    from ..source import Source

_PR_SET_NO_NEW_PRIVS = 38
# Memory for decoders beyond what is in use before they run: a quarter of the machine's, within these bounds.
# FFmpeg's H.264 decoder needs 0.4 GB for 3840x2160 and two threads, 1.5 GB for 7680x4320, a seventh more per thread.
LEAST_MEMORY_BYTES, MOST_MEMORY_BYTES, THREAD_BYTES = 1 << 30, 3 << 30, 64 << 20
_MOST_THREADS = 16  # the most that FFmpeg starts by default
_OPEN_FILES = 256
_AF_INET, _AF_INET6, _AF_NETLINK, _AF_UNIX = 2, 10, 16, 1
_DNS = 53


def _names(text: str) -> Tuple[str, ...]:
    return tuple(text.split())


# Needed by no source: other processes, mounts, the kernel, keys, users, clocks.
_NEVER = _names(
    "ptrace process_vm_readv process_vm_writev process_madvise kcmp pidfd_getfd mount umount2 pivot_root chroot open_tree "
    "open_tree_attr move_mount fsopen fsconfig fsmount fspick mount_setattr unshare setns bpf perf_event_open userfaultfd "
    "io_uring_setup io_uring_enter io_uring_register add_key request_key keyctl kexec_load kexec_file_load init_module "
    "finit_module delete_module swapon swapoff reboot acct quotactl syslog personality iopl ioperm modify_ldt settimeofday "
    "clock_settime adjtimex clock_adjtime sethostname setdomainname name_to_handle_at open_by_handle_at capset"
)
# Needed only by GStreamer, which starts its plugin scanner and talks to servers (Argus, X11, PulseAudio).
_STARTING = _names(
    "execve execveat fork vfork pidfd_open pidfd_send_signal tkill rt_sigqueueinfo rt_tgsigqueueinfo setuid setgid "
    "setreuid setregid setresuid setresgid setgroups setrlimit shmget shmat msgget semget mq_open listen accept accept4"
)
_CHANGING_FILES = _names(
    "creat truncate mknod mknodat mkdir mkdirat rmdir unlink unlinkat rename renameat renameat2 link linkat symlink "
    "symlinkat chmod fchmod fchmodat fchmodat2 chown fchown lchown fchownat setxattr lsetxattr fsetxattr setxattrat "
    "removexattr lremovexattr fremovexattr removexattrat utime utimes utimensat futimesat"
)
_CONNECTING = ("connect", "bind", "socketpair")

_LIBRARIES = (
    "/usr/lib",
    "/usr/lib32",
    "/usr/lib64",
    "/usr/local/lib",
    "/usr/local/lib64",
    "/usr/share",
    "/lib",
    "/lib64",
)
_SYSTEM = (
    "/etc/ld.so.cache",
    "/etc/localtime",
    "/dev/urandom",
    "/dev/random",
    "/dev/zero",
    "/proc/self",
    "/proc/cpuinfo",
    "/proc/meminfo",
    "/proc/stat",
    "/proc/sys/vm/overcommit_memory",
    "/sys/devices/system",
    "/sys/fs/cgroup",
)
_NETWORK = (
    *("/etc/" + name for name in _names("resolv.conf hosts host.conf nsswitch.conf gai.conf services protocols")),
    *("/run/" + name for name in _names("systemd/resolve resolvconf NetworkManager connman")),
    # Not all of /etc/ssl, which also holds private keys.
    *("/etc/" + name for name in _names("ssl/certs ssl/openssl.cnf pki/tls/certs pki/ca-trust ca-certificates")),
    "/etc/crypto-policies",
)


def confine(source: "Source", shared_bytes: int) -> List[str]:
    """Give up, in this process, the rights that a Source's decoders do not need.  Call it before any thread is started.

    shared_bytes    size of the shared frame memory, which counts as a file

    Returns the names of what is in force, such as ["limits", "no-new-privs", "landlock 7", "seccomp"].
    """
    if not sys.platform.startswith("linux"):
        return []
    closed = source.kind != "gstreamer" and not source.pipeline
    held = ["limits"] if _limit(closed, shared_bytes) else []
    if not _give_up_privileges():
        return held
    held.append("no-new-privs")
    if closed:
        found = landlock.restrict(_readable() + _files(source), _ports(source))
        held += ["landlock {}".format(found)] if found else []
    elif source.pipeline:
        # Drivers need devices, files and servers that only they know, but no port of the network besides the camera's.
        found = landlock.restrict(None, _ports(source))
        held += ["landlock {} for ports".format(found)] if found else []
    held += ["seccomp"] if _refuse_calls(source, closed) else []
    # Landlock and seccomp apply to this thread and to those that it starts from now on.
    older = len(os.listdir("/proc/self/task")) - 1 if os.path.isdir("/proc/self/task") else 0
    return held + (["except for {} older threads".format(older)] if older else [])


def _limit(closed: bool, shared_bytes: int) -> bool:
    import resource

    try:
        _lower(resource, resource.RLIMIT_CORE, 0)
        if closed:
            _lower(resource, resource.RLIMIT_NOFILE, _OPEN_FILES)
            _lower(resource, resource.RLIMIT_FSIZE, shared_bytes)
            _lower(resource, resource.RLIMIT_DATA, _data_bytes() + memory_allowance())
    except (OSError, ValueError):
        return False
    return True


def _lower(resource: "ModuleType", kind: int, most: int) -> None:
    """Lower a limit permanently."""
    hard = resource.getrlimit(kind)[1]
    most = most if hard == resource.RLIM_INFINITY else min(most, hard)
    resource.setrlimit(kind, (most, most))


def memory_allowance() -> int:
    """Return how many bytes decoders may use on this machine."""
    machine = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    least = LEAST_MEMORY_BYTES + THREAD_BYTES * min(os.cpu_count() or 1, _MOST_THREADS)
    return min(max(machine // 4, least), MOST_MEMORY_BYTES)


def _data_bytes() -> int:
    with open("/proc/self/statm") as stream:
        return int(stream.read().split()[5]) * os.sysconf("SC_PAGE_SIZE")


def _give_up_privileges() -> bool:
    """Never gain rights by running a program; returns whether the kernel enforces it."""
    import ctypes

    return ctypes.CDLL(None).prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0


def _readable() -> List[Tuple[str, int]]:
    """Return what is read after the imports: libraries that are loaded late, and facts about the machine."""
    import cv2
    import numpy as np

    files = [package_file, *(str(module.__file__) for module in (os, np, cv2))]
    packages = [os.path.dirname(os.path.abspath(file)) for file in files]
    packages += [path for package in packages for path in glob.glob(glob.escape(os.path.dirname(package)) + "/*.libs")]
    loader = [path for path in os.environ.get("LD_LIBRARY_PATH", "").split(os.pathsep) if os.path.isabs(path)]
    paths = [*_LIBRARIES, *glob.glob("/usr/local/cuda*/lib64"), *loader, *packages, *_SYSTEM]
    return [(path, READ | LIST) for path in paths] + [("/dev/null", READ | WRITE)]


def _files(source: "Source") -> List[Tuple[str, int]]:
    if source.kind == "file":
        return [(source.location, READ)]
    if source.kind == "device":
        return [(source.location, READ | WRITE | IOCTL), ("/sys", READ | LIST)]
    if source.kind == "network":
        named = [os.environ.get(name, "") for name in ("SSL_CERT_FILE", "SSL_CERT_DIR")]
        return [(path, READ | LIST) for path in [*_NETWORK, *named] if path]
    return []


def _ports(source: "Source") -> List[int]:
    return [int(source.address[1]), _DNS] if source.kind == "network" and source.address else []


def _refuse_calls(source: "Source", closed: bool) -> bool:
    if not closed:
        return seccomp.install(_NEVER)
    families = _families(source)
    refused = _NEVER + _STARTING + _CHANGING_FILES + (() if families else _CONNECTING)
    # Devices are opened for writing.
    return seccomp.install(refused, families, writing=source.kind == "device", starting=False)


def _families(source: "Source") -> List[int]:
    if source.kind != "network":
        return []
    # Only .local names need a Unix socket, to ask Avahi; others would reach the desktop, Docker and key agents.
    local = (urlsplit(source.location).hostname or "").lower().endswith(".local")
    return [_AF_INET, _AF_INET6, _AF_NETLINK] + ([_AF_UNIX] if local else [])
