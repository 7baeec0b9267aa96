"""OPERATORS: the ONNX operators of classifiers as differentiable torch functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    import onnx
    import torch

Attributes = dict[str, Any]
"""Of a node, by name."""
Operator: TypeAlias = "Callable[..., torch.Tensor | tuple[torch.Tensor, ...]]"
"""Takes the attributes and the inputs, of which those left out are None."""


def attributes_of(node: onnx.NodeProto) -> Attributes:
    """Return a node's attributes by name."""
    import onnx

    return {one.name: onnx.helper.get_attribute_value(one) for one in node.attribute}


def _conv(
    given: Attributes, image: torch.Tensor, weight: torch.Tensor, bias: torch.Tensor | None = None
) -> torch.Tensor:
    from torch.nn import functional

    sizes = weight.ndim - 2
    pads = list(given.get("pads", [0] * 2 * sizes))
    before, after = pads[:sizes], pads[sizes:]
    if before != after:
        image, before = functional.pad(image, _pairs(before, after)), [0] * sizes
    convolve: Callable[..., torch.Tensor] = (functional.conv1d, functional.conv2d, functional.conv3d)[sizes - 1]
    strides, dilations = (list(given.get(name, [1] * sizes)) for name in ("strides", "dilations"))
    return convolve(image, weight, bias, strides, before, dilations, given.get("group", 1))


def _pairs(before: list[int], after: list[int]) -> list[int]:
    """Return paddings in the order that torch expects: the last axis first, both ends of each."""
    return [size for ends in zip(reversed(before), reversed(after), strict=True) for size in ends]


def _gemm(given: Attributes, left: torch.Tensor, right: torch.Tensor, bias: torch.Tensor | None = None) -> torch.Tensor:
    left = left.T if given.get("transA") else left
    right = right.T if given.get("transB") else right
    product = given.get("alpha", 1.0) * (left @ right)
    return product if bias is None else product + given.get("beta", 1.0) * bias


def _clip(
    given: Attributes, value: torch.Tensor, low: torch.Tensor | None = None, high: torch.Tensor | None = None
) -> torch.Tensor:
    least, most = (None if bound is None else float(bound) for bound in (low, high))
    return value if least is None and most is None else value.clamp(least, most)


def _pool(kind: str) -> Operator:
    def pool(given: Attributes, image: torch.Tensor) -> torch.Tensor:
        from torch.nn import functional

        size, strides = list(given["kernel_shape"]), list(given.get("strides", [1, 1]))
        pads = list(given.get("pads", [0, 0, 0, 0]))
        ceil = bool(given.get("ceil_mode", 0))
        if kind == "max":
            image = functional.pad(image, _pairs(pads[:2], pads[2:]), value=float("-inf")) if any(pads) else image
            return functional.max_pool2d(image, size, strides, ceil_mode=ceil)
        if given.get("count_include_pad", 0) and any(pads):
            image, pads = functional.pad(image, _pairs(pads[:2], pads[2:])), [0, 0, 0, 0]
        return functional.avg_pool2d(image, size, strides, pads[:2], ceil_mode=ceil, count_include_pad=False)

    return pool


def _mean(given: Attributes, value: torch.Tensor) -> torch.Tensor:
    axes = list(given.get("axes", range(value.ndim)))
    return value.mean(axes, keepdim=bool(given.get("keepdims", 1)))


def _reshape(given: Attributes, value: torch.Tensor, shape: torch.Tensor) -> torch.Tensor:
    return value.reshape([value.shape[i] if size == 0 else size for i, size in enumerate(shape.tolist())])


def _flatten(given: Attributes, value: torch.Tensor) -> torch.Tensor:
    axis = given.get("axis", 1)
    return value.reshape(value.shape[:axis].numel(), -1)


def _squeeze(given: Attributes, value: torch.Tensor, axes: torch.Tensor | None = None) -> torch.Tensor:
    return value.squeeze() if axes is None else value.squeeze(tuple(axes.tolist()))


def _unsqueeze(given: Attributes, value: torch.Tensor, axes: torch.Tensor) -> torch.Tensor:
    for axis in sorted(axis % (value.ndim + len(axes)) for axis in axes.tolist()):
        value = value.unsqueeze(axis)
    return value


def _pad(given: Attributes, value: torch.Tensor, pads: torch.Tensor, fill: torch.Tensor | None = None) -> torch.Tensor:
    from torch.nn import functional

    sizes = pads.tolist()
    filling = 0.0 if fill is None else float(fill)
    return functional.pad(value, _pairs(sizes[: value.ndim], sizes[value.ndim :]), value=filling)


def _split(given: Attributes, value: torch.Tensor, sizes: torch.Tensor | None = None) -> tuple[torch.Tensor, ...]:
    axis = given.get("axis", 0)
    return value.chunk(given["parts"], axis) if sizes is None else value.split(sizes.tolist(), axis)


def _slice(given: Attributes, value: torch.Tensor, *where: torch.Tensor | None) -> torch.Tensor:
    starts, ends, axes, steps = (*(None if one is None else one.tolist() for one in where), None, None)[:4]
    places = [slice(None)] * value.ndim
    for number, (start, end) in enumerate(zip(starts or [], ends or [], strict=True)):
        places[axes[number] if axes else number] = slice(start, end, steps[number] if steps else 1)
    return value[tuple(places)]


def _gather(given: Attributes, value: torch.Tensor, index: torch.Tensor) -> torch.Tensor:
    axis = given.get("axis", 0) % value.ndim
    place: list[slice | torch.Tensor] = [*[slice(None)] * axis, index]
    return value[tuple(place)]


def _concat(given: Attributes, *values: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.cat(values, given["axis"])


def _shape(given: Attributes, value: torch.Tensor) -> torch.Tensor:
    import torch

    return torch.tensor(value.shape)


def _normalize(given: Attributes, value: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
    scale, shift, mean, variance = (part.reshape(-1, *[1] * (value.ndim - 2)) for part in parts)
    return (value - mean) / (variance + given.get("epsilon", 1e-5)).sqrt() * scale + shift


OPERATORS: dict[str, Operator] = {
    "Add": lambda given, left, right: left + right,
    "AveragePool": _pool("average"),
    "BatchNormalization": _normalize,
    "Clip": _clip,
    "Concat": _concat,
    "Conv": _conv,
    "Div": lambda given, left, right: left / right,
    "Erf": lambda given, value: value.erf(),
    "Exp": lambda given, value: value.exp(),
    "Flatten": _flatten,
    "Gather": _gather,
    "Gemm": _gemm,
    "GlobalAveragePool": lambda given, image: image.mean((2, 3), keepdim=True),
    "HardSigmoid": lambda given, value: (given.get("alpha", 0.2) * value + given.get("beta", 0.5)).clamp(0, 1),
    "HardSwish": lambda given, value: value * (value / 6 + 0.5).clamp(0, 1),
    "Identity": lambda given, value: value,
    "LeakyRelu": lambda given, value: value.where(value >= 0, given.get("alpha", 0.01) * value),
    "MatMul": lambda given, left, right: left @ right,
    "MaxPool": _pool("max"),
    "Mul": lambda given, left, right: left * right,
    "Neg": lambda given, value: -value,
    "Pad": _pad,
    "Pow": lambda given, value, power: value**power,
    "ReduceMean": _mean,
    "Relu": lambda given, value: value.relu(),
    "Reshape": _reshape,
    "Shape": _shape,
    "Sigmoid": lambda given, value: value.sigmoid(),
    "Slice": _slice,
    "Softmax": lambda given, value: value.softmax(given.get("axis", -1)),
    "Split": _split,
    "Sqrt": lambda given, value: value.sqrt(),
    "Squeeze": _squeeze,
    "Sub": lambda given, left, right: left - right,
    "Tanh": lambda given, value: value.tanh(),
    "Transpose": lambda given, value: value.permute(given.get("perm", tuple(reversed(range(value.ndim))))),
    "Unsqueeze": _unsqueeze,
}
"""Of opset 13, as edgeclf's own files and those that it imports have them."""
