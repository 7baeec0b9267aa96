"""Times each layer of a model file by its backend's own profiler: ONNX Runtime's, or OpenVINO's for a file that is for it alone."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from edgeclf_runtime.runners.openvino import OpenVinoRunner, compiled, import_openvino

from ...errors import BackendError
from ...graph.host_form import imitates
from ...targets import FLAVORS
from ..report import LayerTime

_RUNS, _WARM_UP = 20, 5
_MOST = 30
# ONNX Runtime's operators: those of 8 bits begin or end with these, and these change between 8 bits and float.
_OF_8_BITS = ("QLinear", "QGemm", "QAttention")
_INTEGER = ("Integer", "IntegerToFloat")
_CONVERTING = ("QuantizeLinear", "DequantizeLinear", "Reorder", "Convert", "Cast", "FakeQuantize")


def layer_times(name: str, path: Path, batch: np.ndarray) -> tuple[LayerTime, ...]:
    """Return the slowest layers of a file, slowest first; () if its backend does not run it here.

    name: as in targets.FLAVORS, or fp32.  batch: float32 [1, height, width, 3].
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
    return tuple(sorted(found, key=lambda row: -row.time_ms)[:_MOST])


def _of_onnxruntime(path: Path, batch: np.ndarray) -> Iterable[LayerTime]:
    import onnxruntime

    with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
        options = onnxruntime.SessionOptions()
        options.enable_profiling = True
        options.profile_file_prefix = str(Path(folder, "profile"))
        options.log_severity_level = 3
        session = onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
        feed = {session.get_inputs()[0].name: batch}
        for _ in range(_WARM_UP + _RUNS):
            session.run(None, feed)
        events = json.loads(Path(session.end_profiling()).read_bytes())
    times: dict[tuple[str, str], list[float]] = {}
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            key = event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]
            times.setdefault(key, []).append(event["dur"] / 1e3)
    for (layer, operator), values in times.items():
        yield LayerTime(layer=layer, operator=operator, kind=_kind(operator), time_ms=_median(values[_WARM_UP:]))


def _kind(operator: str) -> str:
    if operator in _CONVERTING:
        return "convert"
    return "int8" if operator.startswith(_OF_8_BITS) or operator.endswith(_INTEGER) else "float"


def _of_openvino(path: Path, batch: np.ndarray) -> Iterable[LayerTime]:
    request = compiled(import_openvino().Core(), path.read_bytes(), None, PERF_COUNT=True).create_infer_request()
    times: dict[tuple[str, str, str], list[float]] = {}
    for _ in range(_WARM_UP + _RUNS):
        request.infer([batch])
        for row in request.get_profiling_info():
            if row.real_time:
                key = row.node_name.removesuffix("/WithoutBiases"), row.node_type, row.exec_type
                times.setdefault(key, []).append(row.real_time.total_seconds() * 1e3)
    for (layer, operator, kernel), values in times.items():
        in_8_bits = kernel.lower().endswith(("i8", "u8"))
        kind = "convert" if operator in _CONVERTING else "int8" if in_8_bits else "float"
        yield LayerTime(layer=layer, operator=operator, kind=kind, time_ms=_median(values[_WARM_UP:]))


def _median(values: list[float]) -> float:
    return round(float(np.median(values or [0.0])), 4)
