"""The precision of each layer of an engine, as TensorRT's inspector reports it."""

import json
import re
from typing import TYPE_CHECKING, Dict, List

from ..files.schema import JsonObject
from .versions import has, version_of

if TYPE_CHECKING:
    from types import ModuleType
    from typing import Optional, Protocol, Sequence, Tuple

    # What is used of TensorRT's API for engines, 8.0 to 11; versions.py says which version has which of it.

    class Inspector(Protocol):
        """An EngineInspector."""

        def get_engine_information(self, form: object) -> str: ...

    class ExecutionContext(Protocol):
        """An IExecutionContext."""

        def set_tensor_address(self, name: str, address: int) -> bool: ...

        def set_input_shape(self, name: str, shape: Tuple[int, ...]) -> bool: ...

        def execute_async_v3(self, stream: int) -> bool: ...

        def set_binding_shape(self, index: int, shape: Tuple[int, ...]) -> bool: ...

        def execute_async_v2(self, addresses: List[int], stream: int) -> bool: ...

    class CudaEngine(Protocol):
        """An ICudaEngine: named tensors from 8.5 on, bindings before."""

        num_io_tensors: int
        num_bindings: int

        def get_tensor_name(self, index: int) -> str: ...

        def get_tensor_mode(self, name: str) -> object: ...

        def get_tensor_dtype(self, name: str) -> object: ...

        def get_tensor_shape(self, name: str) -> Sequence[int]: ...

        def binding_is_input(self, index: int) -> bool: ...

        def get_binding_name(self, index: int) -> str: ...

        def get_binding_dtype(self, index: int) -> object: ...

        def get_binding_shape(self, index: int) -> Sequence[int]: ...

        def create_execution_context(self) -> Optional[ExecutionContext]: ...

        def create_engine_inspector(self) -> Inspector: ...


# TensorRT 8 says "Row major linear FP16 format", 10 says "Half".
_WORDS = {"int8": "INT8", "fp16": "FP16", "half": "FP16", "fp32": "FP32", "float": "FP32"}
_LONGEST_NAME = 120


def layer_precisions(trt: "ModuleType", engine: "CudaEngine") -> Dict[str, str]:
    """Return the precision of each layer by name: "INT8", "FP16", "FP32" or "unknown"; empty without a report.

    It is the type of the layer's input: an INT8 convolution may write FP16.
    """
    found: Dict[str, str] = {}
    if not has(version_of(trt), "inspector"):
        return found
    text = engine.create_engine_inspector().get_engine_information(trt.LayerInformationFormat.JSON)
    try:
        layers = list(json.loads(text)["Layers"])
    except (LookupError, TypeError, ValueError):
        return found
    for layer in layers:
        # If the engine stores only names, a layer is its name.
        known: JsonObject = layer if isinstance(layer, dict) else {"Name": str(layer)}
        found[str(known.get("Name"))[:_LONGEST_NAME]] = _precision(known.get("Inputs") or [])
    return found


def count_precisions(layers: Dict[str, str]) -> Dict[str, int]:
    """Return the number of layers of each precision, as in {"FP16": 3, "INT8": 40}."""
    names = sorted(set(layers.values()))
    return {name: list(layers.values()).count(name) for name in names}


def _precision(tensors: List[JsonObject]) -> str:
    text = str(tensors[0].get("Format/Datatype", "")) if tensors else ""
    words = [_WORDS[word] for word in re.findall(r"[a-z]+\d*", text.lower()) if word in _WORDS]
    return words[0] if words else "unknown"
