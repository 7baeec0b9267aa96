"""Opens this machine's cameras: finds them by name, chooses a format and checks what they granted.

A camera is named by its node (/dev/video0), by a link that stays the same after a reboot or in another socket
(/dev/v4l/by-id/..., by-path/..., a link made by a udev rule), or by its number.  A link is resolved each time the camera
is opened.  OpenCV reads it through Video4Linux.
"""

import errno
import glob
import os
import re
import stat
from typing import TYPE_CHECKING, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from ...errors import CameraError, SourceError
from . import kernel
from .nodes import capabilities, title, use

if TYPE_CHECKING:
    import cv2

    from ..source import Source

_VIDEO_DEVICE = 81  # Video4Linux's major device number
_NODE = re.compile(r"/dev/video[0-9]+")
# With fewer, the camera waits while we read.  More add no delay, because each frame is fetched at once.
BUFFERS = 4
# Raw formats that OpenCV converts, best first (not Bayer, H.264 and others).
_RAW = ("YUYV", "UYVY", "NV12", "NV21", "YU12", "YV12", "BGR3", "RGB3", "GREY")
_COMPRESSED = "MJPG"
# For a driver that lists no modes: what USB 2 carries, and the size of a raw pixel.
_USB_BYTES_A_SECOND, _RAW_BYTES = 30e6, 2
_LEAST_FPS = 15  # for raw video, if no rate was requested
_ADVICE = {
    errno.EACCES: "give this user access to cameras: sudo usermod -aG video $USER, then log in again",
    errno.EPERM: "give this user access to cameras: sudo usermod -aG video $USER, then log in again",
    errno.EBUSY: "another program is using it: fuser -v {}",
    errno.ENODEV: "reconnect it",
    errno.ENXIO: "reconnect it",
}


class Asked(NamedTuple):
    """Settings to request from a camera; None leaves it to the camera."""

    format: Optional[str]
    width: Optional[int]
    height: Optional[int]
    fps: Optional[float]


def device_path(name: str) -> Optional[str]:
    """Return the path of the camera with this name, or None if it is the name of something else; see the module's docstring.

    A missing path below /dev counts as a camera's: it appears when the camera is connected.
    """
    text = name[len("v4l2://") :] if name.lower().startswith("v4l2://") else name
    if re.fullmatch("[0-9]+", text):
        return "/dev/video" + text
    if not text.startswith("/") and text != name:
        return None
    if is_camera(text) or _NODE.fullmatch(os.path.realpath(text)):
        return os.path.abspath(text)
    # A missing name below /dev, or a link to one, is taken for a device, except in /dev/shm.
    target = os.path.realpath(text)
    missing = target.startswith("/dev/") and not target.startswith("/dev/shm/") and not os.path.exists(text)
    return os.path.abspath(text) if missing else None


def is_camera(path: str) -> bool:
    """Return whether a path, with links followed, is a Video4Linux device."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == _VIDEO_DEVICE


def cameras(root: str = "/") -> str:
    """Return a sentence that lists this machine's camera devices and their links, without codecs."""
    links: Dict[str, str] = {}
    for link in sorted(glob.glob(os.path.join(root, "dev/v4l/by-id/*"))):
        links.setdefault(os.path.realpath(link), link)
    nodes = [node for node in sorted(glob.glob(os.path.join(root, "dev/video*"))) if not use(title(node, root))]
    found = [node + (" ({})".format(links[node]) if node in links else "") for node in nodes]
    return "Cameras on this machine: {}".format(", ".join(found) or "none")


def resolved(source: "Source") -> "Source":
    """Return a device's Source with the node that its name points to now; raises CameraError if that is not a camera."""
    node = os.path.realpath(source.location)
    if os.path.exists(node) and not is_camera(node):
        raise CameraError("{} links to {}, which is not a camera. {}".format(source.name, node, cameras()))
    return source._replace(location=node)


def open_device(source: "Source") -> "Tuple[cv2.VideoCapture, str, bool]":
    """Open a device's resolved Source; returns OpenCV's capture, what was granted, and whether that is what was requested.

    Raises CameraError, with the system's reason, if it cannot be opened; SourceError for a control that it does not have.
    """
    import cv2

    offered = _modes(source)
    capture = _capture(source)
    if not capture.isOpened():
        raise CameraError("{} cannot be opened: {}".format(source.name, trouble(source)))
    try:
        asked = choose(offered, _with_present_size(capture, source))
        _ask(capture, asked)
        width, height = _present_size(capture)
        name = kernel.fourcc_name(int(capture.get(cv2.CAP_PROP_FOURCC)))
        granted = Asked(name or None, width, height, capture.get(cv2.CAP_PROP_FPS) or None)
        if granted.format in ("Y16", "Y12", "Y10"):
            raise SourceError(_deep(source, granted.format, offered))
        notes = _set_controls(source)
    except Exception:
        capture.release()
        raise
    return (capture, *report(asked, granted, notes))


def _capture(source: "Source") -> "cv2.VideoCapture":
    """Return OpenCV's capture of a node, through Video4Linux: GStreamer, OpenCV's first choice, ignores sizes."""
    import cv2

    if re.search(r"v4l2?:\s+YES", cv2.getBuildInformation(), re.IGNORECASE):
        return cv2.VideoCapture(source.location, cv2.CAP_V4L2)
    number = re.search("[0-9]+$", source.location)
    return cv2.VideoCapture(int(number.group()) if number else source.location, cv2.CAP_ANY)


def _modes(source: "Source") -> List[kernel.Mode]:
    try:
        with kernel.opened(source.location) as handle:
            return kernel.modes(handle)
    except OSError:
        return []  # the error shows up when OpenCV opens it


def _ask(capture: "cv2.VideoCapture", asked: Asked) -> None:
    """Request a mode.  The format comes first because sizes depend on it; OpenCV waits for both width and height."""
    import cv2

    if asked.format:
        capture.set(cv2.CAP_PROP_FOURCC, kernel.fourcc(asked.format))
    if asked.width or asked.height:
        for key, value in ((cv2.CAP_PROP_FRAME_WIDTH, asked.width), (cv2.CAP_PROP_FRAME_HEIGHT, asked.height)):
            capture.set(key, value or capture.get(key))
    if asked.fps:
        capture.set(cv2.CAP_PROP_FPS, asked.fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)


def _with_present_size(capture: "cv2.VideoCapture", source: "Source") -> Asked:
    """Return what to request from a camera; a rate without a size is requested for the present size."""
    asked = Asked(source.format, source.width, source.height, source.fps)
    if not asked.fps or asked.width or asked.height:
        return asked
    width, height = _present_size(capture)
    return asked._replace(width=width, height=height)


def _present_size(capture: "cv2.VideoCapture") -> Tuple[Optional[int], Optional[int]]:
    import cv2

    keys = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
    width, height = (int(capture.get(key)) or None for key in keys)
    return width, height


def choose(offered: Sequence[kernel.Mode], asked: Asked) -> Asked:
    """Return what to request: an Asked with a format and both sides, if they can be known.

    offered     the camera's Modes, empty if it lists none

    Raw video if the camera offers it in the requested size and rate, else MJPG.
    """
    if asked.format or not (asked.width or asked.height or asked.fps):
        return _with_sides(offered, asked)
    fps = asked.fps or _LEAST_FPS
    if not offered:
        # Nothing is known about the camera: assume USB 2.
        pixels = (asked.width or 640) * (asked.height or 480)
        return asked._replace(format=_COMPRESSED if pixels * fps * _RAW_BYTES > _USB_BYTES_A_SECOND else None)
    for name in (*_RAW, _COMPRESSED):
        if any(mode.format == name and _fits(mode, asked, fps) for mode in offered):
            return _with_sides(offered, asked._replace(format=name))
    # The request cannot be met: the size matters more than the rate.
    for name in (_COMPRESSED, *_RAW):
        if any(mode.format == name and _fits(mode, asked, 0) for mode in offered):
            return _with_sides(offered, asked._replace(format=name))
    return asked


def _fits(mode: kernel.Mode, asked: Asked, fps: float) -> bool:
    wide = asked.width is None or mode.widths[0] <= asked.width <= mode.widths[1]
    high = asked.height is None or mode.heights[0] <= asked.height <= mode.heights[1]
    # A driver that lists no rates reports 0.  30000/1001 counts as 30.
    return wide and high and (not mode.fps or mode.fps >= fps * 0.99)


def _with_sides(offered: Sequence[kernel.Mode], asked: Asked) -> Asked:
    """Return an Asked with the missing side filled in from the largest fitting mode, if only one side was given."""
    if bool(asked.width) == bool(asked.height):
        return asked
    fitting = [mode for mode in offered if mode.format == (asked.format or mode.format) and _fits(mode, asked, 0)]
    if not fitting:
        return asked
    largest = max(fitting, key=lambda mode: (mode.widths[1], mode.heights[1]))
    return asked._replace(width=asked.width or largest.widths[1], height=asked.height or largest.heights[1])


def report(asked: Asked, granted: Asked, notes: Sequence[str] = ()) -> Tuple[str, bool]:
    """Return what was granted, as a sentence, and whether it is what was requested.

    notes       sentences about anything else that differs from the request
    """
    pairs = [(want, have) for want, have in zip(asked, granted) if want]
    as_asked = not notes and all(_alike(want, have) for want, have in pairs)
    text = "{} granted".format(_shown(granted))
    if pairs and not as_asked:
        text = "{} requested, {}".format(_shown(asked), text)
    return "; ".join([text, *notes]), as_asked


def _alike(want: Union[str, float], have: Union[str, float, None]) -> bool:
    if isinstance(want, str) or isinstance(have, str) or have is None:
        return want == have
    return abs(want - have) <= 0.02 * want


def _shown(mode: Asked) -> str:
    if mode.width and mode.height:
        size = "{}x{}".format(mode.width, mode.height)
    else:
        size = "width {}".format(mode.width) if mode.width else "height {}".format(mode.height) if mode.height else ""
    rate = "at {:g}".format(round(mode.fps, 2)) if mode.fps else ""
    return " ".join(part for part in (size, mode.format, rate) if part) or "unknown mode"


def _set_controls(source: "Source") -> List[str]:
    if not source.controls:
        return []
    try:
        with kernel.opened(source.location) as handle:
            return kernel.set_controls(handle, source.controls, source.name)
    except OSError as error:
        raise CameraError("the controls of {} cannot be set ({})".format(source.name, error.strerror))


def _deep(source: "Source", name: str, offered: Sequence[kernel.Mode]) -> str:
    others = sorted({mode.format for mode in offered} - {"Y16", "Y12", "Y10"})
    return (
        "{} delivers {}, gray with more than 8 bits, of which OpenCV would drop the lower ones: choose another format "
        "with --format{}".format(source.name, name, " (it offers " + ", ".join(others) + ")" if others else "")
    )


def trouble(source: "Source") -> str:
    """Return why a device cannot be opened, and what to do about it."""
    try:
        with kernel.opened(source.location) as handle:
            if capabilities(handle).captures:
                return "it delivers no format that OpenCV can read. " + cameras()
        return "it delivers no images: a camera's second node carries only metadata, use the first. " + cameras()
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "check whether it is a camera").format(source.location)
        return "{}; {}. {}".format(error.strerror, advice, cameras())
