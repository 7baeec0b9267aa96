"""Groups of images that must not be separated: near-duplicates, copies, and the data set's own groups."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from ...data.checks.near_duplicates import leader, near_duplicates
from ...data.checks.thumbnails import Thumbnail


def similar_images(digests: Sequence[str], thumbnails: Sequence[Thumbnail]) -> list[list[int]]:
    """Return groups of two or more copies and near-duplicates, as indices in order; digests: hash of each file."""
    copies: dict[str, list[int]] = {}
    for index, digest in enumerate(digests):
        copies.setdefault(digest, []).append(index)
    distinct = list(copies.values())
    groups = near_duplicates([thumbnails[members[0]] for members in distinct])
    grouped = {number for group in groups for number in group}
    found = [[index for number in group for index in distinct[number]] for group in groups]
    # Flat images are not compared, but may have copies.
    found += [members for number, members in enumerate(distinct) if len(members) > 1 and number not in grouped]
    return sorted(sorted(group) for group in found)


def joined(count: int, groups: Sequence[Sequence[int]], keys: Sequence[Hashable]) -> list[int]:
    """Return a number for each of ``count`` images, which all images of a group share, and all of the same key but ""."""
    leaders = list(range(count))
    of_key: dict[Hashable, list[int]] = {}
    for index, key in enumerate(keys):
        if key != "":
            of_key.setdefault(key, []).append(index)
    for group in (*groups, *of_key.values()):
        for index in group[1:]:
            leaders[leader(leaders, index)] = leader(leaders, group[0])
    return [leader(leaders, index) for index in range(count)]
