"""Keeps frames that the classifier was not sure about, for labeling.

Each is a JPEG with a JSON file of the same name beside it, in one folder.  A labeler moves the images into folders by
class; moved files are no longer counted or deleted.  A number in the names gives the order, not the time: a board without
a clock starts in 1970, until the network sets the time.
"""

import datetime
import json
import logging
import os
import re
from typing import TYPE_CHECKING, Dict, List, Tuple, Union

from ..errors import OutputError
from ..files.outputs import new_file
from .base import TOO_FAST, Sink
from .folders import open_folder
from .outage import Outage
from .worker import Worker

if TYPE_CHECKING:
    from ..results import StreamResult

_log = logging.getLogger(__name__)
QUALITY = 95
QUEUE_FRAMES = 2
CLOSE_TIMEOUT_S = 1.0
# Our own files and their unfinished parts after a power failure; nothing else is ever deleted.
# Names from earlier versions have no number: those files are the oldest.
SAVED_FRAME = re.compile(
    r"(?:\.[a-z0-9_]{8}\.)?uncertain-(?:(?P<number>[0-9]{10,})-)?(?P<moment>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)\.(?:jpg|json)\Z"
)


class UncertainSink(Sink):
    """Stores frames with a confidence below a limit, as ``uncertain-NUMBER-TIME.jpg`` and ``.json``.

    folder      where to store them; created if it does not exist
    below       confidence under which a frame is stored, 0 to 1
    max_bytes   of the folder's own files, including those of earlier runs; the oldest are deleted
    every_s     least time between two stored frames
    wait        True waits for a slow disk instead of losing frames: for sources that are not live

    Raises OutputError if the folder cannot be written.
    """

    def __init__(
        self,
        folder: "Union[str, os.PathLike[str]]",
        below: float = 0.6,
        max_bytes: int = 500_000_000,
        every_s: float = 1.0,
        wait: bool = False,
    ) -> None:
        self._folder = self.name = open_folder(folder)
        self._below, self._max_bytes, self._every_s = below, max_bytes, every_s
        self._next, self._wait = float("-inf"), wait
        self._outage, self._slow = Outage(_log, self._folder), Outage(_log, self._folder)
        self._number = 0  # of the last stored frame, including earlier runs
        self._number_known = False  # whether the folder was searched for numbers
        self._bytes = self._max_bytes  # not known yet: storing the first frame makes them counted
        self._closed = False
        self._worker = Worker(self._store, QUEUE_FRAMES)

    def write(self, item: "StreamResult") -> None:
        frame = item.frame
        if item.result.confidence >= self._below or frame.captured < self._next:
            return
        self._next = frame.captured + self._every_s
        if not self._worker.offer(item._replace(frame=frame._replace(image=frame.image.copy())), self._wait):
            self._slow.begin("uncertain frames are lost: {}".format(TOO_FAST))
            self.lose(TOO_FAST)

    def _store(self, item: "StreamResult") -> None:
        try:
            self._bytes += self._save(item)
            if self._bytes > self._max_bytes:
                self._bytes = self._make_room()
        except Exception as error:  # OpenCV's errors, too: the thread must continue with the next frame
            self._number_known = False  # a different USB stick may come back
            self._outage.begin("uncertain frames are lost: {}".format(error))
            self.lose(error)
        else:
            self._outage.end("uncertain frames are stored again; {} were lost".format(self.lost))

    def _save(self, item: "StreamResult") -> int:
        """Write the JPEG and its JSON, both or neither, and return their size in bytes."""
        import cv2

        if not os.path.isdir(self._folder):
            raise OutputError("the folder is gone")
        image = cv2.imencode(".jpg", item.frame.image, [cv2.IMWRITE_JPEG_QUALITY, QUALITY])[1].tobytes()
        fields = item.to_dict()
        chosen = {key: fields[key] for key in ("label", "rejected", "candidate", "top", "captured_at", "model")}
        about = json.dumps(dict(chosen, **item.origin.to_dict())).encode("ascii")
        path = os.path.join(self._folder, self._next_name(item.frame.captured_at))
        work_files = [new_file(path + end, elsewhere="choose another folder") for end in (".json", ".jpg")]
        with work_files[0] as json_work, work_files[1] as image_work:
            for work, data in ((json_work, about), (image_work, image)):
                with open(work, "wb") as stream:
                    stream.write(data)
        return len(about) + len(image)

    def _next_name(self, captured_at: float) -> str:
        """Return the next frame's name without a suffix, with a number higher than all existing ones."""
        if not self._number_known:
            self._number = max([self._number] + [number for number, _ in self._found()])
            self._number_known = True
        self._number += 1
        moment = datetime.datetime.fromtimestamp(captured_at, datetime.timezone.utc)
        return "uncertain-{:010d}-{}".format(self._number, moment.strftime("%Y%m%dT%H%M%S.%fZ"))

    def _found(self) -> Dict[Tuple[int, str], List[str]]:
        """Return the paths of our own files by (number, time), which is their order; the number is 0 if there is none."""
        found: Dict[Tuple[int, str], List[str]] = {}
        for name in os.listdir(self._folder):
            match = SAVED_FRAME.match(name)
            path = os.path.join(self._folder, name)
            if match and os.path.isfile(path) and not os.path.islink(path):
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

    def flush(self) -> None:
        self._worker.close(None)

    def close(self) -> None:
        if not self._closed and not self._worker.close(CLOSE_TIMEOUT_S):
            left = self._worker.left
            _log.warning("%s: the last %d uncertain frames are lost: the program ended first", self._folder, left)
            self.lose("the program ended first", left)
        self._closed = True
