"""Names recordings: each start writes its own file, and none is overwritten.

Names have numbers instead of dates, because a board without a clock starts in 1970.
"""

import os
import re
from typing import Iterator, Union

from ..errors import Unavailable

_NUMBER = r"-([0-9]{1,6})"  # more digits are someone else's date or time


def free_name(path: "Union[str, os.PathLike[str]]") -> str:
    """Return the absolute path for the next recording: ``path`` if it is free, else NAME-2, NAME-3, ...

    The number is higher than all existing ones, so the numbers follow the order of the recordings.
    Raises Unavailable if the folder cannot be written now.
    """
    path = os.path.abspath(str(path))
    _check_folder(os.path.dirname(path))
    if os.path.isdir(path) or not os.path.lexists(path):
        return path
    stem, suffix = os.path.splitext(path)
    number = max([1] + list(_numbers(stem, suffix))) + 1
    while os.path.lexists("{}-{}{}".format(stem, number, suffix)):
        number += 1
    return "{}-{}{}".format(stem, number, suffix)


def _check_folder(folder: str) -> None:
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK):
        raise Unavailable("{} cannot be written: choose another folder, or change its permissions".format(folder))


def _numbers(stem: str, suffix: str) -> Iterator[int]:
    folder, name = os.path.split(stem)
    pattern = re.compile(re.escape(name) + _NUMBER + re.escape(suffix) + r"\Z", re.IGNORECASE)
    for match in filter(None, map(pattern.match, os.listdir(folder))):
        yield int(match.group(1))
