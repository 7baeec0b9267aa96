"""A picture as its file's header describes it, before anything is decoded."""

from typing import Callable, NamedTuple, Optional, Union

# 50 megapixels of 8-bit color are 150 MB.  Larger pictures (16 bits) must be photographs,
# which lossless compression shrinks only to between a half and a tenth.
_UNPACKED_BYTES, _UNPACKED_PER_BYTE = 160 * 1000 * 1000, 20


class UnsupportedError(ValueError):
    """A sound file of a kind that is not read; the message ends with what to do."""


class Picture(NamedTuple):
    """A picture's size and orientation, and a function that returns the file for a decoder.

    width, height   in pixels, as stored: before the picture is turned upright
    content         returns the bytes of a file that holds only this picture; raises ValueError if its data are damaged,
                    UnsupportedError if they are of a kind that is not read
    orientation     by EXIF, 1 to 8; anything else is upright
    deep            whether it has 16 bits per sample
    as_stored       whether the samples can be used as stored: unsigned gray or RGB, white the largest value
    stated_bits     how many of the 16 bits, the lower ones, the file says are used
    scaled_bits     how many bits there were before scaling to 16, says the file; some PNG writers do not scale
    premultiplied   whether the colors are multiplied by the opacity, a fourth sample of 8 bits
    cmyk            whether it is a JPEG of four inks, which OpenCV converts to BGR
    """

    width: int
    height: int
    content: Callable[[], Union[bytes, bytearray]]
    orientation: int = 1
    deep: bool = False
    as_stored: bool = False
    stated_bits: Optional[int] = None
    scaled_bits: Optional[int] = None
    premultiplied: bool = False
    cmyk: bool = False


def check_packing(unpacked_bytes: int, file_bytes: int) -> None:
    """Raise ValueError if a small file unpacks to so many bytes of pixels that decoding would stall a program."""
    if unpacked_bytes > _UNPACKED_BYTES + _UNPACKED_PER_BYTE * file_bytes:
        raise ValueError(
            "{:.0f} MB of pixels in a file of {:.1f} MB, which is not a photograph".format(
                unpacked_bytes / 1e6, file_bytes / 1e6
            )
        )
