"""What a bundle holds, after it was verified."""

from typing import Any, Dict, NamedTuple

from ..bundle.open import Bundle, open_bundle
from ..text.terminal import printable


class BundleInfo(NamedTuple):
    """A verified bundle, for people and as JSON."""

    bundle: Bundle

    def to_dict(self) -> Dict[str, Any]:
        """The bundle's facts as JSON can hold them."""
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
        }

    def __str__(self):
        bundle = self.bundle
        spec = bundle.preprocessing
        labels = ", ".join(bundle.labels[:10]) + (" ..." if len(bundle.labels) > 10 else "")
        lines = [
            "{}  (id {})".format(bundle.name, bundle.id[:12]),
            "labels         {}: {}".format(len(bundle.labels), labels),
            "preprocessing  {} to {} x {}, {}".format(spec.resize, spec.width, spec.height, spec.color),
            "verified       {} files, every size and sha256 as in the manifest".format(len(bundle.files)),
        ]
        lines += [line for model in bundle.models for line in self._lines(model)]
        # One line each, whatever the names are.
        return "\n".join(map(printable, lines))

    def _lines(self, model):
        size_mb = self.bundle.files[model.file]["size"] / 1e6
        accuracy = model.metrics.get("accuracy")
        measured = (
            "" if accuracy is None else "  accuracy {:.4f} on {} images".format(accuracy, model.metrics.get("images"))
        )
        yield "model          {:<13} {:>6.1f} MB{}".format(model.name, size_mb, measured)
        yield "{:<15}by {}".format("", ", ".join(model.backends))


def info(bundle):
    """Verify a bundle and return what it holds as a BundleInfo."""
    return BundleInfo(open_bundle(bundle))
