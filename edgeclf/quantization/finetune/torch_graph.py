"""A TorchGraph: a Q/DQ file that computes in torch, with gradients, as the file does on a device."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from ...errors import ModelError
from ...graph.layers import WEIGHTED
from ...graph.onnx_file import INPUT
from .grid import grids_of, start_on, weight_of
from .torch_operators import OPERATORS, Attributes, attributes_of

if TYPE_CHECKING:
    import onnx
    import torch

_ROUNDING = ("QuantizeLinear", "DequantizeLinear")


class TorchGraph:
    """The computation of a Q/DQ file.

    Each QuantizeLinear rounds as the file's does, and passes gradients inside its range (Jacob et al., "Quantization and
    Training of Neural Networks for Efficient Integer-Arithmetic-Only Inference", CVPR 2018).

    weights  the weights and biases of its layers, torch.float32, by their names in the float model; they are rounded at each
             call, except biases, which the file rounds to INT32

    model: the float model (onnx.ModelProto).  quantized: the Q/DQ form that write_flavor() made of it.  sums_of_16_bits: of
    its flavor.  Raises ModelError for an operator that is not in OPERATORS.
    """

    def __init__(
        self, model: onnx.ModelProto, quantized: onnx.ModelProto, sums_of_16_bits: bool, device: str = "cpu"
    ) -> None:
        import torch
        from onnx import numpy_helper

        refuse_unknown(quantized)
        self._nodes = [(node, {**attributes_of(node), "parts": len(node.output)}) for node in quantized.graph.node]
        self._output = quantized.graph.output[0].name
        floats = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        layers = [node for node in model.graph.node if node.op_type in WEIGHTED]
        names = sorted({name for node in layers for name in node.input[1:3] if name in floats})
        self._grids = grids_of(model, quantized, sums_of_16_bits)
        start = start_on(self._grids, {name: floats[name] for name in names}, quantized)
        self.weights = {name: torch.tensor(value, device=device, requires_grad=True) for name, value in start.items()}
        self._stored = {tensor.name: numpy_helper.to_array(tensor) for tensor in quantized.graph.initializer}
        self._constants = {
            name: torch.tensor(value, device=device) for name, value in self._stored.items() if name not in start
        }

    def __call__(self, images: torch.Tensor) -> torch.Tensor:
        """Return the logits, float32 [N, labels], of images, float32 [N, height, width, 3]."""
        values: dict[str, torch.Tensor | None] = {"": None, **self._constants, **self.weights, INPUT: images}
        found: torch.Tensor | tuple[torch.Tensor, ...]
        for node, given in self._nodes:
            if node.op_type in _ROUNDING:
                found = self._round(node, values)
            elif node.op_type == "Constant":
                found = self._constant(given, images.device)
            else:
                found = OPERATORS[node.op_type](given, *(values[name] for name in node.input))
            values.update(zip(node.output, found if isinstance(found, tuple) else (found,), strict=True))
        logits = values[self._output]
        assert logits is not None
        return logits

    def tuned(self) -> dict[str, np.ndarray]:
        """Return the weights and biases as they are now, float32, by name."""
        return {name: value.detach().cpu().numpy().copy() for name, value in self.weights.items()}

    def _round(self, node: onnx.NodeProto, values: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
        import torch

        name = weight_of(node)
        if name in self._grids:
            # TensorRT's form has both nodes after a weight; the second passes the rounded values on.
            return self._grids[name].nearest(self.weights[name])
        if name in self.weights:
            return self.weights[name]
        value = values[node.input[0]]
        assert value is not None
        scale = self._stored[node.input[1]]
        zero = self._stored[node.input[2]] if len(node.input) > 2 else np.uint8(0)
        if node.op_type == "QuantizeLinear":
            kind = np.iinfo(zero.dtype)
            rounded: torch.Tensor = torch.fake_quantize_per_tensor_affine(
                value, float(scale), int(zero), int(kind.min), int(kind.max)
            )
            return rounded
        if node.input[0] not in self._stored:
            return value  # rounded by the QuantizeLinear before
        return (value.float() - float(zero)) * float(scale)

    def _constant(self, given: Attributes, device: torch.device) -> torch.Tensor:
        import torch
        from onnx import numpy_helper

        return torch.tensor(numpy_helper.to_array(given["value"]), device=device)


def refuse_unknown(model: onnx.ModelProto) -> None:
    """Raise ModelError for a model with operators that cannot be fine-tuned."""
    unknown = sorted({node.op_type for node in model.graph.node} - {*OPERATORS, *_ROUNDING, "Constant"})
    if unknown:
        raise ModelError(
            f"the model has the operators {', '.join(unknown)}, which --finetune-int8 does not know; quantize without it"
        )
