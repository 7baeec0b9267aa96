"""Pixel layouts: converts a caller's arrays to BGR if that loses nothing.

Gray becomes three equal channels, a fourth channel is dropped, and RGB is reordered.  Everything else is refused with
advice.
"""

from typing import TYPE_CHECKING

from ..errors import ImageError, OptionError

if TYPE_CHECKING:
    import numpy as np

ORDERS = ("bgr", "rgb")


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
