"""A picture as its file's header describes it, before anything is decoded."""

from typing import Callable, NamedTuple, Optional

# 50 megapixels of 8-bit color have 150 MB, which take about a second.  Larger ones (16 bits) are of photographs, which
# lossless compression makes a half to a tenth of.
_UNPACKED_BYTES, _UNPACKED_PER_BYTE = 160 * 1000 * 1000, 20


class Picture(NamedTuple):
    """The size of a picture, how it is turned, and how to get the file that a decoder is given.

    width, height   in pixels, as stored: before it is turned upright
    content         returns the bytes of a file that holds this picture and nothing else; raises ValueError if the
                    picture's data are damaged
    orientation     by EXIF, 1 to 8; anything else is upright
    deep            whether it has 16 bits a sample
    as_stored       whether those can be taken as they are stored: grey or RGB without a sign, white the largest
    stated_bits     how many of the 16 the file says are used, the lower ones
    scaled_bits     how many it says were there before they were scaled to 16, as writers of PNG should; some do not
    """

    width: int
    height: int
    content: Callable[[], bytes]
    orientation: int = 1
    deep: bool = False
    as_stored: bool = False
    stated_bits: Optional[int] = None
    scaled_bits: Optional[int] = None


def check_packing(unpacked_bytes, file_bytes):
    """Raise ValueError if a small file unpacks to so many bytes of pixels that it would hold a program up."""
    if unpacked_bytes > _UNPACKED_BYTES + _UNPACKED_PER_BYTE * file_bytes:
        raise ValueError(
            "{:.0f} MB of pixels in a file of {:.1f} MB; it is not a photograph".format(
                unpacked_bytes / 1e6, file_bytes / 1e6
            )
        )
