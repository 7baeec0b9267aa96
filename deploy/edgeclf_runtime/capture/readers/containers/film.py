"""A film as its container describes it, before anything is decoded."""

from typing import List, NamedTuple, Optional

UNTAGGED = 2  # "unspecified" in ITU-T H.273, table 4


class Film(NamedTuple):
    """Facts of a film's first video track; each None, 0 or "" if the container does not say.

    container       its name for people, "" for one that we do not read
    orientation     how to turn the stored frames upright, as EXIF's tag 274: 1 to 8, 1 is upright as stored
    matrix          of the colors: MatrixCoefficients of ITU-T H.273, table 4; 2 is unspecified, None is not known to us
    times           seconds at which each frame is shown, in order, if the header lists them
    frames          how many frames its header promises, empty steps of AVI among them
    duration_s      by its header
    missing_bytes   how much longer the file is by its header
    fault           why there is nothing to play, as the end of a sentence
    """

    container: str = ""
    orientation: int = 1
    matrix: Optional[int] = None
    times: Optional[List[float]] = None
    frames: Optional[int] = None
    duration_s: Optional[float] = None
    missing_bytes: int = 0
    fault: str = ""


def orientation_of(a, b, c, d):
    """Return EXIF's orientation for a matrix that moves a pixel (right, down) to (a*right + c*down, b*right + d*down).

    0 for one that turns by anything but quarters.
    """
    if not any((a, b, c, d)):
        return 1
    if not b and not c:
        return {(1, 1): 1, (-1, 1): 2, (-1, -1): 3, (1, -1): 4}.get((_sign(a), _sign(d)), 0)
    if not a and not d:
        return {(1, 1): 5, (1, -1): 6, (-1, -1): 7, (-1, 1): 8}.get((_sign(b), _sign(c)), 0)
    return 0


def _sign(number):
    return (number > 0) - (number < 0)
