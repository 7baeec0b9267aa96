"""Generates test images, as a camera for trying things out and, with a fault, for testing what cameras do."""

import functools
import os
import time
from typing import TYPE_CHECKING, Optional

from ...errors import CameraError
from .reader import Pace, Reader, Reading

if TYPE_CHECKING:
    import numpy as np

    from ..source import Source

_TEST_MODE = (640, 480, 30)


class GeneratedReader(Reader):
    """Images that change with every frame, at a fixed rate; with a fault, a camera that misbehaves.

    Faults occur before frame ``after``: "hang" (read never returns), "die" (the process ends), "freeze" (the image stays
    the same), "lose" (the camera reports that it has no more frames), "resize" (half the size).
    """

    def __init__(self, source: "Source") -> None:
        self._source = source
        self._size = (int(source.width or _TEST_MODE[0]), int(source.height or _TEST_MODE[1]))
        self._pace = Pace(source.fps or _TEST_MODE[2])
        self._number = 0

    def read(self, out: "Optional[np.ndarray]" = None) -> Reading:
        """See Reader.read()."""
        import numpy as np

        captured = self._pace.wait()
        number = self._number
        faulty = self._source.fault is not None and number >= self._source.after
        if faulty and self._source.fault == "hang":
            time.sleep(1e9)
        if faulty and self._source.fault == "die":
            os._exit(1)
        if faulty and self._source.fault == "lose":
            raise CameraError("{} delivers no more frames".format(self._source.name))
        width, height = self._size
        if faulty and self._source.fault == "freeze":
            number = self._source.after
        elif faulty and self._source.fault == "resize":
            width, height = width // 2, height // 2
        before = time.monotonic()
        image = out if out is not None and out.shape[:2] == (height, width) else np.empty((height, width, 3), np.uint8)
        generated_picture(number, image)
        self._number += 1
        return image, captured, (time.monotonic() - before) * 1e3

    def close(self) -> None:
        """Do nothing; nothing is open."""


def generated_picture(number: int, out: "np.ndarray") -> None:
    """Draw the generated source's image ``number`` into uint8 [height, width, 3]: ramps and a moving bar."""
    height, width = out.shape[:2]
    out[...] = _ramps(height, width)
    left = number * 8 % width
    out[:, left : left + max(1, width // 16)] = number * 5 % 256


@functools.lru_cache(maxsize=2)
def _ramps(height: int, width: int) -> "np.ndarray":
    import numpy as np

    ramps = np.empty((height, width, 3), np.uint8)
    ramps[:, :, 0] = np.arange(width, dtype=np.int64) * 255 // width
    ramps[:, :, 1] = (np.arange(height, dtype=np.int64) * 255 // height)[:, None]
    ramps[:, :, 2] = 128
    return ramps
