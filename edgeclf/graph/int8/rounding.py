"""Rounds convolution weights to INT8 so that the layer's output changes least, not each weight.

If each weight is rounded to the nearest step, the errors of neighbors add up: in a depthwise
kernel they are all multiplied with nearly the same pixel values.  Here the weights not yet rounded compensate
the error of each rounded one, weighted by the second moments of the layer's inputs on real images
(GPTQ: Frantar et al., "Accurate Post-Training Quantization for Generative Pre-trained
Transformers", ICLR 2023).  Their Cholesky form needs the inverse of the moments; here the moments themselves are factored
from the last weight to the first, which gives the same steps (Chen et al., "The Geometry of LLM Quantization: GPTQ as
Babai's Nearest Plane Algorithm", 2025).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...data.sampling import evenly_spaced
from ...display.progress import track
from ..onnx_file import INPUT, probing_session
from .activations import check_sequence
from .ranges import PAIR_LIMIT, WEIGHT_STEPS, has_pairs, names_in_pairs

if TYPE_CHECKING:
    import onnx

_DAMPING = 0.01
_COLUMNS = 64
_POSITIONS = 128
"""Pixels sampled from each image's feature map; neighboring pixels hold much the same information."""
_BYTES = 4 << 20
"""Bytes of a layer's columns to collect before they are multiplied: one product over several images is faster."""
IMAGES = 32
"""Images needed for the second moments."""


def collect_moments(model: onnx.ModelProto, batches: Sequence[np.ndarray]) -> dict[str, np.ndarray]:
    """Return the second moments of the inputs of every convolution of two dimensions, by its weight's name.

    model: an onnx.ModelProto of float32, input ``image``.  batches: float32 [1, height, width, 3]
    each; IMAGES of them, evenly spaced, are used.

    For a 1 x 1 convolution: float64 [1, inputs, inputs].  For a larger kernel, the taps of each
    input channel are taken together: float64 [inputs, taps, taps].
    """
    check_sequence(batches)
    shapes = {tensor.name: tuple(tensor.dims) for tensor in model.graph.initializer}
    stored = [node for node in model.graph.node if node.op_type == "Conv" and len(shapes.get(node.input[1], ())) == 4]
    convolutions = [_Convolution(node, shapes[node.input[1]]) for node in stored]
    names = sorted({convolution.input for convolution in convolutions} - {INPUT})
    session = probing_session(model, names)
    moments: dict[str, np.ndarray] = {}
    pending: dict[str, list[np.ndarray]] = {convolution.weight: [] for convolution in convolutions}
    chosen = [batches[i] for i in evenly_spaced(len(batches), IMAGES)]
    for batch in track(chosen, "measuring the layers", len(chosen)):
        maps = dict(zip(names, session.run(names, {INPUT: batch}), strict=True))
        for convolution in convolutions:
            columns = pending[convolution.weight]
            columns.append(convolution.columns(maps[convolution.input][0]))
            if batch is chosen[-1] or len(columns) * columns[0].nbytes >= _BYTES:
                moments[convolution.weight] = moments.get(convolution.weight, 0) + _products(columns)
                columns.clear()
    return moments


def _products(columns: Sequence[np.ndarray]) -> np.ndarray:
    """Return the second moments of several images' columns, float64 [blocks, n, n]."""
    together = np.concatenate(columns, axis=2)
    if len(together) == 1:  # a matrix with its own transpose, of which NumPy computes one half
        return (together[0] @ together[0].T)[None].astype(np.float64)
    return np.asarray(together @ together.transpose(0, 2, 1), np.float64)


class Rounding:
    """The rounded weights of a float model's convolutions, each computed once for the same scales.

    model: an onnx.ModelProto of float32.  moments: as :func:`collect_moments` returns them.
    """

    def __init__(self, model: onnx.ModelProto, moments: dict[str, np.ndarray]) -> None:
        from onnx import numpy_helper

        stored = {tensor.name: tensor for tensor in model.graph.initializer}
        self._weights = {name: numpy_helper.to_array(stored[name]) for name in moments}
        self._moments = moments
        self._in_pairs = names_in_pairs(model.graph)
        self._factors: dict[str, list[np.ndarray]] = {}
        self._steps: dict[tuple[str, bytes, bool], np.ndarray] = {}

    def apply(self, quantized: onnx.ModelProto, sums_of_16_bits: bool = False) -> None:
        """Replace the weights of every convolution of a Q/DQ model (onnx.ModelProto), in place, keeping its scales.

        Weights that the file stores as float, before a QuantizeLinear, become whole steps.
        sums_of_16_bits: whether two neighboring weights may add up to ranges.PAIR_LIMIT at most.
        """
        from onnx import numpy_helper

        tensors = {tensor.name: tensor for tensor in quantized.graph.initializer}
        for name in self._weights:
            if f"{name}_scale" not in tensors:
                continue  # a layer that stays float
            scales = numpy_helper.to_array(tensors[f"{name}_scale"])
            steps = self._round(name, scales, sums_of_16_bits and name in self._in_pairs)
            stored = f"{name}_quantized"
            if stored in tensors:
                tensors[stored].CopyFrom(numpy_helper.from_array(steps, stored))
            else:
                tensors[name].CopyFrom(numpy_helper.from_array(steps * scales.reshape(-1, 1, 1, 1), name))

    def _round(self, name: str, scales: np.ndarray, in_pairs: bool) -> np.ndarray:
        key = name, scales.tobytes(), in_pairs
        if key not in self._steps:
            weights = self._weights[name]
            if name not in self._factors:
                self._factors[name] = factors_of(weights, self._moments[name])
            self._steps[key] = round_weights(weights, scales, self._factors[name], in_pairs)
        return self._steps[key]


def round_weights(
    weights: np.ndarray, scales: np.ndarray, factors: Sequence[np.ndarray], in_pairs: bool = False
) -> np.ndarray:
    """Round a convolution's weights to int8 [outputs, inputs of the group, height, width].

    weights: float32 of that shape.  scales: float32 [outputs], the step of each output channel.
    factors: as :func:`factors_of` returns them.  in_pairs: whether two neighboring weights add up
    to ranges.PAIR_LIMIT at most.
    """
    outputs, inputs, *kernel = weights.shape
    pointwise = kernel == [1, 1]
    most = WEIGHT_STEPS if not in_pairs or has_pairs(weights) else PAIR_LIMIT // 2
    in_pairs = in_pairs and has_pairs(weights)
    rows = weights.astype(np.float64).reshape(outputs, 1 if pointwise else inputs, -1)
    rounded = np.empty(rows.shape, np.int8)
    groups = len(factors[0])
    group = np.arange(outputs) // (outputs // groups)  # of each output
    for block, factor in enumerate(factors):
        # The steps of the weight's partner, the even input channel before it; together they stay below PAIR_LIMIT.
        taken = rounded[:, block - 1].astype(int) if in_pairs and block % 2 else np.zeros(rows[:, block].shape, int)
        rounded[:, block] = _round_block(
            rows[:, block],
            scales.astype(np.float64),
            factor[group] if groups > 1 else factor,
            most,
            taken,
            in_pairs and pointwise,
        )
    return rounded.reshape(weights.shape)


def factors_of(weights: np.ndarray, moments: np.ndarray) -> list[np.ndarray]:
    """Return what the rounding of each weight adds to the weights after it: a matrix for each block of inputs.

    weights: float32 [outputs, inputs of the group, height, width].  moments: as :func:`collect_moments` returns them.

    Each is float64 [groups, n, n], upper triangular with ones on the diagonal.  A block is an input channel of the group; of a
    1 x 1 convolution, whose input channels are taken together, there is one.
    """
    blocks = 1 if weights.shape[2:] == (1, 1) else weights.shape[1]
    return [_factor(_moments_of_groups(moments, block, weights)) for block in range(blocks)]


def _factor(moments: np.ndarray) -> np.ndarray:
    """Factor float64 [m, n, n] into U U', U upper triangular, and divide each column of U by its last number."""
    count = moments.shape[1]
    mean = np.trace(moments, axis1=1, axis2=2) / count
    damped = moments + (_DAMPING * mean + 1e-12)[:, None, None] * np.eye(count)
    upper = np.linalg.cholesky(damped[:, ::-1, ::-1])[:, ::-1, ::-1]
    return np.ascontiguousarray(upper / np.diagonal(upper, axis1=1, axis2=2)[:, None])


def _moments_of_groups(moments: np.ndarray, block: int, weights: np.ndarray) -> np.ndarray:
    """Return the moments of the inputs of each group's weights in a block, [groups, n, n].

    block: an input channel of the group; of a 1 x 1 convolution, whose input channels are taken together, 0.
    """
    inputs = weights.shape[1]
    together = weights.shape[2:] == (1, 1)
    groups = (moments.shape[1] if together else len(moments)) // inputs
    first = np.arange(groups) * inputs
    if not together:
        return np.asarray(moments[first + block])
    channels = first[:, None] + np.arange(inputs)
    return np.asarray(moments[0][channels[:, :, None], channels[:, None, :]])


class _Convolution:
    """A Conv node of two dimensions, and the layout of its input for its weights, whose shape is given."""

    def __init__(self, node: onnx.NodeProto, shape: tuple[int, ...]) -> None:
        attributes = {attribute.name: attribute for attribute in node.attribute}
        self.input, self.weight = node.input[0], node.input[1]
        self.kernel = shape[2:]
        self.pads = list(attributes["pads"].ints) if "pads" in attributes else [0, 0, 0, 0]
        self.strides = list(attributes["strides"].ints) if "strides" in attributes else [1, 1]
        self.dilations = list(attributes["dilations"].ints) if "dilations" in attributes else [1, 1]

    def columns(self, maps: np.ndarray) -> np.ndarray:
        """Return the values that the weights are multiplied with: float32 [blocks, weights of a block, positions]."""
        top, left, bottom, right = self.pads
        padded = np.pad(maps, ((0, 0), (top, bottom), (left, right)))
        reach = [(taps - 1) * step + 1 for taps, step in zip(self.kernel, self.dilations, strict=True)]
        windows = np.lib.stride_tricks.sliding_window_view(padded, reach, axis=(1, 2))
        windows = windows[:, :: self.strides[0], :: self.strides[1], :: self.dilations[0], :: self.dilations[1]]
        channels, height, width = windows.shape[:3]
        chosen = np.linspace(0, height * width - 1, min(_POSITIONS, height * width)).astype(int)
        patches = windows[:, chosen // width, chosen % width].reshape(channels, len(chosen), -1)
        return patches.transpose(2, 0, 1) if self.kernel == (1, 1) else patches.transpose(0, 2, 1)


def _round_block(
    rows: np.ndarray, scales: np.ndarray, factor: np.ndarray, most: int, taken: np.ndarray, pairs_of_columns: bool
) -> np.ndarray:
    """Round float64 [outputs, n] with a factor [1 or outputs, n, n] to -most ... most.

    taken: int [outputs, n], the steps of each weight's partner; a pair adds up to PAIR_LIMIT at most.
    pairs_of_columns: whether columns 2 i and 2 i + 1 are such pairs.
    """
    count = rows.shape[1]
    rounded, errors = np.empty(rows.shape, np.int8), np.empty(rows.shape)
    for start in range(0, count, _COLUMNS):
        end = min(start + _COLUMNS, count)
        # What all columns before these add, in one product; the columns among themselves follow one by one.
        wanted = rows[:, start:end] + _added(errors[:, :start], factor[:, :start, start:end])
        for column in range(start, end):
            partner = rounded[:, column - 1].astype(int) if pairs_of_columns and column % 2 else taken[:, column]
            low, high = np.maximum(-most, -PAIR_LIMIT - partner), np.minimum(most, PAIR_LIMIT - partner)
            steps = np.clip(np.round(wanted[:, column - start] / scales), low, high)
            rounded[:, column] = steps
            errors[:, column] = rows[:, column] - steps * scales
            wanted[:, column + 1 - start :] += errors[:, column, None] * factor[:, column, column + 1 : end]
    return rounded


def _added(errors: np.ndarray, factor: np.ndarray) -> np.ndarray:
    """Multiply each row of [outputs, k] by its own matrix of [outputs, k, columns], or by the one of [1, k, columns]."""
    return errors @ factor[0] if len(factor) == 1 else (errors[:, None] @ factor)[:, 0]
