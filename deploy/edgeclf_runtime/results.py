"""A classifier's result for one image, and its origin."""

import os
from typing import Any, Dict, List, NamedTuple, Tuple

from .errors import OptionError
from .text.redaction import redact

UNKNOWN = "unknown"
STAGES = ("preprocess", "inference", "postprocess")
DEVICE_NAME = "EDGECLF_DEVICE_NAME"
_LONGEST_NAME = 100


class Origin(NamedTuple):
    """Where results come from: made once, and the same for all of them.

    bundle      the first 12 digits of the bundle's id; "" for a model that is in no bundle
    source      the camera's or file's name, without passwords
    device      the name that was given to this device, or ""
    """

    bundle: str = ""
    source: str = ""
    device: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """Its known fields, as JSON can hold them."""
        return {name: value for name, value in self._asdict().items() if value}


NOWHERE = Origin()


def find_origin(bundle_id="", source="", device=None):
    """Return the Origin of a bundle's results; OptionError if the device's name is not valid.

    device      its name; None takes the environment's EDGECLF_DEVICE_NAME, if that is set
    """
    if device is None:
        device = os.environ.get(DEVICE_NAME, "")
        if device and not is_device_name(device):
            raise OptionError(
                "the environment's {} is {:.200}; {} was expected".format(DEVICE_NAME, ascii(device), A_DEVICE_NAME)
            )
    return Origin(bundle_id[:12], redact(str(source)), device)


A_DEVICE_NAME = "a name of 1 to {} printable characters".format(_LONGEST_NAME)


def is_device_name(text):
    """Whether a text can be a device's name."""
    return 0 < len(text) <= _LONGEST_NAME and text.isprintable() and bool(text.strip())


class Result(NamedTuple):
    """One classified image.

    label           the label, or "unknown" if it was rejected
    confidence      the softmax probability of the label or, if it was rejected, of the candidate, 0 to 1
    top             the most likely labels with their confidences, best first
    timings_ms      milliseconds by stage, see STAGES; in a batch each image's share
    model, backend  what was actually used
    confidences     of every label, float64 [labels] in the order of the logits; not in the JSON
    rejected        whether the confidence is below the threshold; only this tells such an "unknown" from a label of
                    that name in the training data
    candidate       the label that the confidence belongs to: ``label`` itself, unless it was rejected
    """

    label: str
    confidence: float
    top: List[Tuple[str, float]]
    timings_ms: Dict[str, float]
    model: str
    backend: str
    confidences: Any = None
    rejected: bool = False
    candidate: str = ""

    def to_dict(self) -> Dict[str, Any]:
        """The result as JSON can hold it."""
        return {
            "label": self.label,
            "rejected": bool(self.rejected),
            "candidate": self.candidate or self.label,
            "confidence": round(self.confidence, 6),
            "top": [{"label": label, "confidence": round(confidence, 6)} for label, confidence in self.top],
            "timings_ms": {stage: round(value, 3) for stage, value in self.timings_ms.items()},
            "model": self.model,
            "backend": self.backend,
        }

    @property
    def verdict(self):
        """Label and confidence for people: "cat 97.3 %", or "unknown (cat 62.7 %)" if it was rejected."""
        share = "{} {:.1f} %".format(self.candidate or self.label, self.confidence * 100)
        return "{} ({})".format(self.label, share) if self.rejected else share

    def __str__(self):
        found = self.verdict if self.rejected else "{} {:.3f}".format(self.label, self.confidence)
        others = [pair for pair in self.top if pair[0] != (self.candidate or self.label)][:2]
        rest = "  ".join("{} {:.3f}".format(label, confidence) for label, confidence in others)
        return found + ("  ({})".format(rest) if rest else "")
