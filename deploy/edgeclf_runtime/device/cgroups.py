"""Limits that a container, a systemd unit or a batch system sets by control groups, versions 1 and 2.

A limit holds for all groups below it, so each group is looked at from this process's own up to the one that is mounted.
In a container that is the container's, whatever path /proc/self/cgroup gives: it is the host's if the container has no
cgroup namespace of its own.  Sources: man 7 cgroups, the kernel's admin-guide/cgroup-v2 and cgroup-v1.
Knows nothing of what the limits are for.
"""

import os
import re
from typing import Iterator, List, NamedTuple, Optional, Tuple

_MAX_BYTES = 1 << 20
# Where they usually are; for a process that may not read /proc.
_USUAL = (
    ("sys/fs/cgroup", ""),
    ("sys/fs/cgroup/cpu", "cpu"),
    ("sys/fs/cgroup/cpu,cpuacct", "cpu"),
    ("sys/fs/cgroup/cpuacct,cpu", "cpu"),
    ("sys/fs/cgroup/memory", "memory"),
)


class _Mount(NamedTuple):
    """A mounted hierarchy of groups.

    folder      where
    group       path of the group in the hierarchy that is mounted there
    controllers of version 1; ("",) for version 2
    """

    version: int
    folder: str
    group: str
    controllers: Tuple[str, ...]


def cpu_quota(root="/"):
    """Return how many processors' time this process may use, as 1.5, or None if it is not limited."""
    quotas = [_quota(folder) for folder in _groups("cpu", root)]
    return min((quota for quota in quotas if quota is not None), default=None)


def _quota(folder):
    both = (_read(os.path.join(folder, "cpu.max")) or "").split()
    if not both:
        both = [_read(os.path.join(folder, "cpu.cfs_{}_us".format(name))) or "" for name in ("quota", "period")]
    if len(both) != 2 or not both[0].isdecimal() or not both[1].isdecimal() or not int(both[0]) or not int(both[1]):
        return None  # "max", or -1: no limit
    return int(both[0]) / int(both[1])


def memory_limit(root="/"):
    """Return how many bytes of memory this process and others of its groups may use, or None if it is not limited."""
    limits = [_number(folder, name) for folder in _groups("memory", root) for name in _LIMITS]
    # Version 1 writes "no limit" as the largest multiple of the page size.
    return min((limit for limit in limits if limit is not None and limit < 1 << 60), default=None)


_LIMITS = ("memory.max", "memory.limit_in_bytes")


def _number(folder, name):
    text = _read(os.path.join(folder, name)) or ""
    return int(text) if text.isdecimal() else None


def _groups(controller, root) -> Iterator[str]:
    """Yield the folder of each group that this process is in, its own first, of each hierarchy with the controller."""
    mounts, own = _mounts(root), _own_groups(root)
    for version, name in ((1, controller), (2, "")):
        path = next((path for names, path in own if name in names), "/")
        hierarchy = [mount for mount in mounts if mount.version == version and name in mount.controllers]
        # Groups of others may be mounted, too; if no mount leads to this process, its container's is the first.
        for mount in [mount for mount in hierarchy if _is_below(path, mount.group)] or hierarchy[:1]:
            below = _below(path, mount.group)
            yield from (os.path.join(mount.folder, *below[:depth]) for depth in range(len(below), -1, -1))


def _is_below(path, group):
    return path == group or path.startswith(group.rstrip("/") + "/")


def _below(path, group) -> List[str]:
    """Return the names of the groups from a mounted one down to this process's."""
    parts = [part for part in (path[len(group) :] if _is_below(path, group) else path).split("/") if part]
    return [] if ".." in parts else parts


def _own_groups(root):
    """Return (controllers, path) of each line of /proc/self/cgroup; version 2 has ("",)."""
    lines = (_read(os.path.join(root, "proc/self/cgroup")) or "").splitlines()
    fields = [line.split(":", 2) for line in lines]
    return [(tuple(field[1].split(",")), field[2]) for field in fields if len(field) == 3]


def _mounts(root):
    """Return every _Mount that there is."""
    found = []
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


def _unescaped(path):
    """Return a path of /proc/self/mountinfo, which writes blanks as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda match: chr(int(match.group(1), 8)), path)


def _read(path) -> Optional[str]:
    try:
        with open(path, "rb") as stream:
            return os.fsdecode(stream.read(_MAX_BYTES)).strip()
    except (OSError, ValueError):
        return None
