"""Layouts of frames: converts a camera's or an appsink's arrays to BGR if that loses nothing.

Gray becomes three equal channels, a fourth channel is dropped, and RGB is reordered.  Everything else is refused with
advice: YUV formats, Bayer patterns and 16 bits need a conversion that only the sender can choose.
"""

import re
from typing import TYPE_CHECKING, Optional, Tuple

from ...errors import SourceError

if TYPE_CHECKING:
    import numpy as np

    from ..source import Source

_TO_BGR = "videoconvert ! video/x-raw,format=BGR"
# Elements that convert other formats to BGR before an appsink.
_DECODERS = {"Bayer": "bayer2rgb ! " + _TO_BGR, "JPEG": "jpegdec ! " + _TO_BGR}
# Elements after the last caps that may change the format.
_CONVERTERS = re.compile(r"!\s*\w*(?:conv|scale|transform|compositor|mixer|bin\b)")
_FORMAT = re.compile(r"(video/x-bayer)|\bformat\s*=\s*(?:\(\s*string\s*\)\s*)?[\"']?([A-Za-z0-9_]+)")
# OpenCV's name for the order of four channels, by GStreamer's.
_FOUR_CHANNELS = {"BGRA": "BGRA", "BGRX": "BGRA", "RGBA": "RGBA", "RGBX": "RGBA"}


def frame_as_bgr(image: "np.ndarray", source: "Source", height: int = 0) -> "np.ndarray":
    """Return a source's frame as BGR pixels, uint8 [height, width, 3]; raises SourceError if that would lose something.

    height      of the picture as the reader reports it, 0 if unknown: planes of color are below it
    """
    import cv2

    if image.ndim == 3 and image.shape[2] == 3 and image.dtype == "uint8":
        return image
    found, code = _layout(image, source.location if source.kind == "gstreamer" else "", height)
    if code is None:
        raise SourceError(
            "{} delivers {} ({} {}), which cannot be used as it is: {}".format(
                source.name, found, image.dtype, list(image.shape), _remedy(source, found)
            )
        )
    return cv2.cvtColor(image, getattr(cv2, "COLOR_{}2BGR".format(code)))


def _layout(image: "np.ndarray", pipeline: str, height: int) -> Tuple[str, Optional[str]]:
    """Return the name of a frame's layout, and OpenCV's code for it if it is as good as BGR, else None.

    pipeline    the source's, "" if it has none.  Its last caps distinguish gray from Bayer, and RGBA from BGRA
    """
    channels = image.shape[2] if image.ndim == 3 else 1
    caps = _last_format(pipeline)
    if image.dtype != "uint8":
        return "{} bits a channel".format(8 * image.dtype.itemsize), None
    if channels == 4:
        behind = pipeline[max([match.end() for match in _FORMAT.finditer(pipeline)] + [0]) :]
        return "four channels", None if _CONVERTERS.search(behind) else _FOUR_CHANNELS.get(caps)
    if channels == 2:
        return "packed YUV", None
    if channels != 1:
        return "{} channels".format(channels), None
    if caps == "BAYER":
        return "Bayer", None
    if image.shape[0] == 1 and height != 1:
        return "JPEG", None
    if height and image.shape[0] != height:
        return "planar YUV", None
    return "gray", "GRAY"


def _last_format(pipeline: str) -> str:
    """Return the format in a pipeline's last caps, in capitals; "BAYER" for a Bayer pattern, "" for none."""
    found = [match.group(2) or "bayer" for match in _FORMAT.finditer(pipeline)]
    # In "video/x-bayer,format=rggb", the format is the order of the colors.
    bayer = len(found) > 1 and found[-2] == "bayer" and found[-1] in ("rggb", "bggr", "grbg", "gbrg")
    return "BAYER" if bayer else found[-1].upper() if found else ""


def _remedy(source: "Source", found: str) -> str:
    if source.kind == "gstreamer":
        return 'in the pipeline, put "{} !" before its appsink'.format(_DECODERS.get(found, _TO_BGR))
    return "choose another camera format with --format, such as MJPG or YUYV"
