"""Camera, the interface of every source of frames."""

from typing import TYPE_CHECKING, Optional, Type, TypeVar

from ..images.frame import Frame

if TYPE_CHECKING:
    from types import TracebackType

# The rate assumed for images that were not given one: for smoothing and for annotated videos.
IMAGES_FPS = 15
_Camera = TypeVar("_Camera", bound="Camera")


class Camera:
    """A source of frames.  Used inside ``with``; read by one thread.

    name        its name in results, without passwords; "" if it has none
    policy      "latest": frames that are not fetched in time are dropped; "all": no frame is dropped
    dropped     number of frames that were captured but never handed out
    rested      number of frames that were left out because of rest()
    skipped     number of files, or frames of a video file, that could not be decoded
    rate        frames per second of a video file, or of images that were given a rate; else None
    mode        for a device: the size, format and rate that it granted, as a sentence; else ""
    as_asked    whether that is what was requested
    comes_back  whether it is waited for while it is unavailable, so that read() also works without wait_opened()
    """

    name = ""
    policy = "all"
    dropped = 0
    rested = 0
    skipped = 0
    rate: Optional[float] = None
    mode = ""
    as_asked = True
    comes_back = False

    def wait_opened(self: _Camera) -> _Camera:
        """Wait until it is open, and return it.  If it cannot be opened, close it and raise CameraError."""
        return self

    def read(self, timeout_s: Optional[float] = None) -> Optional[Frame]:
        """Return the next Frame, or None if none arrives within ``timeout_s``; None waits as long as it takes.

        Raises EndOfStream after the last frame, IncompleteFilm if a video file ends too soon, CameraLost once each time a
        camera stops (later calls wait until it is back), and CameraError if nothing can be read.
        """
        raise NotImplementedError

    def rest(self, resting: bool) -> None:
        """While resting, a live camera decodes a frame only now and then, and leaves out the others; other sources do not."""

    def close(self) -> None:
        """Release the device or file; a second call does nothing."""

    def __enter__(self: _Camera) -> _Camera:
        return self

    def __exit__(
        self,
        kind: Optional[Type[BaseException]],
        error: Optional[BaseException],
        traceback: Optional["TracebackType"],
    ) -> None:
        self.close()


def seconds_of(frame: Frame, policy: str) -> float:
    """Return a frame's time by its camera: a video's own, or that of the capture for a live camera.

    policy      the camera's

    Images have no times: if the time of reading them were used, labels would depend on the machine's speed.
    """
    if frame.position_s is not None:
        return frame.position_s
    return frame.number / IMAGES_FPS if policy == "all" else frame.captured
