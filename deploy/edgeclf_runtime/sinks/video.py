"""A video file of the frames, with each result drawn into its frame.

The file appears under its name when it is whole.  Encoding takes longer than the stream may
be held up, so it happens in a thread.  Knows nothing of where the frames come from.
"""

import contextlib
import logging
import os
import shutil
import threading
import unicodedata

from ..errors import OutputError
from ..files import native_path
from ..outputs import new_file
from .base import Sink
from .outage import Outage
from .worker import Worker

_log = logging.getLogger(__name__)
CODECS = {".avi": "MJPG", ".mp4": "mp4v"}
RATE_FPS = 15
# A gap in the stream longer than this (a camera that was lost) is shortened to it.
GAP_S = 1.0
# The video ends before the disk is full: its index comes last, and others need the disk too.
MIN_FREE_BYTES = 64_000_000
QUEUE_FRAMES = 4
CLOSE_TIMEOUT_S = 5.0


class VideoSink(Sink):
    """Annotated frames in NAME.avi (Motion JPEG) or NAME.mp4 (MPEG-4).

    fps     None plays as the stream came, by the frames' capture times, at RATE_FPS: frames are
            repeated or left out, and lost while the encoder falls behind; a number writes each
            frame once, for that rate, and waits for the encoder: for files that are not live

    The first frame's size is the video's; others are fitted into it, with black bars.
    Raises OutputError where the file exists, or cannot be written.
    """

    def __init__(self, path, fps=None):
        self._path, self._fps = str(path), fps
        self._writer = None
        self._size = (0, 0)
        self._start = 0.0
        self._written = 0
        self._outage = Outage(_log, self._path)
        self._closed = False
        self._lock = threading.Lock()
        with contextlib.ExitStack() as output:
            self._work = output.enter_context(new_file(path, wait_s=0))
            self._check_space()
            self._open((64, 64)).release()
            self._output = output.pop_all()
        self._worker = Worker(self._record, QUEUE_FRAMES)

    def _open(self, size):
        import cv2

        codec = CODECS.get(os.path.splitext(self._path)[1].lower(), "")
        writer = cv2.VideoWriter()
        if codec:
            writer.open(native_path(self._work), cv2.VideoWriter.fourcc(*codec), float(self._fps or RATE_FPS), size)
        if not writer.isOpened():
            raise OutputError(
                "OpenCV {} cannot write the video {}; choose a name that ends in {}".format(
                    cv2.__version__, self._path, " or ".join(sorted(CODECS))
                )
            )
        return writer

    def _check_space(self):
        try:
            free = shutil.disk_usage(os.path.dirname(self._work)).free
        except OSError as error:
            raise OutputError("{} cannot be written ({})".format(self._path, error.strerror))
        if free < MIN_FREE_BYTES:
            raise OutputError(
                "{} is not written while less than {} MB of its disk are free".format(
                    self._path, MIN_FREE_BYTES // 10**6
                )
            )

    def write(self, item):
        frame = item.frame._replace(image=item.frame.image.copy())
        if not self._worker.offer(item._replace(frame=frame), wait=self._fps is not None):
            self._lose()

    def _lose(self):
        with self._lock:
            self.lost += 1

    def _record(self, item):
        try:
            if not self._outage.lasts:
                self._check_space()
                self._add(item)
                return
        except Exception as error:  # whatever OpenCV raises: the stream would wait for a thread that has ended
            self._outage.begin("the video ends here, later frames are lost: {}".format(error))
        self._lose()

    def _add(self, item):
        image = item.frame.image
        if self._writer is None:
            # Both codecs halve the colours' resolution, so an odd row or column could not be stored.
            self._size = (max(image.shape[1] & ~1, 2), max(image.shape[0] & ~1, 2))
            self._writer = self._open(self._size)
            self._start = item.frame.captured
        repeats = self._repeats(item.frame.captured)
        if repeats:
            image = letterbox(image, self._size)
            draw_result(image, item)
        for _ in range(repeats):
            self._writer.write(image)
        self._written += repeats

    def _repeats(self, captured):
        """How often a frame is to be written for the video to last as long as the stream did."""
        if self._fps is not None:
            return 1
        due = int((captured - self._start) * RATE_FPS + 0.5) + 1
        limit = int(GAP_S * RATE_FPS)
        if due - self._written > limit:
            self._start += (due - self._written - limit) / RATE_FPS
            due = self._written + limit
        return max(due - self._written, 0)

    def close(self):
        if self._closed:
            return
        self._closed = True
        if not self._worker.close(CLOSE_TIMEOUT_S):
            _log.warning("%s is lost: it could not be finished within %g s", self._path, CLOSE_TIMEOUT_S)
            return
        try:
            with self._output:
                if self._writer is None:
                    raise OutputError("{}: there was no frame, so there is no video".format(self._path))
                self._writer.release()
        except OutputError as error:
            _log.warning("%s", error)


def letterbox(image, size):
    """Return BGR pixels fitted into ``size`` (width, height), with black bars where its shape differs."""
    import cv2
    import numpy as np

    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    if (image.shape[1] & ~1, image.shape[0] & ~1) == size:
        return np.ascontiguousarray(image[:height, :width])
    fitted = (max(int(image.shape[1] * scale), 1), max(int(image.shape[0] * scale), 1))
    canvas = np.zeros((height, width, 3), np.uint8)
    left, top = (width - fitted[0]) // 2, (height - fitted[1]) // 2
    canvas[top : top + fitted[1], left : left + fitted[0]] = cv2.resize(image, fitted, interpolation=cv2.INTER_AREA)
    return canvas


def draw_result(image, item):
    """Draw a StreamResult's label, confidence and age into BGR pixels: white on a darkened band, at any size."""
    import cv2

    text = "{}  {:.1f} %  age {:.0f} ms".format(
        ascii_text(item.result.label), item.result.confidence * 100, item.age_ms
    )
    height, width = image.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    (length, tall), below = cv2.getTextSize(text, font, 1.0, 1)
    # A twentieth of the shorter side, never under 8 pixels; smaller only where the text is too long for the frame.
    scale = min(max(min(height, width) / 20, 8) / tall, 0.96 * width / length)
    margin = max(int(tall * scale / 2), 2)
    band = int((tall + below) * scale) + 2 * margin
    image[:band] >>= 2
    thickness = max(round(scale * 1.5), 1)
    at = (margin, margin + int(tall * scale))
    cv2.putText(image, text, at, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)


def ascii_text(text):
    """Return a text in the letters that OpenCV can draw: without accents, and "?" for what is no letter without."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode("ascii")
