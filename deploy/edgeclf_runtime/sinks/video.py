"""A video file of the frames, with each result drawn into its frame.

The file can be played while it grows, and up to its last second if the program is killed or the power fails.
Encoding takes longer than the stream may be held up, so it happens in a thread.  Knows nothing of where the
frames come from.
"""

import errno
import io
import logging
import os
import shutil
import time
import unicodedata

from ..errors import OutputError, Unavailable
from .base import TOO_FAST, Sink
from .folders import open_folder
from .movies import SUFFIXES, find_format
from .outage import Outage
from .recordings import free_name
from .worker import Worker

_log = logging.getLogger(__name__)
RATE_FPS = 15
# A gap in the stream longer than this (a camera that was lost) is shortened to it.
GAP_S = 1.0
# The same for a film, in which a picture may stand: only a damaged film has a longer gap.
FILM_GAP_S = 600.0
_LOOK_EVERY_FRAMES = 100
# The video ends before the disk is full: others need it too.
MIN_FREE_BYTES = 64_000_000
QUEUE_FRAMES = 4
NICE = 10  # a live stream's frames are classified first
CLOSE_TIMEOUT_S = 5.0
SAVE_EVERY_S = 1.0


class VideoSink(Sink):
    """Annotated frames in NAME.webm (VP8), NAME.mp4 (H.264 where OpenCV has an encoder) or NAME.avi (Motion JPEG).

    fps     None plays as the stream came, by the frames' capture times, at RATE_FPS: frames are
            repeated or left out, and lost while the encoder falls behind; a number writes each
            frame once, for that rate, and waits for the encoder: for files that are not live

    Frames of a film are repeated or left out by their positions in it, so that each is shown at the film's own time to
    half a frame of the rate: once each at a constant rate, longer where the film's rate varies.

    A file that exists is never written over: the next free name is taken, see ``recordings.py``.  Where the size of
    a stream's pictures changes the next file begins; with ``fps``, the first frame's size is the video's, and others
    are fitted into it, with black bars.  Raises OutputError where the file cannot be written.
    """

    def __init__(self, path, fps=None):
        self.name, self._fps = str(path), fps
        self._format = find_format(os.path.splitext(self.name)[1].lower())
        self._movie = None
        self._size = (0, 0)
        self._start = self._saved = 0.0
        self._written = 0
        self._outage = Outage(_log, self.name)
        self._closed = False
        self._try_format()
        self._begin()
        self._worker = Worker(self._record, QUEUE_FRAMES, NICE if fps is None else 0)

    def _try_format(self):
        """Encode a small picture, so that what cannot work is refused at once."""
        import cv2
        import numpy as np

        try:
            if self._format is None:
                raise ValueError("there is no such format")
            self._format.encode(np.zeros((64, 64, 3), np.uint8))
        except (cv2.error, ValueError) as error:
            raise OutputError(
                "OpenCV {} cannot write the video {} ({}); choose a name that ends in {}".format(
                    cv2.__version__, self.name, error, ", ".join(SUFFIXES)
                )
            )
        if self._format.note:
            _log.warning("%s: %s", self.name, self._format.note)

    def _begin(self):
        """Begin a file, under the next free name."""
        self._folder = open_folder(os.path.dirname(os.path.abspath(self.name)))
        self._check_space()
        stream = None
        while stream is None:
            self._path = free_name(self.name)
            stream = _create(self._path)
        self._stream, self._movie = stream, None
        if self._path != os.path.abspath(self.name):
            _log.warning("%s is recorded, since %s exists", self._path, self.name)

    def _check_space(self):
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise Unavailable("{} cannot be written ({})".format(self.name, error.strerror))
        if free < MIN_FREE_BYTES:
            raise Unavailable(
                "{} is not written while less than {} MB of its disk are free".format(
                    self.name, MIN_FREE_BYTES // 10**6
                )
            )

    def write(self, item):
        frame = item.frame._replace(image=item.frame.image.copy())
        if not self._worker.offer(item._replace(frame=frame), wait=self._fps is not None):
            self.lose(TOO_FAST)

    def _record(self, item):
        try:
            if not self._outage.lasts:
                self._check_space()
                self._add(item)
                return
        except Exception as error:  # whatever OpenCV raises: the stream would wait for a thread that has ended
            self._outage.begin("the video ends here, later frames are lost: {}".format(error))
        self.lose("the video has ended before")

    def _add(self, item):
        image, frame = item.frame.image, item.frame
        # The formats halve the colors' resolution, so an odd row or column could not be stored.
        size = (max(image.shape[1] & ~1, 2), max(image.shape[0] & ~1, 2))
        if self._movie is not None and size != self._size and self._fps is None:
            self._finish()
            self._begin()
        if self._movie is None:
            self._size, self._written = size, 0
            target = self._path if self._format.by_path else self._stream
            self._movie = self._format.make(target, self._size, self._fps or RATE_FPS)
            self._start = frame.captured if frame.position_s is None else frame.position_s
            self._saved = time.monotonic()
        repeats = self._repeats(frame)
        if repeats:
            image = letterbox(image, self._size)
            draw_result(image, item)
            data = self._format.encode(image)
        for number in range(1, repeats + 1):
            self._movie.add(data)
            if number % _LOOK_EVERY_FRAMES == 0:
                self._check_space()
        self._written += repeats
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            self._saved = time.monotonic()
            self._movie.update()
            os.fsync(self._stream.fileno())

    def _repeats(self, frame):
        """The number of times to write a frame for the video to last as long as the stream did, or the film."""
        film = frame.position_s is not None
        if self._fps is not None and not film:
            return 1
        rate, gap_s = self._fps or RATE_FPS, FILM_GAP_S if film else GAP_S
        due = int(((frame.position_s if film else frame.captured) - self._start) * rate + 0.5) + 1
        limit = int(gap_s * rate)
        if due - self._written > limit:
            self._start += (due - self._written - limit) / rate
            due = self._written + limit
        return max(due - self._written, 0)

    def flush(self):
        self._worker.close(None)

    def close(self):
        if self._closed:
            return
        self._closed = True
        if not self._worker.close(CLOSE_TIMEOUT_S):
            # What is written can be played; the thread may still be at it.
            left = self._worker.left
            self.lose("the program ended first", left)
            _log.warning("%s ends %d frames early: they were not encoded in time", self.name, left)
            return
        self._finish()

    def _finish(self):
        """Finish the present file."""
        with self._stream:
            if self._movie is None:
                _log.warning("%s: there was no frame, so there is no video", self._path)
                _remove(self._path, self._stream)
                return
            try:
                self._movie.finish()
                os.fsync(self._stream.fileno())
            except OSError as error:
                _log.warning(
                    "%s: its end could not be written (%s); it plays, jumping in it may be slow", self._path, error
                )


class _WholeWrites(io.FileIO):
    """A file that holds all bytes of a write, or none."""

    def write(self, data):
        at = self.tell()
        written = super().write(data)
        if written < len(data):
            if self.seek(0, os.SEEK_END) == at + written:
                self.truncate(at)
            self.seek(at)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written


def _create(path):
    """Create a file and return it, None if it is there already; raises OutputError."""
    try:
        return _WholeWrites(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "r+")
    except FileExistsError:
        if os.path.isdir(path):
            raise OutputError("{} is a folder: choose another name for the video".format(path))
        return None
    except OSError as error:
        raise Unavailable("{} cannot be written ({}): choose another file".format(path, error.strerror))


def _remove(path, stream):
    """Remove a file, unless it is another by now."""
    try:
        if os.path.samestat(os.stat(path), os.fstat(stream.fileno())):
            os.remove(path)
    except OSError:
        pass


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

    text = "{}  age {:.0f} ms".format(ascii_text(item.result.verdict), item.age_ms)
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
