"""The table of what each device reads: the only place where a device's limits are written down.

Sources: NVIDIA's release notes of JetPack and TensorRT for the versions, the TensorRT support
matrix for the precisions, the parser's operator lists for the opsets.
"""

from __future__ import annotations

from dataclasses import dataclass

OPSET = 13
"""The newest opset that every target reads; per-channel Q/DQ needs it."""
IR_VERSION = 7
"""ONNX file format that goes with opset 13; ONNX Runtime 1.10 (Python 3.6) reads up to 8."""


@dataclass(frozen=True)
class Flavor:
    """How a Q/DQ file is written for one family of backends, as arguments of ONNX Runtime's quantize_static."""

    name: str
    """The model's name in a bundle, and in its file: model.NAME.onnx."""
    backends: tuple[str, ...]
    activations: str
    weights: str


FLOAT_BACKENDS = ("onnxruntime", "opencv")
"""What runs the FP32 file, the fastest first; OpenCV is what a stock JetPack has without pip."""

FLAVORS = {
    # U8S8: the form that ONNX Runtime's x86 kernels are fastest with.
    "int8-cpu": Flavor("int8-cpu", ("onnxruntime",), "QUInt8", "QInt8"),
}


@dataclass(frozen=True)
class Target:
    """One kind of device: which models it is given, the best first."""

    name: str
    description: str
    machines: tuple[str, ...]
    """What ``platform.machine()`` says there."""
    models: tuple[str, ...]


TARGETS = {
    target.name: target
    for target in (
        Target("x86-cpu", "a PC or server without a GPU", ("x86_64", "AMD64"), ("int8-cpu", "fp32")),
        # U8S8 files gain nothing on a processor without the dot-product instructions (Nano's Cortex-A57).
        Target("arm-cpu", "an Arm board by its CPU", ("aarch64", "armv7l", "arm64"), ("fp32", "int8-cpu")),
    )
}
