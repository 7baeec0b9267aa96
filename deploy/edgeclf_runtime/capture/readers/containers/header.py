"""VideoHeader, the facts about a video file that its container states, before anything is decoded."""

from typing import List, NamedTuple, Optional, Tuple

UNTAGGED = 2  # "unspecified" in ITU-T H.273, table 4

Affine = Tuple[int, int, int, int]  # a, b, c, d of orientation_of()


class VideoHeader(NamedTuple):
    """Facts about a file's first video track; each is None, 0 or "" if the container does not say.

    container       its name for people, "" if we cannot read it
    orientation     how to turn the stored frames upright, as in EXIF's tag 274: 1 to 8, 1 is upright as stored
    matrix          of the colors: MatrixCoefficients of ITU-T H.273, table 4; 2 is unspecified, None is unknown to us
    times           display time of each frame in seconds, in order, if the header lists them
    frames          number of frames according to the header, including empty steps in AVI
    duration_s      according to the header
    missing_bytes   how many bytes fewer the file has than its header says
    codec           "H264", "H265", or "" for any other
    fault           why there is nothing to play, as the end of a sentence
    """

    container: str = ""
    orientation: int = 1
    matrix: Optional[int] = None
    times: Optional[List[float]] = None
    frames: Optional[int] = None
    duration_s: Optional[float] = None
    missing_bytes: int = 0
    codec: str = ""
    fault: str = ""


def orientation_of(a: int, b: int, c: int, d: int) -> int:
    """Return the EXIF orientation for a matrix that moves a pixel (right, down) to (a*right + c*down, b*right + d*down).

    0 for a rotation by anything but quarter turns.
    """
    if not any((a, b, c, d)):
        return 1
    if not b and not c:
        return {(1, 1): 1, (-1, 1): 2, (-1, -1): 3, (1, -1): 4}.get((_sign(a), _sign(d)), 0)
    if not a and not d:
        return {(1, 1): 5, (1, -1): 6, (-1, -1): 7, (-1, 1): 8}.get((_sign(b), _sign(c)), 0)
    return 0


def _sign(number: int) -> int:
    return (number > 0) - (number < 0)
