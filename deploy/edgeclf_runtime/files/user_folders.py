"""Folders for what the runtime keeps for its user: engines, figures, results that no broker has received yet.

By the XDG base directory specification.  A user without a home (a container's user id that /etc/passwd does not
know, with HOME=/ or none) gets a folder of its own in the temporary folder, which nobody else can enter.
"""

import logging
import os
import pwd
import stat
import tempfile
from typing import Set

_log = logging.getLogger(__name__)
_warned: Set[str] = set()


def cache_folder():
    """Return where what was made on this device is kept, or None if this user can keep nothing."""
    return _user_folder("XDG_CACHE_HOME", ".cache")


def home_cache_folder():
    """Return the one below the user's home, whatever XDG_CACHE_HOME says, or None."""
    return _below_home(".cache")


def state_folder():
    """Return where what must not be lost is kept, or None if this user can keep nothing."""
    return _user_folder("XDG_STATE_HOME", ".local", "state")


def home_folder():
    """Return the user's home, by HOME or by the user's entry in /etc/passwd, or None: never a ``~``."""
    home = os.environ.get("HOME", "")
    if not os.path.isabs(home):
        try:
            home = pwd.getpwuid(os.getuid()).pw_dir
        except KeyError:
            return None
    return home if os.path.isabs(home) else None


def temporary_folder():
    """Return the folder for temporary files, or None; the working folder, which Python falls back to, is none."""
    try:
        folder = tempfile.gettempdir()
    except OSError:
        return None
    named = [os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP")] + ["/tmp", "/var/tmp", "/usr/tmp"]
    return folder if folder in [os.path.abspath(name) for name in named if name] else None


def _user_folder(variable, *below):
    named = os.environ.get(variable, "")
    if os.path.isabs(named):  # "consider the path invalid and ignore it", says the specification of others
        return os.path.join(named, "edgeclf")
    return _below_home(*below) or _temporary(below[-1].lstrip("."), variable)


def _below_home(*below):
    """Return a folder below the user's home, or None if it neither is there nor can be made."""
    home = home_folder()
    folder = os.path.join(home, *below, "edgeclf") if home else None
    return folder if folder and (os.path.isdir(folder) or _can_be_made(folder)) else None


def _can_be_made(folder):
    above = os.path.dirname(folder)
    while not os.path.lexists(above):
        above = os.path.dirname(above)
    return os.path.isdir(above) and os.access(above, os.W_OK | os.X_OK)


def _temporary(name, variable):
    """Return a folder of this user's own in the temporary folder, or None; warns once."""
    above = temporary_folder()
    own = os.path.join(above, "edgeclf-{}".format(os.getuid())) if above else None
    reason = _claim(own) if own else "no temporary folder can be written"
    where = (
        "nothing is kept ({})".format(reason)
        if reason
        else "engines, figures and unsent results are kept in " + str(own)
    )
    if where not in _warned:
        _warned.add(where)
        _log.warning(
            "user %d has no home that can be written (HOME is %s): %s; set HOME or %s",
            os.getuid(),
            repr(os.environ["HOME"]) if "HOME" in os.environ else "not set",
            where,
            variable,
        )
    return None if reason or own is None else os.path.join(own, name)


def _claim(folder):
    """Make a folder that only its user can enter; returns why it is not to be trusted, or ""."""
    try:
        os.mkdir(folder, 0o700)
    except FileExistsError:
        pass
    except OSError as error:
        return "{} cannot be made: {}".format(folder, error.strerror)
    # In a folder that everybody writes to, somebody else may have made it, or a link of that name.
    found = os.lstat(folder)
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        return "{} is not a folder of this user".format(folder)
    if stat.S_IMODE(found.st_mode) & 0o077:
        return "other users can enter {}".format(folder)
    return ""
