"""Pixel layouts: converts a camera's, an appsink's or a caller's arrays to BGR if that loses nothing.

Gray becomes three equal channels, a fourth channel is dropped, and RGB is reordered.  Everything else is refused with
advice: YUV formats, Bayer patterns and 16 bits need a conversion that only the sender can choose.
"""

import re
from typing import TYPE_CHECKING, Optional, Tuple

from ..errors import ImageError, OptionError, SourceError

if TYPE_CHECKING:
    import numpy as np

    from ..capture.source import Source

ORDERS = ("bgr", "rgb")
_TO_BGR = "videoconvert ! video/x-raw,format=BGR"
# Elements that convert other formats to BGR before an appsink.
_DECODERS = {"Bayer": "bayer2rgb ! " + _TO_BGR, "JPEG": "jpegdec ! " + _TO_BGR}
# Elements after the last caps that may change the format.
_CONVERTERS = re.compile(r"!\s*\w*(?:conv|scale|transform|compositor|mixer|bin\b)")
_FORMAT = re.compile(r"(video/x-bayer)|\bformat\s*=\s*(?:\(\s*string\s*\)\s*)?[\"']?([A-Za-z0-9_]+)")
# OpenCV's name for the order of four channels, by GStreamer's.
_FOUR_CHANNELS = {"BGRA": "BGRA", "BGRX": "BGRA", "RGBA": "RGBA", "RGBX": "RGBA"}


def as_bgr(image: object, order: str = "bgr") -> "np.ndarray":
    """Return a caller's array as BGR pixels, uint8 [height, width, 3]; if it already is that, the array itself.

    image       numpy array of uint8: gray [height, width] or [height, width, 1], color [height, width, 3], or
                [height, width, 4], whose fourth channel is dropped
    order       of three or four channels: "bgr", as in OpenCV, or "rgb"

    Raises ImageError for everything else, with advice on how to convert it, and OptionError for another order.
    """
    import cv2
    import numpy as np

    if order not in ORDERS:
        raise OptionError('order is {!r}; "bgr" or "rgb" was expected'.format(order))
    if not isinstance(image, np.ndarray):
        raise ImageError(_no_array(image))
    channels = image.shape[2] if image.ndim == 3 else 1 if image.ndim == 2 else 0
    if image.dtype != np.uint8 or channels not in (1, 3, 4) or not image.size:
        raise ImageError(_unusual(image))
    if channels == 3 and order == "bgr":
        return image
    name = {1: "GRAY", 3: order.upper(), 4: order.upper() + "A"}[channels]
    return cv2.cvtColor(np.ascontiguousarray(image), getattr(cv2, "COLOR_{}2BGR".format(name)))


def _no_array(image: object) -> str:
    """Return the message for a value that is neither an array nor a path."""
    kind, module = type(image).__name__, type(image).__module__.partition(".")[0]
    expected = "a file's path or a numpy array of uint8 [height, width, 3] was expected"
    if image is None:
        return "the image is None, which cv2.imread() returns for a file that it cannot read; " + expected
    if module == "PIL":
        return '{}, found a PIL image: pass numpy.array(image.convert("RGB")) and order="rgb"'.format(expected)
    if isinstance(image, (bytes, bytearray, memoryview)):
        return "{}, found {}: decode a file's bytes with edgeclf_runtime.images.read.decode_image()".format(
            expected, kind
        )
    if isinstance(image, (list, tuple)):
        return "{}, found a {}: pass numpy.array(image, numpy.uint8); for several images, use classify_batch()".format(
            expected, kind
        )
    if module in ("torch", "tensorflow", "jax", "jaxlib", "cupy"):
        return "{}, found a {} of {}: convert it to numpy on the CPU, [height, width, 3] in uint8".format(
            expected, kind, module
        )
    return "{}, found {}".format(expected, kind)


def _unusual(image: "np.ndarray") -> str:
    """Return the message for an array that cannot be converted."""
    found = "an image of uint8 [height, width, 3], or gray [height, width], was expected, found {} {}".format(
        image.dtype, list(image.shape)
    )
    if not image.size:
        return found + ", which is empty"
    if image.ndim == 4:
        return found + ": for several images, pass a list to classify_batch()"
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        return found + ": channels come last: image.transpose(1, 2, 0)"
    return found + _conversion(image)


def _conversion(image: "np.ndarray") -> str:
    """Return how to convert an array's values to uint8, as the end of a message; "" if unknown."""
    import numpy as np

    if image.dtype.kind == "b":
        return ": convert True and False with image.astype(numpy.uint8) * 255"
    if image.dtype == np.uint8 or image.dtype.kind not in "uif":
        return ""
    least, largest = image.min(), image.max()
    if not (np.isfinite(least) and np.isfinite(largest)):
        return ": some of its values are not finite numbers"
    bits = next((bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits), None)
    if least < 0 or bits is None:
        code = "scale it to 0 to 255, then .astype(numpy.uint8)"
    elif image.dtype.kind == "f":
        scaled = "(image * 255)" if largest <= 1 else "image" if bits == 8 else "(image / {})".format(1 << bits - 8)
        code = scaled + ".round().astype(numpy.uint8)"
    else:
        code = "{}.astype(numpy.uint8)".format("image" if bits == 8 else "(image >> {})".format(bits - 8))
    return ", with values from {:g} to {:g}: {}".format(least, largest, code)


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
