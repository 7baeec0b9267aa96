"""Folders for files that the runtime keeps per user: engines, tuning results, results that no broker has received yet.

They follow the XDG base directory specification.  A user without a home (a container's user id that /etc/passwd does
not know, with HOME=/ or none) gets a private folder in the temporary folder.
"""

import logging
import os
import pwd
import stat
import tempfile
from typing import Optional, Set

_log = logging.getLogger(__name__)
_warned: Set[str] = set()


def cache_folder() -> Optional[str]:
    """Return the folder for files that can be made again, or None if this user cannot keep any."""
    return _user_folder("XDG_CACHE_HOME", ".cache")


def home_cache_folder() -> Optional[str]:
    """Return the cache folder below the user's home, whatever XDG_CACHE_HOME says, or None."""
    return _below_home(".cache")


def state_folder() -> Optional[str]:
    """Return the folder for files that must not be lost, or None if this user cannot keep any."""
    return _user_folder("XDG_STATE_HOME", ".local", "state")


def home_folder() -> Optional[str]:
    """Return the user's home from HOME or /etc/passwd, or None; it never starts with ``~``."""
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return home if os.path.isabs(home) else None


def temporary_folder() -> Optional[str]:
    """Return the folder for temporary files, or None; Python's last resort, the working folder, does not count."""
    try:
        folder = tempfile.gettempdir()
    except OSError:
        return None
    named = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")] + ["/tmp", "/var/tmp", "/usr/tmp"]
    return folder if folder in [os.path.abspath(name) for name in named if name] else None


def _user_folder(variable: str, *below: str) -> Optional[str]:
    named = os.environ.get(variable, "")
    if os.path.isabs(named):  # the specification: a relative path is invalid and ignored
        return os.path.join(named, "edgeclf")
    return _below_home(*below) or _temporary(below[-1].lstrip("."), variable)


def _below_home(*below: str) -> Optional[str]:
    """Return a folder below the user's home, or None if it does not exist and cannot be created."""
    home = home_folder()
    folder = os.path.join(home, *below, "edgeclf") if home else None
    return folder if folder and (os.path.isdir(folder) or _can_be_made(folder)) else None


def _can_be_made(folder: str) -> bool:
    above = os.path.dirname(folder)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return os.path.isdir(above) and os.access(above, os.W_OK | os.X_OK)


def _temporary(name: str, variable: str) -> Optional[str]:
    """Return this user's private folder in the temporary folder, or None; warns once."""
    above = temporary_folder()
    own = os.path.join(above, "edgeclf-{}".format(os.getuid())) if above else None
    reason = _claim(own) if own else "no temporary folder is writable"
    where = (
        "nothing is kept ({})".format(reason)
        if reason
        else "engines, figures and unsent results are kept in " + str(own)
    )
    if where not in _warned:
        _warned.add(where)
        _log.warning(
            "user %d has no writable home (HOME is %s): %s; set HOME or %s",
            os.getuid(),
            repr(os.environ["HOME"]) if "HOME" in os.environ else "not set",
            where,
            variable,
        )
    return None if reason or own is None else os.path.join(own, name)


def _claim(folder: str) -> str:
    """Create a folder that only its user can enter; return why it cannot be trusted, or ""."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        return "{} cannot be created: {}".format(folder, error.strerror)
    # In a folder that everyone can write, someone else may have created it, or a link with its name.
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return "{} is not a folder of this user".format(folder)
    if stat.S_IMODE(found.st_mode) & 0o077:
        return "other users can enter {}".format(folder)
    return ""
