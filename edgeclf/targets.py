"""The table of what each device reads: the only place where a device's limits are written down.

Sources: NVIDIA's release notes of JetPack and TensorRT for the versions, the TensorRT support
matrix for the precisions, the parser's operator lists for the opsets.
"""

from __future__ import annotations

from dataclasses import dataclass

OPSET = 13
"""The newest opset that every target reads; per-channel Q/DQ needs it."""
FP16_QDQ_OPSET = 19
"""The first whose QuantizeLinear takes FP16, for the one file that strongly typed TensorRT alone reads."""
IR_VERSIONS = {OPSET: 7, FP16_QDQ_OPSET: 9}
"""ONNX file format that goes with each opset; ONNX Runtime 1.10 (Python 3.6) reads up to 8."""
CALIBRATION_CACHE = "calibration.cache"
"""The ranges as TensorRT 8 to 10 read them beside the FP32 file, in a run and in a bundle."""


@dataclass(frozen=True)
class Flavor:
    """How the file of one family of backends is written."""

    name: str
    """The model's name in a bundle, and in its file: model.NAME.onnx."""
    backends: tuple[str, ...]
    activations: str | None
    """QuantType of ONNX Runtime's quantizer for activations; None: no Q/DQ, everything in FP16.  Weights are QInt8."""
    tensorrt: bool = False
    """TensorRT's form of Q/DQ: no zero points, float biases, Q/DQ at the inputs of a layer alone."""
    sums_of_16_bits: bool = False
    """Whether some of its processors add two products in 16 bits, so that the weights must leave room."""
    half_of: str | None = None
    """The flavor of which this one is the form whose float part is FP16."""


FLOAT_BACKENDS = ("tensorrt", "tensorrt-rtx", "onnxruntime", "openvino", "opencv")
"""What runs the FP32 file, the fastest first; OpenCV is what a stock JetPack has without pip."""

FLAVORS = {
    flavor.name: flavor
    for flavor in (
        # U8S8: the form that ONNX Runtime's x86 kernels are fastest with.
        Flavor("int8-cpu", ("onnxruntime", "openvino"), "QUInt8", sums_of_16_bits=True),
        # S8S8: the form of Arm's dot-product instructions.
        Flavor("int8-arm", ("onnxruntime",), "QInt8"),
        Flavor("int8-tensorrt", ("tensorrt", "tensorrt-rtx"), "QInt8", tensorrt=True),
        # For strongly typed TensorRT, 10.12 and later: before, the FP16 flag does this to int8-tensorrt.
        Flavor("int8-fp16", ("tensorrt", "tensorrt-rtx"), "QInt8", tensorrt=True, half_of="int8-tensorrt"),
        # TensorRT 11 has no FP16 flag: precision is what the file says.
        Flavor("fp16", ("tensorrt", "tensorrt-rtx"), None),
    )
}


@dataclass(frozen=True)
class Target:
    """One kind of device: which models it is given, the best first."""

    name: str
    description: str
    machines: tuple[str, ...]
    """What ``platform.machine()`` says there."""
    models: tuple[str, ...]
    calibration_cache: bool = False
    """Whether its TensorRT, up to 10, can make INT8 of the FP32 file and the calibration cache."""


# Where several share a machine's name, a bundle for all of them tries the models in the order of the first that has them.
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
        Target("x86-cpu", "a PC or server without a GPU", ("x86_64", "AMD64"), ("int8-cpu", "fp32")),
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
        # For the model fp16, TensorRT up to 10.11 takes the FP32 file and a flag.
        Target(
            "jetson-xavier",
            "Jetson Xavier, JetPack 4.6 and 5 (TensorRT 8.0 to 8.5)",
            ("aarch64",),
            ("int8-tensorrt", "fp16", "fp32", "int8-arm"),
            calibration_cache=True,
        ),
        # Their GPUs (compute capability 5.3 and 6.2) have no INT8, and TensorRT 8 aborts on a Q/DQ file there.
        Target("jetson-nano", "Jetson Nano and TX2, JetPack 4.6 (TensorRT 8.0 or 8.2)", ("aarch64",), ("fp16", "fp32")),
        # INT8 gains nothing on a processor without the dot-product instructions (Nano's Cortex-A57).
        Target("arm-cpu", "an Arm board by its CPU", ("aarch64", "armv7l", "arm64"), ("fp32", "int8-arm")),
    )
}


def model_file(name: str) -> str:
    """Return the file name of a model, in a run and in a bundle: "fp32" -> "model.fp32.onnx"."""
    return f"model.{name}.onnx"


def precision_of(name: str) -> str:
    """Return the precision that a model's name begins with: "int8-cpu" -> "int8"."""
    return name.partition("-")[0]


def host_config(name: str) -> dict[str, str]:
    """Return the session options with which ONNX Runtime on an x86 host computes a model's file as its own device does."""
    flavor = FLAVORS.get(name)
    if flavor is None or flavor.activations != "QInt8":
        return {}
    # Without VNNI, x86 kernels add S8S8 products in 16 bits, which overflow; this asks for the slower, right ones.
    config = {"session.x64quantprecision": "1"}
    if flavor.half_of:
        # Fused with FP16 scales, ONNX Runtime 1.31 gives wrong numbers on a CPU.
        config["session.disable_quant_qdq"] = "1"
    return config


def opset_of(name: str) -> int:
    """Return the opset of a model's file."""
    return FP16_QDQ_OPSET if name in FLAVORS and FLAVORS[name].half_of else OPSET
