"""Opens folders that sinks write to for a long time."""

import os
from typing import Union

from ..errors import Unavailable


def open_folder(path: "Union[str, os.PathLike[str]]", mode: int = 0o777) -> str:
    """Make a folder if it does not exist, and return its absolute path; Unavailable if it cannot be written."""
    path = os.path.abspath(str(path))
    try:
        os.makedirs(path, mode=mode, exist_ok=True)
    except OSError as error:
        raise Unavailable(
            "the output folder {} cannot be created ({}): choose another folder".format(path, error.strerror)
        )
    if not os.access(path, os.W_OK | os.X_OK):
        raise Unavailable("{} cannot be written: choose another folder, or change its permissions".format(path))
    return path
