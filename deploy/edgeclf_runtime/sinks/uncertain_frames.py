"""Keeps frames that the classifier was not sure about, for labeling.

Each is a JPEG with a JSON file of the same name beside it, in one folder (``numbered_files.py``).  A labeler moves the images into
folders by class; moved files are no longer counted or deleted.
"""

import json
from typing import TYPE_CHECKING, Union

from .numbered_files import PictureSink

if TYPE_CHECKING:
    import os

    from ..results import StreamResult


class UncertainSink(PictureSink):
    """Stores frames with a confidence below a limit, as ``uncertain-NUMBER-TIME.jpg`` and ``.json``.

    folder      where to store them; created if it does not exist
    below       confidence under which a frame is stored, 0 to 1
    max_bytes   of the folder's own files, including those of earlier runs; the oldest are deleted
    every_s     least time between two stored frames
    wait        True waits for a slow disk instead of losing frames: for sources that are not live

    Raises OutputError if the folder cannot be written.
    """

    kind, what, queued = "uncertain", "uncertain frames", 2

    def __init__(
        self,
        folder: "Union[str, os.PathLike[str]]",
        below: float = 0.6,
        max_bytes: int = 500_000_000,
        every_s: float = 1.0,
        wait: bool = False,
    ) -> None:
        self._below, self._every_s, self._next = below, every_s, float("-inf")
        super().__init__(folder, max_bytes, wait)

    def write(self, item: "StreamResult") -> None:
        frame = item.frame
        if item.result.confidence >= self._below or frame.captured < self._next:
            return
        self._next = frame.captured + self._every_s
        self._offer(item._replace(frame=frame._replace(image=frame.image.copy())))

    def _save(self, item: "StreamResult") -> None:
        fields = item.to_dict()
        chosen = {key: fields[key] for key in ("label", "rejected", "candidate", "top", "captured_at", "model")}
        about = json.dumps(dict(chosen, **item.origin.to_dict())).encode("ascii")
        self._files.store(self._files.next_name(item.frame.captured_at), item.frame.image, about)
