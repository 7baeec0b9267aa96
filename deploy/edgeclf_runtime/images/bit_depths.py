"""Reduces 16-bit images to the upper 8 of the bits that they use.

Cameras of 10, 12 and 14 bits often save their values unscaled in 16-bit files, which then look nearly black.  A file
can state how many bits it uses: a TIFF by its largest value, a PNG by its sBIT chunk.  Nothing else is guessed: without
such a statement the image is read as 16 bits, and reported.
"""

import logging
from typing import TYPE_CHECKING, Callable, List, Optional

if TYPE_CHECKING:
    import numpy as np

    from .formats.picture import Picture

_log = logging.getLogger(__name__)
SUSPECT = 1 << 14  # an image below this value is at most a quarter as bright as white
# Usual bit depths of cameras.
_USUAL = (10, 12, 14)
WHAT_TO_DO = (
    "if the data have {bits} bits, scale them (values << {shift}), or state the bits in the file: MaxSampleValue "
    "{largest} in a TIFF, sBIT {bits} in a PNG"
)
Note = Callable[[str, int], None]
_logged: List[str] = []


def eight_bits(image: "np.ndarray", picture: "Picture", name: str, noted: Optional[Note] = None) -> "np.ndarray":
    """Return a decoded 16-bit picture as uint8; uint8 arrays are returned as they are.

    noted       see images.read.read_image()
    """
    import numpy as np

    largest = int(image.max())
    bits = 16
    if image.dtype == np.uint16:
        bits = _used_bits(image, largest, picture)
        # In place: such an image can have hundreds of megabytes.
        image = np.right_shift(image, bits - 8, out=image).astype(np.uint8)
    else:
        largest = largest << 8 | (255 if largest else 0)  # OpenCV has dropped the lower bits
    if bits == 16 and 0 < largest < SUSPECT:
        (noted or _log_once)(name, largest)
    return image


def _used_bits(image: "np.ndarray", largest: int, picture: "Picture") -> int:
    """Return how many of the 16 bits, the lower ones, an image uses according to its file; 16 if that says nothing."""
    if picture.stated_bits and not largest >> picture.stated_bits:
        return picture.stated_bits
    bits = picture.scaled_bits
    if not bits or not 8 <= bits < 16 or largest >> bits:
        return 16
    # The PNG specification (third edition, 11.3.2.5) scales the bits to all 16, so the lower bits of such a dark image
    # would be 0, or 1 by rounding.  Other lower bits mean that the writer did not scale; so does an image that would
    # have less than a sixteenth of the full brightness.
    lower = image & ((1 << (16 - bits)) - 1)
    return bits if bits <= 12 or int(lower.max()) > (1 if bits < 15 else 0) else 16


def likely_bits(largest: int) -> int:
    """Return the bit depth of the camera that this largest value suggests."""
    return next((bits for bits in _USUAL if not largest >> bits), 16)


def question(largest: int) -> str:
    """Return what a largest value may mean, and what to do about it."""
    bits = likely_bits(largest)
    advice = WHAT_TO_DO.format(bits=bits, shift=16 - bits, largest=(1 << bits) - 1)
    return "the largest value is {} of 65535, which is read as nearly black: {}-bit data? {}".format(
        largest, bits, advice[0].upper() + advice[1:]
    )


def _log_once(name: str, largest: int) -> None:
    if not _logged:
        _logged.append(name)
        _log.warning("%s: a 16-bit image, %s (logged once)", name, question(largest))
