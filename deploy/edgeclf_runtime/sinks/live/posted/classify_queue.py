"""Classifies the pictures that clients post, one at a time, with the classifier of the camera's stream."""

import collections
import contextlib
import logging
import threading
import time
from typing import TYPE_CHECKING, Callable, Deque, Iterator

from ....errors import EdgeclfError, ImageError
from ....images.read import decode_image
from ....results import NOWHERE, Origin
from ..http import Refusal
from .body import Memory
from .counts import Counts

if TYPE_CHECKING:
    import numpy as np

    from ....files.schema import JsonObject
    from ....results import Result

WAITING = 4  # pictures that may wait while one is classified
WAIT_S = 10.0
_log = logging.getLogger(__name__)


class ClassifyQueue:
    """Classifies pictures in the threads of their clients, in the order in which they came; one more than WAITING is refused.

    At most one of them is decoded and inferred at any time, so that the camera's frames wait for one inference at most.

    classify    function that returns the Result of BGR pixels, uint8 [height, width, 3]
    origin      the results' Origin, from which the camera is left out

    ``memory`` is for the bodies of the requests, ``counts`` has those of the answers.
    """

    def __init__(self, classify: "Callable[[np.ndarray], Result]", origin: Origin = NOWHERE) -> None:
        self._classify, self._origin = classify, origin._replace(source="", camera="")
        self.memory, self.counts = Memory(), Counts()
        self._turns: Deque[object] = collections.deque()
        self._changed = threading.Condition()
        self._closed = False

    def check_room(self) -> None:
        """Raise Refusal if too many pictures wait: before a body is read for nothing."""
        if len(self._turns) > WAITING:
            raise _busy("{} pictures are waiting".format(WAITING))

    def classify(self, picture: Callable[[], bytes], gone: Callable[[], bool]) -> "JsonObject":
        """Return the result of a picture in JSON types.

        picture     function that returns the bytes of an image file; it may raise Refusal
        gone        function that returns whether the client was closed meanwhile

        Raises Refusal if it is not an image, or if it cannot be classified now.
        """
        with self._turn():
            if gone():
                raise ConnectionAbortedError("the client was closed")
            try:
                return self._answer(picture())
            except ImageError as error:
                raise Refusal(400, str(error))
            except (EdgeclfError, MemoryError) as error:
                _log.error("a posted picture was not classified: %s", str(error) or "not enough memory")
                raise Refusal(503, "the picture cannot be classified now: see the program's log", ("Retry-After", "5"))

    @contextlib.contextmanager
    def _turn(self) -> Iterator[None]:
        turn = object()
        with self._changed:
            self.check_room()
            self._turns.append(turn)
        try:
            with self._changed:
                first = self._changed.wait_for(lambda: self._closed or self._turns[0] is turn, WAIT_S)
            if self._closed or not first:
                raise _busy("the program ends" if self._closed else "no turn came within {:g} s".format(WAIT_S))
            yield
        finally:
            with self._changed:
                self._turns.remove(turn)
                self._changed.notify_all()

    def _answer(self, data: bytes) -> "JsonObject":
        start = time.perf_counter()
        image = decode_image(data, "the picture")
        decode_ms = (time.perf_counter() - start) * 1e3
        result = self._classify(image)
        self.counts.stages(result.model, dict(result.timings_ms, decode=decode_ms))
        fields = result.to_dict()
        fields["timings_ms"] = dict({"decode": round(decode_ms, 3)}, **fields["timings_ms"])
        return dict(fields, **self._origin.to_dict())

    def close(self) -> None:
        """Refuse the pictures that wait; the one that is being classified is not waited for."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()


def _busy(why: str) -> Refusal:
    return Refusal(503, "{}: try again in 1 s".format(why), ("Retry-After", "1"))
