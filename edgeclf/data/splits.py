"""The division of images into train, val and test, by the hash of their content.

Pure: takes digests and strata, gives names of splits.  Knows nothing of files or folders.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Hashable, Mapping, Sequence


def divide(strata: Sequence[Hashable], digests: Sequence[str], shares: Mapping[str, float], seed: int = 0) -> list[str]:
    """Return the split of each image: a name out of ``shares``, or "train".

    strata: what each image's split is balanced over, such as its label.  digests: the hash of each
    image's content; images of one digest go to one split.  shares: for each split the share of the
    images that those named before it left.
    """
    members: dict[Hashable, dict[str, str]] = defaultdict(dict)
    for stratum, digest in zip(strata, digests, strict=True):
        members[stratum][hashlib.sha256(f"{seed}:{digest}".encode()).hexdigest()] = digest
    assigned: dict[str, str] = {}
    for images in members.values():
        rest = [images[key] for key in sorted(images)]
        for split, share in shares.items():
            # A class always keeps an image to train on, and from three images on one is in each split.
            count = min(max(round(len(rest) * share), int(len(images) >= 3)), len(rest) - 1)
            assigned.update(dict.fromkeys(rest[:count], split))
            rest = rest[count:]
    return [assigned.get(digest, "train") for digest in digests]
