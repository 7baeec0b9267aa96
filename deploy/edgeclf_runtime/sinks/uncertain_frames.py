"""Keeps frames that the classifier was not sure about, for labeling.

Each is a JPEG with a JSON file of the same name beside it, in one folder (``numbered_files.py``).  A labeler moves the images into
folders by class; moved files are no longer counted or deleted.
"""

import json
import logging
import os
from typing import TYPE_CHECKING, Union

from .base import TOO_FAST, Sink
from .folders import open_folder
from .numbered_files import NumberedFiles
from .outage import Outage
from .worker import Worker

if TYPE_CHECKING:
    from ..results import StreamResult

_log = logging.getLogger(__name__)
QUEUE_FRAMES = 2
CLOSE_TIMEOUT_S = 1.0


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
        self._below, self._every_s = below, every_s
        self._files = NumberedFiles(self._folder, "uncertain", max_bytes)
        self._next, self._wait = float("-inf"), wait
        self._outage, self._slow = Outage(_log, self._folder), Outage(_log, self._folder)
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
            self._save(item)
        except Exception as error:  # OpenCV's errors, too: the thread must continue with the next frame
            self._files.search_again()  # a different USB stick may come back
            self._outage.begin("uncertain frames are lost: {}".format(error))
            self.lose(error)
        else:
            self._outage.end("uncertain frames are stored again; {} were lost".format(self.lost))

    def _save(self, item: "StreamResult") -> None:
        fields = item.to_dict()
        chosen = {key: fields[key] for key in ("label", "rejected", "candidate", "top", "captured_at", "model")}
        about = json.dumps(dict(chosen, **item.origin.to_dict())).encode("ascii")
        self._files.store(self._files.next_name(item.frame.captured_at), item.frame.image, about)

    def flush(self) -> None:
        self._worker.close(None)

    def close(self) -> None:
        if not self._closed and not self._worker.close(CLOSE_TIMEOUT_S):
            left = self._worker.left
            _log.warning("%s: the last %d uncertain frames are lost: the program ended first", self._folder, left)
            self.lose("the program ended first", left)
        self._closed = True
