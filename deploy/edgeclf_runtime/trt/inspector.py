"""The precision of each layer of an engine, as TensorRT's inspector reports it."""

import json
import re
from typing import Any, Dict, List

from .versions import has, version_of

# TensorRT 8 says "Row major linear FP16 format", 10 says "Half".
_WORDS = {"int8": "INT8", "fp16": "FP16", "half": "FP16", "fp32": "FP32", "float": "FP32"}
_LONGEST_NAME = 120


def layer_precisions(trt: Any, engine: Any) -> Dict[str, str]:
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
        known: Dict[str, Any] = layer if isinstance(layer, dict) else {"Name": str(layer)}
        found[str(known.get("Name"))[:_LONGEST_NAME]] = _precision(known.get("Inputs") or [])
    return found


def count_precisions(layers: Dict[str, str]) -> Dict[str, int]:
    """Return the number of layers of each precision, as in {"FP16": 3, "INT8": 40}."""
    names = sorted(set(layers.values()))
    return {name: list(layers.values()).count(name) for name in names}


def _precision(tensors: List[Dict[str, Any]]) -> str:
    text = str(tensors[0].get("Format/Datatype", "")) if tensors else ""
    words = [_WORDS[word] for word in re.findall(r"[a-z]+\d*", text.lower()) if word in _WORDS]
    return words[0] if words else "unknown"
