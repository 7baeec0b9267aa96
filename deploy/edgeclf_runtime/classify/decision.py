"""From logits to a label: the softmax, the labels that may be answered, and the threshold.

Knows nothing of images, backends or time; ``streaming/smoothing.py`` knows the last of them.
"""

import difflib
from typing import List, NamedTuple, Tuple

from ..errors import EdgeclfError
from ..results import UNKNOWN


class Decision(NamedTuple):
    """One row of confidences, decided; fields as in Result."""

    label: str
    confidence: float
    top: List[Tuple[str, float]]
    rejected: bool
    candidate: str


class Decider:
    """What may be answered, and how much of it.

    labels          the names of the classes, in the order of the logits
    top_k           how many labels are listed
    allow, deny     labels that alone may be answered, that never are: the logits of the others are
                    left out of the softmax, so that their probabilities are 0 and the rest sum to 1
    """

    def __init__(self, labels, top_k=5, allow=None, deny=None):
        import numpy as np

        self._labels = tuple(labels)
        self._places = np.array(allowed_places(self._labels, allow, deny))
        self._barred = np.full(len(self._labels), -np.inf)
        self._barred[self._places] = 0.0
        self._top_k = min(top_k, len(self._places))

    def confidences(self, logits, temperature):
        """Return the probabilities of logits, float [N, labels], as float64 of that shape."""
        return softmax(logits / temperature + self._barred)

    def decide(self, confidences, place, threshold):
        """Return the Decision of one row of confidences.

        place       of the label that was chosen; it is rejected if its confidence is below the threshold
        """
        confidence = float(confidences[place])
        best = self._places[(-confidences[self._places]).argsort(kind="stable")[: self._top_k]]
        candidate, rejected = self._labels[place], confidence < threshold
        top = [(self._labels[i], float(confidences[i])) for i in best]
        return Decision(UNKNOWN if rejected else candidate, confidence, top, rejected, candidate)


def softmax(logits):
    """Return the softmax over the last axis, float64, of logits of any shape."""
    import numpy as np

    logits = np.asarray(logits, np.float64)
    shifted = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def allowed_places(labels, allow=None, deny=None):
    """Return the places of the labels that may be answered: those of ``allow`` (None: all) less those of ``deny``.

    Raises EdgeclfError, which lists the nearest names, for a label that is not there, and where none is left.
    """
    # Sets: ImageNet-21k has 21,841 labels.
    names, denied = set(labels), _as_names(deny)
    allowed = labels if allow is None else _as_names(allow)
    for name in (*allowed, *denied):
        if name not in names:
            near = difflib.get_close_matches(str(name), labels, 3, 0.5)
            raise EdgeclfError(
                "there is no label {!r}; {}".format(
                    name, "the nearest are: " + ", ".join(near) if near else _some_labels(labels)
                )
            )
    kept = set(allowed).difference(denied)
    places = [place for place, label in enumerate(labels) if label in kept]
    if not places:
        raise EdgeclfError("allow and deny leave no label to answer with; " + _some_labels(labels))
    return places


def _as_names(names):
    return (names,) if isinstance(names, str) else tuple(names or ())


def _some_labels(labels):
    return "the labels are: " + ", ".join(labels[:10]) + (" ..." if len(labels) > 10 else "")
