"""A picture as its file's header describes it, before anything is decoded."""

from typing import Callable, NamedTuple


class Picture(NamedTuple):
    """The size of a picture, how it is turned, and how to get the file that a decoder is given.

    width, height   in pixels, as stored: before it is turned upright
    content         returns the bytes of a file that holds this picture and nothing else; raises ValueError if the
                    picture's data are damaged
    orientation     by EXIF, 1 to 8; anything else is upright
    """

    width: int
    height: int
    content: Callable[[], bytes]
    orientation: int = 1
