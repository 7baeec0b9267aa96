"""Writes a video file of the frames, with each result drawn into its frame.

The file can be played while it grows, and up to its last second if the program is killed or the power fails.  Encoding
takes longer than the stream may be held up, so it runs in a thread.
"""

import errno
import io
import logging
import os
import shutil
import time
import unicodedata
from typing import IO, TYPE_CHECKING, Any, List, Optional, Tuple, Union

from ..errors import OutputError, Unavailable
from ..images.preprocess import on_black
from .base import TOO_FAST, Sink
from .folders import open_folder
from .movies import SUFFIXES, Format, find_format
from .movies.pace import Pace
from .outage import Outage
from .recordings import free_name
from .worker import Worker

if TYPE_CHECKING:
    import numpy as np

    from ..capture.camera import Frame
    from ..results import StreamResult
    from .movies import Movie

_log = logging.getLogger(__name__)
RATE_FPS = 15
# A longer gap in the stream (a camera was lost) is shortened to this.
GAP_S = 1.0
# The same for a video file, in which a frame may last: only a damaged file has a longer gap.
VIDEO_FILE_GAP_S = 600.0
_LOOK_EVERY_FRAMES = 100
# The video ends before the disk is full, because others need the space too.
MIN_FREE_BYTES = 64_000_000
QUEUE_FRAMES = 4
NICE = 10  # a live stream's frames are classified first
CLOSE_TIMEOUT_S = 5.0
SAVE_EVERY_S = 1.0


class VideoSink(Sink):
    """Annotated frames in NAME.webm (VP8), NAME.mp4 (H.264 if OpenCV has an encoder) or NAME.avi (Motion JPEG).

    fps     None plays at the stream's own pace, by the frames' capture times, at RATE_FPS: frames are repeated or left out,
            and lost while the encoder falls behind.  A number writes each frame once, at that rate, and waits for the
            encoder: for sources that are not live

    Frames of a video file are repeated or left out by their positions in it, so that each is shown at its own time, to half a
    frame of the rate: once each at a constant rate, for longer if the rate varies.

    An existing file is never overwritten: the next free name is used, see ``recordings.py``.  If the frame size of a stream
    changes, the next file begins; with ``fps``, the first frame sets the video's size, and others are fitted into it with
    black bars.  Raises OutputError if the file cannot be written.
    """

    def __init__(self, path: "Union[str, os.PathLike[str]]", fps: Optional[float] = None) -> None:
        self.name, self._fps = str(path), fps
        self._movie: "Optional[Movie]" = None  # of the format's class, once there was a frame
        self._size = (0, 0)
        self._pace: Optional[Pace] = None  # None: each frame is written once
        self._saved = 0.0
        self._outage = Outage(_log, self.name)
        self._closed = False
        self._format = self._try_format()
        self._begin()
        self._worker = Worker(self._record, QUEUE_FRAMES, NICE if fps is None else 0)

    def _try_format(self) -> Format:
        """Return the format, after encoding a small image so that what cannot work is refused at once."""
        import cv2
        import numpy as np

        found = find_format(os.path.splitext(self.name)[1].lower())
        try:
            if found is None:
                raise ValueError("there is no such format")
            found.encode(np.zeros((64, 64, 3), np.uint8))
        except (cv2.error, ValueError) as error:
            raise OutputError(
                "OpenCV {} cannot write the video {} ({}); choose a name ending in {}".format(
                    cv2.__version__, self.name, error, ", ".join(SUFFIXES)
                )
            )
        if found.note:
            _log.warning("%s: %s", self.name, found.note)
        return found

    def _begin(self) -> None:
        """Begin a file, with the next free name."""
        self._folder = open_folder(os.path.dirname(os.path.abspath(self.name)))
        self._check_space()
        stream = None
        while stream is None:
            self._path = free_name(self.name)
            stream = _create(self._path)
        self._stream, self._movie = stream, None
        if self._path != os.path.abspath(self.name):
            _log.warning("recording to %s, because %s exists", self._path, self.name)

    def _check_space(self) -> None:
        try:
            free = shutil.disk_usage(self._folder).free
        except OSError as error:
            raise Unavailable("{} cannot be written ({})".format(self.name, error.strerror))
        if free < MIN_FREE_BYTES:
            raise Unavailable(
                "{} is not written while less than {} MB are free on its disk".format(
                    self.name, MIN_FREE_BYTES // 10**6
                )
            )

    def write(self, item: "StreamResult") -> None:
        frame = item.frame._replace(image=item.frame.image.copy())
        if not self._worker.offer(item._replace(frame=frame), wait=self._fps is not None):
            self.lose(TOO_FAST)

    def _record(self, item: "StreamResult") -> None:
        try:
            if not self._outage.lasts:
                self._check_space()
                self._add(item)
                return
        except Exception as error:  # anything from OpenCV: the stream would wait for a dead thread
            self._outage.begin("the video ends here, later frames are lost: {}".format(error))
        self.lose("the video had already ended")

    def _add(self, item: "StreamResult") -> None:
        image, frame = item.frame.image, item.frame
        # The formats store colors at half resolution, so an odd row or column would not fit.
        size = (max(image.shape[1] & ~1, 2), max(image.shape[0] & ~1, 2))
        if self._movie is not None and size != self._size and self._fps is None:
            self._finish()
            self._begin()
        if self._movie is None:
            self._size = size
            target = self._path if self._format.by_path else self._stream
            self._movie = self._format.make(target, self._size, self._fps or RATE_FPS)
            self._pace = self._new_pace(frame)
            self._saved = time.monotonic()
        repeats = 1 if self._pace is None else self._pace.repeats(_moment(frame))
        if repeats:
            image = letterbox(image, self._size)
            draw_result(image, item)
            data = self._format.encode(image)
        for number in range(1, repeats + 1):
            self._movie.add(data)
            if number % _LOOK_EVERY_FRAMES == 0:
                self._check_space()
        if time.monotonic() - self._saved >= SAVE_EVERY_S:
            self._saved = time.monotonic()
            self._movie.update()
            os.fsync(self._stream.fileno())

    def _new_pace(self, frame: "Frame") -> Optional[Pace]:
        """Return the pace of a video that begins with a frame; None if each frame is written once."""
        timed = frame.position_s is not None
        if self._fps is not None and not timed:
            return None
        return Pace(_moment(frame), self._fps or RATE_FPS, VIDEO_FILE_GAP_S if timed else GAP_S)

    def flush(self) -> None:
        self._worker.close(None)

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self._worker.close(CLOSE_TIMEOUT_S):
            # What is written can be played.  The thread may still be writing, so the file is not finished.
            left = self._worker.left
            self.lose("the program ended first", left)
            _log.warning("%s ends %d frames early: they were not encoded in time", self.name, left)
            return
        self._finish()

    def _finish(self) -> None:
        """Finish the current file."""
        with self._stream:
            if self._movie is None:
                _log.warning("%s: no frames arrived, so there is no video", self._path)
                _remove(self._path, self._stream)
                return
            try:
                self._movie.finish()
                os.fsync(self._stream.fileno())
            except OSError as error:
                _log.warning(
                    "%s: its end could not be written (%s); it plays, but seeking may be slow", self._path, error
                )


def _moment(frame: "Frame") -> float:
    return frame.captured if frame.position_s is None else frame.position_s


class _WholeWrites(io.FileIO):
    """A file in which a write stores all of its bytes, or none."""

    def write(self, data: Any) -> int:
        at = self.tell()
        written = super().write(data)
        if written < len(data):
            if self.seek(0, os.SEEK_END) == at + written:
                self.truncate(at)
            self.seek(at)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return written


def _create(path: str) -> Optional["_WholeWrites"]:
    """Create a file and return it, None if it exists; raises OutputError."""
    try:
        return _WholeWrites(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666), "r+")
    except FileExistsError:
        if os.path.isdir(path):
            raise OutputError("{} is a folder: choose another name for the video".format(path))
        return None
    except OSError as error:
        raise Unavailable("{} cannot be written ({}): choose another file".format(path, error.strerror))


def _remove(path: str, stream: IO[bytes]) -> None:
    """Remove a file, unless another has taken its path."""
    try:
        if os.path.samestat(os.stat(path), os.fstat(stream.fileno())):
            os.remove(path)
    except OSError:
        pass


def letterbox(image: "np.ndarray", size: Tuple[int, int]) -> "np.ndarray":
    """Return BGR pixels fitted into ``size`` (width, height), with black bars if the aspect ratio differs."""
    import cv2
    import numpy as np

    width, height = size
    scale = min(width / image.shape[1], height / image.shape[0])
    if (image.shape[1] & ~1, image.shape[0] & ~1) == size:
        return np.ascontiguousarray(image[:height, :width])
    fitted = (max(int(image.shape[1] * scale), 1), max(int(image.shape[0] * scale), 1))
    return on_black(cv2.resize(image, fitted, interpolation=cv2.INTER_AREA), height, width)


def draw_result(image: "np.ndarray", item: "StreamResult") -> None:
    """Draw a StreamResult's label, confidence and age into BGR pixels: white text on a darkened band, at any size."""
    import cv2

    text = "{}  age {:.0f} ms".format(ascii_text(item.result.verdict), item.age_ms)
    height, width = image.shape[:2]
    font = cv2.FONT_HERSHEY_SIMPLEX
    (_, tall), below = cv2.getTextSize(text, font, 1.0, 1)
    # Text height: a twentieth of the shorter side, at least 8 pixels; less only if the text would not fit.
    wanted = max(min(height, width) / 20, 8) / tall
    lines = _wrapped(text, 0.96 * width / wanted, max(int(height / 3 / ((tall + below) * wanted)), 1))
    scale = min(wanted, 0.96 * width / max(map(_length, lines)))
    margin = max(int(tall * scale / 2), 2)
    step = int((tall + below) * scale)
    image[: step * len(lines) + 2 * margin] >>= 2
    thickness = max(round(scale * 1.5), 1)
    for number, line in enumerate(lines):
        at = (margin, margin + number * step + int(tall * scale))
        cv2.putText(image, line, at, font, scale, (255, 255, 255), thickness, cv2.LINE_AA)


def _wrapped(text: str, width: float, most: int) -> List[str]:
    """Return a text in lines of at most this width in pixels at scale 1 if words are short enough, ``most`` lines at most."""
    lines = [""]
    for word in text.split(" "):
        longer = (lines[-1] + " " + word).lstrip()
        if lines[-1] and len(lines) < most and _length(longer) > width:
            lines.append(word)
        else:
            lines[-1] = longer
    return lines


def _length(text: str) -> int:
    import cv2

    return int(cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 1.0, 1)[0][0])


def ascii_text(text: str) -> str:
    """Return a text in characters that OpenCV can draw: letters without accents, "?" for anything else."""
    plain = "".join(letter for letter in unicodedata.normalize("NFKD", text) if not unicodedata.combining(letter))
    return plain.encode("ascii", "replace").decode("ascii")
