"""One way to write a flavor's file, and how it compares with FP32."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ..evaluation.comparison import Comparison
from .report import Findings

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A file that was evaluated, and may be kept."""

    model: onnx.ModelProto
    logits: np.ndarray
    """float32 [images, labels], of the evaluation set."""
    comparison: Comparison
    findings: Findings
    features: np.ndarray | None = None
    """float16 [images, features], of the evaluation set; None if the model has none."""
