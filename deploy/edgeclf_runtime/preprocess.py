"""From a decoded image to a model's input: the only resize, crop and colour order there is.

Training, evaluation, calibration, golden images and the device all come through here, so what
a model sees live is what it was trained on.  The steps were chosen because they give the same
bits on every OpenCV from 4.1.1 to 5.0, on x86 and on arm64: crop first, then halve with
INTER_AREA on even sizes while the image is at least twice too large (so that a camera frame
does not alias), then one INTER_LINEAR_EXACT step.  INTER_CUBIC, and INTER_AREA straight to the
target, differ between versions; INTER_LINEAR differs on OpenCV 5.0 for arm64.

Mean and standard deviation are inside the model's graph, not here.
"""

from typing import NamedTuple

from .errors import EdgeclfError, ImageError

RESIZE_MODES = ("crop", "stretch", "letterbox")
INTERPOLATIONS = ("halving-linear",)
COLORS = ("RGB", "BGR")


class Preprocessing(NamedTuple):
    """How an image becomes a model's input; stored in the manifest under ``preprocessing``.

    height, width   the model's input size in pixels
    resize          "crop": the largest centred region of the target's aspect ratio;
                    "stretch": the whole image, its aspect ratio lost;
                    "letterbox": the whole image, bars of black where the ratio differs
    crop            the share of that region's sides that is kept, centred; 1.0 keeps all
    interpolation   "halving-linear", see the module's docstring
    color           channel order that the model expects
    """

    height: int
    width: int
    resize: str = "crop"
    crop: float = 1.0
    interpolation: str = "halving-linear"
    color: str = "RGB"

    def check(self):
        """Return self; raise EdgeclfError where a field has a value that this runtime cannot carry out."""
        for field, allowed in (("resize", RESIZE_MODES), ("interpolation", INTERPOLATIONS), ("color", COLORS)):
            if getattr(self, field) not in allowed:
                raise EdgeclfError(
                    "preprocessing.{} is {!r}; this runtime knows {}".format(
                        field, getattr(self, field), ", ".join(allowed)
                    )
                )
        if not (0 < self.height <= 4096 and 0 < self.width <= 4096):
            raise EdgeclfError("preprocessing asks for {} x {}; 1 to 4096 was expected".format(self.width, self.height))
        if not 0.1 <= self.crop <= 1:
            raise EdgeclfError("preprocessing.crop is {}; 0.1 to 1 was expected".format(self.crop))
        return self


def preprocess(image, spec):
    """Resize, crop and reorder one image.

    image: uint8 [height, width, 3] in BGR order, of any size.
    Returns uint8 [spec.height, spec.width, 3] in ``spec.color`` order.
    Raises ImageError where the array has another shape or dtype.
    """
    import cv2

    if getattr(image, "ndim", 0) != 3 or image.shape[2] != 3 or str(image.dtype) != "uint8" or not image.size:
        raise ImageError(
            "an image of uint8 [height, width, 3] was expected, found {} {}".format(
                getattr(image, "dtype", type(image).__name__), list(getattr(image, "shape", []))
            )
        )
    if spec.resize == "letterbox":
        image = _letterbox(image, spec)
    else:
        image = _shrink(_centre(image, spec), spec.height, spec.width)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if spec.color == "RGB" else image


def as_batch(images):
    """Stack preprocessed images into a graph's input: float32 [N, height, width, 3], values 0 to 255."""
    import numpy as np

    return np.stack(images).astype(np.float32)


def _centre(image, spec):
    height, width = image.shape[:2]
    keep_height, keep_width = height, width
    if spec.resize == "crop":
        # Integer arithmetic, so that every machine keeps the same pixels.
        keep_height = min(height, max(1, width * spec.height // spec.width))
        keep_width = min(width, max(1, height * spec.width // spec.height))
    keep_height = max(1, round(keep_height * spec.crop))
    keep_width = max(1, round(keep_width * spec.crop))
    top, left = (height - keep_height) // 2, (width - keep_width) // 2
    return image[top : top + keep_height, left : left + keep_width]


def _letterbox(image, spec):
    import numpy as np

    height, width = image.shape[:2]
    inner_height = min(spec.height, max(1, height * spec.width // width))
    inner_width = min(spec.width, max(1, width * spec.height // height))
    top, left = (spec.height - inner_height) // 2, (spec.width - inner_width) // 2
    canvas = np.zeros((spec.height, spec.width, 3), np.uint8)
    canvas[top : top + inner_height, left : left + inner_width] = _shrink(image, inner_height, inner_width)
    return canvas


def _shrink(image, height, width):
    import cv2

    if image.shape[:2] == (1, 1):
        # OpenCV 4.1.1 and 4.5.4 can refuse an array of one pixel; every resize of it is that pixel repeated.
        return image.repeat(height, axis=0).repeat(width, axis=1)
    while image.shape[0] >= 2 * height or image.shape[1] >= 2 * width:
        by_y = 2 if image.shape[0] >= 2 * height else 1
        by_x = 2 if image.shape[1] >= 2 * width else 1
        # INTER_AREA differs between processors on odd sizes: the last odd row or column is dropped.
        image = image[: image.shape[0] // by_y * by_y, : image.shape[1] // by_x * by_x]
        image = cv2.resize(image, (image.shape[1] // by_x, image.shape[0] // by_y), interpolation=cv2.INTER_AREA)
    if image.shape[:2] != (height, width):
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return image
