"""The 8 bits that are taken of an image with 16: the upper ones of those that it uses.

Cameras of 10, 12 and 14 bits often save their values as they are in files of 16, which look nearly black.  A file
can say how many bits it uses: a TIFF by its largest value, a PNG by its chunk sBIT.  Nothing else is guessed: such an
image without a word of it is read as 16 bits, and reported.
"""

import logging
from typing import List

_log = logging.getLogger(__name__)
SUSPECT = 1 << 14  # a 16-bit image whose values are all below is at most a quarter bright
# The bits that cameras have, for the question whether these are theirs.
_USUAL = (10, 12, 14)
WHAT_TO_DO = (
    "if the data have {bits} bits, save them scaled (values << {shift}), or with the bits in the file: a TIFF's "
    "MaxSampleValue {largest}, a PNG's sBIT {bits}"
)
_logged: List[str] = []


def eight_bits(image, picture, name, noted=None):
    """Return a decoded 16-bit picture as uint8; arrays of uint8 are handed on.

    noted       see images.read_image()
    """
    import numpy as np

    largest = int(image.max())
    bits = 16
    if image.dtype == np.uint16:
        bits = _used_bits(image, largest, picture)
        # In its place: such an image can have hundreds of megabytes.
        image = np.right_shift(image, bits - 8, out=image).astype(np.uint8)
    else:
        largest = largest << 8 | (255 if largest else 0)  # OpenCV has dropped the lower bits
    if bits == 16 and 0 < largest < SUSPECT:
        (noted or _log_once)(name, largest)
    return image


def _used_bits(image, largest, picture):
    """Return how many bits of 16 an image uses, the lower ones, by the word of its file; 16 if that says nothing."""
    if picture.stated_bits and not largest >> picture.stated_bits:
        return picture.stated_bits
    bits = picture.scaled_bits
    if not bits or not 8 <= bits < 16 or largest >> bits:
        return 16
    # By the specification (third edition, 11.3.2.5) the bits are scaled to all 16, so that the lower ones of such a dark
    # image would be 0, or 1 by rounding.  Others are of a writer that did not scale; as is all of an image that would
    # have less than a sixteenth of the brightness.
    lower = image & ((1 << (16 - bits)) - 1)
    return bits if bits <= 12 or int(lower.max()) > (1 if bits < 15 else 0) else 16


def likely_bits(largest):
    """Return the bits of a camera whose largest value this may be."""
    return next((bits for bits in _USUAL if not largest >> bits), 16)


def question(largest):
    """Return what a largest value may mean, and what to do."""
    bits = likely_bits(largest)
    advice = WHAT_TO_DO.format(bits=bits, shift=16 - bits, largest=(1 << bits) - 1)
    return "the largest value is {} of 65535, which is read as nearly black: {}-bit data? {}".format(
        largest, bits, advice[0].upper() + advice[1:]
    )


def _log_once(name, largest):
    if not _logged:
        _logged.append(name)
        _log.warning("%s: a 16-bit image, %s (said once)", name, question(largest))
