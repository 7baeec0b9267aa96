"""Keeps the best picture of each event of a label.

It is written when the label has come, and again when it has gone: a better one may have been seen in between.
"""

import re
from typing import TYPE_CHECKING, Dict, Union

from ..numbered_files import PictureSink
from ..video import ascii_text

if TYPE_CHECKING:
    import os

    from ...results import LabelEvent, StreamResult

_LONGEST_LABEL = 60  # in a name


class SnapshotSink(PictureSink):
    """Stores the best frame of each LabelEvent as ``event-NUMBER-TIME-LABEL.jpg``, with the event's line in a ``.json`` beside it.

    folder      where to store them; created if it does not exist
    max_bytes   of the folder's own files, including those of earlier runs; the oldest are deleted
    wait        True waits for a slow disk instead of losing pictures: for sources that are not live

    TIME is that of the event's start.  Needs events with images, see LabelEvents.  Raises OutputError if the folder cannot be
    written.
    """

    kind, what, queued = "event", "snapshots", 8

    def __init__(
        self, folder: "Union[str, os.PathLike[str]]", max_bytes: int = 500_000_000, wait: bool = False
    ) -> None:
        self._names: Dict[str, str] = {}  # of the picture, by the id of an event that has begun
        super().__init__(folder, max_bytes, wait)

    def write(self, item: "StreamResult") -> None:
        """Leave a result out: only events have snapshots."""

    def label_event(self, event: "LabelEvent") -> None:
        if event.best.image is not None:
            self._offer(event)

    def _save(self, event: "LabelEvent") -> None:
        name = self._names.pop(event.id, "") or self._files.next_name(event.started_at, file_word(event.label))
        self._files.store(name, event.best.image, event.to_json().encode("ascii"), replace=event.end is not None)
        if event.end is None:
            self._names[event.id] = name


def file_word(text: str) -> str:
    """Return a text as a part of a file's name: letters, digits, "_" and "."; 60 characters at most, and at least one."""
    return re.sub("[^A-Za-z0-9.]+", "_", ascii_text(text))[:_LONGEST_LABEL] or "_"
