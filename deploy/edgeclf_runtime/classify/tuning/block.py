"""A block: a short series of inferences, or of a file's frames, whose milliseconds are one sample of a candidate."""

import statistics
import time
from typing import TYPE_CHECKING, List, Optional, Sequence

from ...capture.camera import Camera, Frame
from ...errors import EndOfStream
from ...images.preprocess import as_batch, preprocess
from ...streaming.stream import stream

if TYPE_CHECKING:
    import numpy as np

    from ..classifier import Classifier

BLOCK_S = 0.06
_FEWEST_RUNS, _WARM_UP = 3, 2
_FRAMES_OF_EACH = 4  # of a file, for each thread, at least


def inference_ms(classifier: "Classifier", images: "Sequence[np.ndarray]") -> float:
    """Return the median milliseconds of inferences one after another; a warm-up before them does not count."""
    infer, batch = classifier.runner.infer, as_batch([preprocess(images[0], classifier.preprocessing)])
    for _ in range(_WARM_UP):
        infer(batch)
    samples: List[float] = []
    end = time.perf_counter() + BLOCK_S
    while len(samples) < _FEWEST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        infer(batch)
        samples.append((time.perf_counter() - start) * 1e3)
    return statistics.median(samples)


def frame_ms(classifier: "Classifier", images: "Sequence[np.ndarray]") -> float:
    """Return the milliseconds per frame of a short file, from frame to label, with all the threads of a stream."""
    film = _Repeated(images, BLOCK_S, _FRAMES_OF_EACH * classifier.at_once + _WARM_UP)
    frames = iter(stream(classifier, film))
    for _ in range(_WARM_UP):
        next(frames)
    start = time.perf_counter()
    count = sum(1 for _ in frames)
    return (time.perf_counter() - start) * 1e3 / count


class _Repeated(Camera):
    """A file of some images, again and again.

    seconds, frames     how long it is, at least
    """

    def __init__(self, images: "Sequence[np.ndarray]", seconds: float, frames: int) -> None:
        self._images, self._frames, self._number = images, frames, 0
        self._end = time.monotonic() + seconds

    def read(self, timeout_s: Optional[float] = None) -> Frame:
        """See Camera.read()."""
        now = time.monotonic()
        if self._number >= self._frames and now > self._end:
            raise EndOfStream("all frames were read")
        number, self._number = self._number, self._number + 1
        return Frame(self._images[number % len(self._images)], number, time.time(), now, 0.0, "")
