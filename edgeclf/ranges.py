"""The ranges of a model's activations over a calibration set: collected once, used by every flavour.

Knows nothing of Q/DQ or of accuracy.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from .reporting import track


def prepare(source: Path) -> Any:
    """Return a model file as onnx.ModelProto with the inferred shapes that the quantizer needs."""
    import onnx
    from onnxruntime.quantization.shape_inference import quant_pre_process

    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        output = Path(folder) / "prepared.onnx"
        quant_pre_process(source, output, skip_symbolic_shape=True, skip_optimization=True)
        return onnx.load(output)


def collect_ranges(model: Any, batches: Sequence[np.ndarray]) -> Any:
    """Return the smallest and largest value of every activation over the images (ONNX Runtime's TensorsData).

    model: onnx.ModelProto.  batches: float32 [1, height, width, 3] each.
    """
    import onnx
    from onnxruntime.quantization import CalibrationDataReader, CalibrationMethod
    from onnxruntime.quantization.calibrate import create_calibrator

    class Reader(CalibrationDataReader):
        def __init__(self) -> None:
            self._batches: Iterator[np.ndarray] = iter(track(batches, "calibrating", len(batches)))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self._batches, None)
            return None if batch is None else {"image": batch}

    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        path = Path(folder) / "model.onnx"
        onnx.save(model, path)
        calibrator = create_calibrator(
            path,
            augmented_model_path=str(path.with_name("augmented.onnx")),
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"max_intermediate_outputs": 64},
        )
        calibrator.collect_data(Reader())
        return calibrator.compute_data()


def largest_magnitudes(ranges: Any) -> dict[str, float]:
    """Return the largest absolute value of every activation, by the tensor's name."""
    return {name: float(max(abs(low), abs(high))) for name, (low, high) in _bounds(ranges)}


def _bounds(ranges: Any) -> Iterator[tuple[str, tuple[float, float]]]:
    for name, data in ranges.items():
        low, high = data.range_value
        yield name, (float(np.min(low)), float(np.max(high)))
