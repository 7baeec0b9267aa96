"""Reads video files through OpenCV: upright, in their own colors, at their own times, and counted.

Versions of OpenCV with FFmpeg read the same file differently (figures in deploy/README.md):

    rotated videos  4.1 to 4.4 leave them on their side, 4.6 rotates them the wrong way, none supports mirroring
    colors          before 4.13 every video is read as BT.601; BT.709 is then off by up to 37 of 255
    times           4.1 only has a count; 4.5.4 to 4.6 have none for the last frames
    damaged frames  before 4.5.4 they are skipped; from then on each looks like the end of the video

So the orientation, the colors and the missing times are taken from the container.  For the capture process only, like
``capture/readers/opencv_reader.py``.
"""

import itertools
import os
import time
from typing import IO, TYPE_CHECKING, Callable, Dict, Iterator, List, Optional, Tuple

from ...errors import CameraError, EndOfStream, IncompleteFilm
from ...files.read import open_regular
from ...text.versions import version_numbers
from .containers import VideoHeader, read_header, walk
from .opencv_reader import OpenCVReader, open_path, open_stream, playlist_name, silence
from .reader import Reading
from .video_clock import USUAL_RATE_FPS, VideoClock, in_order, video_rate
from .video_colors import NAMES, ColorCorrection

if TYPE_CHECKING:
    from typing import NoReturn

    import cv2
    import numpy as np

    from ..source import Source
    from .opencv_reader import Step

_HEAD_BYTES = 4096
# The bytes of plain text; the head of a video file also holds other control characters.
_TEXT = bytes([7, 8, 9, 10, 12, 13, 27]) + bytes(range(32, 256))
_TIMES_SINCE, _ALL_TIMES_SINCE, _COLORS_SINCE = (4, 2), (4, 7), (4, 13)
_MEASURED_FRAMES = 500  # for the rate of a video whose header lists no times
# Newer versions report no frame for each damaged one; older ones skip up to 512 of them.
_DAMAGE_SINCE, _MOST_DAMAGED = (4, 5), 1000
# Some files hold a frame or two that no decoder shows, for example before their first key frame.
_FEW_FRAMES, _FEW_OF = 2, 50


def open_video_file(source: "Source") -> "VideoFileReader":
    """Open a video file; returns a VideoFileReader.  Raises CameraError."""
    try:
        stream = open_regular(source.location)
    except OSError as error:
        raise CameraError("{} cannot be read ({}); expected a video or an image".format(source.name, error.strerror))
    size = os.fstat(stream.fileno()).st_size
    head = stream.read(_HEAD_BYTES)
    playlist = playlist_name(head)
    if playlist:
        raise CameraError(
            "{} is {}, not a video that OpenCV can read; expected a video or an image".format(source.name, playlist)
        )
    capture = open_stream(source) if source.pipeline else _open(source.location, head)
    return VideoFileReader(source, capture, read_header(stream, size), stream, size)


def _open(path: str, head: bytes) -> "cv2.VideoCapture":
    # FFmpeg would render plain text as a video.
    if not head.translate(None, _TEXT):
        import cv2

        return cv2.VideoCapture()
    return open_path(path)


class VideoFileReader(OpenCVReader):
    """A video file, which has an end.

    header      what its container says
    stream      the open file of ``size`` bytes, None if there is no file
    """

    ends = still = True

    def __init__(
        self,
        source: "Source",
        capture: "cv2.VideoCapture",
        header: Optional[VideoHeader] = None,
        stream: Optional[IO[bytes]] = None,
        size: int = 0,
    ) -> None:
        import cv2

        self._header, self._stream, self._size = header or VideoHeader(), stream, size
        super().__init__(source, capture)
        # FFmpeg prints a line for each damaged frame, and OpenCV before 4.6 has no setting against it.
        silence()
        self.notes = []
        self._version = version_numbers(cv2.__version__, 2)
        self._attempts = _MOST_DAMAGED if self._version >= _DAMAGE_SINCE else 1
        ffmpeg = _is_ffmpeg(capture)
        self._turn_upright()
        if ffmpeg and self._version < _COLORS_SINCE:
            self._correct_colors()
        times = self._header.times or list(in_order(itertools.islice(self._walk(), _MEASURED_FRAMES)))
        self.rate = video_rate(times, capture.get(cv2.CAP_PROP_FPS))
        self._clock = self._make_clock(ffmpeg)
        self._starts: Optional[float] = None

    def read(self, out: "Optional[np.ndarray]" = None) -> Reading:
        """See Reader.read()."""
        import cv2

        before = time.monotonic()
        if not any(self._capture.grab() for _ in range(self._attempts)):
            self._end()
        captured = time.monotonic()
        position_s = self._clock.next(self._capture.get(cv2.CAP_PROP_POS_MSEC) / 1e3)
        image = self._retrieve(out)
        capture_ms = (time.monotonic() - before) * 1e3
        self.position_s = position_s
        return image, self._play() if self._source.policy == "latest" else captured, capture_ms

    def rest(self, until: float, resting: Callable[[], bool]) -> None:
        """See Reader.rest(): a video is played whole."""

    def _play(self) -> float:
        """Wait until the frame is due; returns that time."""
        now = time.monotonic()
        self._starts = now if self._starts is None else self._starts
        due = self._starts + (self.position_s or 0.0)
        if due > now:
            time.sleep(due - now)
        return due

    def _turn_upright(self) -> None:
        import cv2

        if not self._header.container:
            return
        automatic = getattr(cv2, "CAP_PROP_ORIENTATION_AUTO", None)
        # GStreamer does not turn frames, and OpenCV ends its pipeline for a property that it does not have.
        if automatic is not None and _is_ffmpeg(self._capture):
            self._capture.set(automatic, 0)
        if self._header.orientation == 0:
            self.notes.append(
                "{} is rotated by an angle other than a quarter turn; its frames are used as stored".format(
                    self._source.name
                )
            )
        self._steps[:0] = _turns(self._header.orientation)

    def _correct_colors(self) -> None:
        import cv2

        matrix, name = self._header.matrix, self._source.name
        if matrix is None:
            self.notes.append(
                "OpenCV {} reads {} as BT.601 regardless of its colors: BT.709, used by most videos with 720 lines or "
                "more, is shifted by up to 37 of 255; OpenCV 4.13 and later read it correctly".format(
                    cv2.__version__, name
                )
            )
        elif matrix in NAMES:
            self.notes.append(
                "OpenCV {} reads the {} colors of {} as BT.601: they are corrected, but the most saturated ones stay shifted by "
                "up to 20 of 255; OpenCV 4.13 and later read them correctly".format(
                    cv2.__version__, NAMES[matrix], name
                )
            )
            self._steps.insert(0, ColorCorrection(matrix))

    def _make_clock(self, ffmpeg: bool) -> VideoClock:
        import cv2

        trusted = ffmpeg and self._version >= _TIMES_SINCE
        if ffmpeg and self._version >= _ALL_TIMES_SINCE:
            listed: Iterator[float] = iter(())
        else:
            listed = iter(self._header.times or in_order(self._walk()))
        clock = VideoClock(listed, trusted, self.rate)
        if not trusted and not clock.knows_times:
            self.notes.append(
                "OpenCV {} does not report the frame times of {}: {:.6g} frames per second are assumed; OpenCV 4.7 and "
                "later report them".format(cv2.__version__, self._source.name, self.rate or USUAL_RATE_FPS)
            )
        return clock

    def _walk(self) -> Iterator[Optional[float]]:
        return iter(()) if self._stream is None else walk(self._stream, self._size)

    def _unopened(self, start: Optional[float]) -> CameraError:
        fault = self._header.fault or ("" if self._size or self._stream is None else "it is empty")
        return CameraError(
            "{} cannot be opened: OpenCV cannot read it; expected a video or an image{}".format(
                self._source.name, ": " + fault if fault else ""
            )
        )

    def _end(self) -> "NoReturn":
        name, count = self._source.name, self._count
        if not count:
            why = self._header.fault or "the video is damaged, or too large to decode"
            raise CameraError("{} delivers no frames: {}; replace it".format(name, why))
        promised = self._promised()
        self.unreadable = lost = max(promised - count, 0)
        if self._header.missing_bytes or lost > max(_FEW_FRAMES, promised // _FEW_OF):
            raise IncompleteFilm(
                "{} {}; what could be decoded was classified; replace the file".format(name, self._shortfall(promised))
            )
        end = "{} ended after {}{} frames".format(name, count, " of {}".format(promised) if lost else "")
        raise EndOfStream(end + (": {} could not be decoded".format(lost) if lost else ""))

    def _promised(self) -> int:
        """Return how many frames there should have been, 0 if unknown."""
        frames = self._header.frames or 0
        if self._stream is None:
            return len(self._header.times or ())
        if frames == self._count:
            return frames
        stored = list(self._walk())
        return frames - stored.count(None) if frames else len(stored)

    def _shortfall(self, promised: int) -> str:
        header, count = self._header, self._count
        ended = "ended after {}".format(count)
        if promised > count:
            ended += " of {} frames".format(promised)
        elif header.duration_s:
            ended += " frames, at {:.1f} of {:.1f} s".format(self.position_s or 0.0, header.duration_s)
        else:
            ended += " frames"
        if header.missing_bytes:
            return "{}: the file is truncated, {} of its {} bytes are missing".format(
                ended, header.missing_bytes, self._size + header.missing_bytes
            )
        return "{}: the others are missing or could not be decoded".format(ended)

    def close(self) -> None:
        """See Reader.close()."""
        super().close()
        if self._stream is not None:
            self._stream.close()


def _is_ffmpeg(capture: "cv2.VideoCapture") -> bool:
    return capture.getBackendName() == "FFMPEG" if hasattr(capture, "getBackendName") else True


def _turns(orientation: int) -> "List[Step]":
    """Return the steps that turn an image with this EXIF orientation upright."""
    import cv2

    steps: "Dict[int, List[Tuple[Callable[..., np.ndarray], int]]]" = {
        2: [(cv2.flip, 1)],
        3: [(cv2.rotate, cv2.ROTATE_180)],
        4: [(cv2.flip, 0)],
        5: [(cv2.rotate, cv2.ROTATE_90_CLOCKWISE), (cv2.flip, 1)],
        6: [(cv2.rotate, cv2.ROTATE_90_CLOCKWISE)],
        7: [(cv2.rotate, cv2.ROTATE_90_CLOCKWISE), (cv2.flip, 0)],
        8: [(cv2.rotate, cv2.ROTATE_90_COUNTERCLOCKWISE)],
    }
    return [_step(turn, code) for turn, code in steps.get(orientation, [])]


def _step(turn: "Callable[..., np.ndarray]", code: int) -> "Step":
    return lambda image, out: turn(image, code, out)
