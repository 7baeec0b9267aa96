"""Sources of frames: video files, folders of images, and cameras.

A live source is drained by a thread that keeps the newest frame alone, so that a slow
classifier sees what is there now and not a queue of the past.  A file delivers every frame,
or, played in real time, behaves as a camera does.

Every frame carries the time at which it was captured.  Knows nothing of classification.
"""

import contextlib
import glob
import logging
import os
import threading
import time
from typing import Any, NamedTuple, Optional

from .errors import CameraError, EndOfStream, ImageError
from .files import native_path
from .images import is_image_name, read_image

_log = logging.getLogger(__name__)
CLOSE_TIMEOUT_S = 2.0
FORMS = (
    "a video file",
    "an image file",
    "a folder of images",
    "/dev/video0 or v4l2://0",
    "rtsp://HOST/PATH",
    "http://HOST/PATH (MJPEG)",
)
# The bytes of a text; the head of a video file holds other control characters too.
_TEXT = bytes([7, 8, 9, 10, 12, 13, 27]) + bytes(range(32, 256))
_quiet_lock = threading.Lock()


class Frame(NamedTuple):
    """One captured frame.

    image           BGR pixels, uint8 [height, width, 3]
    number          counts from 0; numbers of dropped frames are left out
    captured_at     seconds since 1970 when it was captured, for people and logs
    captured        ``time.monotonic()`` at the same moment, for measuring ages
    capture_ms      time that reading and decoding it took
    name            the file's name where frames are files, else ""
    """

    image: Any
    number: int
    captured_at: float
    captured: float
    capture_ms: float
    name: str

    @property
    def age_ms(self):
        """Milliseconds since it was captured."""
        return (time.monotonic() - self.captured) * 1e3


def open_camera(uri, realtime=False):
    """Open a source of frames; see FORMS for what a ``uri`` can be.

    realtime    play a video file at its own rate, dropping frames that come too late, as a
                camera would; live sources always do

    Returns an object with ``read() -> Frame``, ``dropped``, ``skipped`` and ``close()``, for use
    inside ``with``.  Raises CameraError where the source cannot be opened.
    """
    uri = str(uri)
    if uri.startswith(("rtsp://", "http://", "https://")):
        return LatestCamera(VideoCamera(uri, name=uri))
    if os.path.isdir(uri):
        return ImagesCamera(_images_in(uri))
    if os.path.isfile(uri):
        if is_image_name(uri):
            return ImagesCamera([uri])
        video = VideoCamera(uri, name=uri, file=True, realtime=realtime)
        return LatestCamera(video) if realtime else video
    if uri.startswith(("v4l2://", "/dev/video")) or uri.isdecimal():
        return LatestCamera(VideoCamera(_device(uri), name=uri))
    raise CameraError("there is no source {!r}; a source is {}".format(uri, ", ".join(FORMS)))


class Camera:
    """What every source has in common."""

    dropped = 0  # frames that were captured and never handed out
    skipped = 0  # files that could not be decoded

    def read(self):
        """Return the next Frame; raise EndOfStream after the last one."""
        raise NotImplementedError

    def close(self):
        """Let go of the device or file; a second call does nothing."""

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.close()


class ImagesCamera(Camera):
    """Image files, one frame each, in the order of their names."""

    def __init__(self, paths):
        self._paths = paths
        self._next = 0

    def read(self):
        while self._next < len(self._paths):
            number, path = self._next, self._paths[self._next]
            self._next += 1
            captured, captured_at = time.monotonic(), time.time()
            try:
                image = read_image(path)
            except ImageError as error:
                self.skipped += 1
                _log.warning("skipped %s", error)
                continue
            return Frame(
                image, number, captured_at, captured, (time.monotonic() - captured) * 1e3, os.path.basename(path)
            )
        if self.skipped == len(self._paths):
            raise CameraError("none of {} images could be read; replace or remove them".format(self.skipped))
        raise EndOfStream("all {} images were read".format(len(self._paths)))


class VideoCamera(Camera):
    """Whatever OpenCV's VideoCapture opens, frame after frame.

    file        a finite source: its end is EndOfStream, not a lost camera
    realtime    each frame of a file is handed out when its time has come
    """

    def __init__(self, source, name, file=False, realtime=False):
        import cv2

        self._capture = _open_file(source) if file else cv2.VideoCapture(source)
        self._name, self._file, self._next = name, file, 0
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(
                "{} cannot be opened: {}".format(
                    name,
                    "OpenCV reads no video in it; a video or an image was expected"
                    if file
                    else "is it there, and free? " + _devices(),
                )
            )
        rate = self._capture.get(cv2.CAP_PROP_FPS)
        self._interval = 1 / rate if realtime and 0 < rate < 1000 else 0.0
        self._start: Optional[float] = None

    def read(self):
        before = time.monotonic()
        ok, image = self._capture.read()
        captured = time.monotonic()
        if not ok:
            if self._file and self._next:
                raise EndOfStream("{} ended after {} frames".format(self._name, self._next))
            raise CameraError(
                "{} delivers no frame{}".format(
                    self._name,
                    ": the video is damaged, replace it"
                    if self._file
                    else " any more: see whether the camera is connected, and start again"
                    if self._next
                    else ": see whether the camera is connected and another program uses it",
                )
            )
        capture_ms = (captured - before) * 1e3
        if self._interval:
            if self._start is None:
                self._start = captured
            due = self._start + self._next * self._interval
            if due > captured:
                time.sleep(due - captured)
            captured = due
        number, self._next = self._next, self._next + 1
        return Frame(image, number, time.time() - (time.monotonic() - captured), captured, capture_ms, "")

    def close(self):
        self._capture.release()


def _open_file(path):
    import cv2

    with open(path, "rb") as stream:
        # FFmpeg would draw a text and call the pictures a video.
        if not stream.read(4096).translate(None, _TEXT):
            return cv2.VideoCapture()
    with _quiet():
        return cv2.VideoCapture(native_path(path))


@contextlib.contextmanager
def _quiet():
    """Keep off stderr what each of OpenCV's readers says of a file that it does not read; the error says it once."""
    with _quiet_lock:
        stderr, null = os.dup(2), os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 2)
        try:
            yield
        finally:
            os.dup2(stderr, 2)
            os.close(stderr)
            os.close(null)


class LatestCamera(Camera):
    """Drains another source in a thread and hands out its newest frame."""

    def __init__(self, source):
        self._source = source
        self._changed = threading.Condition()
        self._frame: Optional[Frame] = None
        self._failure: Optional[CameraError] = None
        self._closing = False
        self._thread = threading.Thread(target=self._drain, name="capture", daemon=True)
        self._thread.start()

    def _drain(self):
        failure = CameraError("capture was stopped")
        try:
            while not self._closing:
                frame = self._source.read()
                with self._changed:
                    self.dropped += self._frame is not None
                    self._frame = frame
                    self._changed.notify()
        except CameraError as error:
            failure = error
        except Exception as error:  # whatever a driver raises: whoever waits in read() would wait for ever
            failure = CameraError("capture failed: {!r}".format(error))
        finally:
            with self._changed:
                self._failure = failure
                self._changed.notify()
            self._source.close()

    def read(self):
        with self._changed:
            self._changed.wait_for(lambda: self._frame is not None or self._failure is not None)
            if self._frame is None:
                assert self._failure is not None
                raise self._failure
            frame, self._frame = self._frame, None
            return frame

    def close(self):
        self._closing = True
        with self._changed:
            self._failure = self._failure or CameraError("capture was stopped")
            self._changed.notify()
        # A read can block for ever when a camera is lost (OpenCV issue 22677); the thread that is in it
        # lets go of the source when it returns, and holds up nobody meanwhile.
        self._thread.join(CLOSE_TIMEOUT_S)


def _device(uri):
    number = uri[len("v4l2://") :] if uri.startswith("v4l2://") else uri
    if number.startswith("/dev/video"):
        number = number[len("/dev/video") :]
    if not number.isdigit():
        raise CameraError("{!r} names no camera; a camera is /dev/video0 or v4l2://0. {}".format(uri, _devices()))
    return int(number)


def _devices():
    found = sorted(glob.glob("/dev/video*"))
    return "Cameras on this machine: {}".format(", ".join(found) if found else "none")


def _images_in(folder):
    paths = sorted(os.path.join(folder, name) for name in os.listdir(folder) if is_image_name(name))
    if not paths:
        raise CameraError("{} holds no image (JPEG, PNG, BMP, WebP or TIFF was expected)".format(folder))
    return paths
