"""``info``: the contents of a verified bundle."""

import os
import textwrap
from typing import TYPE_CHECKING, Dict, Iterator, NamedTuple, Optional, Union

from ..bundle.examples import examples_of
from ..bundle.open_bundle import Bundle, KnownImagesFacts, Model, open_bundle
from ..classify.tuning.choice import remembered
from ..streaming.health.watch import read_baseline
from ..text.terminal import printable

if TYPE_CHECKING:
    from ..files.schema import JsonObject


class BundleInfo(NamedTuple):
    """A verified bundle, for people and as JSON.

    health_images   number of training images that ``run`` compares the camera's with, or None
    fastest     what is fastest on this device, as a first start or --tune has measured it; see remembered()
    """

    bundle: Bundle
    fastest: Dict[str, str] = {}
    health_images: Optional[int] = None

    def to_dict(self) -> Dict[str, object]:
        """Return the bundle's facts as JSON can hold them."""
        bundle = self.bundle
        return {
            "name": bundle.name,
            "id": bundle.id,
            "labels": list(bundle.labels),
            "preprocessing": bundle.preprocessing._asdict(),
            "models": [dict(model._asdict(), size=bundle.files[model.file]["size"]) for model in bundle.models],
            "order": bundle.order,
            "provenance": bundle.provenance,
            "verified_files": len(bundle.files),
            "health_images": self.health_images,
            "examples": len(examples_of(bundle)),
            "fastest_here": self.fastest,
        }

    def __str__(self) -> str:
        bundle = self.bundle
        spec = bundle.preprocessing
        labels = ", ".join(bundle.labels[:10]) + (" ..." if len(bundle.labels) > 10 else "")
        lines = [
            "{}  (id {})".format(bundle.name, bundle.id[:12]),
            "labels         {}: {}".format(len(bundle.labels), labels),
            "preprocessing  {} to {} x {}, {}".format(spec.resize, spec.width, spec.height, spec.color),
            "verified       {} files, every size and sha256 as in the manifest".format(len(bundle.files)),
        ]
        if self.health_images:
            lines.append("health         compares the camera with {} training images".format(self.health_images))
        examples = len(examples_of(bundle))
        if examples:
            lines.append("examples       {} small training images, which the live page shows".format(examples))
        lines += [line for model in bundle.models for line in self._lines(model)]
        for item in self.fastest.items():
            lines += textwrap.wrap("fastest here   {}: {}".format(*item), 80, subsequent_indent=" " * 15)
        # One line each, whatever characters are in the names.
        return "\n".join(map(printable, lines))

    def _lines(self, model: Model) -> Iterator[str]:
        size_mb = self.bundle.files[model.file]["size"] / 1e6
        accuracy = model.metrics.get("accuracy")
        measured = (
            "" if accuracy is None else "  accuracy {:.4f} on {} images".format(accuracy, model.metrics.get("images"))
        )
        yield "model          {:<13} {:>6.1f} MB{}".format(model.name, size_mb, measured)
        yield "{:<15}on {}".format("", ", ".join(model.backends))
        yield "{:<15}temperature {:.4g}, threshold {:.4f}{}".format(
            "", model.temperature, model.threshold, _coverage(model.metrics.get("confidence"))
        )
        for label, threshold in sorted((model.label_thresholds or {}).items()):
            yield "{:<15}threshold {:.4f} for the label {}".format("", threshold, label)
        if model.known_images is not None:
            yield "{:<15}{}".format("", _distance(model.known_images, model.metrics.get("distance")))
        if model.in_set is not None:
            yield "{:<15}{}".format("", _label_sets(model.metrics.get("label_sets")))


def _distance(known: KnownImagesFacts, fitted: "Optional[JsonObject]") -> str:
    """Return the largest distance that keeps its label, and the share of validation images that do."""
    if known.most_distance is None:
        return "gives the distance from the training images; usual is up to {:.2f}".format(known.usual_distance)
    kept = (fitted or {}).get("kept")
    share = "" if kept is None else ": keeps {:.1%}".format(kept)
    return "unknown above the distance {:.2f}{}".format(known.most_distance, share)


def _label_sets(fitted: "Optional[JsonObject]") -> str:
    """Return the promise of the label sets, and their mean size on validation images."""
    if fitted is None or not {"coverage", "mean_size"} <= set(fitted):
        return "label sets"
    return "label sets have the right label for {:.0%} of images; {:.2f} labels on average".format(
        fitted["coverage"], fitted["mean_size"]
    )


def _coverage(confidence: "Optional[JsonObject]") -> str:
    """Return the share of validation images that keep their label, and the share of those labels that is right."""
    if confidence is None or not {"coverage", "precision"} <= set(confidence):
        return ""
    return ": keeps {:.1%}, {:.1%} right".format(confidence["coverage"], confidence["precision"])


def info(bundle: Union[str, "os.PathLike[str]"]) -> BundleInfo:
    """Verify a bundle; returns a BundleInfo."""
    opened = open_bundle(bundle)
    baseline = read_baseline(opened)
    return BundleInfo(opened, remembered(opened), baseline.images if baseline else None)
