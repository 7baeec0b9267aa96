"""One network in every form that the contenders read, in one folder: the same weights, the same calibration images.

network.json            where it is from, its size, and why a form could not be made
model.safetensors       for torch
model.NAME.onnx         FP32, and edgeclf's own flavors
openvino-int8.xml       by NNCF's post-training quantization
model.fp32.tflite       by litert-torch, where it is installed

A named backbone has random weights and 1,000 labels: right for speed, and nothing else.  A bundle holds no weights for
torch, so torch gets random ones; give the bundle's run instead where that matters.
"""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path
from typing import Any

NETWORK_FILE = "network.json"
_FLAVORS = ("int8-cpu", "int8-arm", "int8-tensorrt", "fp16")


def make_network(source: str, folder: Path, calibration_images: int) -> dict[str, Any]:
    """Make every form of a run, a bundle or a timm backbone; returns network.json.  A folder made before is used as it is."""
    if (folder / NETWORK_FILE).is_file():
        facts = json.loads((folder / NETWORK_FILE).read_text(encoding="utf-8"))
        if facts["source"] != source:
            raise SystemExit(f"{folder} holds the forms of {facts['source']}, not of {source}; give another --work")
        return facts
    folder.mkdir(parents=True, exist_ok=True)
    facts = _copy(source, folder) if Path(source).is_dir() else _export(source, folder, calibration_images)
    facts["calibration_images"] = calibration_images
    reasons = facts["reasons"] = {}
    for name, maker in (("openvino-int8.xml", _make_openvino), ("model.fp32.tflite", _make_litert)):
        try:
            maker(folder, facts)
        except Exception as error:  # why a library refuses a network is a row of the table
            reasons[name] = " ".join(f"{type(error).__name__}: {error}".split())[:200]
            print(f"{name}: {reasons[name]}", file=sys.stderr)
    (folder / NETWORK_FILE).write_text(json.dumps(facts, indent=1) + "\n", encoding="utf-8")
    return facts


def load_network(folder: Path) -> Any:
    """Return the network for torch, in evaluation mode."""
    from edgeclf.training.backbones import create
    from edgeclf.training.weights.checkpoint import read_state_dict

    facts = json.loads((folder / NETWORK_FILE).read_text(encoding="utf-8"))
    network = create(facts["backbone"], facts["classes"])
    network.load_state_dict(read_state_dict(folder / "model.safetensors"))
    return network.eval()


def _copy(source: str, folder: Path) -> dict[str, Any]:
    from edgeclf.training.runs import RUN_FILE, WEIGHTS_FILE, read_run
    from edgeclf_runtime.bundle.open_bundle import open_bundle

    path = Path(source)
    if (path / RUN_FILE).is_file():
        run = read_run(path)
        backbone, labels, spec = run.facts["options"]["backbone"], run.labels, run.preprocessing
        shutil.copyfile(run.file(WEIGHTS_FILE), folder / "model.safetensors")
    else:
        bundle = open_bundle(path)
        backbone, labels, spec = bundle.provenance["training"]["backbone"], bundle.labels, bundle.preprocessing
        _save_weights(_random_network(backbone, len(labels)), folder)
    for file in path.glob("model.*.onnx"):
        shutil.copyfile(file, folder / file.name)
    weights = "its own" if (path / RUN_FILE).is_file() else "its own; torch has random ones"
    return _facts(source, backbone, weights, len(labels), spec.height, spec.width)


def _export(backbone: str, folder: Path, calibration_images: int) -> dict[str, Any]:
    from edgeclf.graph.fp16 import halve
    from edgeclf.graph.int8.activations import collect_histograms
    from edgeclf.graph.int8.qdq import write_flavor
    from edgeclf.graph.int8.ranges import ranges_of
    from edgeclf.graph.int8.rounding import Rounding, collect_moments
    from edgeclf.graph.onnx_file import save_model, write_onnx
    from edgeclf.graph.prepare import prepare
    from edgeclf.targets import FLAVORS
    from edgeclf_runtime.images.preprocess import Preprocessing

    network = _random_network(backbone, 1000)
    _save_weights(network, folder)
    size = network.backbone.pretrained_cfg["input_size"][-1]
    spec = Preprocessing(size, size)
    write_onnx(network, spec, folder / "model.fp32.onnx", {})
    graph = prepare(folder / "model.fp32.onnx")
    batches = calibration_batches(size, size, calibration_images)
    ranges = ranges_of(collect_histograms(graph, batches), "minmax")
    rounding = Rounding(graph, collect_moments(graph, batches))
    for name in _FLAVORS:
        flavor = FLAVORS[name]
        model = write_flavor(graph, flavor, ranges, rounding) if flavor.activations else halve(graph, ranges)
        save_model(model, folder / f"model.{name}.onnx", {})
    return _facts(backbone, backbone, "random", 1000, size, size)


def _facts(source: str, backbone: str, weights: str, classes: int, height: int, width: int) -> dict[str, Any]:
    return {
        "source": source,
        "backbone": backbone,
        "weights": weights,
        "classes": classes,
        "height": height,
        "width": width,
    }


def _random_network(backbone: str, classes: int) -> Any:
    import torch

    from edgeclf.training.backbones import create

    torch.manual_seed(0)
    network = create(backbone, classes).eval()
    for layer in network.modules():
        if isinstance(layer, torch.nn.BatchNorm2d):
            # timm begins residual branches with a factor of zero, and compilers would leave out the whole branch.
            torch.nn.init.uniform_(layer.weight, 0.5, 1.0)
    return network


def _save_weights(network: Any, folder: Path) -> None:
    from safetensors.torch import save

    weights = {key: value.contiguous() for key, value in network.state_dict().items()}
    (folder / "model.safetensors").write_bytes(save(weights))


def calibration_batches(height: int, width: int, count: int) -> Any:
    """Return photographs of solar cells as a calibration set's batches, the same for everyone who calibrates."""
    from edgeclf.calibration.sets import CalibrationSet
    from edgeclf.data.datasets import load_dataset
    from edgeclf.options import SplitOptions
    from edgeclf_runtime.images.preprocess import Preprocessing

    dataset = load_dataset("elpv", SplitOptions())
    return CalibrationSet.select(dataset, count).batches(Preprocessing(height, width))


def _make_openvino(folder: Path, facts: dict[str, Any]) -> None:
    from edgeclf_runtime.runners.openvino import without_telemetry

    # NNCF reports by the same package.
    with without_telemetry():
        import nncf
        import openvino
    batches = calibration_batches(facts["height"], facts["width"], facts["calibration_images"])
    model = openvino.Core().read_model(str(folder / "model.fp32.onnx"))
    model.reshape([1, facts["height"], facts["width"], 3])
    quantized = nncf.quantize(model, nncf.Dataset(batches), subset_size=len(batches))
    quantized.reshape([-1, facts["height"], facts["width"], 3])
    openvino.save_model(quantized, str(folder / "openvino-int8.xml"), compress_to_fp16=False)


def _make_litert(folder: Path, facts: dict[str, Any]) -> None:
    import litert_torch
    import torch

    (folder / NETWORK_FILE).write_text(json.dumps(facts), encoding="utf-8")
    try:
        example = (torch.zeros(1, facts["height"], facts["width"], 3),)
        litert_torch.convert(load_network(folder), example).export(str(folder / "model.fp32.tflite"))
    finally:
        (folder / NETWORK_FILE).unlink()
