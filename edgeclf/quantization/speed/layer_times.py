"""Times each layer of a model file by its backend's own profiler: ONNX Runtime's, or OpenVINO's for a file that only OpenVINO runs."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Container, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from edgeclf_runtime.runners.openvino import OpenVinoRunner, compiled, import_openvino

from ...data.temporary import temporary_folder
from ...errors import BackendError
from ...graph.host_form import imitates
from ...targets import FLAVORS
from ..report import LayerTime

_RUNS, _WARM_UP, _FEWEST, _SECONDS = 20, 5, 8, 1.0
# ONNX Runtime's operators: those of 8 bits begin or end with these, and these change between 8 bits and float.
_OF_8_BITS = ("QLinear", "QGemm", "QAttention")
_INTEGER = ("Integer", "IntegerToFloat")
_CONVERTING = ("QuantizeLinear", "DequantizeLinear", "Reorder", "Convert", "Cast", "FakeQuantize")
# Parts of the names of kernels of layers with weights: QLinearConv, FusedGemm, GroupConvolution, MatMulIntegerToFloat.
_WEIGHTED = ("Conv", "conv", "Gemm", "MatMul", "FullyConnected")
_ADDED = re.compile(r"(_token_\d+|_nchwc|_quant|/WithoutBiases)$")
"""Suffixes that backends append to the name of a node or of its output."""


def layer_times(name: str, path: Path, batch: np.ndarray, layer_of: Mapping[str, str]) -> tuple[LayerTime, ...]:
    """Return the time of each layer of a file, slowest first; () if its backend does not run it here.

    name: as in targets.FLAVORS, or fp32.  batch: float32 [1, height, width, 3].  layer_of: a layer's name by the names of its
    nodes and their outputs, by which backends call what they made of them.
    """
    if name in FLAVORS and FLAVORS[name].only_openvino:
        try:
            OpenVinoRunner(path).close()  # a file that would end this process is refused, in a child
        except BackendError:
            return ()
        found = _of_openvino(path, batch)
    elif imitates(name):
        return ()
    else:
        found = _of_onnxruntime(path, batch)
    rows = (replace(row, layer=layer_of.get(row.layer, row.layer)) if _has_weights(row) else row for row in found)
    return tuple(sorted(rows, key=lambda row: -row.time_ms))


def unexpected_float(times: Iterable[LayerTime], layers: Container[str], in_float: Container[str]) -> tuple[str, ...]:
    """Return the layers that a file has in 8 bits and its backend computed in float.

    layers: every layer's name.  in_float: those that the file itself has in float.  A layer may have a row in 8 bits and others in
    float: the products of attention belong to the layer before them.
    """
    rows = [row for row in times if _has_weights(row)]
    in_8_bits = {row.layer for row in rows if row.kind == "int8"}
    found = dict.fromkeys(row.layer for row in rows if row.layer not in in_8_bits)
    return tuple(layer for layer in found if layer in layers and layer not in in_float)


def _has_weights(row: LayerTime) -> bool:
    return row.kind != "convert" and any(part in row.operator for part in _WEIGHTED)


def _of_onnxruntime(path: Path, batch: np.ndarray) -> Iterable[LayerTime]:
    import onnxruntime

    with temporary_folder() as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: batch}
        for _ in _runs():
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            times.setdefault(key, []).append(event["dur"] / 1e3)
    for (layer, operator), values in times.items():
        yield _row(layer, operator, _kind(operator), values)


def _runs() -> Iterator[int]:
    """Yield for each inference to profile; for fewer of a slow model."""
    start = time.perf_counter()
    for number in range(_WARM_UP + _RUNS):
        if number >= _FEWEST and time.perf_counter() - start > _SECONDS:
            return
        yield number


def _kind(operator: str) -> str:
    if operator in _CONVERTING:
        return "convert"
    return "int8" if operator.startswith(_OF_8_BITS) or operator.endswith(_INTEGER) else "float"


def _of_openvino(path: Path, batch: np.ndarray) -> Iterable[LayerTime]:
    request = compiled(import_openvino().Core(), path.read_bytes(), None, PERF_COUNT=True).create_infer_request()
    times: dict[tuple[str, str, str], list[float]] = {}
    for _ in _runs():
        request.infer([batch])
        for row in request.get_profiling_info():
            if row.real_time:
                key = row.node_name, row.node_type, row.exec_type
                times.setdefault(key, []).append(row.real_time.total_seconds() * 1e3)
    for (layer, operator, kernel), values in times.items():
        in_8_bits = kernel.lower().endswith(("i8", "u8"))
        kind = "convert" if operator in _CONVERTING else "int8" if in_8_bits else "float"
        yield _row(layer, operator, kind, values)


def _row(layer: str, operator: str, kind: str, times: list[float]) -> LayerTime:
    median = float(np.median(times[_WARM_UP:] or [0.0]))
    return LayerTime(layer=_ADDED.sub("", layer), operator=operator, kind=kind, time_ms=round(median, 4))
