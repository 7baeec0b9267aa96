"""Remembers how alike two images are.

Hundreds of tests load the same 180 digits, and each load compares about 550 pairs of them for near-duplicates: half of its time.
"""

import contextlib
from functools import cached_property

from edgeclf.data.checks import near_duplicates


class Remembered:
    """A thumbnail that is prepared for comparison only if it was not compared with that other one before."""

    def __init__(self, thumbnail):
        self.thumbnail = thumbnail
        self.digest = hash(
            tuple(None if part is None else part.tobytes() for part in (thumbnail.gray, thumbnail.color))
        )

    @cached_property
    def aligner(self):
        return ALIGNER(self.thumbnail)


ALIGNER, LIKENESS = near_duplicates.Aligner, near_duplicates.likeness


@contextlib.contextmanager
def remembering():
    """Compare two thumbnails once in this process."""
    known = {}

    def likeness(first, second):
        pair = first.digest, second.digest
        if pair not in known:
            known[pair] = LIKENESS(first.aligner, second.aligner)
        return known[pair]

    near_duplicates.Aligner, near_duplicates.likeness = Remembered, likeness
    try:
        yield
    finally:
        near_duplicates.Aligner, near_duplicates.likeness = ALIGNER, LIKENESS
