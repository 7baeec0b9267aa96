"""Limits the files and ports that a process can use (Landlock, Linux 5.13 and later).

Rules stay until the process ends; they apply to the calling thread and to threads that it starts afterwards.  Files that
are already open stay usable.  ``capture/sandbox/confine.py`` decides what is allowed.
"""

import ctypes
import os
import stat
import struct
import sys
from typing import Iterable, Optional, Tuple

_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446  # the same on every processor
_VERSION = 1  # LANDLOCK_CREATE_RULESET_VERSION
_PATH_BENEATH, _NET_PORT = 1, 2
EXECUTE, WRITE, READ, LIST = 1 << 0, 1 << 1, 1 << 2, 1 << 3
TRUNCATE, IOCTL = 1 << 14, 1 << 15
_OF_FILES = EXECUTE | WRITE | READ | TRUNCATE | IOCTL
# (version of the interface, number of file rights that it knows)
_RIGHTS = ((1, 13), (2, 14), (3, 15), (5, 16))
_CONNECT = 1 << 1
_PORTS_SINCE, _SCOPES_SINCE = 4, 6
_BOTH_PORT_RIGHTS, _BOTH_SCOPES = 3, 3  # bind and connect; abstract Unix sockets and signals


def version() -> int:
    """Return the version of the kernel's interface; 0 if it has none."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, _call(_CREATE_RULESET, None, 0, _VERSION))


def restrict(paths: Optional[Iterable[Tuple[str, int]]], ports: Optional[Iterable[int]] = None) -> int:
    """Allow only these files and ports from now on; returns the interface's version, 0 if the kernel has none.

    paths       pairs of a path (a folder stands for everything in it) and the rights on it: READ, LIST, WRITE, ...; None allows
                everything but other ports
    ports       TCP ports that may be connected to (version 4 and later); None allows all
    """
    found = version()
    if not found or (paths is None and found < _PORTS_SINCE):
        return 0
    rights = 0 if paths is None else (1 << max(bits for since, bits in _RIGHTS if found >= since)) - 1
    handled = struct.pack("Q", rights)
    if found >= _PORTS_SINCE:
        handled += struct.pack("Q", 0 if ports is None else _BOTH_PORT_RIGHTS)
    if found >= _SCOPES_SINCE:
        handled += struct.pack("Q", 0 if paths is None else _BOTH_SCOPES)
    rules = _call(_CREATE_RULESET, handled, len(handled), 0)
    if rules < 0:
        return 0
    try:
        for path, allowed in paths or ():
            _allow_path(rules, path, allowed & rights)
        if found >= _PORTS_SINCE:
            for port in ports or ():
                _call(_ADD_RULE, rules, _NET_PORT, struct.pack("QQ", _CONNECT, port), 0)
        return found if _call(_RESTRICT_SELF, rules, 0) == 0 else 0
    finally:
        os.close(rules)


def _allow_path(rules: int, path: str, allowed: int) -> None:
    """Allow a path, if it exists."""
    try:
        descriptor = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return
    try:
        if not stat.S_ISDIR(os.fstat(descriptor).st_mode):
            allowed &= _OF_FILES
        _call(_ADD_RULE, rules, _PATH_BENEATH, struct.pack("=Qi", allowed, descriptor), 0)
    finally:
        os.close(descriptor)


def _call(number: int, *arguments: object) -> int:
    kernel = ctypes.CDLL(None).syscall
    kernel.restype = ctypes.c_long
    return int(kernel(number, *[ctypes.c_long(part) if isinstance(part, int) else part for part in arguments]))
