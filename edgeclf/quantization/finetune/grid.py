"""The grid of a Q/DQ file's weights: the rounding that fine-tuning sees, and that the file stores."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from ...graph.int8.ranges import PAIR_LIMIT, WEIGHT_STEPS, has_pairs, names_in_pairs

if TYPE_CHECKING:
    import onnx
    import torch

_QUANTIZED = "_quantized"
"""ends the name of a weight or bias that the quantizer stores as integers; _SCALE, that of its steps' size."""
_SCALE = "_scale"


@dataclass(frozen=True)
class Grid:
    """The values that one layer's weights may have."""

    scales: np.ndarray
    """float32, of a shape that broadcasts to the weights': the step of each output channel."""
    most: int
    """Largest number of steps, on either side of 0."""
    pairs: int | None
    """Axis of the inputs, of which two neighbors' steps add up to PAIR_LIMIT at most; None: no such limit."""

    def steps(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the nearest values as numbers of steps."""
        import torch

        scales = torch.from_numpy(self.scales).to(weights.device)
        steps = (weights / scales).round().clamp(-self.most, self.most)
        if self.pairs is None:
            return steps
        steps = steps.movedim(self.pairs, 0)
        odd = steps[1::2]
        even = steps[0::2][: len(odd)]
        steps[1::2] = odd.clamp(-PAIR_LIMIT - even, PAIR_LIMIT - even)
        return steps.movedim(0, self.pairs)

    def nearest(self, weights: torch.Tensor) -> torch.Tensor:
        """Return the nearest values; the gradient is that of the weights themselves (straight-through estimator)."""
        import torch

        with torch.no_grad():
            error = self.steps(weights) * torch.from_numpy(self.scales).to(weights.device) - weights
        return weights + error


def grids_of(model: onnx.ModelProto, quantized: onnx.ModelProto, sums_of_16_bits: bool) -> dict[str, Grid]:
    """Return the grid of each weight that a Q/DQ file stores in INT8, by name.

    model: its float form, with weights of the same names.  sums_of_16_bits: of the file's flavor.
    """
    from onnx import numpy_helper

    weights = {tensor.name: tensor for tensor in model.graph.initializer}
    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    summed = names_in_pairs(model.graph) if sums_of_16_bits else set()
    grids = {}
    for node in quantized.graph.node:
        name = weight_of(node)
        if name not in weights or node.input[1] not in stored or node.input[1] != name + _SCALE:
            continue  # an activation, or a bias
        scales = numpy_helper.to_array(stored[node.input[1]])
        value = numpy_helper.to_array(weights[name])
        axis = next((one.i for one in node.attribute if one.name == "axis"), 1)
        shape = [-1 if number == axis else 1 for number in range(value.ndim)]
        apart = value.ndim > 2 and not has_pairs(value)
        most = PAIR_LIMIT // 2 if name in summed and apart else WEIGHT_STEPS
        inputs = 1 - axis if value.ndim == 2 else 1
        pairs = inputs if name in summed and not apart else None
        grids[name] = Grid(scales.reshape(shape) if scales.ndim else scales, most, pairs)
    return grids


def weight_of(node: onnx.NodeProto) -> str:
    """Return the name that the float model has for what a QuantizeLinear or DequantizeLinear reads, "" for other nodes."""
    if node.op_type not in ("QuantizeLinear", "DequantizeLinear"):
        return ""
    return str(node.input[0].removesuffix(_QUANTIZED))


def start_on(
    grids: Mapping[str, Grid], floats: Mapping[str, np.ndarray], quantized: onnx.ModelProto
) -> dict[str, np.ndarray]:
    """Return the float weights that lie nearest to the float model's and round to what a Q/DQ file stores.

    floats: the float model's weights and biases.  Those that the file keeps in float are returned as they are.
    """
    from onnx import numpy_helper

    stored = {tensor.name: tensor for tensor in quantized.graph.initializer}
    start = dict(floats)
    for name, grid in grids.items():
        if name + _QUANTIZED in stored:
            steps = numpy_helper.to_array(stored[name + _QUANTIZED]).astype(np.float32)
        else:
            steps = np.round(numpy_helper.to_array(stored[name]) / grid.scales)
        # Within the step, so that rounding returns to it.
        low, high = ((steps + side * 0.499) * grid.scales for side in (-1, 1))
        start[name] = np.clip(floats[name], low, high).astype(np.float32)
    return start


class TunedWeights:
    """Fine-tuned weights and biases, which write_flavor() stores in place of the float model's rounded ones.

    model: the float model (onnx.ModelProto).  values: float32, by name.
    """

    def __init__(self, model: onnx.ModelProto, values: Mapping[str, np.ndarray]) -> None:
        self._model, self._values = model, values

    def apply(self, quantized: onnx.ModelProto, sums_of_16_bits: bool = False) -> None:
        """Replace the weights and biases of a Q/DQ model, in place, keeping its scales; see Rounding.apply()."""
        import torch
        from onnx import numpy_helper

        grids = grids_of(self._model, quantized, sums_of_16_bits)
        tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
        for name, value in self._values.items():
            stored, kept = name + _QUANTIZED, value
            if name in grids:
                steps = grids[name].steps(torch.from_numpy(value)).numpy()
                kept = steps.astype(np.int8) if stored in tensors else steps * grids[name].scales
            elif stored in tensors:  # a bias, in steps of its inputs' times its weights'
                scale = numpy_helper.to_array(tensors[stored + _SCALE]).astype(np.float64)
                most = np.iinfo(np.int32)
                kept = np.clip(np.round(value / scale), most.min, most.max).astype(np.int32)
            place = tensors.get(stored, tensors.get(name))
            if place is not None:
                place.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(kept), place.name))
