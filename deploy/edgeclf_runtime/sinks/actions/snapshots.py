"""Keeps the best picture of each event of a label.

It is written when the label has come, and again when it has gone: a better one may have been seen in between.
"""

import logging
import os
import re
from typing import TYPE_CHECKING, Dict, Union

from ..base import TOO_FAST, Sink
from ..folders import open_folder
from ..numbered_files import NumberedFiles
from ..outage import Outage
from ..video import ascii_text
from ..worker import Worker

if TYPE_CHECKING:
    from ...results import LabelEvent, StreamResult

_log = logging.getLogger(__name__)
QUEUE_EVENTS = 8
CLOSE_TIMEOUT_S = 1.0
_LONGEST_LABEL = 60  # in a name


class SnapshotSink(Sink):
    """Stores the best frame of each LabelEvent as ``event-NUMBER-TIME-LABEL.jpg``, with the event's line in a ``.json`` beside it.

    folder      where to store them; created if it does not exist
    max_bytes   of the folder's own files, including those of earlier runs; the oldest are deleted
    wait        True waits for a slow disk instead of losing pictures: for sources that are not live

    TIME is that of the event's start.  Needs events with images, see LabelEvents.  Raises OutputError if the folder cannot be
    written.
    """

    def __init__(
        self, folder: "Union[str, os.PathLike[str]]", max_bytes: int = 500_000_000, wait: bool = False
    ) -> None:
        self._folder = self.name = open_folder(folder)
        self._files = NumberedFiles(self._folder, "event", max_bytes)
        self._wait, self._closed = wait, False
        self._names: Dict[str, str] = {}  # of the picture, by the id of an event that has begun
        self._outage, self._slow = Outage(_log, self._folder), Outage(_log, self._folder)
        self._worker = Worker(self._store, QUEUE_EVENTS)

    def write(self, item: "StreamResult") -> None:
        """Leave a result out: only events have snapshots."""

    def label_event(self, event: "LabelEvent") -> None:
        if event.best.image is not None and not self._worker.offer(event, self._wait):
            self._slow.begin("snapshots are lost: {}".format(TOO_FAST))
            self.lose(TOO_FAST)

    def _store(self, event: "LabelEvent") -> None:
        try:
            self._save(event)
        except Exception as error:  # OpenCV's errors, too: the thread must continue with the next event
            self._files.search_again()  # a different USB stick may come back
            self._outage.begin("snapshots are lost: {}".format(error))
            self.lose(error)
        else:
            self._outage.end("snapshots are stored again; {} were lost".format(self.lost))

    def _save(self, event: "LabelEvent") -> None:
        name = self._names.pop(event.id, "") or self._files.next_name(event.started_at, file_word(event.label))
        self._files.store(name, event.best.image, event.to_json().encode("ascii"), replace=event.end is not None)
        if event.end is None:
            self._names[event.id] = name

    def flush(self) -> None:
        self._worker.close(None)

    def close(self) -> None:
        if not self._closed and not self._worker.close(CLOSE_TIMEOUT_S):
            left = self._worker.left
            _log.warning("%s: the last %d snapshots are lost: the program ended first", self._folder, left)
            self.lose("the program ended first", left)
        self._closed = True


def file_word(text: str) -> str:
    """Return a text as a part of a file's name: letters, digits, "_" and "."; 60 characters at most, and at least one."""
    return re.sub("[^A-Za-z0-9.]+", "_", ascii_text(text))[:_LONGEST_LABEL] or "_"
