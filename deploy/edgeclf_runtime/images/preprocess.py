"""Turns a decoded image into a model's input: the project's only resize, crop and color order.

Training, evaluation, calibration, golden images and the device all use it, so a model always sees what it was trained
on.  The steps give the same bits on every OpenCV from 4.1.1 to 5.0, on x86 and on arm64: first crop; then halve with
INTER_AREA on even sizes while the image is at least twice too large, so that a camera frame does not alias; then one
INTER_LINEAR_EXACT step.  INTER_CUBIC, and INTER_AREA straight to the target, differ between versions; INTER_LINEAR
differs on OpenCV 5.0 for arm64.

Mean and standard deviation are part of the model's graph, not of this module.
"""

from typing import TYPE_CHECKING, NamedTuple, Optional, Sequence, Tuple, cast

from ..errors import ImageError, OptionError

if TYPE_CHECKING:
    import numpy as np

RESIZE_MODES = ("crop", "stretch", "letterbox")
INTERPOLATIONS = ("halving-linear",)
COLORS = ("RGB", "BGR")
# Degrees clockwise: OpenCV's constant.
ROTATIONS = {0: "", 90: "ROTATE_90_CLOCKWISE", 180: "ROTATE_180", 270: "ROTATE_90_COUNTERCLOCKWISE"}


# x, y, width and height: four integers are pixels, floats are fractions.
Region = Sequence[float]


class Preprocessing(NamedTuple):
    """The conversion of an image to a model's input; stored in the manifest under ``preprocessing``.

    height, width   the model's input size in pixels
    resize          "crop": the largest centered region with the target's aspect ratio;
                    "stretch": the whole image, ignoring its aspect ratio;
                    "letterbox": the whole image, with black bars
    crop            the fraction of that region's sides that is kept, centered; 1.0 keeps all
    interpolation   "halving-linear", see the module's docstring
    color           channel order that the model expects
    """

    height: int
    width: int
    resize: str = "crop"
    crop: float = 1.0
    interpolation: str = "halving-linear"
    color: str = "RGB"

    def check(self) -> "Preprocessing":
        """Return self; raise OptionError if this runtime cannot carry out a field's value."""
        for field, allowed in (("resize", RESIZE_MODES), ("interpolation", INTERPOLATIONS), ("color", COLORS)):
            if getattr(self, field) not in allowed:
                raise OptionError(
                    "preprocessing.{} is {!r}; this runtime supports {}".format(
                        field, getattr(self, field), ", ".join(allowed)
                    )
                )
        if not (0 < self.height <= 4096 and 0 < self.width <= 4096):
            raise OptionError(
                "preprocessing.width and height are {} x {}; 1 to 4096 was expected".format(self.width, self.height)
            )
        if not 0.1 <= self.crop <= 1:
            raise OptionError("preprocessing.crop is {}; 0.1 to 1 was expected".format(self.crop))
        return self


def preprocess(image: "np.ndarray", spec: Preprocessing) -> "np.ndarray":
    """Resize, crop and reorder one image.

    image       uint8 [height, width, 3] in BGR order, of any size

    Returns uint8 [spec.height, spec.width, 3] in ``spec.color`` order.
    Raises ImageError if the array has another shape or dtype.
    """
    _check_pixels(image)
    if spec.resize == "letterbox":
        return _letterbox(image, spec)
    return _shrink(_center(image, spec), spec.height, spec.width, spec.color)


def as_batch(images: "Sequence[np.ndarray]") -> "np.ndarray":
    """Stack preprocessed images into a model's input: float32 [N, height, width, 3], values 0 to 255."""
    import numpy as np

    batch = np.empty((len(images),) + images[0].shape, np.float32)
    for row, image in zip(batch, images):
        row[...] = image
    return batch


def select(image: "np.ndarray", roi: Optional[Region] = None, rotation: int = 0) -> "np.ndarray":
    """Rotate an image and cut out a region, before :func:`preprocess`.

    rotation    0, 90, 180 or 270 degrees clockwise that turn the image upright
    roi         (x, y, width, height) in the upright image, from its top left corner: four integers are pixels; if any
                of them is a float, all are fractions of the sides, 0 to 1

    Returns uint8 [height, width, 3], a view if possible.  Raises ImageError if the region is empty or reaches outside
    of the image, OptionError for another rotation.
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


def region_in_frame(roi: Region, rotation: int, width: int, height: int) -> Tuple[float, float, float, float]:
    """Return where a region of the upright image is in the image as it was before select() rotated it.

    width, height   of the image before, in pixels

    Returns x, y, width and height as fractions of its sides.
    """
    size = (height, width) if rotation in (90, 270) else (width, height)
    left, top, right, bottom = (at / side for at, side in zip(_corners(roi, *size), size * 2))
    if rotation == 90:
        left, top, right, bottom = top, 1 - right, bottom, 1 - left
    elif rotation == 180:
        left, top, right, bottom = 1 - right, 1 - bottom, 1 - left, 1 - top
    elif rotation == 270:
        left, top, right, bottom = 1 - bottom, left, 1 - top, right
    return left, top, right - left, bottom - top


def _corners(roi: Region, image_width: int, image_height: int) -> Tuple[int, int, int, int]:
    """Return a region's left, top, right and bottom in pixels."""
    x, y, width, height = roi
    if not any(isinstance(value, float) for value in roi):
        return cast("Tuple[int, int, int, int]", (x, y, x + width, y + height))
    if not all(0 <= value <= 1 for value in roi):
        raise ImageError(
            "the region x, y, width, height = {} holds a float, so fractions from 0 to 1 were expected; "
            "give pixels as whole numbers".format(", ".join(map(str, roi)))
        )
    return (
        round(x * image_width),
        round(y * image_height),
        round((x + width) * image_width),
        round((y + height) * image_height),
    )


def _check_pixels(image: "np.ndarray") -> None:
    if getattr(image, "ndim", 0) != 3 or image.shape[2] != 3 or str(image.dtype) != "uint8" or not image.size:
        raise ImageError(
            "an image of uint8 [height, width, 3] was expected, found {} {}".format(
                getattr(image, "dtype", type(image).__name__), list(getattr(image, "shape", []))
            )
        )


def _center(image: "np.ndarray", spec: Preprocessing) -> "np.ndarray":
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


def _letterbox(image: "np.ndarray", spec: Preprocessing) -> "np.ndarray":
    height, width = image.shape[:2]
    inner_height = min(spec.height, max(1, height * spec.width // width))
    inner_width = min(spec.width, max(1, width * spec.height // height))
    return on_black(_shrink(image, inner_height, inner_width, spec.color), spec.height, spec.width)


def on_black(image: "np.ndarray", height: int, width: int) -> "np.ndarray":
    """Return an image, uint8 [at most height, at most width, 3], in the middle of a black one of this size."""
    import numpy as np

    top, left = (height - image.shape[0]) // 2, (width - image.shape[1]) // 2
    canvas = np.zeros((height, width, 3), np.uint8)
    canvas[top : top + image.shape[0], left : left + image.shape[1]] = image
    return canvas


def _shrink(image: "np.ndarray", height: int, width: int, color: str) -> "np.ndarray":
    """Return an image, uint8 [height, width, 3] in BGR order, in another size, with its channels in the order ``color``."""
    import cv2

    if image.shape[:2] == (1, 1):
        # OpenCV 4.1.1 and 4.5.4 can refuse a one-pixel array; any resize of it just repeats the pixel.
        image = image.repeat(height, axis=0).repeat(width, axis=1)
    while image.shape[0] >= 2 * height or image.shape[1] >= 2 * width:
        by_y = 2 if image.shape[0] >= 2 * height else 1
        by_x = 2 if image.shape[1] >= 2 * width else 1
        # INTER_AREA differs between processors on odd sizes, so the last odd row or column is dropped.
        image = image[: image.shape[0] // by_y * by_y, : image.shape[1] // by_x * by_x]
        image = cv2.resize(image, (image.shape[1] // by_x, image.shape[0] // by_y), interpolation=cv2.INTER_AREA)
    if image.shape[:2] == (height, width):
        return cv2.cvtColor(image, cv2.COLOR_BGR2RGB) if color == "RGB" else image
    # Same bits, but faster: OpenCV has vector code for four channels and not for three.
    image = cv2.cvtColor(image, cv2.COLOR_BGR2RGBA if color == "RGB" else cv2.COLOR_BGR2BGRA)
    image = cv2.resize(image, (width, height), interpolation=cv2.INTER_LINEAR_EXACT)
    return cv2.cvtColor(image, cv2.COLOR_BGRA2BGR)
