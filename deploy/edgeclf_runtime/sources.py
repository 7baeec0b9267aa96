"""What the capture process opens: a Source by its kind, and pictures that are generated.

Cameras, streams and video files are read by ``video.py`` and ``http_camera.py``.
"""

import functools
import glob
import os
import socket
import sys
import time
from typing import NamedTuple, Optional
from urllib.parse import urlsplit

from .addresses import shown_pipeline
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
    location        path, device number, URL or pipeline, as OpenCV takes it
    name            what people call it, without passwords
    width, height, fps      what to ask a camera for; None leaves it to the camera
    flip            a key of FLIPS, or None
    policy          "latest": the newest frame, others dropped; "all": every frame
    address         [host, port] that answers when a network source is there
    fault, after    a generated source's fault, and the frame before which it comes
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

    @property
    def live(self):
        """Whether it goes on for ever, so that its end is a loss."""
        return self.kind != "file"


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


def advice(source):
    """Return what to do about a Source that does not open, as the end of a sentence."""
    if source.kind == "gstreamer":
        # OpenCV 4.6 waits for ever where an element of the pipeline is not installed.
        pipeline = shown_pipeline(source.location.replace("appsink", "fakesink"))
        return "see what this says: gst-launch-1.0 {}".format(pipeline)
    if source.kind == "network":
        return "see whether it is connected, and whether the user's name and password are right"
    return "see whether it is connected" + (". " + cameras() if source.kind == "device" else "")


def too_large(width, height, name="the picture"):
    """Return the message about pictures of too many pixels."""
    return "{} has {} x {} pixels, {:.1f} megapixels, more than the {:.0f} allowed; use smaller pictures".format(
        name, width, height, width * height / 1e6, MAX_PIXELS / 1e6
    )


def cameras():
    """Return a sentence that names the camera devices of this machine."""
    found = sorted(glob.glob("/dev/video*"))
    return "Cameras on this machine: {}".format(", ".join(found) if found else "none")


def is_there(source):
    """Return whether it is worth opening: a device's node exists, a network source's port answers."""
    if source.kind == "device":
        return not sys.platform.startswith("linux") or os.path.exists("/dev/video{}".format(source.location))
    if source.address:
        try:
            socket.create_connection(tuple(source.address), timeout=2).close()
        except OSError:
            return False
    return True


def open_source(source):
    """Open a Source; returns a reader with ``read(out) -> (image, captured, capture_ms)`` and ``close()``.

    Raises CameraError where it cannot be opened.
    """
    if source.kind == "test":
        return GeneratedReader(source)
    if source.kind == "network" and urlsplit(source.location).scheme.lower() in ("http", "https"):
        from .http_camera import open_http

        return open_http(source)
    from .video import open_video

    return open_video(source)


class GeneratedReader:
    """Pictures that change with every frame, at a fixed rate; with a fault, a camera that misbehaves.

    Faults come before frame ``after``: "hang" (read never returns), "die" (the process ends),
    "freeze" (the same picture for ever), "lose" (the camera says that it has no more), "resize"
    (half the size).
    """

    rate = None
    dropped = 0

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
