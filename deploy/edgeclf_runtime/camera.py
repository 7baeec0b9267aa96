"""Sources of frames: video files, folders of images, and cameras.

A live source is drained by a thread that keeps the newest frame alone, so that a slow
classifier sees what is there now and not a queue of the past.  A file delivers every frame,
or, played in real time, behaves as a camera does.

Every frame carries the time at which it was captured.  Knows nothing of classification.
"""

import glob
import logging
import os
import threading
import time
from typing import Any, NamedTuple, Optional

from .errors import CameraError, EndOfStream, ImageError
from .images import is_image_name, read_image

_log = logging.getLogger(__name__)
FORMS = (
    "a video file",
    "an image file",
    "a folder of images",
    "/dev/video0 or v4l2://0",
    "rtsp://HOST/PATH",
    "http://HOST/PATH (MJPEG)",
)


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
    if uri.startswith(("v4l2://", "/dev/video")) or uri.isdigit():
        return LatestCamera(VideoCamera(_device(uri), name=uri))
    if os.path.isdir(uri):
        return ImagesCamera(_images_in(uri))
    if os.path.isfile(uri):
        if is_image_name(uri):
            return ImagesCamera([uri])
        video = VideoCamera(uri, name=uri, file=True, realtime=realtime)
        return LatestCamera(video) if realtime else video
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
        raise EndOfStream("all {} images were read".format(len(self._paths)))


class VideoCamera(Camera):
    """Whatever OpenCV's VideoCapture opens, frame after frame.

    file        a finite source: its end is EndOfStream, not a lost camera
    realtime    each frame of a file is handed out when its time has come
    """

    def __init__(self, source, name, file=False, realtime=False):
        import cv2

        self._capture = cv2.VideoCapture(source)
        self._name, self._file, self._next = name, file, 0
        if not self._capture.isOpened():
            self._capture.release()
            raise CameraError(
                "{} cannot be opened: {}".format(
                    name, "OpenCV reads no video in it" if file else "is it there, and free? " + _devices()
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
            raise CameraError("{} delivers no frame".format(self._name))
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
        while not self._closing:
            try:
                frame = self._source.read()
            except CameraError as error:
                failure = error
                break
            with self._changed:
                self.dropped += self._frame is not None
                self._frame = frame
                self._changed.notify()
        with self._changed:
            self._failure = failure
            self._changed.notify()

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
        self._thread.join(timeout=2)
        if not self._thread.is_alive():
            self._source.close()


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
