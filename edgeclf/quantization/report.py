"""What quantize() made and measured, as facts: a table for people, JSON for machines.

Knows nothing of how the files are made.
"""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

from ..evaluation.comparison import Comparison
from .sensitivity import LayerEffect, LayerNoise


@dataclass(frozen=True)
class Trial(Comparison):
    """One range method on one flavour, held to FP32."""

    method: str
    size: int


@dataclass(frozen=True)
class FloatLayer:
    """A layer that went back to float so that the file passed, and what it cost."""

    layer: str
    size: int
    """Bytes that the file grew by."""
    latency_ms: float
    """By how much an inference became longer on this machine; below 0: shorter."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What was found on the way to a file."""

    method: str = ""
    """Of the ranges, by its name in range_methods.METHODS; "" for a file without Q/DQ."""
    trials: tuple[Trial, ...] = ()
    """Every method that was tried."""
    float_layers: tuple[str, ...] = ()
    """Convolutions and matrix products that compute in float."""
    float_operators: tuple[str, ...] = ()
    """Other kinds of nodes that do, in some place."""
    fallback: tuple[FloatLayer, ...] = ()
    """Those of float_layers that are so because the file would not have passed."""
    noise: tuple[LayerNoise, ...] = ()
    effects: tuple[LayerEffect, ...] = ()
    """Measured where the file did not pass at once."""


@dataclass(frozen=True)
class QuantizedFile(Findings, Comparison):
    """One file and how it compares with FP32 on the same images."""

    name: str
    path: str
    size: int
    sha256: str
    latency_ms: float
    """Median of one inference on this machine's CPU by ONNX Runtime, whatever the file is for."""
    layers: int = 0
    """Convolutions and matrix products."""


@dataclass(frozen=True)
class Baseline(Comparison):
    """A way of quantizing that is not shipped, for comparison."""

    name: str
    size: int
    latency_ms: float


@dataclass(frozen=True)
class QuantizeReport:
    """What quantize() wrote."""

    run: str
    calibration_images: int
    calibration_sha256: str
    judged_images: int
    max_drop: float
    """What was accepted."""
    accuracy_fp32: float
    size_fp32: int
    sha256_fp32: str
    latency_fp32_ms: float
    files: tuple[QuantizedFile, ...]
    baseline: Baseline | None = None

    def to_json(self, indent: int | None = None) -> str:
        """The report as one JSON object."""
        return json.dumps(asdict(self), ensure_ascii=False, indent=indent)

    def __str__(self) -> str:
        lines = [
            f"{'file':<14}    size   of fp32  accuracy     drop (95 % interval)         agreement  confidence       ms  ranges",
            f"{'fp32':<14} {self.size_fp32 / 1e6:4.1f} MB   {1:6.1%}    {self.accuracy_fp32:.4f}{'':54}{self.latency_fp32_ms:9.2f}",
        ]
        lines += [self._line(file, file.method) for file in self.files]
        if self.baseline:
            lines.append(self._line(self.baseline, "(for comparison)"))
        lines.append(f"against fp32 on {self.judged_images} images; {self.calibration_images} calibration images")
        for file in self.files:
            label = max(file.drop_by_label, key=lambda label: file.drop_by_label[label])
            lines.append(f"{file.name}: largest drop of a label {file.drop_by_label[label]:+.4f}, {label}")
            if file.fallback:
                costs = ", ".join(
                    f"{row.layer} ({row.size / 1e3:+.0f} KB, {row.latency_ms:+.2f} ms)" for row in file.fallback
                )
                lines.append(f"{file.name}: back to float so that it passes: {costs}")
        return "\n".join(lines)

    def _line(self, file: QuantizedFile | Baseline, ranges: str) -> str:
        low, high = file.drop_interval
        return (
            f"{file.name:<14} {file.size / 1e6:4.1f} MB   {file.size / self.size_fp32:6.1%}    {file.accuracy:.4f}  "
            f"{file.drop:+.4f} ({low:+.4f} to {high:+.4f})     {file.agreement:.4f}     {file.confidence_shift:+.4f}"
            f"{file.latency_ms:9.2f}  {ranges}"
        ).rstrip()
