"""Frame, one captured image and its times."""

import time
from typing import TYPE_CHECKING, NamedTuple, Optional

if TYPE_CHECKING:
    import numpy as np


class Frame(NamedTuple):
    """One captured frame.

    image           BGR pixels, uint8 [height, width, 3]
    number          counts from 0; dropped frames leave gaps
    captured_at     when it was captured, in seconds since 1970, for people and logs
    captured        ``time.monotonic()`` at the same moment, for measuring ages
    capture_ms      time it took to decode (for a file, to read as well)
    name            the file's name if frames are files, else ""
    position_s      seconds since the first frame of a video file; None if frames have no times of their own
    """

    image: "np.ndarray"
    number: int
    captured_at: float
    captured: float
    capture_ms: float
    name: str
    position_s: Optional[float] = None

    @property
    def age_ms(self) -> float:
        """Milliseconds since it was captured."""
        return (time.monotonic() - self.captured) * 1e3
