"""A fake camera and a fake backend for the tests of your own programs.

    >>> import numpy as np
    >>> from edgeclf_runtime.classify.classifier import Classifier
    >>> from edgeclf_runtime.fake import FakeCamera, FakeRunner
    >>> from edgeclf_runtime.images.preprocess import Preprocessing
    >>> from edgeclf_runtime.streaming.stream import stream
    >>> runner = FakeRunner([[2, 0], [0, 2]])
    >>> frame = np.zeros((480, 640, 3), np.uint8)
    >>> with Classifier(runner, ["empty", "full"], Preprocessing(224, 224)) as classifier:
    ...     with FakeCamera([frame] * 3) as camera:
    ...         [item.result.label for item in stream(classifier, camera)]
    ['empty', 'full', 'empty']

Needs no bundle, backend or camera; everything in between is the real thing.
"""

import os
import threading
import time
from typing import TYPE_CHECKING, Optional, Sequence, Union

from .capture.camera import Camera
from .errors import BackendError, CameraLost, EndOfStream, OptionError
from .images.frame import Frame
from .images.pixel_layouts import as_bgr
from .images.read import read_image
from .runners.base import Outputs, Runner

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import ArrayLike

    from .files.read import AnyPath


Image = Union["np.ndarray", "AnyPath"]


class FakeRunner(Runner):
    """A backend that returns given logits, and features if some are given.

    logits      one row of numbers for every image, or several rows used in turn
    features    as many rows as ``logits``; None: the model has no features
    fail_after  number of inferences after which each one raises BackendError; None never fails
    closed      whether it was closed
    """

    backend = "fake"

    def __init__(
        self, logits: "ArrayLike", fail_after: Optional[int] = None, features: "Optional[ArrayLike]" = None
    ) -> None:
        import numpy as np

        self._rows = np.array(logits, np.float32, ndmin=2)
        self._features = None if features is None else np.array(features, np.float32, ndmin=2)
        self._fail_after = fail_after
        self._given = self._inferences = 0
        self._counting = threading.Lock()
        self.closed = False

    def infer_outputs(self, batch: "np.ndarray") -> Outputs:
        with self._counting:
            if self._inferences == self._fail_after:
                raise BackendError("the fake backend fails after {} inferences, as requested".format(self._fail_after))
            self._inferences += 1
            indices = [(self._given + i) % len(self._rows) for i in range(len(batch))]
            self._given += len(batch)
        return Outputs(self._rows[indices], None if self._features is None else self._features[indices])

    def close(self) -> None:
        self.closed = True


class FakeCamera(Camera):
    """A camera that delivers given images.

    images      BGR pixels, uint8 [height, width, 3], or paths of files
    fps         frames per second; None delivers them as fast as they are read
    loop        start over after the last image, forever
    fail_after  number of frames after which it is lost once (CameraLost); the next read works again

    It drops nothing: every image is delivered, late if no one read it in time.
    """

    def __init__(
        self, images: Sequence[Image], fps: Optional[float] = None, loop: bool = False, fail_after: Optional[int] = None
    ) -> None:
        self._images = list(images)
        if not self._images:
            raise OptionError("images is empty; a fake camera needs at least one")
        self._interval_s = 1.0 / fps if fps else 0.0
        self._loop, self._fail_after = loop, fail_after
        self._next = 0
        self._start = time.monotonic()
        self._closed = threading.Event()

    def read(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        if self._next == self._fail_after:
            self._fail_after = None
            raise CameraLost("the fake camera is lost after {} frames, as requested".format(self._next))
        if self._closed.is_set() or (self._next == len(self._images) and not self._loop):
            raise EndOfStream("the fake camera delivered {} frames".format(self._next))
        wait_s = self._start + self._next * self._interval_s - time.monotonic()
        if wait_s > 0:
            late = timeout_s is not None and timeout_s < wait_s
            closed = self._closed.wait(timeout_s if late else wait_s)
            if late or closed:
                return None
        number, self._next = self._next, self._next + 1
        return self._frame(self._images[number % len(self._images)], number)

    def _frame(self, image: Image, number: int) -> Frame:
        captured, captured_at, name = time.monotonic(), time.time(), ""
        if isinstance(image, (str, os.PathLike)):
            image, name = read_image(image), os.path.basename(str(image))
        else:
            image = as_bgr(image)
        return Frame(image, number, captured_at, captured, (time.monotonic() - captured) * 1e3, name)

    def close(self) -> None:
        self._closed.set()
