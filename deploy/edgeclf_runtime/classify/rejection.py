"""Rejects results of which a model is not sure, or whose image is like none that it was trained on."""

from typing import TYPE_CHECKING, Dict, Iterable, List, Mapping, NamedTuple, Optional, Sequence

from ..errors import BundleError, OptionError
from ..results import Limits
from .decision import allowed_indices
from .known_images import Example, KnownImages, read_known_images

if TYPE_CHECKING:
    import numpy as np

    from ..bundle.open_bundle import Bundle, Model

# Reasons, as Result has them.
CONFIDENCE, DISTANCE = "confidence", "distance"


class Rejection(NamedTuple):
    """The rules of one model file; by default nothing is rejected.

    threshold       a confidence below it gives the label "unknown"
    by_label        the thresholds of labels that have a higher one, by index
    known           the KnownImages that give a distance; None: no distance
    most_distance   a distance above it gives the label "unknown"; None: none does
    in_set          an image's label set has the labels whose confidence reaches it; None: no sets
    usual_distance  95 % of validation images are nearer; None: no distance
    """

    threshold: float = 0.0
    by_label: Mapping[int, float] = {}
    known: Optional[KnownImages] = None
    most_distance: Optional[float] = None
    in_set: Optional[float] = None
    usual_distance: Optional[float] = None

    def limits(self, labels: Sequence[str]) -> Limits:
        """Return the Limits; labels: the names of the classes, in the order of the logits."""
        by_label = {labels[index]: threshold for index, threshold in self.by_label.items()}
        most = None if self.known is None else self.most_distance
        return Limits(self.threshold, by_label, self.usual_distance, most, self.in_set is not None)

    def reason(self, index: int, confidence: float, distance: Optional[float]) -> str:
        """Return why a label, by its index, is rejected: DISTANCE, or else CONFIDENCE, or "" if it is not."""
        if distance is not None and self.most_distance is not None and not distance <= self.most_distance:
            return DISTANCE
        return CONFIDENCE if confidence < max(self.threshold, self.by_label.get(index, 0.0)) else ""

    def distances(self, features: "Optional[np.ndarray]", logits: "np.ndarray") -> List[Optional[float]]:
        """Return each image's distance, None without features; arguments as of KnownImages.distance()."""
        if self.known is None or features is None:
            return [None] * len(logits)
        return [float(distance) for distance in self.known.distance(features, logits)]

    def nearest(self, features: "np.ndarray") -> List[Example]:
        """Return the training images that are nearest to one image's features, float32 [features]; none without KnownImages."""
        return [] if self.known is None else self.known.nearest(features[None])[0]


def rejections_of(
    bundle: "Bundle",
    models: "Iterable[Model]",
    threshold: Optional[float] = None,
    most_distance: Optional[float] = None,
) -> Dict[str, Rejection]:
    """Return the Rejection of each model, by its name.

    threshold       in place of the bundle's, for all labels; None: the bundle's
    most_distance   in place of the bundle's; None: the bundle's

    Raises OptionError for a distance if no model gives one, and BundleError for a damaged summary of known images.
    """
    models = list(models)
    if most_distance is not None and not any(model.known_images for model in models):
        raise OptionError(
            "--most-distance has no effect: no model of {} gives a distance; leave it out, choose another --model, or make the bundle "
            "again with this version of edgeclf".format(bundle.name)
        )
    files: Dict[str, KnownImages] = {}
    return {model.name: _rejection(bundle, model, files, threshold, most_distance) for model in models}


def _rejection(
    bundle: "Bundle",
    model: "Model",
    files: Dict[str, KnownImages],
    threshold: Optional[float],
    most_distance: Optional[float],
) -> Rejection:
    by_label: Mapping[int, float] = {}
    if threshold is None:
        threshold = model.threshold
        by_label = label_thresholds(bundle.labels, model.label_thresholds or {})
    facts = model.known_images
    if facts is None:
        return Rejection(threshold, by_label, in_set=model.in_set)
    if facts.file not in files:
        files[facts.file] = _read(bundle, facts.file, model.features)
    try:
        known = files[facts.file].scaled(facts.scales)
    except ValueError as error:
        raise BundleError("{}: model {}: {}; make the bundle again".format(bundle.path, model.name, error))
    most = facts.most_distance if most_distance is None else most_distance
    return Rejection(threshold, by_label, known, most, model.in_set, facts.usual_distance)


def _read(bundle: "Bundle", file: str, features: Optional[int]) -> KnownImages:
    source = bundle.file(file)
    known = read_known_images(source.read(), source)
    most = int(known.arrays["labels"].max())
    if known.features != features or most >= len(bundle.labels):
        raise BundleError(
            "{}: {} is for {} features and {} labels; {} and {} were expected: make the bundle again".format(
                bundle.path, file, known.features, most + 1, features, len(bundle.labels)
            )
        )
    return known


def label_thresholds(labels: Sequence[str], by_label: Mapping[str, float]) -> Dict[int, float]:
    """Return thresholds of confidence by the index of their label; raises OptionError for an unknown label."""
    return {allowed_indices(labels, label)[0]: threshold for label, threshold in by_label.items()}
