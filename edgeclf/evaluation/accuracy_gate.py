"""The accuracy gate: refuses a model file whose accuracy drops too far below FP32's."""

from __future__ import annotations

import numpy as np

from ..errors import GateError
from .comparison import Comparison

_ADVICE = "No file was kept; use more calibration images (--size), or accept a larger drop (--max-drop)"


def gate_failure(name: str, comparison: Comparison, found: np.ndarray, max_drop: float) -> str:
    """Return why a file fails the accuracy gate, "" if it passes.

    It fails if its logits, float32 [images, labels], are not finite, or if its accuracy drops by more than ``max_drop``.
    """
    bad = int((~np.isfinite(found).all(1)).sum())
    if bad:
        return f"{name} produced non-finite logits for {bad} of {len(found)} images.  {_ADVICE}"
    if comparison.drop > max_drop:
        low, high = comparison.drop_interval
        return (
            f"{name} has an accuracy of {comparison.accuracy:.4f} on {len(found)} images and fp32 {comparison.accuracy_fp32:.4f}: "
            f"a drop of {comparison.drop:.4f} (95 % interval {low:+.4f} to {high:+.4f}), and at most {max_drop} is accepted.  "
            f"{_ADVICE}"
        )
    return ""


def check_gate(name: str, comparison: Comparison, found: np.ndarray, max_drop: float) -> None:
    """Raise GateError, exit code 3, for a file that fails the accuracy gate; see gate_failure()."""
    failure = gate_failure(name, comparison, found, max_drop)
    if failure:
        raise GateError(failure)
