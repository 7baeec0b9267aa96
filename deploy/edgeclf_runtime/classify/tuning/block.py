"""A block: a short series of inferences, or of a file's frames, whose milliseconds are one sample of a candidate."""

import statistics
import time
from typing import TYPE_CHECKING, List, Optional, Sequence

from ...capture.camera import Camera
from ...errors import EndOfStream
from ...images.frame import Frame
from ...images.preprocess import as_batch, preprocess
from ...streaming.stream import stream

if TYPE_CHECKING:
    import numpy as np

    from ..classifier import Classifier

# A scheduler gives threads that have slept more than their share at first: on a busy machine a short block would favor many
# threads, and a short warm-up, too.
BLOCK_S, WARM_UP_S = 0.1, 0.05
_FEWEST_RUNS, _FEWEST_WARM_UP = 3, 2
_FRAMES_OF_EACH = 4  # of a file, for each thread, at least


def inference_ms(classifier: "Classifier", images: "Sequence[np.ndarray]") -> float:
    """Return the median milliseconds of inferences one after another; a warm-up before them does not count."""
    infer, batch = classifier.runner.infer, as_batch([preprocess(images[0], classifier.preprocessing)])

    def run(seconds: float, fewest: int) -> List[float]:
        samples: List[float] = []
        end = time.perf_counter() + seconds
        while len(samples) < fewest or time.perf_counter() < end:
            start = time.perf_counter()
            infer(batch)
            samples.append((time.perf_counter() - start) * 1e3)
        return samples

    run(WARM_UP_S, _FEWEST_WARM_UP)
    return statistics.median(run(BLOCK_S, _FEWEST_RUNS))


def frame_ms(classifier: "Classifier", images: "Sequence[np.ndarray]") -> float:
    """Return the milliseconds per frame of a short file, from frame to label, with all the threads of a stream."""
    film = _Repeated(images, BLOCK_S + WARM_UP_S, _FRAMES_OF_EACH * classifier.at_once + _FEWEST_WARM_UP)
    frames = iter(stream(classifier, film))
    end = time.perf_counter() + WARM_UP_S
    for _ in frames:
        if time.perf_counter() > end:
            break
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
