"""What the capture process opens: a Source by its kind, and pictures that are generated.

Cameras, streams and video files are read by ``video.py`` and ``http_camera.py``.
"""

import functools
import os
import socket
import sys
import time
from typing import List, NamedTuple, Optional
from urllib.parse import urlsplit

from .errors import CameraError
from .images import MAX_PIXELS

# OpenCV's codes for cv2.flip, by the names that open_camera() takes.
FLIPS = {"horizontal": 1, "vertical": 0, "180": -1}
# nvvidconv's flip-method for the same.
_NVVIDCONV_FLIPS = {None: 0, "horizontal": 4, "vertical": 6, "180": 2}
_CAMERA_MODE = (1280, 720, 30)
_TEST_MODE = (640, 480, 30)
FAULTS = ("hang", "die", "freeze", "lose", "resize")


class Source(NamedTuple):
    """What to open; travels to the capture process as JSON.

    kind            "file", "device", "network", "gstreamer" or "test"
    location        path, URL or pipeline, as OpenCV takes it; of a device its node, or a link that leads to it
    name            what people call it, without passwords
    width, height, fps      what to ask a camera for; None leaves it to the camera
    flip            a key of FLIPS, or None
    policy          "latest": the newest frame, others dropped; "all": every frame; "auto": every frame of what ends
    address         [host, port] that answers when a network source is there
    fault, after    a generated source's fault, and the frame before which it comes
    format          of a device: four characters such as MJPG, or None to choose by size and rate
    controls        of a device: values by the names of its controls, as text
    """

    kind: str
    location: str
    name: str
    width: Optional[int] = None
    height: Optional[int] = None
    fps: Optional[float] = None
    flip: Optional[str] = None
    policy: str = "latest"
    address: Optional[list] = None
    fault: Optional[str] = None
    after: int = 0
    format: Optional[str] = None
    controls: Optional[dict] = None

    @property
    def live(self):
        """Whether it goes on for ever, so that its end is a loss."""
        return self.kind != "file"

    @property
    def by_http(self):
        """Whether it is read by HTTP; then it may be a film, too."""
        return self.kind == "network" and urlsplit(self.location).scheme.lower() in ("http", "https")


def csi_pipeline(sensor, width=None, height=None, fps=None, flip=None):
    """Return the GStreamer pipeline of a Jetson's CSI camera, to be read by OpenCV.

    The source's part runs on the Jetson's image processor; ``drop`` and ``max-buffers`` keep the
    newest frame alone.
    """
    width, height, fps = width or _CAMERA_MODE[0], height or _CAMERA_MODE[1], fps or _CAMERA_MODE[2]
    source = (
        "nvarguscamerasrc sensor-id={} ! video/x-raw(memory:NVMM),width={},height={},framerate={}/1 ! "
        "nvvidconv flip-method={} ! video/x-raw,format=BGRx"
    ).format(int(sensor), int(width), int(height), int(fps), _NVVIDCONV_FLIPS[flip])
    return source + PIPELINE_END


PIPELINE_END = " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


class ReaderError(CameraError):
    """A reader failed: what it writes to stderr says why, which is known to the parent of the capture process.

    probed      what was found out about the address afterwards, if the reader may have kept it to itself
    """

    def __init__(self, reason, probed=""):
        super().__init__(reason)
        self.probed = probed


def is_live(source):
    """Return the message about a live source of which every frame is wanted."""
    return "{} is live: the policy all, which drops nothing, is for files".format(source.name)


def too_large(width, height, name="the picture"):
    """Return the message about pictures of too many pixels."""
    return "{} has {} x {} pixels, {:.1f} megapixels, more than the {:.0f} allowed; use smaller pictures".format(
        name, width, height, width * height / 1e6, MAX_PIXELS / 1e6
    )


def absence(source):
    """Return why it is not worth opening, "" if it is: a device's node is there, a network source's port answers."""
    if source.kind == "device" and sys.platform.startswith("linux") and not os.path.exists(source.location):
        return "No such file or directory"
    if source.address:
        try:
            socket.create_connection(tuple(source.address), timeout=2).close()
        except OSError as error:
            return str(error.strerror or error or type(error).__name__)
    return ""


def open_source(source):
    """Open a Source; returns a reader with ``read(out) -> (image, captured, capture_ms)`` and ``close()``.

    Raises CameraError where it cannot be opened.
    """
    if source.kind == "test":
        return GeneratedReader(source)
    if source.by_http:
        from .http_camera import open_http

        return open_http(source)
    from .video import open_video

    return open_video(source)


class Reader:
    """The base of the readers of every kind of source; they have ``read`` and ``close`` too, see open_source().

    rate        frames a second of a film; else None
    dropped     frames that were never decoded, because a newer one had come
    position_s  seconds from the first frame of a film to the one that was read last; None for live sources
    granted     what a device granted, as a sentence; else ""
    as_asked    whether that is what was asked
    ends        whether it has an end, as a film has, so that no end of it is a loss
    still       whether its picture may stay the same for long without a fault
    unreadable  frames of a film that could not be decoded, known at its end
    notes       what its user should know of how it is read, as sentences
    """

    rate: Optional[float] = None
    dropped = 0
    position_s: Optional[float] = None
    granted = ""
    as_asked = True
    ends = False
    still = False
    unreadable = 0
    notes: List[str] = []


class GeneratedReader(Reader):
    """Pictures that change with every frame, at a fixed rate; with a fault, a camera that misbehaves.

    Faults come before frame ``after``: "hang" (read never returns), "die" (the process ends),
    "freeze" (the same picture for ever), "lose" (the camera says that it has no more), "resize"
    (half the size).
    """

    def __init__(self, source):
        self._source = source
        self._size = (source.width or _TEST_MODE[0], source.height or _TEST_MODE[1])
        self._pace = Pace(source.fps or _TEST_MODE[2])
        self._number = 0

    def read(self, out=None):
        """See ``video.VideoReader.read``."""
        import numpy as np

        captured = self._pace.wait()
        number = self._number
        faulty = self._source.fault is not None and number >= self._source.after
        if faulty and self._source.fault == "hang":
            time.sleep(1e9)
        if faulty and self._source.fault == "die":
            os._exit(1)
        if faulty and self._source.fault == "lose":
            raise CameraError("{} delivers no frame any more".format(self._source.name))
        width, height = self._size
        if faulty and self._source.fault == "freeze":
            number = self._source.after
        elif faulty and self._source.fault == "resize":
            width, height = width // 2, height // 2
        before = time.monotonic()
        image = out if out is not None and out.shape[:2] == (height, width) else np.empty((height, width, 3), np.uint8)
        generated_picture(number, image)
        self._number += 1
        return image, captured, (time.monotonic() - before) * 1e3

    def close(self):
        """Nothing is open."""


def generated_picture(number, out):
    """Draw the generated source's picture ``number`` into uint8 [height, width, 3]: ramps and a bar that moves."""
    height, width = out.shape[:2]
    out[...] = _ramps(height, width)
    left = number * 8 % width
    out[:, left : left + max(1, width // 16)] = number * 5 % 256


@functools.lru_cache(maxsize=2)
def _ramps(height, width):
    import numpy as np

    ramps = np.empty((height, width, 3), np.uint8)
    ramps[:, :, 0] = np.arange(width, dtype=np.int64) * 255 // width
    ramps[:, :, 1] = (np.arange(height, dtype=np.int64) * 255 // height)[:, None]
    ramps[:, :, 2] = 128
    return ramps


class Pace:
    """Times at a fixed rate, counted from the first; None for the rate means as fast as it goes."""

    def __init__(self, fps):
        self._interval = 1 / fps if fps else 0.0
        self._due: Optional[float] = None

    def wait(self):
        """Sleep until the next time has come; returns it (``time.monotonic()``)."""
        now = time.monotonic()
        self._due = now if self._due is None or not self._interval else self._due + self._interval
        if self._due > now:
            time.sleep(self._due - now)
        return self._due
