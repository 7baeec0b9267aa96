"""A film's frames by OpenCV: upright, in the film's colors, at the film's times, and counted.

Versions of OpenCV with FFmpeg make different things of the same film (figures in deploy/README.md, Films):

    turned films    4.1 to 4.4 leave them lying, 4.6 turns them the wrong way, none knows mirrors
    colors          before 4.13 every film is read as BT.601; BT.709 is then off by up to 37 of 255
    times           4.1 has none but a count; 4.5.4 to 4.6 have none for the last frames
    damaged frames  before 4.5.4 they are passed over; from then on each looks like the film's end

So the turn, the colors and the missing times are taken from the film's container.  For the capture process alone, as
``capture/readers/video.py`` is.
"""

import itertools
import os
import time
from typing import Any, Dict, Iterator, List, Optional, Tuple

from ...errors import CameraError, EndOfStream, IncompleteFilm
from ...files.read import open_regular
from .containers import Film, read_film, walk
from .film_clock import USUAL_RATE_FPS, FilmClock, film_rate, in_order
from .film_colors import NAMES, ColorCorrection
from .video import VideoReader, open_path, playlist_name, silence

_HEAD_BYTES = 4096
# The bytes of a text; the head of a video file holds other control characters too.
_TEXT = bytes([7, 8, 9, 10, 12, 13, 27]) + bytes(range(32, 256))
_TIMES_SINCE, _ALL_TIMES_SINCE, _COLORS_SINCE = (4, 2), (4, 7), (4, 13)
_MEASURED_FRAMES = 500  # for the rate of a film whose header lists no times
# Newer versions say for each damaged frame that there is none; older ones pass over 512, which takes them 20 ms at the end.
_DAMAGE_SINCE, _MOST_DAMAGED = (4, 5), 1000
# Some films hold a frame or two that no decoder shows, such as one that starts before its first key frame.
_FEW_FRAMES, _FEW_OF = 2, 50


def open_film(source):
    """Open a video file; returns a FilmReader.  Raises CameraError."""
    try:
        stream = open_regular(source.location)
    except OSError as error:
        raise CameraError(
            "{} cannot be read ({}); a video or an image was expected".format(source.name, error.strerror)
        )
    size = os.fstat(stream.fileno()).st_size
    head = stream.read(_HEAD_BYTES)
    playlist = playlist_name(head)
    if playlist:
        raise CameraError(
            "{} is {}: OpenCV reads no video in it; a video or an image was expected".format(source.name, playlist)
        )
    return FilmReader(source, _open(source.location, head), read_film(stream, size), stream, size)


def _open(path, head):
    # FFmpeg would draw a text and call the pictures a video.
    if not head.translate(None, _TEXT):
        import cv2

        return cv2.VideoCapture()
    return open_path(path)


class FilmReader(VideoReader):
    """A film that has an end.

    film        what its container says
    stream      the open file of ``size`` bytes, None where there is no file
    """

    ends = still = True

    def __init__(self, source, capture, film=None, stream=None, size=0):
        import cv2

        self._film, self._stream, self._size = film or Film(), stream, size
        super().__init__(source, capture)
        # FFmpeg has a line for each damaged frame, which OpenCV before 4.6 prints whatever its settings are.
        silence()
        self.notes = []
        self._version = _version()
        self._attempts = _MOST_DAMAGED if self._version >= _DAMAGE_SINCE else 1
        ffmpeg = _is_ffmpeg(capture)
        self._turn_upright()
        if ffmpeg and self._version < _COLORS_SINCE:
            self._correct_colors()
        times = self._film.times or list(in_order(itertools.islice(self._walk(), _MEASURED_FRAMES)))
        self.rate = film_rate(times, capture.get(cv2.CAP_PROP_FPS))
        self._clock = self._make_clock(ffmpeg)
        self._starts: Optional[float] = None

    def read(self, out=None):
        """See VideoReader.read()."""
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

    def _play(self):
        """Wait until the frame is to be shown; returns that time."""
        now = time.monotonic()
        self._starts = now if self._starts is None else self._starts
        due = self._starts + (self.position_s or 0.0)
        if due > now:
            time.sleep(due - now)
        return due

    def _turn_upright(self):
        import cv2

        if not self._film.container:
            return
        automatic = getattr(cv2, "CAP_PROP_ORIENTATION_AUTO", None)
        if automatic is not None:
            self._capture.set(automatic, 0)
        if self._film.orientation == 0:
            self.notes.append(
                "{} is to be turned by an angle that is not a quarter; it is read as it is stored".format(
                    self._source.name
                )
            )
        self._steps[:0] = _turns(self._film.orientation)

    def _correct_colors(self):
        import cv2

        matrix, name = self._film.matrix, self._source.name
        if matrix is None:
            self.notes.append(
                "OpenCV {} reads {} as BT.601 whatever its colors are: those of BT.709, as in most films of 720 lines and "
                "more, are shifted by up to 37 of 255; OpenCV 4.13 and later read them right".format(
                    cv2.__version__, name
                )
            )
        elif matrix in NAMES:
            self.notes.append(
                "OpenCV {} reads the {} colors of {} as BT.601: they are corrected, but the most saturated ones stay shifted by "
                "up to 20 of 255; OpenCV 4.13 and later read them right".format(cv2.__version__, NAMES[matrix], name)
            )
            self._steps.insert(0, ColorCorrection(matrix))

    def _make_clock(self, ffmpeg):
        import cv2

        trusted = ffmpeg and self._version >= _TIMES_SINCE
        if ffmpeg and self._version >= _ALL_TIMES_SINCE:
            listed: Iterator[float] = iter(())
        else:
            listed = iter(self._film.times or in_order(self._walk()))
        clock = FilmClock(listed, trusted, self.rate)
        if not trusted and not clock.knows_times:
            self.notes.append(
                "OpenCV {} does not say when a frame of {} is shown: its frames are counted at {:.6g} a second; OpenCV 4.7 "
                "and later do".format(cv2.__version__, self._source.name, self.rate or USUAL_RATE_FPS)
            )
        return clock

    def _walk(self):
        return iter(()) if self._stream is None else walk(self._stream, self._size)

    def _unopened(self, start):
        fault = self._film.fault or ("" if self._size or self._stream is None else "it is empty")
        return CameraError(
            "{} cannot be opened: OpenCV reads no video in it; a video or an image was expected{}".format(
                self._source.name, ": " + fault if fault else ""
            )
        )

    def _end(self):
        name, count = self._source.name, self._count
        if not count:
            why = self._film.fault or "the video is damaged, or too large to be decoded"
            raise CameraError("{} delivers no frame: {}; replace it".format(name, why))
        promised = self._promised()
        self.unreadable = lost = max(promised - count, 0)
        if self._film.missing_bytes or lost > max(_FEW_FRAMES, promised // _FEW_OF):
            raise IncompleteFilm(
                "{} {}; what could be decoded is classified; replace the film".format(name, self._shortfall(promised))
            )
        end = "{} ended after {}{} frames".format(name, count, " of {}".format(promised) if lost else "")
        raise EndOfStream(end + (": {} could not be decoded".format(lost) if lost else ""))

    def _promised(self):
        """Return how many frames there should have been, 0 where nobody says."""
        frames = self._film.frames or 0
        if self._stream is None:
            return len(self._film.times or ())
        if frames == self._count:
            return frames
        stored = list(self._walk())
        return frames - stored.count(None) if frames else len(stored)

    def _shortfall(self, promised):
        film, count = self._film, self._count
        said = "ended after {}".format(count)
        if promised > count:
            said += " of {} frames".format(promised)
        elif film.duration_s:
            said += " frames, at {:.1f} of {:.1f} s".format(self.position_s or 0.0, film.duration_s)
        else:
            said += " frames"
        if film.missing_bytes:
            return "{}: the file is cut off, {} of its {} bytes are missing".format(
                said, film.missing_bytes, self._size + film.missing_bytes
            )
        return "{}: the others could not be decoded, or are not there".format(said)

    def close(self):
        """See VideoReader.close()."""
        super().close()
        if self._stream is not None:
            self._stream.close()


def _version():
    import cv2

    return tuple(int(part) for part in cv2.__version__.split("-")[0].split(".")[:2])


def _is_ffmpeg(capture):
    return capture.getBackendName() == "FFMPEG" if hasattr(capture, "getBackendName") else True


def _turns(orientation):
    """Return the steps that make an image of EXIF's orientation upright."""
    import cv2

    steps: Dict[int, List[Tuple[Any, int]]] = {
        2: [(cv2.flip, 1)],
        3: [(cv2.rotate, cv2.ROTATE_180)],
        4: [(cv2.flip, 0)],
        5: [(cv2.rotate, cv2.ROTATE_90_CLOCKWISE), (cv2.flip, 1)],
        6: [(cv2.rotate, cv2.ROTATE_90_CLOCKWISE)],
        7: [(cv2.rotate, cv2.ROTATE_90_CLOCKWISE), (cv2.flip, 0)],
        8: [(cv2.rotate, cv2.ROTATE_90_COUNTERCLOCKWISE)],
    }
    return [
        lambda image, out, turn=turn, code=code: turn(image, code, out) for turn, code in steps.get(orientation, [])
    ]
