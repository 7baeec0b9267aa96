"""Limits that a container, a systemd unit or a batch system sets by control groups, versions 1 and 2.

A limit applies to all groups below it, so every group from this process's own up to the mounted one is read.  In a
container the mounted one is the container's.  /proc/self/cgroup gives the host's path if the container has no cgroup
namespace of its own.  Sources: man 7 cgroups, the kernel's admin-guide/cgroup-v2 and cgroup-v1.
"""

import os
import re
from typing import Iterator, List, NamedTuple, Optional, Tuple

_MAX_BYTES = 1 << 20
# The usual mounts, for a process that cannot read /proc.
_USUAL = (
    ("sys/fs/cgroup", ""),
    ("sys/fs/cgroup/cpu", "cpu"),
    ("sys/fs/cgroup/cpu,cpuacct", "cpu"),
    ("sys/fs/cgroup/cpuacct,cpu", "cpu"),
    ("sys/fs/cgroup/memory", "memory"),
)


class _Mount(NamedTuple):
    """A mounted hierarchy of groups.

    folder      the mount point
    group       the path, within the hierarchy, of the group that is mounted there
    controllers of version 1; ("",) for version 2
    """

    version: int
    folder: str
    group: str
    controllers: Tuple[str, ...]


def cpu_quota(root: str = "/") -> Optional[float]:
    """Return how many processors' worth of time this process may use, such as 1.5, or None if there is no limit."""
    quotas = [_quota(folder) for folder in _groups("cpu", root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(folder: str) -> Optional[float]:
    both = (_read(os.path.join(folder, "cpu.max")) or "").split()
    if not both:
        both = [_read(os.path.join(folder, "cpu.cfs_{}_us".format(name))) or "" for name in ("quota", "period")]
    if len(both) != 2 or not both[0].isdecimal() or not both[1].isdecimal() or not int(both[0]) or not int(both[1]):
        return None  # "max", or -1: no limit
    return int(both[0]) / int(both[1])


def memory_limit(root: str = "/") -> Optional[int]:
    """Return how many bytes of memory this process and the others in its groups may use, or None if there is no limit."""
    limits = [_number(folder, name) for folder in _groups("memory", root) for name in _LIMITS]
    # Version 1 writes "no limit" as the largest multiple of the page size.
    return min((limit for limit in limits if limit is not None and limit < 1 << 60), default=None)


_LIMITS = ("memory.max", "memory.limit_in_bytes")


def _number(folder: str, name: str) -> Optional[int]:
    text = _read(os.path.join(folder, name)) or ""
    return int(text) if text.isdecimal() else None


def _groups(controller: str, root: str) -> Iterator[str]:
    """Yield the folders of this process's groups, innermost first, in each hierarchy that has the controller."""
    mounts, own = _mounts(root), _own_groups(root)
    for version, name in ((1, controller), (2, "")):
        path = next((path for names, path in own if name in names), "/")
        hierarchy = [mount for mount in mounts if mount.version == version and name in mount.controllers]
        # Other processes' groups may be mounted too; if no mount leads to this process, the first is its container's.
        for mount in [mount for mount in hierarchy if _is_below(path, mount.group)] or hierarchy[:1]:
            below = _below(path, mount.group)
            yield from (os.path.join(mount.folder, *below[:depth]) for depth in range(len(below), -1, -1))


def _is_below(path: str, group: str) -> bool:
    return path == group or path.startswith(group.rstrip("/") + "/")


def _below(path: str, group: str) -> List[str]:
    """Return the names of the groups from a mounted one down to this process's."""
    parts = [part for part in (path[len(group) :] if _is_below(path, group) else path).split("/") if part]
    return [] if ".." in parts else parts


def _own_groups(root: str) -> List[Tuple[Tuple[str, ...], str]]:
    """Return (controllers, path) for each line of /proc/self/cgroup; version 2 has ("",)."""
    lines = (_read(os.path.join(root, "proc/self/cgroup")) or "").splitlines()
    fields = [line.split(":", 2) for line in lines]
    return [(tuple(field[1].split(",")), field[2]) for field in fields if len(field) == 3]


def _mounts(root: str) -> List[_Mount]:
    """Return every mounted hierarchy."""
    found: List[_Mount] = []
    for line in (_read(os.path.join(root, "proc/self/mountinfo")) or "").splitlines():
        front, _, back = line.partition(" - ")
        fields, kind = front.split(" "), back.split(" ")
        if len(fields) < 5 or len(kind) < 3 or kind[0] not in ("cgroup", "cgroup2"):
            continue
        folder = os.path.join(root, _unescaped(fields[4]).lstrip("/"))
        version = 1 if kind[0] == "cgroup" else 2
        controllers = tuple(kind[2].split(",")) if version == 1 else ("",)
        found.append(_Mount(version, folder, _unescaped(fields[3]), controllers))
    if not found:
        found = [_Mount(1 if name else 2, os.path.join(root, path), "/", (name,)) for path, name in _USUAL]
    return found


def _unescaped(path: str) -> str:
    """Decode a path of /proc/self/mountinfo, which writes blanks as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), path)


def _read(path: str) -> Optional[str]:
    try:
        with open(path, "rb") as stream:
            return os.fsdecode(stream.read(_MAX_BYTES)).strip()
    except (OSError, ValueError):
        return None
