"""Source, the description of what the capture process opens.  ``capture/readers/`` has a reader for each kind."""

import os
import socket
import sys
from typing import Dict, List, NamedTuple, Optional, Union
from urllib.parse import urlsplit

from ..images.read import MAX_PIXELS

# The names that open_camera() takes, and OpenCV's codes for cv2.flip.
FLIPS = {"horizontal": 1, "vertical": 0, "180": -1}
# nvvidconv's flip-method for the same.
_NVVIDCONV_FLIPS = {None: 0, "horizontal": 4, "vertical": 6, "180": 2}
_CAMERA_MODE = (1280, 720, 30)
# How RTSP streams and video files are decoded: in hardware if the machine has it, only in hardware, only by FFmpeg.
DECODING = ("auto", "hardware", "software")
FAULTS = ("hang", "die", "freeze", "lose", "resize")


class Source(NamedTuple):
    """The source to open; sent to the capture process as JSON.

    kind            "file", "device", "network", "gstreamer" or "test"
    location        path, URL or pipeline as OpenCV takes it; for a device, its node or a link to it
    name            its name for people, without passwords
    width, height, fps      what to request from a camera; None leaves it to the camera
    flip            a key of FLIPS, or None
    policy          "latest": the newest frame, others dropped; "all": every frame; "auto": every frame of a source that ends
    address         [host, port] of a network source, for checking whether it is reachable
    fault, after    the fault of a generated source, and the frame before which it occurs
    format          for a device: four characters such as MJPG, or None to choose by size and rate
    controls        for a device: values by control name, as text
    decode          one of DECODING
    pipeline, decoder   set in the capture process: the GStreamer pipeline that decodes it in hardware, and the element for it
    """

    kind: str
    location: str
    name: str
    width: Optional[int] = None
    height: Optional[int] = None
    fps: Optional[float] = None
    flip: Optional[str] = None
    policy: str = "latest"
    address: Optional[List[Union[str, int]]] = None
    fault: Optional[str] = None
    after: int = 0
    format: Optional[str] = None
    controls: Optional[Dict[str, str]] = None
    decode: str = "auto"
    pipeline: str = ""
    decoder: str = ""

    @property
    def live(self) -> bool:
        """True if it is endless, so that its end counts as a loss."""
        return self.kind != "file"

    @property
    def by_rtsp(self) -> bool:
        """True if it is read by RTSP without TLS."""
        return self.kind == "network" and urlsplit(self.location).scheme.lower() == "rtsp"

    @property
    def by_http(self) -> bool:
        """True if it is read by HTTP; it may then be a video file."""
        return self.kind == "network" and urlsplit(self.location).scheme.lower() in ("http", "https")


def csi_pipeline(
    sensor: Union[str, int],
    width: Optional[int] = None,
    height: Optional[int] = None,
    fps: Optional[float] = None,
    flip: Optional[str] = None,
) -> str:
    """Return the GStreamer pipeline for a Jetson's CSI camera, ending in OpenCV's appsink.

    The first part runs on the Jetson's image processor; ``drop`` and ``max-buffers`` keep only the newest frame.
    """
    width, height, fps = width or _CAMERA_MODE[0], height or _CAMERA_MODE[1], fps or _CAMERA_MODE[2]
    source = (
        "nvarguscamerasrc sensor-id={} ! video/x-raw(memory:NVMM),width={},height={},framerate={}/1 ! "
        "nvvidconv flip-method={} ! video/x-raw,format=BGRx"
    ).format(int(sensor), int(width), int(height), int(fps), _NVVIDCONV_FLIPS[flip])
    return source + PIPELINE_END


PIPELINE_END = " ! videoconvert ! video/x-raw,format=BGR ! appsink drop=true max-buffers=1 sync=false"


def is_live(source: Source) -> str:
    """Return the error message for the policy "all" on a live source."""
    return "{} is a live source: --policy all (drop nothing) works with files only".format(source.name)


def too_large(width: int, height: int, name: str = "the image") -> str:
    """Return the error message for images with too many pixels."""
    return "{} has {} x {} pixels, {:.1f} megapixels, but at most {:.0f} are allowed; use smaller images".format(
        name, width, height, width * height / 1e6, MAX_PIXELS / 1e6
    )


def absence(source: Source) -> str:
    """Return why opening it would fail now, or "": a device's node is missing, or a network source's port does not answer."""
    if source.kind == "device" and sys.platform.startswith("linux") and not os.path.exists(source.location):
        return "No such file or directory"
    if source.address:
        try:
            host, port = source.address
            socket.create_connection((str(host), int(port)), timeout=2).close()
        except OSError as error:
            return str(error.strerror or error or type(error).__name__)
    return ""
