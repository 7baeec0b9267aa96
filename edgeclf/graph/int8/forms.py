"""The forms of a Q/DQ file: which operators compute in 8 bits.

No form is the fastest everywhere.  The first layers, with few channels, gain little on ONNX Runtime and much on OpenVINO, and cost
accuracy.  The last layer gains where there are many labels.  Around the gates of squeeze and excitation, and around swish,
ONNX Runtime gains from 8 bits, and OpenVINO loses; sums of branches gain on both.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ...targets import Flavor

if TYPE_CHECKING:
    import onnx


@dataclass(frozen=True)
class Form:
    """A choice of the operators that compute in 8 bits."""

    name: str
    every_operator: bool = True
    """Every operator that the backends have in 8 bits, such as sums of branches, or only layers with weights."""
    gates: bool = True
    """With every operator, those of squeeze and excitation, and of swish, too."""
    first_layers: bool = False
    """Convolutions of few channels too, which are those near the image."""
    last_layer: bool = False
    """The layer that outputs the logits too, and the pooling before it; the logits themselves are not rounded."""


STANDARD = Form("standard")
_WEIGHTED = Form("weighted", every_operator=False)
_SIGMOIDS = ("Sigmoid", "HardSigmoid", "HardSwish")
GATES = (*_SIGMOIDS, "Mul")
"""Operators of squeeze and excitation, and of swish."""
FORMS = {
    form.name: form
    for form in (
        STANDARD,
        _WEIGHTED,
        Form("ungated", gates=False),
        Form("first-layers", first_layers=True),
        Form("all-weighted", every_operator=False, first_layers=True, last_layer=True),
        Form("all-ungated", gates=False, first_layers=True, last_layer=True),
        Form("all-layers", first_layers=True, last_layer=True),
    )
}


def usual_form(flavor: Flavor, graph: onnx.GraphProto, wanted: str = "fastest") -> Form:
    """Return the form of a flavor's file before any is timed; ``wanted``: a form's name, or fastest.

    graph: onnx.GraphProto.  TensorRT has its own form.
    """
    if flavor.tensorrt:
        return STANDARD
    if wanted in FORMS:
        return FORMS[wanted]
    gated = any(node.op_type in _SIGMOIDS for node in graph.node)
    return _WEIGHTED if gated and flavor.only_openvino else STANDARD


def forms_of(graph: onnx.GraphProto) -> list[Form]:
    """Return the forms in which a graph's files may differ."""
    gated = any(node.op_type in GATES for node in graph.node)
    return [form for form in FORMS.values() if form.gates or gated]
