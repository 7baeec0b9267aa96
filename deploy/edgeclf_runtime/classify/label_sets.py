"""Sets of labels with a promised coverage."""

from typing import TYPE_CHECKING, List, Sequence

if TYPE_CHECKING:
    import numpy as np


def label_sets(confidences: "np.ndarray", threshold: float) -> "np.ndarray":
    """Return the labels that an image may have: bool [N, labels], confidences that reach the threshold.

    confidences     float [N, labels], calibrated as those that the threshold was fitted on

    A set can be empty: no label is likely enough.  For confidences that are not finite, it has all labels: nothing is ruled out.
    """
    import numpy as np

    with np.errstate(invalid="ignore"):
        found: "np.ndarray" = ~(np.asarray(confidences) < threshold)
    return found


def names_of(members: "np.ndarray", confidences: "np.ndarray", labels: Sequence[str]) -> List[str]:
    """Return one image's set as names, the likeliest first; members, confidences: one row, [labels]."""
    return [labels[i] for i in (-confidences).argsort(kind="mergesort") if members[i]]
