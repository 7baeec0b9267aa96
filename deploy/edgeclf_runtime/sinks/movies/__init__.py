"""Video files that can be played up to their last second, no matter how their writer ended.

OpenCV's own writers put their index last, so a killed program leaves a file that nothing plays.
"""

from typing import TYPE_CHECKING, Any, Callable, NamedTuple, Optional

from . import avi, h264, mp4, webm

if TYPE_CHECKING:
    from typing import Protocol

    import numpy as np

    class Movie(Protocol):
        """A video file that is being written."""

        def add(self, data: Any) -> None: ...  # what the format's ``encode`` returns

        def update(self) -> None: ...

        def finish(self) -> None: ...


class Format(NamedTuple):
    """A kind of video file.

    make        class that writes it, called with a stream or, if ``by_path``, with a path
    encode      function that turns BGR pixels into what the class takes
    note        what the user should know, or ""
    """

    make: "Callable[..., Movie]"
    encode: "Callable[[np.ndarray], Any]"
    by_path: bool = False
    note: str = ""


def _same(image: "np.ndarray") -> "np.ndarray":
    return image


_NO_H264 = (
    "this OpenCV has no H.264 encoder, so the video is Motion JPEG, which VLC, mpv and OpenCV play but browsers do not; "
    "use NAME.webm for browsers"
)
SUFFIXES = (".webm", ".mp4", ".avi")


def find_format(suffix: str) -> Optional[Format]:
    """Return the Format for a file name's suffix, one of SUFFIXES; None for any other."""
    if suffix == ".mp4" and h264.encoder():
        return Format(h264.H264, _same, by_path=True)
    return {
        ".webm": Format(webm.WebM, webm.encode),
        ".mp4": Format(mp4.Mp4, mp4.encode, note=_NO_H264),
        ".avi": Format(avi.Avi, avi.encode),
    }.get(suffix)
