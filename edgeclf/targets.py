"""Table of devices: the models that each one runs, and its limits.

Sources: NVIDIA's release notes of JetPack and TensorRT (versions), the TensorRT support matrix
(precisions), the operator lists of its parser (opsets).
"""

from __future__ import annotations

from dataclasses import dataclass

OPSET = 13
"""Newest opset that every target reads; the oldest with per-channel Q/DQ."""
FP16_QDQ_OPSET = 19
"""First opset whose QuantizeLinear accepts FP16; only strongly typed TensorRT reads that file."""
IR_VERSIONS = {OPSET: 7, FP16_QDQ_OPSET: 9}
"""ONNX IR version for each opset; ONNX Runtime 1.10 (Python 3.6) reads up to 8."""
CALIBRATION_CACHE = "calibration.cache"
"""File with the INT8 ranges for TensorRT 8 to 10, next to the FP32 file in a run or a bundle."""


@dataclass(frozen=True)
class Flavor:
    """A model file for one family of backends, and how it is written."""

    name: str
    """Name of the model, as in model.NAME.onnx."""
    backends: tuple[str, ...]
    activations: str | None
    """Type of activations (QuantType of ONNX Runtime); None: no Q/DQ, all FP16.  Weights are always QInt8."""
    tensorrt: bool = False
    """Use TensorRT's form of Q/DQ: no zero points, float biases, Q/DQ only at the inputs of a layer."""
    sums_of_16_bits: bool = False
    """Some of its processors add two products in 16 bits, so the weights must leave headroom."""
    half_of: str | None = None
    """The flavor that this one equals, except that its float part is FP16."""

    @property
    def only_openvino(self) -> bool:
        """True if no other backend runs it."""
        return self.backends == ("openvino",)


FLOAT_BACKENDS = ("tensorrt", "tensorrt-rtx", "onnxruntime", "openvino", "opencv")
"""Backends that run the FP32 file, fastest first; a stock JetPack has OpenCV without pip."""

FLAVORS = {
    flavor.name: flavor
    for flavor in (
        # U8S8: the fastest form for ONNX Runtime's x86 kernels.
        Flavor("int8-cpu", ("onnxruntime", "openvino"), "QUInt8", sums_of_16_bits=True),
        # The same numbers, with Q/DQ pairs where OpenVINO gains from them.
        Flavor("int8-openvino", ("openvino",), "QUInt8", sums_of_16_bits=True),
        # S8S8: the form that Arm's dot-product instructions take.
        Flavor("int8-arm", ("onnxruntime",), "QInt8"),
        Flavor("int8-tensorrt", ("tensorrt", "tensorrt-rtx"), "QInt8", tensorrt=True),
        # For strongly typed TensorRT, 10.12 and later; earlier versions do this to int8-tensorrt by the FP16 flag.
        Flavor("int8-fp16", ("tensorrt", "tensorrt-rtx"), "QInt8", tensorrt=True, half_of="int8-tensorrt"),
        # TensorRT 11 has no FP16 flag: the file decides the precision.
        Flavor("fp16", ("tensorrt", "tensorrt-rtx"), None),
    )
}


@dataclass(frozen=True)
class Target:
    """One kind of device, and the models that its bundle holds, best first."""

    name: str
    description: str
    machines: tuple[str, ...]
    """Values of ``platform.machine()`` there."""
    models: tuple[str, ...]
    calibration_cache: bool = False
    """Its TensorRT (up to 10) can build INT8 from the FP32 file and the calibration cache."""


# If targets share a machine name, a bundle for all of them tries each model in the order of the first target with it.
TARGETS = {
    target.name: target
    for target in (
        Target(
            "x86-gpu",
            "a PC or server with an NVIDIA GPU",
            ("x86_64", "AMD64"),
            ("int8-fp16", "int8-tensorrt", "fp16", "int8-cpu", "fp32"),
            calibration_cache=True,
        ),
        Target("x86-cpu", "a PC or server without a GPU", ("x86_64", "AMD64"), ("int8-cpu", "int8-openvino", "fp32")),
        Target(
            "jetson-thor",
            "Jetson Thor, JetPack 7 (TensorRT 10.13 to 11)",
            ("aarch64",),
            ("int8-fp16", "int8-tensorrt", "fp16", "fp32", "int8-arm"),
            calibration_cache=True,
        ),
        Target(
            "jetson-orin",
            "Jetson Orin, JetPack 5 to 7 (TensorRT 8.5 to 11)",
            ("aarch64",),
            ("int8-fp16", "int8-tensorrt", "fp16", "fp32", "int8-arm"),
            calibration_cache=True,
        ),
        # For the model fp16, TensorRT up to 10.11 uses the FP32 file and a flag.
        Target(
            "jetson-xavier",
            "Jetson Xavier, JetPack 4.6 and 5 (TensorRT 8.0 to 8.5)",
            ("aarch64",),
            ("int8-tensorrt", "fp16", "fp32", "int8-arm"),
            calibration_cache=True,
        ),
        # Their GPUs (compute capability 5.3 and 6.2) have no INT8, and TensorRT 8 aborts on a Q/DQ file there.
        Target("jetson-nano", "Jetson Nano and TX2, JetPack 4.6 (TensorRT 8.0 or 8.2)", ("aarch64",), ("fp16", "fp32")),
        # INT8 is no faster on a processor without dot-product instructions (such as the Nano's Cortex-A57).
        Target("arm-cpu", "the CPU of an Arm board", ("aarch64", "armv7l", "arm64"), ("fp32", "int8-arm")),
    )
}


def model_file(name: str) -> str:
    """Return the file name of a model, in a run and in a bundle: "fp32" -> "model.fp32.onnx"."""
    return f"model.{name}.onnx"


def precision_of(name: str) -> str:
    """Return the precision that a model's name begins with: "int8-cpu" -> "int8"."""
    return name.partition("-")[0]


def opset_of(name: str) -> int:
    """Return the opset of a model file, by the model's name."""
    return FP16_QDQ_OPSET if name in FLAVORS and FLAVORS[name].half_of else OPSET
