"""Folders that sinks write to for a long time."""

import os

from ..errors import Unavailable


def open_folder(path, mode=0o777):
    """Make a folder unless it is there, and return its absolute path; Unavailable where it cannot be written."""
    path = os.path.abspath(str(path))
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            "{} cannot be made a folder for output ({}): choose another folder".format(path, error.strerror)
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise Unavailable("{} cannot be written: choose another folder, or change its permissions".format(path))
    return path
