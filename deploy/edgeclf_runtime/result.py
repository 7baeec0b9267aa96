"""What a classifier says of one image."""

from typing import Any, Dict, List, NamedTuple, Tuple

UNKNOWN = "unknown"
STAGES = ("preprocess", "inference", "postprocess")


class Result(NamedTuple):
    """One classified image.

    label           the most likely label, or "unknown" where its confidence is below the threshold
    confidence      the softmax probability of the most likely label, 0 to 1
    top             the most likely labels with their confidences, best first
    timings_ms      milliseconds by stage, see STAGES; in a batch each image's share
    model, backend  what was actually used
    confidences     of every label, float64 [labels] in the order of the logits; not in the JSON
    """

    label: str
    confidence: float
    top: List[Tuple[str, float]]
    timings_ms: Dict[str, float]
    model: str
    backend: str
    confidences: Any = None

    def to_dict(self) -> Dict[str, Any]:
        """The result as JSON can hold it."""
        return {
            "label": self.label,
            "confidence": round(self.confidence, 6),
            "top": [{"label": label, "confidence": round(confidence, 6)} for label, confidence in self.top],
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings_ms.items()},
            "model": self.model,
            "backend": self.backend,
        }

    def __str__(self):
        others = [pair for pair in self.top if pair[0] != self.label][:2]
        rest = "  ".join("{} {:.3f}".format(label, confidence) for label, confidence in others)
        return "{} {:.3f}{}".format(self.label, self.confidence, "  ({})".format(rest) if rest else "")
