"""The names of recordings: each start writes a file of its own, and none is written over.

Names are numbered and not dated, since a board without a clock of its own starts in 1970.  Knows nothing of videos.
"""

import os
import re

from ..errors import Unavailable

_NUMBER = r"-([0-9]{1,6})"  # more digits are a date or a time, which somebody else has put there


def free_name(path):
    """Return the absolute path that the next recording gets: ``path`` if that is free, else NAME-2, NAME-3, ...

    The number is higher than that of any other, so that the order is that of the recordings.
    Raises Unavailable if its folder cannot be written now.
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


def _check_folder(folder):
    while not os.path.lexists(folder):
        folder = os.path.dirname(folder)
    if os.path.isdir(folder) and not os.access(folder, os.W_OK | os.X_OK):
        raise Unavailable("{} cannot be written: choose another folder, or change its permissions".format(folder))


def _numbers(stem, suffix):
    folder, name = os.path.split(stem)
    pattern = re.compile(re.escape(name) + _NUMBER + re.escape(suffix) + r"\Z", re.IGNORECASE)
    for match in filter(None, map(pattern.match, os.listdir(folder))):
        yield int(match.group(1))
