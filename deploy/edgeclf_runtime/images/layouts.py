"""Layouts of pixels: arrays of a camera, an appsink or a caller, made BGR if nothing is lost by it.

The rest is refused with what to do about it.  Grey becomes three equal channels, a fourth channel is dropped, the
order is changed.  YUV formats, Bayer patterns and 16 bits need a conversion that only their sender can choose.
"""

import re

from ..errors import ImageError, OptionError, SourceError

ORDERS = ("bgr", "rgb")
_TO_BGR = "videoconvert ! video/x-raw,format=BGR"
# Elements that make BGR of what an appsink was handed instead.
_DECODERS = {"Bayer": "bayer2rgb ! " + _TO_BGR, "JPEG": "jpegdec ! " + _TO_BGR}
# Elements behind the last caps that may hand on another format.
_CONVERTERS = re.compile(r"!\s*\w*(?:conv|scale|transform|compositor|mixer|bin\b)")
_FORMAT = re.compile(r"(video/x-bayer)|\bformat\s*=\s*(?:\(\s*string\s*\)\s*)?[\"']?([A-Za-z0-9_]+)")
# OpenCV's code for the order of four channels, by GStreamer's name of it.
_FOUR_CHANNELS = {"BGRA": "BGRA", "BGRX": "BGRA", "RGBA": "RGBA", "RGBX": "RGBA"}


def as_bgr(image, order="bgr"):
    """Return a caller's array as BGR pixels, uint8 [height, width, 3]; the array itself if it is that already.

    image       numpy array, uint8: [height, width] or [height, width, 1] grey, [height, width, 3], or
                [height, width, 4], whose fourth channel is dropped
    order       of three and four channels: "bgr", as OpenCV has them, or "rgb"

    Raises ImageError for everything else, with how to convert it; OptionError for another order.
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


def _no_array(image):
    """Return the message about what is neither an array nor a path."""
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
        return (
            "{}, found a {}: pass numpy.array(image, numpy.uint8); for several images there is classify_batch()".format(
                expected, kind
            )
        )
    if module in ("torch", "tensorflow", "jax", "jaxlib", "cupy"):
        return "{}, found a {} of {}: convert it to numpy on the CPU, [height, width, 3] in uint8".format(
            expected, kind, module
        )
    return "{}, found {}".format(expected, kind)


def _unusual(image):
    """Return the message about an array that is not converted."""
    found = "an image of uint8 [height, width, 3], or gray [height, width], was expected, found {} {}".format(
        image.dtype, list(image.shape)
    )
    if not image.size:
        return found + ", which is empty"
    if image.ndim == 4:
        return found + ": for several images there is classify_batch(), a list of them"
    if image.ndim == 3 and image.shape[2] not in (1, 3, 4) and image.shape[0] in (1, 3, 4):
        return found + ": channels come last: image.transpose(1, 2, 0)"
    return found + _conversion(image)


def _conversion(image):
    """Return how to make uint8 of an array's values, as the end of a message; "" if that cannot be known."""
    import numpy as np

    if image.dtype.kind == "b":
        return ": of True and False make image.astype(numpy.uint8) * 255"
    if image.dtype == np.uint8 or image.dtype.kind not in "uif":
        return ""
    least, largest = image.min(), image.max()
    if not (np.isfinite(least) and np.isfinite(largest)):
        return ": not all of its values are finite numbers"
    bits = next((bits for bits in (8, 10, 12, 14, 16) if largest < 1 << bits), None)
    if least < 0 or bits is None:
        code = "scale it to 0 to 255, then .astype(numpy.uint8)"
    elif image.dtype.kind == "f":
        scaled = "(image * 255)" if largest <= 1 else "image" if bits == 8 else "(image / {})".format(1 << bits - 8)
        code = scaled + ".round().astype(numpy.uint8)"
    else:
        code = "{}.astype(numpy.uint8)".format("image" if bits == 8 else "(image >> {})".format(bits - 8))
    return ", of values from {:g} to {:g}: {}".format(least, largest, code)


def frame_as_bgr(image, source, height=0):
    """Return a source's frame as BGR pixels, uint8 [height, width, 3]; raises SourceError if that would lose something.

    height      of the picture by the reader's word, 0 if it says nothing: planes of color lie below it
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


def _layout(image, pipeline, height):
    """Return the name of a frame's layout, and OpenCV's code for it if it is as good as BGR, else None.

    pipeline    of the source, "" if it has none: grey and Bayer, or RGBA and BGRA, are distinguished by its last caps
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
    return "grey", "GRAY"


def _last_format(pipeline):
    """Return the format that a pipeline's last caps name, in capital letters; "BAYER" for a Bayer pattern, "" for none."""
    found = [match.group(2) or "bayer" for match in _FORMAT.finditer(pipeline)]
    # The format of "video/x-bayer,format=rggb" is the order of its colors.
    bayer = len(found) > 1 and found[-2] == "bayer" and found[-1] in ("rggb", "bggr", "grbg", "gbrg")
    return "BAYER" if bayer else found[-1].upper() if found else ""


def _remedy(source, found):
    if source.kind == "gstreamer":
        return 'in the pipeline, put "{} !" before its appsink'.format(_DECODERS.get(found, _TO_BGR))
    return "ask the camera for another format with --format, say MJPG or YUYV"
