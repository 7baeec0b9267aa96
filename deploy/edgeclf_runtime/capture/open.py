"""Sources of frames, by their names: ``open_camera("rtsp://...")``.

Cameras, streams and videos are read in a process of its own (``capture/parent.py``), live ones are
reopened when they are lost (``capture/reconnect.py``); images are read here.  Knows nothing of classification.
"""

import logging
import os
import re
import time
from urllib.parse import parse_qsl, urlsplit

from ..device.credentials import CAMERA, check_password, password_from
from ..errors import CameraError, EndOfStream, ImageError
from ..images.read import image_paths, local_path, read_image
from ..text.addresses import CAMERA_PORTS, PLACEHOLDER, fill_password, parse_address, shown_uri
from ..text.redaction import learn, protect
from .base import Camera, Frame
from .parent import CaptureProcess
from .reconnect import TIMEOUT_S, WatchedCamera
from .source import FAULTS, FLIPS, PIPELINE_END, Source, csi_pipeline, is_live
from .v4l2.device import cameras, device_path

__all__ = ["FORMS", "Camera", "Frame", "open_camera"]

_log = logging.getLogger(__name__)
FORMS = (
    "a video file",
    "an image file",
    "a folder or a pattern of images (photos/*.jpg)",
    "csi://0 (a Jetson's camera)",
    "/dev/video0, /dev/v4l/by-id/... or v4l2://0",
    "rtsp://[USER@]HOST/PATH",
    "http://[USER@]HOST/PATH (MJPEG, an image, a film)",
    "gst://PIPELINE (GStreamer)",
    "test:// (generated pictures)",
)
POLICIES = ("auto", "latest", "all")


def open_camera(
    uri,
    width=None,
    height=None,
    fps=None,
    flip=None,
    policy="auto",
    timeout_s=TIMEOUT_S,
    frozen_s=None,
    wait=True,
    password=None,
    format=None,
    controls=None,
):
    """Open a source of frames; see FORMS for what a ``uri`` can be.

    width, height, fps  what to ask a camera for; None leaves it to the camera.  Of images ``fps`` is the rate at which
                they were taken: with it each has its position in time
    flip        "horizontal", "vertical" or "180", for a camera that hangs upside down
    policy      "latest": the newest frame, late ones dropped, a video file played at its own
                rate; "all": every frame of a file; "auto": "all" for files, "latest" for the rest;
                images are always read one after another
    timeout_s   a camera without a frame for so long is lost, and reopened
    frozen_s    a camera with the same picture for so long is lost; 0 for one that may stand still; None takes 10 s, and
                0 for images by HTTP, of which the server decides when there is another
    wait        False returns before it is open: call wait_opened() before the first read()
    password    of the camera, as it is; None takes the environment's EDGECLF_CAMERA_PASSWORD.  It stands for
                ``{password}`` in the ``uri``, and is added to an rtsp or http address with a user name alone
    format      of a USB camera's frames, four characters such as "MJPG" or "YUYV"; None takes MJPG if the
                camera does not have the size or the rate otherwise
    controls    of a USB camera, by their names as v4l2-ctl shows them: {"exposure": 100, "gain": 4}; set at each opening

    Returns a Camera.  Raises CameraError where the source cannot be opened.
    """
    options = (width, height, fps, flip, policy, timeout_s, frozen_s, password, format, controls)
    found = find_camera(uri, *options)
    if isinstance(found, list):
        return ImagesCamera(found, local_path(uri), fps)
    if not found.live:
        video = CaptureProcess(found._replace(policy="latest" if policy == "latest" else "all"))
        return video.wait_opened() if wait else video
    camera = WatchedCamera(found._replace(policy=policy if found.by_http else "latest"), timeout_s, frozen_s)
    return camera.wait_opened() if wait else camera


def find_camera(uri, width, height, fps, flip, policy, timeout_s, frozen_s, password=None, format=None, controls=None):
    """Return what open_camera() opens for its arguments: the paths of images, a list, or a Source; raises CameraError."""
    _check(flip, policy, timeout_s, frozen_s)
    try:
        uri = local_path(uri)
        paths = image_paths(uri)
    except ImageError as error:
        raise CameraError(str(error))
    if paths is not None:
        _with_settings(Source("file", uri, uri), format, controls)
        return paths
    source = _with_settings(find_source(uri, width, height, fps, flip, password), format, controls)
    if source.live and policy == "all" and not source.by_http:
        raise CameraError(is_live(source))
    return source


def _check(flip, policy, timeout_s, frozen_s):
    if flip is not None and flip not in FLIPS:
        raise CameraError("flip is {!r}; one of {} was expected".format(flip, ", ".join(sorted(FLIPS))))
    if policy not in POLICIES:
        raise CameraError("the policy is {!r}; one of {} was expected".format(policy, ", ".join(POLICIES)))
    if not timeout_s > 0 or not (frozen_s is None or frozen_s >= 0):
        raise CameraError("timeout_s is {} and frozen_s {}; seconds above 0 were expected".format(timeout_s, frozen_s))


def _with_settings(source, format, controls):
    """Return a Source with what only a USB camera has; raises CameraError if it is none."""
    if (format or controls) and source.kind != "device":
        raise CameraError(
            "{} is no USB camera: {} for /dev/video0 and the like".format(
                source.name, "formats are" if format else "controls are"
            )
        )
    if format and not re.fullmatch("[A-Za-z0-9 ]{3,4}", format):
        raise CameraError("the format is {!r}; four characters such as MJPG or YUYV were expected".format(format))
    controls = {str(name): str(value) for name, value in controls.items()} if controls else None
    return source._replace(format=format and format.upper(), controls=controls)


def find_source(uri, width=None, height=None, fps=None, flip=None, password=None):
    """Return the Source that a URI names; CameraError lists the forms where it names none.  See open_camera()."""
    scheme = uri.split("://")[0].lower() if "://" in uri else ""
    if scheme == "csi":
        # The pipeline asks for the mode, and turns the picture, by itself.
        return Source("gstreamer", csi_pipeline(_number(uri, "csi://"), width, height, fps, flip), uri)
    return _find(uri, scheme, password)._replace(width=width, height=height, fps=fps, flip=flip)


def _find(uri, scheme, password):
    if scheme in CAMERA_PORTS:
        return _network(uri, scheme, password)
    if scheme == "test":
        return _generated(uri)
    if scheme == "gst":
        learn(uri)
        pipeline = _with_password(uri, password)[len("gst://") :]
        return Source("gstreamer", pipeline if "appsink" in pipeline else pipeline + PIPELINE_END, shown_uri(uri))
    if os.path.isfile(uri):
        return Source("file", uri, uri)
    device = device_path(uri)
    if device is not None:
        return Source("device", device, uri)
    if scheme == "v4l2":
        raise CameraError(
            "{!r} names no camera; a camera is /dev/video0 or v4l2://0. {}".format(shown_uri(uri), cameras())
        )
    if os.path.islink(uri):
        raise CameraError(
            "{} leads to {}, which is no source; a source is {}".format(uri, os.path.realpath(uri), ", ".join(FORMS))
        )
    raise CameraError("there is no source {!r}; a source is {}".format(shown_uri(uri), ", ".join(FORMS)))


def _network(uri, scheme, password):
    learn(uri)
    try:
        # Checked as somebody wrote it; what is put into it afterwards is percent-encoded.
        parse_address(uri.replace(PLACEHOLDER, "..."))
        address = parse_address(_with_password(uri, password))
    except ValueError as error:
        raise CameraError(
            "{0}://... is no address of a camera: {1}; {0}://HOST:PORT/PATH was expected, or {0}://USER@HOST:PORT/PATH "
            "with the password in the environment's {2} or by --password-file".format(scheme, error, CAMERA)
        )
    if address.plain_password:
        protect(address.plain_password, address.plain_user)
    return Source(
        "network", str(address), shown_uri(uri), address=[address.plain_host, address.port or CAMERA_PORTS[scheme]]
    )


def _with_password(uri, password):
    """Return a URI with the camera's password where it belongs."""
    if password is not None:
        check_password(password, "the camera's password")
        protect(password)
    known = password or password_from(CAMERA)
    if known is None:
        if PLACEHOLDER in uri:
            raise CameraError(
                "{} asks for a password: give it by the environment's {} or by --password-file".format(
                    shown_uri(uri), CAMERA
                )
            )
        return uri
    filled = fill_password(uri, known)
    if password is not None and filled == uri:
        _log.warning(
            "the password is not used: %s has no user name without a password, and no %s", shown_uri(uri), PLACEHOLDER
        )
    return filled


def _generated(uri):
    options = dict(parse_qsl(urlsplit(uri).query))
    fault, after = options.pop("fault", None), options.pop("after", "0")
    if options or (fault is not None and fault not in FAULTS) or not after.isdecimal():
        raise CameraError(
            "{!r} is no generated source; test:// or test://?fault=NAME&after=FRAMES was expected, NAME one of {}".format(
                shown_uri(uri), ", ".join(FAULTS)
            )
        )
    return Source("test", "", uri, fault=fault, after=int(after))


def _number(uri, scheme):
    number = uri[len(scheme) :] or "0"
    if not number.isdecimal():
        raise CameraError("{!r} names no sensor; csi://0 was expected, the number of the sensor".format(shown_uri(uri)))
    return number


class ImagesCamera(Camera):
    """Image files, one frame each, in the order given.

    name    what the results call them
    fps     the rate at which they were taken, if they were
    """

    def __init__(self, paths, name="", fps=None):
        self.name, self._paths, self.rate = name, paths, fps
        self._next = 0

    def read(self, timeout_s=None):
        """See Camera.read(); a file that cannot be decoded is logged, counted and passed over."""
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
            capture_ms = (time.monotonic() - captured) * 1e3
            position_s = number / self.rate if self.rate else None
            return Frame(image, number, captured_at, captured, capture_ms, os.path.basename(path), position_s)
        if self.skipped == len(self._paths):
            raise CameraError("none of {} images could be read; replace or remove them".format(self.skipped))
        raise EndOfStream("all {} images were read".format(len(self._paths)))
