"""Video files that can be played up to their last second, however their writer ended.

OpenCV's own writers put their index last, so that a program that is killed leaves a file that nothing plays.
Knows nothing of results.
"""

from typing import Any, Callable, NamedTuple

from . import avi, h264, mp4, webm


class Format(NamedTuple):
    """A kind of video file.

    make        class that writes it, called with a stream or, if ``by_path``, with the path
    encode      function that turns BGR pixels into what the class takes
    note        what a user should know, or ""
    """

    make: Any
    encode: Callable
    by_path: bool = False
    note: str = ""


def _same(image):
    return image


_NO_H264 = (
    "this OpenCV has no encoder of H.264, so the video holds Motion JPEG: VLC, mpv and OpenCV play it, browsers do not; "
    "NAME.webm is for browsers"
)
SUFFIXES = (".webm", ".mp4", ".avi")


def find_format(suffix):
    """Return the Format for a file name's suffix, one of SUFFIXES; None for another."""
    if suffix == ".mp4" and h264.encoder():
        return Format(h264.H264, _same, by_path=True)
    return {
        ".webm": Format(webm.WebM, webm.encode),
        ".mp4": Format(mp4.Mp4, mp4.encode, note=_NO_H264),
        ".avi": Format(avi.Avi, avi.encode),
    }.get(suffix)
