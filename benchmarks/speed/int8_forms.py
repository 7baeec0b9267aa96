"""INT8 in every form that quantize tries, on ONNX Runtime and OpenVINO, beside OpenVINO's own INT8 by NNCF.

    pip install nncf
    python3 benchmarks/speed/int8_forms.py
    python3 benchmarks/speed/int8_forms.py --backbones resnet18 tf_efficientnet_lite0 --threads 1 --json

Method: each network with random weights (right for speed, and nothing else), ranges from photographs of solar cells; every file
and backend in turns, medians.  ``ratio`` is the time of the fastest of ours, which quantize and the first start on a device would
choose, as a share of that of OpenVINO with NNCF's file.

Exit codes: 0 done; 1 a network is slower than with NNCF's file.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from networks import calibration_batches, make_network

from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.int8.forms import FORMS
from edgeclf.graph.int8.qdq import write_flavor
from edgeclf.graph.int8.ranges import ranges_of
from edgeclf.graph.int8.rounding import Rounding
from edgeclf.graph.onnx_file import save_model
from edgeclf.graph.prepare import prepare
from edgeclf.targets import FLAVORS
from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner
from edgeclf_runtime.runners.openvino import OpenVinoRunner, compiled, import_openvino

BACKBONES = (
    "resnet18",
    "resnet50",
    "tf_efficientnet_lite0",
    "efficientnet_b0",
    "mobilenetv2_100",
    "mobilenetv3_large_100",
    "convnext_atto",
)
RUNNERS = {"onnxruntime": OnnxRuntimeRunner, "openvino": OpenVinoRunner}
NNCF = "NNCF's file on openvino"
WARM_UP = 3


def main() -> None:
    """Time every form of every network, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", default=list(BACKBONES))
    parser.add_argument("--threads", type=int, help="of each backend; default: as it decides")
    parser.add_argument("--images", type=int, default=20, help="to calibrate with (20)")
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--repeat", type=int, default=6, help="inferences of a round (6)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = [row_of(backbone, arguments) for backbone in arguments.backbones]
    if arguments.json:
        print(json.dumps({"rows": rows, "threads": arguments.threads, "machine": machine_facts()}))
    else:
        print(f"{'network':<22} {'best form and backend':<40} {'ms':>6} {'NNCF':>6} {'FP32':>6} {'ratio':>6}")
        for row in rows:
            best, times = row["best"], row["times_ms"]
            numbers = (times[best], times[NNCF], row["fp32_ms"])
            print(
                f"{row['backbone']:<22} {best:<40} {' '.join(f'{value:6.2f}' for value in numbers)} {row['ratio']:6.2f}"
            )
    raise SystemExit(int(any(row["ratio"] > 1 for row in rows)))


def row_of(backbone: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the times of one network."""
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as opened:
        work = Path(folder, "network")
        with contextlib.redirect_stdout(sys.stderr):  # NNCF shows its progress there
            facts = make_network(backbone, work, arguments.images)
        if facts["reasons"].get("openvino-int8.xml"):
            raise SystemExit(f"NNCF's file of {backbone} could not be made: {facts['reasons']['openvino-int8.xml']}")
        batches = calibration_batches(facts["height"], facts["width"], arguments.images)
        write_forms(work, batches)
        nncf = compiled(import_openvino().Core(), str(work / "openvino-int8.xml"), arguments.threads)
        infer: dict[str, Any] = {NNCF: lambda batch: nncf([batch])}
        for backend, runner in RUNNERS.items():
            for name in ("fp32", *FORMS):
                one = opened.enter_context(runner(work / f"model.{name}.onnx", arguments.threads))
                infer[f"{name} on {backend}"] = one.infer
        times = time_all(infer, batches[0], arguments.rounds, arguments.repeat)
    own = {name: value for name, value in times.items() if name != NNCF and not name.startswith("fp32")}
    best = min(own, key=lambda name: own[name])
    fp32 = min(value for name, value in times.items() if name.startswith("fp32"))
    row = {"backbone": backbone, "best": best, "fp32_ms": fp32, "ratio": round(times[best] / times[NNCF], 3)}
    print(json.dumps(row), file=sys.stderr, flush=True)
    return {**row, "times_ms": times}


def write_forms(work: Path, batches: Any) -> None:
    """Write each form of the FP32 file beside it."""
    graph = prepare(work / "model.fp32.onnx")
    ranges = ranges_of(collect_histograms(graph, batches), "minmax")
    for form in FORMS.values():
        model = write_flavor(graph, FLAVORS["int8-cpu"], ranges, Rounding(graph, {}), form=form)
        save_model(model, work / f"model.{form.name}.onnx", {})


def time_all(infer: dict[str, Any], batch: np.ndarray, rounds: int, repeat: int) -> dict[str, float]:
    """Return the median time of an inference by name, in milliseconds, all taking turns."""
    samples: dict[str, list[float]] = {name: [] for name in infer}
    for _ in range(rounds):
        for name, one in infer.items():
            for number in range(WARM_UP + repeat):
                start = time.perf_counter()
                one(batch)
                if number >= WARM_UP:
                    samples[name].append((time.perf_counter() - start) * 1e3)
    return {name: round(float(np.median(values)), 3) for name, values in samples.items()}


if __name__ == "__main__":
    main()
