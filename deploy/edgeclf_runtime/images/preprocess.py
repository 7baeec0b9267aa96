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

from ..errors import ImageError, OptionError

RESIZE_MODES = ("crop", "stretch", "letterbox")
INTERPOLATIONS = ("halving-linear",)
COLORS = ("RGB", "BGR")
# Degrees clockwise: OpenCV's name of it.
ROTATIONS = {0: "", 90: "ROTATE_90_CLOCKWISE", 180: "ROTATE_180", 270: "ROTATE_90_COUNTERCLOCKWISE"}


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
        """Return self; raise OptionError where a field has a value that this runtime cannot carry out."""
        for field, allowed in (("resize", RESIZE_MODES), ("interpolation", INTERPOLATIONS), ("color", COLORS)):
            if getattr(self, field) not in allowed:
                raise OptionError(
                    "preprocessing.{} is {!r}; this runtime knows {}".format(
                        field, getattr(self, field), ", ".join(allowed)
                    )
                )
        if not (0 < self.height <= 4096 and 0 < self.width <= 4096):
            raise OptionError("preprocessing asks for {} x {}; 1 to 4096 was expected".format(self.width, self.height))
        if not 0.1 <= self.crop <= 1:
            raise OptionError("preprocessing.crop is {}; 0.1 to 1 was expected".format(self.crop))
        return self


def preprocess(image, spec):
    """Resize, crop and reorder one image.

    image: uint8 [height, width, 3] in BGR order, of any size.
    Returns uint8 [spec.height, spec.width, 3] in ``spec.color`` order.
    Raises ImageError where the array has another shape or dtype.
    """
    import cv2

    _check_pixels(image)
    if spec.resize == "letterbox":
        image = _letterbox(image, spec)
    else:
        image = _shrink(_centre(image, spec), spec.height, spec.width)
    return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if spec.color == "RGB" else image


def as_batch(images):
    """Stack preprocessed images into a graph's input: float32 [N, height, width, 3], values 0 to 255."""
    import numpy as np

    batch = np.empty((len(images),) + images[0].shape, np.float32)
    for row, image in zip(batch, images):
        row[...] = image
    return batch


def select(image, roi=None, rotation=0):
    """Turn an image and cut a region out of it, before :func:`preprocess`.

    rotation    0, 90, 180 or 270 degrees clockwise: what brings the image upright
    roi         (x, y, width, height) in the upright image, from its top left corner: four whole
                numbers are pixels; where any of them is a float all are shares of its sides, 0 to 1

    Returns a view of uint8 [height, width, 3] where it can.  Raises ImageError where the region is
    empty or reaches outside of the image, OptionError for another rotation.
    """
    import cv2

    if rotation not in ROTATIONS:
        raise OptionError(
            "rotation is {!r}; {} degrees clockwise were expected".format(rotation, ", ".join(map(str, ROTATIONS)))
        )
    _check_pixels(image)
    if rotation:
        image = cv2.rotate(image, getattr(cv2, ROTATIONS[rotation]))
    if roi is None:
        return image
    left, top, right, bottom = _corners(roi, *image.shape[1::-1])
    if not (0 <= left < right <= image.shape[1] and 0 <= top < bottom <= image.shape[0]):
        raise ImageError(
            "the region x, y, width, height = {} is empty or reaches outside of the upright image of {} x {} pixels".format(
                ", ".join(map(str, roi)), *image.shape[1::-1]
            )
        )
    return image[top:bottom, left:right]


def _corners(roi, image_width, image_height):
    """Return left, top, right and bottom in pixels of a region in pixels or shares."""
    x, y, width, height = roi
    if not any(isinstance(value, float) for value in roi):
        return x, y, x + width, y + height
    if not all(0 <= value <= 1 for value in roi):
        raise ImageError(
            "the region x, y, width, height = {} holds a float, so shares from 0 to 1 were expected; "
            "give pixels as whole numbers".format(", ".join(map(str, roi)))
        )
    return (
        round(x * image_width),
        round(y * image_height),
        round((x + width) * image_width),
        round((y + height) * image_height),
    )


def _check_pixels(image):
    if getattr(image, "ndim", 0) != 3 or image.shape[2] != 3 or str(image.dtype) != "uint8" or not image.size:
        raise ImageError(
            "an image of uint8 [height, width, 3] was expected, found {} {}".format(
                getattr(image, "dtype", type(image).__name__), list(getattr(image, "shape", []))
            )
        )


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
        # The same bits a quarter sooner: OpenCV has vector code for four channels and none for three.
        image = cv2.cvtColor(image, cv2.COLOR_BGR2BGRA)
        image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
        image = cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
    return image
