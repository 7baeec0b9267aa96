"""Opens a source of frames by its URI: ``open_camera("rtsp://...")``.

Cameras, streams and video files are read in a process of their own (``capture/parent.py``), and live ones are reopened
when they are lost (``capture/reconnect.py``).  Image files are read here.
"""

import logging
import os
import re
import time
from typing import List, Mapping, Optional, Union
from urllib.parse import parse_qsl, urlsplit

from ..device.credentials import check_password, password_from
from ..device.process_secrets import CAMERA
from ..errors import CameraError, EndOfStream, ImageError, OptionError
from ..images.frame import Frame
from ..images.read import image_paths, local_path, read_image
from ..text.addresses import CAMERA_PORTS, fill_password, parse_address, shown_uri
from ..text.redaction import learn, protect
from ..text.secret_patterns import PLACEHOLDER
from .camera import Camera
from .parent import CaptureProcess
from .reconnect import TIMEOUT_S, WatchedCamera
from .source import DECODING, FAULTS, FLIPS, PIPELINE_END, Source, csi_pipeline, is_live
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
    "http://[USER@]HOST/PATH (MJPEG, an image, a video file)",
    "gst://PIPELINE (GStreamer)",
    "test:// (a generated test pattern)",
)
POLICIES = ("auto", "latest", "all")


def open_camera(
    uri: "Union[str, os.PathLike[str]]",
    width: Optional[int] = None,
    height: Optional[int] = None,
    fps: Optional[float] = None,
    flip: Optional[str] = None,
    policy: str = "auto",
    timeout_s: float = TIMEOUT_S,
    frozen_s: Optional[float] = None,
    wait: bool = True,
    password: Optional[str] = None,
    format: Optional[str] = None,
    controls: Optional[Mapping[str, object]] = None,
    decode: str = "auto",
) -> Camera:
    """Open a source of frames.

    uri         one of FORMS, or a path
    width, height, fps  what to request from a camera; None leaves it to the camera.  For images, ``fps`` is the rate at which
                they were taken; each then has a position in time
    flip        "horizontal", "vertical" or "180" (for a camera that hangs upside down)
    policy      "latest": the newest frame, late ones dropped, a video file played at its own rate; "all": every frame of
                a file; "auto": "all" for files, "latest" for the rest; images are always read one after another
    timeout_s   a camera that sends no frame for so long is lost, and reopened
    frozen_s    a camera that sends the same image for so long is lost; 0 turns this check off; None means 10 s, and 0 for
                images by HTTP, for which the server decides when there is a new one
    wait        False returns before it is open: call wait_opened() before the first read()
    password    of the camera, in plain text; None reads the environment variable EDGECLF_CAMERA_PASSWORD.  It replaces
                ``{password}`` in the ``uri``, and is added to an rtsp or http address that has only a user name
    format      of a USB camera's frames, four characters such as "MJPG" or "YUYV"; None takes MJPG if the camera does not
                offer the size or the rate otherwise
    controls    of a USB camera, by their names in v4l2-ctl: {"exposure": 100, "gain": 4}; set each time it is opened
    decode      how an RTSP stream (rtsp://) or a video file is decoded: "hardware", "software", or "auto": an RTSP stream in hardware
                if this machine and its OpenCV can, and in software if that fails; a file in software

    Returns a Camera.  Raises CameraError if the source cannot be opened, OptionError if an option is not valid.
    """
    options = (width, height, fps, flip, policy, timeout_s, frozen_s, password, format, controls, decode)
    camera = open_found(find_camera(uri, *options), uri, fps, policy, timeout_s, frozen_s)
    return camera.wait_opened() if wait else camera


def open_found(
    found: Union[List[str], Source],
    uri: "Union[str, os.PathLike[str]]",
    fps: Optional[float],
    policy: str,
    timeout_s: float,
    frozen_s: Optional[float],
) -> Camera:
    """Begin to open what find_camera() found for these arguments; see open_camera() with ``wait=False``."""
    if isinstance(found, list):
        return ImagesCamera(found, local_path(uri), fps)
    found = found._replace(policy=actual_policy(found, policy))
    return WatchedCamera(found, timeout_s, frozen_s) if found.live else CaptureProcess(found)


def actual_policy(found: Union[List[str], Source], policy: str) -> str:
    """Return the policy of what find_camera() found, before it is open."""
    if isinstance(found, list):
        return "all"
    if found.live:
        return policy if found.by_http else "latest"
    return "latest" if policy == "latest" else "all"


def find_camera(
    uri: "Union[str, os.PathLike[str]]",
    width: Optional[int],
    height: Optional[int],
    fps: Optional[float],
    flip: Optional[str],
    policy: str,
    timeout_s: float,
    frozen_s: Optional[float],
    password: Optional[str] = None,
    format: Optional[str] = None,
    controls: Optional[Mapping[str, object]] = None,
    decode: str = "auto",
) -> Union[List[str], Source]:
    """Return what open_camera() opens for its arguments: a list of image paths, or a Source.  Raises as it does."""
    _check(flip, policy, timeout_s, frozen_s, decode)
    try:
        name = local_path(uri)
        paths = image_paths(name)
    except ImageError as error:
        raise CameraError(str(error))
    if paths is not None:
        _with_settings(Source("test", name, name), format, controls, decode)
        return paths
    source = _with_settings(find_source(name, width, height, fps, flip, password), format, controls, decode)
    if source.live and policy == "all" and not source.by_http:
        raise OptionError(is_live(source))
    return source


def _check(flip: Optional[str], policy: str, timeout_s: float, frozen_s: Optional[float], decode: str) -> None:
    if flip is not None and flip not in FLIPS:
        raise OptionError("flip is {!r}; expected one of {}".format(flip, ", ".join(sorted(FLIPS))))
    if policy not in POLICIES:
        raise OptionError("the policy is {!r}; expected one of {}".format(policy, ", ".join(POLICIES)))
    if decode not in DECODING:
        raise OptionError("decode is {!r}; expected one of {}".format(decode, ", ".join(DECODING)))
    if not timeout_s > 0 or not (frozen_s is None or frozen_s >= 0):
        raise OptionError("timeout_s is {} and frozen_s {}; expected positive seconds".format(timeout_s, frozen_s))


def _with_settings(
    source: Source, format: Optional[str], controls: Optional[Mapping[str, object]], decode: str
) -> Source:
    """Return a Source with the settings that only some kinds have; raises OptionError for any other source."""
    if decode == "hardware" and not (source.kind == "file" or source.by_rtsp):
        raise OptionError(
            "{} is neither an rtsp:// address nor a video file: --decode hardware is only for these".format(source.name)
        )
    if (format or controls) and source.kind != "device":
        raise OptionError(
            "{} is not a USB camera: {} only for sources such as /dev/video0".format(
                source.name, "--format is" if format else "--control is"
            )
        )
    if format and not re.fullmatch("[A-Za-z0-9 ]{3,4}", format):
        raise OptionError("the format is {!r}; expected four characters such as MJPG or YUYV".format(format))
    values = {str(name): str(value) for name, value in controls.items()} if controls else None
    return source._replace(format=format and format.upper(), controls=values, decode=decode)


def find_source(
    uri: str,
    width: Optional[int] = None,
    height: Optional[int] = None,
    fps: Optional[float] = None,
    flip: Optional[str] = None,
    password: Optional[str] = None,
) -> Source:
    """Return the Source for a URI; for an unknown form, raise a CameraError that lists the valid ones.  See open_camera()."""
    scheme = uri.split("://")[0].lower() if "://" in uri else ""
    if scheme == "csi":
        # The pipeline itself sets the mode and flips the image.
        return Source("gstreamer", csi_pipeline(_number(uri, "csi://"), width, height, fps, flip), uri)
    return _find(uri, scheme, password)._replace(width=width, height=height, fps=fps, flip=flip)


def _find(uri: str, scheme: str, password: Optional[str]) -> Source:
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
        raise CameraError("{!r} is not a camera; use /dev/video0 or v4l2://0. {}".format(shown_uri(uri), cameras()))
    if os.path.islink(uri):
        raise CameraError(
            "{} links to {}, which is not a source; expected {}".format(uri, os.path.realpath(uri), ", ".join(FORMS))
        )
    raise CameraError("no such source: {!r}; expected {}".format(shown_uri(uri), ", ".join(FORMS)))


def _network(uri: str, scheme: str, password: Optional[str]) -> Source:
    learn(uri)
    try:
        # Checked as the user wrote it; the password that is filled in afterwards is percent-encoded.
        parse_address(uri.replace(PLACEHOLDER, "..."))
        address = parse_address(_with_password(uri, password))
    except ValueError as error:
        raise CameraError(
            "{0}://... is not a camera address: {1}; expected {0}://HOST:PORT/PATH, or {0}://USER@HOST:PORT/PATH with "
            "the password in the environment variable {2} or with --password-file".format(scheme, error, CAMERA)
        )
    if address.plain_password:
        protect(address.plain_password, address.plain_user)
    return Source(
        "network", str(address), shown_uri(uri), address=[address.plain_host, address.port or CAMERA_PORTS[scheme]]
    )


def _with_password(uri: str, password: Optional[str]) -> str:
    """Return a URI with the camera's password filled in."""
    if password is not None:
        check_password(password, "the camera's password")
        protect(password)
    known = password or password_from(CAMERA)
    if known is None:
        if PLACEHOLDER in uri:
            raise CameraError(
                "{} needs a password: set the environment variable {} or use --password-file".format(
                    shown_uri(uri), CAMERA
                )
            )
        return uri
    filled = fill_password(uri, known)
    if password is not None and filled == uri:
        _log.warning(
            "the password is not used: %s has neither a user name without a password nor %s",
            shown_uri(uri),
            PLACEHOLDER,
        )
    return filled


def _generated(uri: str) -> Source:
    options = dict(parse_qsl(urlsplit(uri).query))
    fault, after = options.pop("fault", None), options.pop("after", "0")
    if options or (fault is not None and fault not in FAULTS) or not after.isdecimal():
        raise CameraError(
            "{!r} is not a generated source; expected test:// or test://?fault=NAME&after=FRAMES, with NAME one of {}".format(
                shown_uri(uri), ", ".join(FAULTS)
            )
        )
    return Source("test", "", uri, fault=fault, after=int(after))


def _number(uri: str, scheme: str) -> str:
    number = uri[len(scheme) :] or "0"
    if not number.isdecimal():
        raise CameraError("{!r} has no sensor number; expected csi://NUMBER, such as csi://0".format(shown_uri(uri)))
    return number


class ImagesCamera(Camera):
    """Image files, one frame each, in the order given.

    name    their name in results
    fps     the rate at which they were taken, if they have one
    """

    def __init__(self, paths: List[str], name: str = "", fps: Optional[float] = None) -> None:
        self.name, self._paths, self.rate = name, paths, fps
        self._next = 0

    def read(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        """See Camera.read(); a file that cannot be decoded is logged, counted and skipped."""
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
