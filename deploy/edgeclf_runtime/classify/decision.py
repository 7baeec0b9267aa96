"""Turns logits into a label: the softmax, the allowed labels, and the threshold."""

import difflib
from typing import TYPE_CHECKING, Iterable, List, NamedTuple, Optional, Sequence, Tuple, Union

from ..errors import OptionError
from ..results import UNKNOWN
from .label_sets import label_sets, names_of

if TYPE_CHECKING:
    import numpy as np

    from .rejection import Rejection

# One label, or several.
Labels = Union[str, Iterable[str]]


class Decision(NamedTuple):
    """The decision on one row of confidences; fields as in Result."""

    label: str
    confidence: float
    top: List[Tuple[str, float]]
    rejected: bool
    candidate: str
    reason: str
    label_set: Optional[Tuple[str, ...]]


class Decider:
    """Chooses labels.

    labels          the labels, in the order of the logits
    top_k           number of labels to list
    allow           return only these labels
    deny            never return these labels

    Labels that may not be returned are left out of the softmax: their probabilities are 0, and the others sum to 1.
    """

    def __init__(
        self, labels: Sequence[str], top_k: int = 5, allow: Optional[Labels] = None, deny: Optional[Labels] = None
    ) -> None:
        import numpy as np

        self._labels = tuple(labels)
        self._allowed = np.array(allowed_indices(self._labels, allow, deny))
        self._mask = np.full(len(self._labels), -np.inf)
        self._mask[self._allowed] = 0.0
        self._top_k = min(top_k, len(self._allowed))

    def confidences(self, logits: "np.ndarray", temperature: float) -> "np.ndarray":
        """Return the probabilities of logits, float [N, labels], as float64 of that shape."""
        return softmax(logits / temperature + self._mask)

    def decide(
        self, confidences: "np.ndarray", index: int, rejection: "Rejection", distance: Optional[float] = None
    ) -> Decision:
        """Return the Decision on one row of confidences, float [labels].

        index       index of the chosen label
        rejection   the Rejection, which may reject it
        distance    the image's distance from the training images, or None
        """
        confidence, candidate = float(confidences[index]), self._labels[index]
        best = self._allowed[(-confidences[self._allowed]).argsort(kind="stable")[: self._top_k]]
        top = [(self._labels[i], float(confidences[i])) for i in best]
        reason = rejection.reason(index, confidence, distance)
        label_set = self._label_set(confidences, rejection.in_set)
        return Decision(UNKNOWN if reason else candidate, confidence, top, bool(reason), candidate, reason, label_set)

    def _label_set(self, confidences: "np.ndarray", in_set: Optional[float]) -> Optional[Tuple[str, ...]]:
        # With labels left out, confidences differ from those that the promise was fitted on.
        if in_set is None or len(self._allowed) < len(self._labels):
            return None
        return tuple(names_of(label_sets(confidences[None], in_set)[0], confidences, self._labels))


def softmax(logits: "np.ndarray") -> "np.ndarray":
    """Return the softmax over the last axis of logits of any shape, as float64."""
    import numpy as np

    logits = np.asarray(logits, np.float64)
    shifted: "np.ndarray" = np.exp(logits - logits.max(-1, keepdims=True))
    return shifted / shifted.sum(-1, keepdims=True)


def allowed_indices(labels: Sequence[str], allow: Optional[Labels] = None, deny: Optional[Labels] = None) -> List[int]:
    """Return the indices of the labels that may be returned: those in ``allow`` (None: all) and not in ``deny``.

    Raises OptionError, which lists the nearest names, for an unknown label, and if no label is left.
    """
    # Sets: ImageNet-21k has 21,841 labels.
    names, denied = set(labels), _as_names(deny)
    allowed = labels if allow is None else _as_names(allow)
    for name in (*allowed, *denied):
        if name not in names:
            near = difflib.get_close_matches(str(name), labels, 3, 0.5)
            raise OptionError(
                "there is no label {!r}; {}".format(
                    name, "the nearest are: " + ", ".join(near) if near else _some_labels(labels)
                )
            )
    kept = set(allowed).difference(denied)
    indices = [index for index, label in enumerate(labels) if label in kept]
    if not indices:
        raise OptionError("allow and deny leave no label to return; " + _some_labels(labels))
    return indices


def _as_names(names: Optional[Labels]) -> Tuple[str, ...]:
    return (names,) if isinstance(names, str) else tuple(names or ())


def _some_labels(labels: Sequence[str]) -> str:
    return "the labels are: " + ", ".join(labels[:10]) + (" ..." if len(labels) > 10 else "")
