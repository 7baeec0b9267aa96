"""The libraries that could run the same network: one table, each contender opened with the same threads and batch.

A contender is opened in a folder that ``networks.py`` made, and returns a function from a batch, float32
[N, height, width, 3] with values 0 to 255, to logits.  Whatever it raises is why it cannot run here.  Each import is
inside the function that needs it, so that a process loads only one library.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

Infer = Callable[[np.ndarray], np.ndarray]


class MissingError(Exception):
    """A contender's model file was not made, or this machine lacks what it needs."""


def _file(folder: Path, name: str) -> str:
    path = folder / name
    if path.is_file():
        return str(path)
    reasons = json.loads((folder / "network.json").read_text(encoding="utf-8"))["reasons"]
    raise MissingError(reasons.get(name, f"there is no {name}"))


def _edgeclf(name: str, backend: str, folder: Path, threads: int, batch: int) -> tuple[Infer, str]:
    from edgeclf_runtime.runners import backend_version, open_runner

    runner = open_runner(backend, _file(folder, f"model.{name}.onnx"), threads)
    return runner.infer, f"{backend} {backend_version(backend)} on {runner.device}"


def _onnxruntime(provider: str, folder: Path, threads: int, batch: int) -> tuple[Infer, str]:
    import onnxruntime

    if provider not in onnxruntime.get_available_providers():
        raise MissingError(f"this build of onnxruntime has no {provider}")
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    session = onnxruntime.InferenceSession(_file(folder, "model.fp32.onnx"), options, providers=[provider])
    if session.get_providers()[0] != provider:
        raise MissingError(f"{provider} could not be used")
    return lambda images: session.run(None, {"image": images})[0], f"onnxruntime {onnxruntime.__version__}"


def _torch(form: str, device: str, folder: Path, threads: int, batch: int) -> tuple[Infer, str]:
    import torch
    from networks import load_network

    if device == "cuda" and not torch.cuda.is_available():
        raise MissingError("torch finds no CUDA device")
    torch.set_num_threads(threads)
    network: Any = load_network(folder).to(device)
    if form != "eager":
        network = network.to(memory_format=torch.channels_last)
    if form == "compile":
        network = torch.compile(network)
    if form == "script":
        height, width = _size(folder)
        example = torch.zeros(batch, height, width, 3, device=device)
        network = torch.jit.optimize_for_inference(torch.jit.trace(network, example))

    def infer(images: np.ndarray) -> np.ndarray:
        with torch.inference_mode():
            return network(torch.from_numpy(images).to(device)).cpu().numpy()

    return infer, f"torch {torch.__version__}"


def _openvino(file: str, folder: Path, threads: int, batch: int) -> tuple[Infer, str]:
    from edgeclf_runtime.runners.openvino import without_telemetry

    with without_telemetry():
        import openvino
    core = openvino.Core()
    model = core.read_model(_file(folder, file))
    model.reshape([batch, *_size(folder), 3])
    # On a processor with BF16 "FP32" would be BF16.
    options = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    compiled = core.compile_model(model, "CPU", options)
    return lambda images: compiled([images])[0], f"openvino {openvino.__version__.split('-')[0]}"


def _opencv(folder: Path, threads: int, batch: int) -> tuple[Infer, str]:
    import cv2

    cv2.setNumThreads(threads)
    net = cv2.dnn.readNetFromONNX(_file(folder, "model.fp32.onnx"))

    def infer(images: np.ndarray) -> np.ndarray:
        net.setInput(images, "image")
        return net.forward()

    return infer, f"OpenCV {cv2.__version__}"


def _litert(file: str, folder: Path, threads: int, batch: int) -> tuple[Infer, str]:
    from importlib.metadata import version

    from ai_edge_litert.interpreter import Interpreter

    interpreter = Interpreter(_file(folder, file), num_threads=threads)
    place = interpreter.get_input_details()[0]["index"]
    interpreter.resize_tensor_input(place, [batch, *_size(folder), 3])
    interpreter.allocate_tensors()
    result = interpreter.get_output_details()[0]["index"]

    def infer(images: np.ndarray) -> np.ndarray:
        interpreter.set_tensor(place, images)
        interpreter.invoke()
        return interpreter.get_tensor(result)

    return infer, f"LiteRT {version('ai-edge-litert')}"


def _size(folder: Path) -> tuple[int, int]:
    facts = json.loads((folder / "network.json").read_text(encoding="utf-8"))
    return facts["height"], facts["width"]


Opener = Callable[[Path, int, int], tuple[Infer, str]]

CONTENDERS: dict[str, Opener] = {
    "edgeclf int8-cpu": partial(_edgeclf, "int8-cpu", "onnxruntime"),
    "edgeclf int8-cpu, OpenVINO": partial(_edgeclf, "int8-cpu", "openvino"),
    "edgeclf fp32": partial(_edgeclf, "fp32", "onnxruntime"),
    "edgeclf int8-arm": partial(_edgeclf, "int8-arm", "onnxruntime"),
    "edgeclf TensorRT int8": partial(_edgeclf, "int8-tensorrt", "tensorrt"),
    "edgeclf TensorRT fp16": partial(_edgeclf, "fp16", "tensorrt"),
    "ONNX Runtime FP32": partial(_onnxruntime, "CPUExecutionProvider"),
    "ONNX Runtime CUDA": partial(_onnxruntime, "CUDAExecutionProvider"),
    "torch eager NCHW": partial(_torch, "eager", "cpu"),
    "torch channels_last": partial(_torch, "channels_last", "cpu"),
    "torch.compile": partial(_torch, "compile", "cpu"),
    "TorchScript": partial(_torch, "script", "cpu"),
    "torch CUDA": partial(_torch, "channels_last", "cuda"),
    "OpenVINO FP32": partial(_openvino, "model.fp32.onnx"),
    "OpenVINO INT8 (NNCF)": partial(_openvino, "openvino-int8.xml"),
    "OpenVINO, our int8-trt": partial(_openvino, "model.int8-tensorrt.onnx"),
    "OpenCV DNN FP32": _opencv,
    "LiteRT FP32": partial(_litert, "model.fp32.tflite"),
}
