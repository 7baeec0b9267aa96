"""The layers of a Q/DQ file that TensorRT computes in INT8, and what else its engine contains.

    python3 benchmarks/tensorrt/engine_sizes.py
    python3 benchmarks/tensorrt/engine_sizes.py --backbone mobilenetv2_100 --least 20000 --json

Method: TensorRT 11.4's own parser with the compiler of TensorRT-RTX, which needs no GPU, builds the engine of the network's
int8-fp16 file, and again with one layer in FP16.  A layer that was computed in INT8 then adds about one byte for each of its
weights; one that was not adds nothing.  An engine of this compiler also contains the code of its kernels, one for each
shape of a layer: ``rest`` is the engine's size less its weights.  Engines that TensorRT builds on a board were not measured.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))

from networks import calibration_batches

from edgeclf.graph.fp16 import halve, halve_remainder
from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.int8.rounding import Rounding
from edgeclf.graph.layers import find_layers, float_layers
from edgeclf.graph.onnx_file import save_model, write_onnx
from edgeclf.graph.prepare import prepare
from edgeclf.targets import FLAVORS, FP16_QDQ_OPSET
from edgeclf.training.backbones import create
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.trt.parent import build_engine
from tests.support.engine_requests import Told, request
from tests.support.tensorrt_rig import BUILDS, rig


class Files:
    """A network's files and the sizes of their engines, in bytes."""

    def __init__(self, backbone: str, side: int, images: int, folder: Path) -> None:
        self.folder, spec = folder, Preprocessing(side, side)
        write_onnx(create(backbone, 2).eval(), spec, folder / "model.fp32.onnx", {})
        self.graph = prepare(folder / "model.fp32.onnx")
        self.ranges = ranges_of(collect_histograms(self.graph, calibration_batches(side, side, images)), "minmax")
        self.rounding = Rounding(self.graph, {})

    def fp32(self) -> int:
        """Return the size of the FP32 file's engine."""
        return self._size("fp32")

    def fp16(self) -> int:
        """Return the size of the FP16 file's engine."""
        save_model(halve(self.graph, self.ranges), self.folder / "model.fp16.onnx", {})
        return self._size("fp16")

    def int8(self, in_float: Sequence[str] = ()) -> tuple[int, list[str]]:
        """Return the size of the int8-fp16 file's engine with some nodes in FP16, and its layers in FP16."""
        model = write_flavor(self.graph, FLAVORS["int8-tensorrt"], self.ranges, self.rounding, in_float)
        layers = float_layers(model.graph)
        file = self.folder / "model.int8-fp16.onnx"
        save_model(halve_remainder(model, self.ranges), file, {}, FP16_QDQ_OPSET)
        return self._size("int8-fp16"), layers

    def _size(self, name: str) -> int:
        file, precision = self.folder / f"model.{name}.onnx", name.partition("-")[0]
        size: int = build_engine(request(file, self.folder / f"{name}.plan", precision=precision), Told())["bytes"]
        return size


def main() -> None:
    """Build the engines, and print what each layer adds in FP16."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0", help="with random weights")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=8, help="to calibrate with (8)")
    parser.add_argument("--least", type=int, default=50_000, help="weights of a layer that is examined (50,000)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    sys.path.insert(0, rig(BUILDS))
    with tempfile.TemporaryDirectory() as folder:
        report = measure(
            Files(arguments.backbone, arguments.image_size, arguments.images, Path(folder)), arguments.least
        )
    if arguments.json:
        print(json.dumps({"backbone": arguments.backbone, "image_size": arguments.image_size, **report}))
        return
    for name, size in report["engines"].items():
        print(
            f"{name:<10} {size / 1e6:6.2f} MB, {size / report['engines']['fp32']:.2f} of FP32's, rest {report['rest'][name] / 1e6:.2f} MB"
        )
    print(f"{'layer':<60} {'weights':>9} {'added bytes':>11}")
    for row in report["layers"]:
        print(f"{row['layer']:<60} {row['weights']:>9} {row['added']:>11}")


def measure(files: Files, least: int) -> dict[str, Any]:
    """Return the sizes of the engines, and what each large layer adds in FP16."""
    size, in_float = files.int8()
    engines = {"fp32": files.fp32(), "fp16": files.fp16(), "int8-fp16": size}
    stored = {tensor.name: int(np.prod(tensor.dims)) for tensor in files.graph.graph.initializer}
    weights = {
        node.name: stored[node.input[1]]
        for node in files.graph.graph.node
        if len(node.input) > 1 and node.input[1] in stored
    }
    layers = find_layers(files.graph.graph)
    every = sum(weights[layer.name] for layer in layers)
    halves = sum(weights[name] for name in in_float)
    rest = {"fp32": 4 * every, "fp16": 2 * every, "int8-fp16": every + halves}
    rows = [
        {"layer": layer.name, "weights": weights[layer.name], "added": files.int8(layer.nodes)[0] - size}
        for layer in layers
        if weights[layer.name] >= least and layer.name not in in_float
    ]
    return {"engines": engines, "rest": {name: engines[name] - value for name, value in rest.items()}, "layers": rows}


if __name__ == "__main__":
    main()
