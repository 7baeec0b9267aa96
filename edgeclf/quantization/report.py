"""The report of quantize(): a table for people, JSON for machines."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, fields
from typing import Any

from ..evaluation.comparison import Comparison
from .sensitivity import LayerEffect, LayerNoise


@dataclass(frozen=True, kw_only=True)
class Trial:
    """One range method tried for one flavor, compared with FP32."""

    comparison: Comparison
    method: str
    size: int


@dataclass(frozen=True, kw_only=True)
class FloatLayer:
    """A layer that went back to float so that the file passes, and what that costs."""

    layer: str
    size: int
    """Bytes added to the file."""
    latency_ms: float
    """Time added to an inference on this machine; negative: saved."""


@dataclass(frozen=True, kw_only=True)
class Findings:
    """What the search for a file found."""

    method: str = ""
    """Range method, by its name in ranges.METHODS; "" for a file without Q/DQ."""
    trials: tuple[Trial, ...] = ()
    """Every method that was tried."""
    float_layers: tuple[str, ...] = ()
    """Convolutions and matrix products that compute in float."""
    float_operators: tuple[str, ...] = ()
    """Other operators that compute in float somewhere."""
    fallback: tuple[FloatLayer, ...] = ()
    """Those of float_layers without which the file would not pass."""
    noise: tuple[LayerNoise, ...] = ()
    effects: tuple[LayerEffect, ...] = ()
    """Measured if the file did not pass at once."""


@dataclass(frozen=True, kw_only=True)
class QuantizedFile:
    """One file, compared with FP32 on the same images."""

    comparison: Comparison
    findings: Findings
    name: str
    path: str
    size: int
    sha256: str
    latency_ms: float
    """Median of one inference on this machine's CPU by ONNX Runtime, whatever the file is for."""
    layers: int = 0
    """Convolutions and matrix products."""


@dataclass(frozen=True, kw_only=True)
class Baseline:
    """A way of quantizing that is not shipped, for comparison."""

    comparison: Comparison
    name: str
    size: int
    latency_ms: float


@dataclass(frozen=True, kw_only=True)
class QuantizeReport:
    """What quantize() wrote."""

    run: str
    calibration_images: int
    calibration_sha256: str
    judged_images: int
    """Evaluation images."""
    max_drop: float
    """Largest accuracy drop that was accepted."""
    accuracy_fp32: float
    size_fp32: int
    sha256_fp32: str
    latency_fp32_ms: float
    files: tuple[QuantizedFile, ...]
    baseline: Baseline | None = None

    def to_json(self, indent: int | None = None) -> str:
        """The report as one JSON object."""
        return json.dumps(_flat(self), ensure_ascii=False, indent=indent)

    def __str__(self) -> str:
        lines = [
            f"{'file':<14}    size   of fp32  accuracy     drop (95 % interval)         agreement  confidence       ms  ranges",
            f"{'fp32':<14} {self.size_fp32 / 1e6:4.1f} MB   {1:6.1%}    {self.accuracy_fp32:.4f}{'':54}{self.latency_fp32_ms:9.2f}",
        ]
        lines += [self._line(file, file.findings.method) for file in self.files]
        if self.baseline:
            lines.append(self._line(self.baseline, "(for comparison)"))
        lines.append(f"compared with fp32 on {self.judged_images} images; {self.calibration_images} calibration images")
        for file in self.files:
            drops = file.comparison.drop_by_label
            label = max(drops, key=lambda label: drops[label])
            lines.append(f"{file.name}: largest recall drop {drops[label]:+.4f}, label {label}")
            if file.findings.fallback:
                costs = ", ".join(
                    f"{row.layer} ({row.size / 1e3:+.0f} KB, {row.latency_ms:+.2f} ms)"
                    for row in file.findings.fallback
                )
                lines.append(f"{file.name}: back to float so that it passes: {costs}")
        return "\n".join(lines)

    def _line(self, file: QuantizedFile | Baseline, ranges: str) -> str:
        found = file.comparison
        low, high = found.drop_interval
        return (
            f"{file.name:<14} {file.size / 1e6:4.1f} MB   {file.size / self.size_fp32:6.1%}    {found.accuracy:.4f}  "
            f"{found.drop:+.4f} ({low:+.4f} to {high:+.4f})     {found.agreement:.4f}     {found.confidence_shift:+.4f}"
            f"{file.latency_ms:9.2f}  {ranges}"
        ).rstrip()


def _flat(value: Any) -> Any:
    """Return a report as JSON has it: a file's comparison and findings stand beside its own fields."""
    if isinstance(value, (Comparison, LayerNoise, LayerEffect)):
        return asdict(value)
    if isinstance(value, (tuple, list)):
        return [_flat(item) for item in value]
    if not hasattr(value, "__dataclass_fields__"):
        return value
    row: dict[str, Any] = {}
    for field in fields(value):
        flat = _flat(getattr(value, field.name))
        row.update(flat if field.name in ("comparison", "findings") else {field.name: flat})
    return row
