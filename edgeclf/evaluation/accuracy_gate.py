"""The accuracy gate: refuses a model file whose accuracy drops too far below FP32's, and warns of one that may have passed by luck."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from ..errors import GateError
from .comparison import Comparison

ADVICE = "use more calibration images (--size), or accept a larger drop (--max-drop)"
"""Advice about a file that failed."""
FEW_IMAGES = 100
"""With fewer evaluation images, one image is a point of accuracy."""
_LEAST_REACH = 0.01


def gate_failure(name: str, comparison: Comparison, found: np.ndarray, max_drop: float) -> str:
    """Return why a file fails the accuracy gate, "" if it passes.

    It fails if its logits, float32 [images, labels], are not finite, or if its accuracy drops by more than ``max_drop``.  So
    does one whose interval includes the limit: that chance may explain a drop does not show that there is none.  A drop that is
    significant but within the limit is what the limit accepts.
    """
    bad = int((~np.isfinite(found).all(1)).sum())
    if bad:
        return f"{name} produced non-finite logits for {bad} of {len(found)} images"
    if comparison.drop > max_drop:
        low, high = comparison.drop_interval
        chance = (
            f"; {max_drop} is within the interval, so more validation images may settle it" if low <= max_drop else ""
        )
        return (
            f"{name} has an accuracy of {comparison.accuracy:.4f} on {len(found)} images and fp32 {comparison.accuracy_fp32:.4f}: "
            f"a drop of {comparison.drop:.4f} (95 % interval {low:+.4f} to {high:+.4f}), and at most {max_drop} is accepted{chance}"
        )
    return ""


def gate_warning(name: str, comparison: Comparison, images: int, max_drop: float) -> str:
    """Return what is doubtful about a file that passes, "" if nothing is.

    It is doubtful if the 95 % interval of its drop reaches beyond the limit by the limit again, or by a point of accuracy if
    that is more: more images may show that it fails.
    """
    high = comparison.drop_interval[1]
    if high <= max_drop + max(max_drop, _LEAST_REACH):
        return ""
    return (
        f"{name}: a drop of {comparison.drop:+.4f} passes, but on {images} images the 95 % interval reaches {high:+.4f}, "
        f"and at most {max_drop:g} is accepted: compare with fp32 on more images (edgeclf compare)"
    )


def gate_warnings(files: Mapping[str, Comparison], images: int, max_drop: float) -> list[str]:
    """Return what is doubtful about files that pass; files with the same drop and interval share one warning."""
    alike: dict[tuple[float, ...], list[str]] = {}
    for name, comparison in files.items():
        alike.setdefault((comparison.drop, *comparison.drop_interval), []).append(name)
    warnings = [gate_warning(", ".join(names), files[names[0]], images, max_drop) for names in alike.values()]
    return list(filter(None, warnings))


def evaluation_warning(images: int, trained: int) -> str:
    """Return what is doubtful about an evaluation set, "" if nothing is; trained: how many of its images were trained on."""
    if images < FEW_IMAGES:
        return f"the files were compared with fp32 on only {images} images; {FEW_IMAGES} or more are usual: add images"
    if 2 * trained > images:
        return (
            f"{trained} of the {images} evaluation images were trained on, so a file may lose more on new images: "
            "add validation images, or evaluate the files on the test split (edgeclf evaluate)"
        )
    return ""


def check_gate(name: str, comparison: Comparison, found: np.ndarray, max_drop: float) -> None:
    """Raise GateError, exit code 3, for a file that fails the accuracy gate; see gate_failure()."""
    failure = gate_failure(name, comparison, found, max_drop)
    if failure:
        raise GateError(failure)
