"""Splits images into train, val and test by the hash of their content."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence


def divide(strata: Sequence[Hashable], digests: Sequence[str], shares: Mapping[str, float], seed: int = 0) -> list[str]:
    """Return the split of each image: a name in ``shares``, or "train".

    strata: stratum of each image, such as its label; every stratum is split in the same
    proportions.  digests: hash of each image's content; images with the same digest go to the same
    split.  shares: for each split, its share of the images that the splits before it left.
    """
    members: dict[Hashable, dict[str, str]] = defaultdict(dict)
    for stratum, digest in zip(strata, digests, strict=True):
        members[stratum][hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()] = digest
    assigned: dict[str, str] = {}
    for images in members.values():
        rest = [images[key] for key in sorted(images)]
        for split, share in shares.items():
            # A class always keeps a training image, and with three or more images has one in each split.
            count = min(max(round(len(rest) * share), int(len(images) >= 3)), len(rest) - 1)
            assigned.update(dict.fromkeys(rest[:count], split))
            rest = rest[count:]
    return [assigned.get(digest, "train") for digest in digests]
