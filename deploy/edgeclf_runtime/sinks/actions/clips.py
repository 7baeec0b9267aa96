"""Keeps a video of each event of a label: from some seconds before it came to some seconds after it went.

The last seconds are always in memory, as JPEG images.  A clip grows on disk while its event lasts, and can be played meanwhile.
"""

import collections
import json
import logging
import os
import shutil
import time
from typing import IO, TYPE_CHECKING, Any, Deque, Dict, NamedTuple, Optional, Set, Tuple, Union

from ...capture.camera import seconds_of
from ...errors import Unavailable
from ...results import LabelEvent, StreamEvent
from ..movies import Format, find_format
from ..movies.avi import encode
from ..movies.pace import Pace
from ..numbered_files import PictureSink
from ..video import GAP_S, MIN_FREE_BYTES, RATE_FPS, letterbox
from .snapshots import file_word

if TYPE_CHECKING:
    from ...images.frame import Frame
    from ...results import StreamResult
    from ..movies import Movie

_log = logging.getLogger(__name__)
BEFORE_S, AFTER_S, LONGEST_S = 5.0, 3.0, 60.0
MOST_BYTES = 64_000_000
"""Bytes of JPEG images in memory: 5 seconds of 1280 x 720 are about 10 MB."""
_SUFFIX = ".mp4"
_END = StreamEvent("lost", "the run ended", 0.0)


class _Shot(NamedTuple):
    """A frame as JPEG, and its time on the camera's or the video's own clock."""

    moment: float
    data: bytes


class _Clip:
    """A video that is being written, at RATE_FPS.

    size    width and height of the images
    start   time of the first one
    """

    def __init__(self, format: Format, path: str, size: Tuple[int, int], start: float) -> None:
        self.path, self.pace = path, Pace(start, RATE_FPS, GAP_S)
        self.events: Dict[str, object] = {}
        self._by_path, self._saved = format.by_path, time.monotonic()
        self._stream: IO[bytes] = open(path, "x+b")  # noqa: SIM115 - finish() closes it
        self._movie: "Movie" = format.make(path if format.by_path else self._stream, size, RATE_FPS)

    def add(self, shot: _Shot) -> None:
        """Append a frame so often that it is shown at its own time."""
        repeats = self.pace.repeats(shot.moment)
        data: Any = _decoded(shot.data) if self._by_path and repeats else shot.data
        for _ in range(repeats):
            self._movie.add(data)
        if time.monotonic() - self._saved >= 1.0:
            self._saved = time.monotonic()
            self._movie.update()

    @property
    def seconds(self) -> float:
        """Its length."""
        return self.pace.written / RATE_FPS

    def finish(self) -> int:
        """Finish the file; return its size in bytes."""
        with self._stream:
            self._movie.finish()
            os.fsync(self._stream.fileno())
        return os.path.getsize(self.path)

    def abandon(self) -> None:
        """Close the file as it is; what is written can be played."""
        self._stream.close()


class ClipSink(PictureSink):
    """Stores a video around each LabelEvent as ``clip-NUMBER-TIME-LABEL.mp4``, with its events in a ``.json`` beside it.

    folder      where to store them; created if it does not exist
    max_bytes   of the folder's own files, including those of earlier runs; the oldest are deleted
    wait        True waits for a slow disk or encoder instead of losing frames: for sources that are not live

    A clip begins BEFORE_S before the event is reported and ends AFTER_S after its end, or after LONGEST_S; events that overlap share
    one.  Frames of another size are fitted into it with black bars.  H.264 if OpenCV has an encoder for it, else Motion JPEG.
    Raises OutputError if the folder cannot be written.
    """

    kind, what, queued = "clip", "clips", 8

    def __init__(
        self, folder: "Union[str, os.PathLike[str]]", max_bytes: int = 2_000_000_000, wait: bool = False
    ) -> None:
        found = find_format(_SUFFIX)
        assert found is not None
        self._format: Format = found
        self._ring: Deque[_Shot] = collections.deque()
        self._ring_bytes = 0
        self._size = (0, 0)
        self._clip: Optional[_Clip] = None
        self._there: Set[str] = set()  # ids of events that are under way
        self._until = 0.0
        self._taken = float("-inf")
        super().__init__(folder, max_bytes, wait)
        if found.note:
            _log.warning(
                "%s: this OpenCV has no H.264 encoder, so clips are Motion JPEG, which VLC, mpv and OpenCV play but browsers do not",
                self._folder,
            )

    def write(self, item: "StreamResult") -> None:
        moment = self._moment(item.frame)
        if 0 <= moment - self._taken < 0.9 / RATE_FPS:
            return
        self._taken = moment
        self._offer(item.frame._replace(image=item.frame.image.copy()))

    def label_event(self, event: LabelEvent) -> None:
        self._offer(event)

    def event(self, event: StreamEvent) -> None:
        if event.state == "lost":
            self._offer(event)

    def flush(self) -> None:
        self._worker.offer(_END, wait=True)
        super().flush()

    def close(self) -> None:
        if not self._closed:
            self._worker.offer(_END)  # a clip that is not finished can be played all the same
        super().close()

    def _save(self, item: "Union[Frame, LabelEvent, StreamEvent]") -> None:
        try:
            if isinstance(item, StreamEvent):
                self._finish()
            elif isinstance(item, LabelEvent):
                self._take_event(item)
            else:
                self._take_frame(item)
        except BaseException:
            clip, self._clip = self._clip, None
            if clip is not None:
                clip.abandon()
            raise

    def _take_frame(self, frame: "Frame") -> None:
        height, width = (max(side & ~1, 2) for side in frame.image.shape[:2])  # colors have half the resolution
        if (width, height) != self._size and self._clip is None:
            self._forget()
            self._size = width, height
        shot = _Shot(self._moment(frame), encode(letterbox(frame.image, self._size)))
        if self._ring and shot.moment < self._ring[-1].moment:
            self._forget()
        self._ring.append(shot)
        self._ring_bytes += len(shot.data)
        while self._ring[0].moment < shot.moment - BEFORE_S or self._ring_bytes > MOST_BYTES:
            self._ring_bytes -= len(self._ring.popleft().data)
        if self._clip is not None:
            self._clip.add(shot)
            if shot.moment >= self._until:
                self._finish()

    def _moment(self, frame: "Frame") -> float:
        return seconds_of(frame, "all" if self._wait else "latest")

    def _forget(self) -> None:
        self._ring.clear()
        self._ring_bytes = 0

    def _take_event(self, event: LabelEvent) -> None:
        if event.end is None:
            self._there.add(event.id)
            if self._clip is None and self._ring:
                self._begin(event)
        else:
            self._there.discard(event.id)
        if self._clip is not None:
            self._clip.events[event.id] = event.to_dict()
            longest = self._clip.pace.start + LONGEST_S
            self._until = longest if self._there else min(longest, self._ring[-1].moment + AFTER_S)

    def _begin(self, event: LabelEvent) -> None:
        """Begin a clip with the frames in memory."""
        if shutil.disk_usage(self._folder).free < MIN_FREE_BYTES:
            raise Unavailable("less than {} MB are free on its disk".format(MIN_FREE_BYTES // 10**6))
        name = self._files.next_name(event.started_at, file_word(event.label))
        path = os.path.join(self._folder, name + _SUFFIX)
        self._clip = _Clip(self._format, path, self._size, self._ring[0].moment)
        for shot in self._ring:
            self._clip.add(shot)

    def _finish(self) -> None:
        clip, self._clip = self._clip, None
        if clip is None:
            return
        size = clip.finish()
        about = {"seconds": round(clip.seconds, 3), "events": list(clip.events.values())}
        self._files.describe(os.path.basename(clip.path)[: -len(_SUFFIX)], json.dumps(about).encode("ascii"), size)


def _decoded(data: bytes) -> Any:
    import cv2
    import numpy as np

    return cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
