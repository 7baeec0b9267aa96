"""Frames that the classifier was not sure of, kept for labelling.

Each is a JPEG with a JSON file of the same name beside it, in one folder: a labeller moves the
images into folders by class, and what was moved is neither counted nor deleted any more.
The order is that of a number in the names, not of the time: a board without a clock of its own
starts in 1970, until the network tells it the time.
Knows nothing of classification.
"""

import datetime
import json
import logging
import os
import re
from typing import Dict, List, Tuple

from ..errors import OutputError
from ..files.outputs import new_file
from .base import TOO_FAST, Sink
from .folders import open_folder
from .outage import Outage
from .worker import Worker

_log = logging.getLogger(__name__)
QUALITY = 95
QUEUE_FRAMES = 2
CLOSE_TIMEOUT_S = 1.0
# Our own files, and what a power cut leaves of them; nothing else is ever deleted.
# Earlier versions put no number into the names: those files are the oldest.
_OWN = re.compile(
    r"(?:\.[a-z0-9_]{8}\.)?uncertain-(?:(?P<number>[0-9]{10,})-)?(?P<moment>[0-9]{8}T[0-9]{6}\.[0-9]{6}Z)\.(?:jpg|json)\Z"
)


class UncertainSink(Sink):
    """Stores frames whose confidence is below a bound, as ``uncertain-NUMBER-TIME.jpg`` and ``.json``.

    folder      where; made unless it is there
    below       confidence under which a frame is stored, 0 to 1
    max_bytes   of the folder's own files, those of earlier runs too; the oldest are deleted
    every_s     least time between two that are stored
    wait        for a slow disk, instead of losing frames: for files that are not live

    Raises OutputError where the folder cannot be written.
    """

    def __init__(self, folder, below=0.6, max_bytes=500_000_000, every_s=1.0, wait=False):
        self._folder = self.name = open_folder(folder)
        self._below, self._max_bytes, self._every_s = below, max_bytes, every_s
        self._next, self._wait = float("-inf"), wait
        self._outage, self._slow = Outage(_log, self._folder), Outage(_log, self._folder)
        self._number = 0  # of the last frame that was stored, by an earlier run too
        self._looked = False  # for the numbers that are in the folder
        self._bytes = self._max_bytes  # not known yet: the first frame stored has them counted
        self._closed = False
        self._worker = Worker(self._store, QUEUE_FRAMES)

    def write(self, item):
        frame = item.frame
        if item.result.confidence >= self._below or frame.captured < self._next:
            return
        self._next = frame.captured + self._every_s
        if not self._worker.offer(item._replace(frame=frame._replace(image=frame.image.copy())), self._wait):
            self._slow.begin("uncertain frames are lost: {}".format(TOO_FAST))
            self.lose(TOO_FAST)

    def _store(self, item):
        try:
            self._bytes += self._save(item)
            if self._bytes > self._max_bytes:
                self._bytes = self._make_room()
        except Exception as error:  # OpenCV's errors too: the thread goes on with the next frame
            self._looked = False  # it may be another stick that comes back
            self._outage.begin("uncertain frames are lost: {}".format(error))
            self.lose(error)
        else:
            self._outage.end("uncertain frames are stored again; {} were lost".format(self.lost))

    def _save(self, item):
        """Write the JPEG and its JSON, both or none, and return their bytes."""
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

    def _next_name(self, captured_at):
        """Return the next frame's name, higher than those of all frames that are there, without a suffix."""
        if not self._looked:
            self._number = max([self._number] + [number for number, _ in self._found()])
            self._looked = True
        self._number += 1
        moment = datetime.datetime.fromtimestamp(captured_at, datetime.timezone.utc)
        return "uncertain-{:010d}-{}".format(self._number, moment.strftime("%Y%m%dT%H%M%S.%fZ"))

    def _found(self):
        """Return the paths of our own files by (number, moment), their order; the number of an earlier version's is 0."""
        found: Dict[Tuple[int, str], List[str]] = {}
        for name in os.listdir(self._folder):
            match = _OWN.match(name)
            path = os.path.join(self._folder, name)
            if match and os.path.isfile(path) and not os.path.islink(path):
                found.setdefault((int(match.group("number") or 0), match.group("moment")), []).append(path)
        return found

    def _make_room(self):
        """Delete the oldest of our own files until the rest is within bounds; returns the bytes of the rest."""
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

    def flush(self):
        self._worker.close(None)

    def close(self):
        if not self._closed and not self._worker.close(CLOSE_TIMEOUT_S):
            left = self._worker.left
            _log.warning("%s: the last %d uncertain frames are lost: the program ended first", self._folder, left)
            self.lose("the program ended first", left)
        self._closed = True
