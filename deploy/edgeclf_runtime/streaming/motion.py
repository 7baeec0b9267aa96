"""MotionGate, which decides by a small gray image whether a frame differs from the last one that was classified.

The mean brightness of blocks is compared: a block averages out the noise of a hundred sampled pixels, and what the whole picture
has in common (exposure, a cloud) is subtracted.  A frame that was classified replaces the one that is compared with, at least
every HEARTBEAT_S, so a slow change never adds up to motion.
"""

from typing import TYPE_CHECKING, Optional, Sequence

from ..images.preprocess import select

if TYPE_CHECKING:
    import numpy as np

HEARTBEAT_S = 0.95  # a still scene is classified at the first frame after this: within a second
LINGER_S = 1.0  # after motion, every frame is classified for so long: labels and events follow
_SIDE = 320  # pixels that are sampled along the longer side, at least
_BLOCK = 10  # sampled pixels of a block's side
_LEAST, _MOST = 2.5, 12.0  # limits of what counts as a block's change, in levels of brightness
_SIGMAS = 6.0  # of the noise: less than once a day by chance, in 576 blocks at 30 frames a second
_NOISE_FRAMES = 30  # over which the noise is averaged


class MotionGate:
    """Decides for each frame of one stream, in order, whether to classify it.

    roi, rotation   as for ``Classifier.classify``: only motion in this region counts

    still       number of frames that were left out so far
    resting     whether the scene is still, so that a frame now and then is enough
    """

    def __init__(self, roi: Optional[Sequence[float]] = None, rotation: int = 0) -> None:
        self._roi, self._rotation = roi, rotation
        self._last: "Optional[np.ndarray]" = None  # blocks of the last frame that was classified
        self._last_at = self._moved_at = float("-inf")
        self._noise, self._compared = 0.0, 0  # standard deviation of a block's change, and from how many frames
        self.still = 0
        self.resting = False

    def passes(self, image: "np.ndarray", at: float) -> bool:
        """Return whether to classify a frame.

        image       BGR pixels, uint8 [height, width, 3]
        at          time of the frame in seconds: of its capture, or its position in a video
        """
        blocks = _blocks(select(image, self._roi, self._rotation))
        if self._moves(blocks):
            self._moved_at = at
        # A time before the last one is of another stream.
        self.resting = self._moved_at <= at - LINGER_S
        if self.resting and self._last_at <= at < self._last_at + HEARTBEAT_S:
            self.still += 1
            return False
        self._last, self._last_at = blocks, at
        return True

    def _moves(self, blocks: "np.ndarray") -> bool:
        import numpy as np

        last = self._last
        if last is None or last.shape != blocks.shape:
            return True
        change = blocks - last
        change -= np.median(change)
        size = np.abs(change, out=change)
        # The median is that of the blocks without motion, unless most of the picture moves.
        noise = min(1.4826 * float(np.median(size)), _MOST / _SIGMAS)
        self._compared = min(self._compared + 1, _NOISE_FRAMES)
        self._noise += (noise - self._noise) / self._compared
        return bool(size.max() > max(_LEAST, _SIGMAS * self._noise))


def _blocks(image: "np.ndarray") -> "np.ndarray":
    """Return the mean brightness of blocks of an image, float32 [rows, columns]."""
    import cv2
    import numpy as np

    step = max(max(image.shape[:2]) // _SIDE, 1)
    size = max(image.shape[1] // step, 1), max(image.shape[0] // step, 1)
    # Takes a third of the time of numpy's slices.
    sampled = cv2.resize(image, size, interpolation=cv2.INTER_NEAREST)
    gray = cv2.cvtColor(sampled, cv2.COLOR_BGR2GRAY)
    rows, columns = (max(side // _BLOCK, 1) for side in gray.shape)
    # Whole blocks, which are the fast case of INTER_AREA.
    gray = gray[: rows * _BLOCK, : columns * _BLOCK].astype(np.float32)
    blocks: "np.ndarray" = cv2.resize(gray, (columns, rows), interpolation=cv2.INTER_AREA)
    return blocks
