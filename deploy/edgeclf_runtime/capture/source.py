"""A Source: what the capture process is to open, by its kind; ``capture/readers/`` reads it."""

import os
import socket
import sys
from typing import NamedTuple, Optional
from urllib.parse import urlsplit

from ..images.read import MAX_PIXELS

# OpenCV's codes for cv2.flip, by the names that open_camera() takes.
FLIPS = {"horizontal": 1, "vertical": 0, "180": -1}
# nvvidconv's flip-method for the same.
_NVVIDCONV_FLIPS = {None: 0, "horizontal": 4, "vertical": 6, "180": 2}
_CAMERA_MODE = (1280, 720, 30)
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
