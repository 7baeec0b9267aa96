"""PictureSink, which keeps pictures of a run, and NumberedFiles, its folder with a limit of bytes.

Each is a JPEG with a JSON file of the same name beside it.  A number in the names gives the order, not the time: a board without
a clock starts in 1970, until the network sets the time.
"""

import contextlib
import datetime
import logging
import os
import re
from typing import TYPE_CHECKING, Any, Dict, List, Sequence, Tuple, Union

from ..errors import OutputError
from ..files.outputs import new_file
from ..images.jpeg import encode_jpeg
from .base import TOO_FAST, Sink
from .folders import open_folder
from .outage import Outage
from .worker import Worker

if TYPE_CHECKING:
    import numpy as np

# Our own files and their unfinished parts after a power failure; nothing else is ever deleted.
# Names from earlier versions have no number: those files are the oldest.
SAVED_FRAME = re.compile(
    r"(?:\.[a-z0-9_]{8}\.)?(?P<kind>uncertain|event|clip)-(?:(?P<number>[0-9]{10,})-)?(?P<moment>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)"
    r"(?:-[A-Za-z0-9_.]{1,60})?\.(?:jpg|json|mp4)\Z"
)
_QUALITY = 95
CLOSE_TIMEOUT_S = 1.0
_log = logging.getLogger(__name__)


class PictureSink(Sink):
    """Stores pictures in its own thread; trouble is logged once when it begins and once when it ends.

    folder      where to store them; created if it does not exist
    max_bytes   of the folder's own files, including those of earlier runs; the oldest are deleted
    wait        True waits for a slow disk instead of losing pictures: for sources that are not live

    Subclasses set ``kind``, see NumberedFiles; ``what``, the pictures' name for the log; ``queued``, how many may wait; and store one
    in _save().  Raises OutputError if the folder cannot be written.
    """

    kind = what = ""
    queued = 1

    def __init__(self, folder: "Union[str, os.PathLike[str]]", max_bytes: int, wait: bool) -> None:
        self._folder = self.name = open_folder(folder)
        self._files = NumberedFiles(self._folder, self.kind, max_bytes)
        self._wait, self._closed = wait, False
        self._outage, self._slow = Outage(_log, self._folder), Outage(_log, self._folder)
        self._worker = Worker(self._store, self.queued)

    def _save(self, item: Any) -> None:
        """Store what was given to _offer(); may raise anything."""
        raise NotImplementedError

    def _offer(self, item: object) -> None:
        """Have _save(item) called in the sink's thread, or count it as lost."""
        if not self._worker.offer(item, self._wait):
            self._slow.begin("{} are lost: {}".format(self.what, TOO_FAST))
            self.lose(TOO_FAST)

    def _store(self, item: object) -> None:
        try:
            self._save(item)
        except Exception as error:  # OpenCV's errors, too: the thread must continue with the next one
            self._files.search_again()  # a different USB stick may come back
            self._outage.begin("{} are lost: {}".format(self.what, error))
            self.lose(error)
        else:
            self._outage.end("{} are stored again; {} were lost".format(self.what, self.lost))

    def flush(self) -> None:
        self._worker.close(None)

    def close(self) -> None:
        if not self._closed and not self._worker.close(CLOSE_TIMEOUT_S):
            left = self._worker.left
            _log.warning("%s: the last %d %s are lost: the program ended first", self._folder, left, self.what)
            self.lose("the program ended first", left)
        self._closed = True


class NumberedFiles:
    """The pictures or clips of one kind in a folder; other files in it are left alone.

    folder      an absolute path
    kind        "uncertain", "event" or "clip", with which the names begin
    max_bytes   of all pictures of this kind, including those of earlier runs; the oldest are deleted
    """

    def __init__(self, folder: str, kind: str, max_bytes: int) -> None:
        self._folder, self._kind, self._max_bytes = folder, kind, max_bytes
        self._number = 0  # of the last one, including earlier runs
        self._number_known = False  # whether the folder was searched for numbers
        self._bytes = max_bytes  # not known yet: storing the first one makes them counted

    def next_name(self, at: float, more: str = "") -> str:
        """Return the next name without a suffix, with a number higher than all existing ones.

        at          seconds since 1970
        more        the end of the name: letters, digits, "_" and ".", 60 at most
        """
        self._check()
        if not self._number_known:
            self._number = max([self._number] + [number for number, _ in self._found()])
            self._number_known = True
        self._number += 1
        moment = datetime.datetime.fromtimestamp(at, datetime.timezone.utc).strftime("%Y%m%dT%H%M%S.%fZ")
        return "-".join([self._kind, "{:010d}".format(self._number), moment] + ([more] if more else []))

    def search_again(self) -> None:
        """Search the folder for numbers before the next one: after trouble, another disk may be there."""
        self._number_known = False

    def store(self, name: str, image: "np.ndarray", about: bytes, replace: bool = False) -> None:
        """Write a picture, BGR pixels, and its JSON, both or neither; then delete the oldest if there are too many bytes.

        replace     whether it may replace a picture of the same name

        Raises OutputError, or what OpenCV raises.
        """
        self._check()
        data = encode_jpeg(image, _QUALITY)
        self._write(name, ((".json", about), (".jpg", data)), replace)
        self._count(len(about) + len(data))

    def describe(self, name: str, about: bytes, size: int) -> None:
        """Write the JSON of a file that is there already; ``size``: its bytes.  Then delete the oldest if there are too many."""
        self._write(name, ((".json", about),), replace=False)
        self._count(len(about) + size)

    def _count(self, size: int) -> None:
        self._bytes += size
        if self._bytes > self._max_bytes:
            self._bytes = self._make_room()

    def _check(self) -> None:
        if not os.path.isdir(self._folder):
            raise OutputError("the folder is gone")

    def _write(self, name: str, parts: Sequence[Tuple[str, bytes]], replace: bool) -> None:
        path = os.path.join(self._folder, name)
        with contextlib.ExitStack() as stack:
            for end, data in parts:
                work = stack.enter_context(new_file(path + end, replace, elsewhere="choose another folder"))
                with open(work, "wb") as stream:
                    stream.write(data)

    def _found(self) -> Dict[Tuple[int, str], List[str]]:
        """Return the paths of our own files by (number, time), which is their order; the number is 0 if there is none."""
        found: Dict[Tuple[int, str], List[str]] = {}
        for name in os.listdir(self._folder):
            match = SAVED_FRAME.match(name)
            path = os.path.join(self._folder, name)
            if match and match.group("kind") == self._kind and os.path.isfile(path) and not os.path.islink(path):
                found.setdefault((int(match.group("number") or 0), match.group("moment")), []).append(path)
        return found

    def _make_room(self) -> int:
        """Delete the oldest of our own files until the rest is within the limit; returns the size of the rest in bytes."""
        found = self._found()
        sizes = {frame: sum(os.path.getsize(path) for path in paths) for frame, paths in found.items()}
        total = sum(sizes.values())
        for frame in sorted(found):
            if total <= self._max_bytes:
                break
            for path in found[frame]:
                os.remove(path)
            total -= sizes[frame]
        return total
