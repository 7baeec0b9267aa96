"""Checks the rights of a service's user, and of others, to files."""

import glob
import grp
import os
import pwd
import stat
from typing import Iterable, List, Optional

GROUPS = ("video", "render")  # a service's groups, for cameras and GPUs; JetPack 4 has no render


def is_below(path: str, folders: Iterable[str]) -> bool:
    """Return whether a path is in one of some folders, as written or with its links resolved."""
    forms = {os.path.abspath(path), os.path.realpath(path)}
    return any((form + os.sep).startswith(folder + os.sep) for form in forms for folder in folders)


def changeable(folder: str) -> Optional[str]:
    """Return the first file or folder of a bundle that users other than root can change, or None."""
    paths = [folder, *sorted(glob.glob(os.path.join(glob.escape(folder), "**"), recursive=True))]
    return next(filter(is_changeable, paths), None)


def is_changeable(path: str) -> bool:
    """Return whether users other than root can change a file or folder itself."""
    facts = os.lstat(path)
    writable = facts.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not stat.S_ISLNK(facts.st_mode)
    return facts.st_uid != 0 or bool(writable)


def closed(folder: str, user: str) -> Optional[str]:
    """Return the first of the folders above a bundle, or of its files, that a user cannot read, or None."""
    files = glob.glob(os.path.join(glob.escape(folder), "**"), recursive=True)
    return _first_closed(folder, files, user)


def closed_file(path: str, user: str) -> Optional[str]:
    """Return the first of the folders above a file, or the file itself, that a user cannot read, or None."""
    return _first_closed(os.path.dirname(path), [path], user)


def _first_closed(folder: str, files: Iterable[str], user: str) -> Optional[str]:
    way: List[str] = [folder]
    while os.path.dirname(way[0]) != way[0]:
        way.insert(0, os.path.dirname(way[0]))
    closed = [path for path in way if not may(path, user, stat.S_IXUSR)]
    return next(iter(closed + [path for path in files if not may(path, user, stat.S_IRUSR)]), None)


def may(path: str, user: str, bit: int) -> bool:
    """Return whether a user has a right to a path; ``bit`` is the owner's.  A user that does not exist yet has others' rights."""
    try:
        facts = os.stat(path)
    except OSError:
        return False
    try:
        account = pwd.getpwnam(user)
    except KeyError:
        account = None
    if account and account.pw_uid in (0, facts.st_uid):
        return account.pw_uid == 0 or bool(facts.st_mode & bit)
    groups = {account.pw_gid, *(g.gr_gid for g in grp.getgrall() if user in g.gr_mem)} if account else set()
    groups |= {grp.getgrnam(name).gr_gid for name in GROUPS if is_group(name)}
    return bool(facts.st_mode & (bit >> 3 if facts.st_gid in groups else bit >> 6))


def is_group(name: str) -> bool:
    """Return whether a group exists."""
    try:
        grp.getgrnam(name)
    except KeyError:
        return False
    return True
