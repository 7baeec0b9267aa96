"""Cameras of this machine: their names, the format to ask for, and what they granted.

A camera is named by its node (/dev/video0), by a link that outlives a reboot or another socket
(/dev/v4l/by-id/..., by-path/..., a link by a udev rule), or by its number.  A link is resolved at
each opening.  OpenCV reads it by Video4Linux.
"""

import errno
import glob
import os
import re
import stat
from typing import Dict, NamedTuple, Optional, Tuple

from ...errors import CameraError, SourceError
from . import kernel
from .nodes import capabilities, title, use

_VIDEO_DEVICE = 81  # the major number of Video4Linux
_NODE = re.compile(r"/dev/video[0-9]+")
# With fewer the camera waits while we read; each frame is fetched at once, so that more add no delay.
BUFFERS = 4
# What OpenCV converts, the best first; what needs it is Bayer, H.264 and others.
_RAW = ("YUYV", "UYVY", "NV12", "NV21", "YU12", "YV12", "BGR3", "RGB3", "GREY")
_COMPRESSED = "MJPG"
# Of a driver that lists no modes: what USB 2 carries, and a pixel of raw video.
_USB_BYTES_A_SECOND, _RAW_BYTES = 30e6, 2
_LEAST_FPS = 15  # of raw video, if no rate was asked for
_ADVICE = {
    errno.EACCES: "let this user use cameras: sudo usermod -aG video $USER, then log in again",
    errno.EPERM: "let this user use cameras: sudo usermod -aG video $USER, then log in again",
    errno.EBUSY: "another program uses it: fuser -v {}",
    errno.ENODEV: "connect it again",
    errno.ENXIO: "connect it again",
}


class Asked(NamedTuple):
    """Settings to ask a camera for; None leaves it to the camera."""

    format: Optional[str]
    width: Optional[int]
    height: Optional[int]
    fps: Optional[float]


def device_path(name):
    """Return the path of the camera that a name is, or None if it names something else; see the module's docstring.

    A path below /dev that is not there counts as a camera's: it comes when the camera does.
    """
    text = name[len("v4l2://") :] if name.lower().startswith("v4l2://") else name
    if re.fullmatch("[0-9]+", text):
        return "/dev/video" + text
    if not text.startswith("/") and text != name:
        return None
    if is_camera(text) or _NODE.fullmatch(os.path.realpath(text)):
        return os.path.abspath(text)
    # A name that is not there, or a link to one: of a device, unless it would be a file in memory.
    target = os.path.realpath(text)
    missing = target.startswith("/dev/") and not target.startswith("/dev/shm/") and not os.path.exists(text)
    return os.path.abspath(text) if missing else None


def is_camera(path):
    """Whether a path, links followed, is a device of Video4Linux."""
    try:
        found = os.stat(path)
    except OSError:
        return False
    return stat.S_ISCHR(found.st_mode) and os.major(found.st_rdev) == _VIDEO_DEVICE


def cameras(root="/"):
    """Return a sentence that names the camera devices of this machine, and their links; codecs are left out."""
    links: Dict[str, str] = {}
    for link in sorted(glob.glob(os.path.join(root, "dev/v4l/by-id/*"))):
        links.setdefault(os.path.realpath(link), link)
    nodes = [node for node in sorted(glob.glob(os.path.join(root, "dev/video*"))) if not use(title(node, root))]
    found = [node + (" ({})".format(links[node]) if node in links else "") for node in nodes]
    return "Cameras on this machine: {}".format(", ".join(found) or "none")


def resolved(source):
    """Return a device's Source with the node that its name leads to now; raises CameraError if that is not a camera."""
    node = os.path.realpath(source.location)
    if os.path.exists(node) and not is_camera(node):
        raise CameraError("{} leads to {}, which is not a camera. {}".format(source.name, node, cameras()))
    return source._replace(location=node)


def open_device(source):
    """Open a device's Source, resolved; returns OpenCV's capture, what was granted, and whether that is what was asked.

    Raises CameraError if it cannot be opened, with what the system says of it; SourceError for a control that it
    has not.
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


def _capture(source):
    """Return OpenCV's capture of a node, by Video4Linux: GStreamer, tried first if OpenCV has it, ignores sizes."""
    import cv2

    if re.search(r"v4l2?:\s+YES", cv2.getBuildInformation(), re.IGNORECASE):
        return cv2.VideoCapture(source.location, cv2.CAP_V4L2)
    number = re.search("[0-9]+$", source.location)
    return cv2.VideoCapture(int(number.group()) if number else source.location, cv2.CAP_ANY)


def _modes(source):
    try:
        with kernel.opened(source.location) as handle:
            return kernel.modes(handle)
    except OSError:
        return []  # what is wrong shows when OpenCV opens it


def _ask(capture, asked):
    """Ask for a mode.  The format comes first, because the sizes are its own; OpenCV waits for both sides."""
    import cv2

    if asked.format:
        capture.set(cv2.CAP_PROP_FOURCC, kernel.fourcc(asked.format))
    if asked.width or asked.height:
        for key, value in ((cv2.CAP_PROP_FRAME_WIDTH, asked.width), (cv2.CAP_PROP_FRAME_HEIGHT, asked.height)):
            capture.set(key, value or capture.get(key))
    if asked.fps:
        capture.set(cv2.CAP_PROP_FPS, asked.fps)
    capture.set(cv2.CAP_PROP_BUFFERSIZE, BUFFERS)


def _with_present_size(capture, source):
    """Return what is asked of a camera; a rate without a size is asked for the present size."""
    asked = Asked(source.format, source.width, source.height, source.fps)
    if not asked.fps or asked.width or asked.height:
        return asked
    width, height = _present_size(capture)
    return asked._replace(width=width, height=height)


def _present_size(capture):
    import cv2

    keys = cv2.CAP_PROP_FRAME_WIDTH, cv2.CAP_PROP_FRAME_HEIGHT
    width, height = (int(capture.get(key)) or None for key in keys)
    return width, height


def choose(offered, asked):
    """Return what to ask for, an Asked with a format and both sides if they can be known.

    offered     the camera's Modes, empty if it lists none

    Raw video if the camera has it in the size and at the rate asked for, else MJPG.
    """
    if asked.format or not (asked.width or asked.height or asked.fps):
        return _with_sides(offered, asked)
    fps = asked.fps or _LEAST_FPS
    if not offered:
        # Nothing is known: by what USB 2 carries.
        pixels = (asked.width or 640) * (asked.height or 480)
        return asked._replace(format=_COMPRESSED if pixels * fps * _RAW_BYTES > _USB_BYTES_A_SECOND else None)
    for name in (*_RAW, _COMPRESSED):
        if any(mode.format == name and _fits(mode, asked, fps) for mode in offered):
            return _with_sides(offered, asked._replace(format=name))
    # As asked is not to be had: the size is worth more than the rate.
    for name in (_COMPRESSED, *_RAW):
        if any(mode.format == name and _fits(mode, asked, 0) for mode in offered):
            return _with_sides(offered, asked._replace(format=name))
    return asked


def _fits(mode, asked, fps):
    wide = asked.width is None or mode.widths[0] <= asked.width <= mode.widths[1]
    high = asked.height is None or mode.heights[0] <= asked.height <= mode.heights[1]
    # A driver that lists no rates says 0; 30000/1001 is meant by 30.
    return wide and high and (not mode.fps or mode.fps >= fps * 0.99)


def _with_sides(offered, asked):
    """Return an Asked with the other side of the largest mode, if one was given."""
    if bool(asked.width) == bool(asked.height):
        return asked
    fitting = [mode for mode in offered if mode.format == (asked.format or mode.format) and _fits(mode, asked, 0)]
    if not fitting:
        return asked
    largest = max(fitting, key=lambda mode: (mode.widths[1], mode.heights[1]))
    return asked._replace(width=asked.width or largest.widths[1], height=asked.height or largest.heights[1])


def report(asked, granted, notes=()) -> Tuple[str, bool]:
    """Return what was granted as a sentence, and whether it is what was asked.

    notes       sentences about what else is not as asked
    """
    pairs = [(want, have) for want, have in zip(asked, granted) if want]
    as_asked = not notes and all(_alike(want, have) for want, have in pairs)
    text = "{} granted".format(_shown(granted))
    if pairs and not as_asked:
        text = "{} asked, {}".format(_shown(asked), text)
    return "; ".join([text, *notes]), as_asked


def _alike(want, have):
    if isinstance(want, str) or have is None:
        return want == have
    return abs(want - have) <= 0.02 * want


def _shown(mode):
    if mode.width and mode.height:
        size = "{}x{}".format(mode.width, mode.height)
    else:
        size = "width {}".format(mode.width) if mode.width else "height {}".format(mode.height) if mode.height else ""
    rate = "at {:g}".format(round(mode.fps, 2)) if mode.fps else ""
    return " ".join(part for part in (size, mode.format, rate) if part) or "no known mode"


def _set_controls(source):
    if not source.controls:
        return []
    try:
        with kernel.opened(source.location) as handle:
            return kernel.set_controls(handle, source.controls, source.name)
    except OSError as error:
        raise CameraError("the controls of {} cannot be set ({})".format(source.name, error.strerror))


def _deep(source, name, offered):
    others = sorted({mode.format for mode in offered} - {"Y16", "Y12", "Y10"})
    return (
        "{} delivers {}, grey of more than 8 bits, of which OpenCV would drop the lower ones: ask for another format "
        "with --format{}".format(source.name, name, ", it has " + ", ".join(others) if others else "")
    )


def trouble(source):
    """Return why a device cannot be opened, and what to do about it."""
    try:
        with kernel.opened(source.location) as handle:
            if capabilities(handle).captures:
                return "it gives no pictures that OpenCV reads. " + cameras()
        return "it gives no pictures: a camera's second node carries facts about them, use the first. " + cameras()
    except OSError as error:
        advice = _ADVICE.get(error.errno or 0, "see whether it is a camera").format(source.location)
        return "{}; {}. {}".format(error.strerror, advice, cameras())
