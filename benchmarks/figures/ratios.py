"""Did the way from a frame to its label become slower?  Ratios that even a busy machine can tell, in seconds.

    python3 benchmarks/figures/ratios.py NAME.edge --json > new.json
    python3 benchmarks/figures/compare.py benchmarks/reference/ratios.json new.json --effect 0.1

Method: one thread for everything.  A frame of 1280 x 720 is classified, then the same model's bare ``InferenceSession.run`` gets
the input made beforehand, and so on in turns, so that both see the same neighbors.  In each round the ratio is taken of their
tenth percentiles: what other programs take is only ever added, so the fast frames are those that they left alone.
For figures to quote see ``overhead.py``: it measures with all threads, and takes medians.
"""

from __future__ import annotations

import argparse
import json
import time
from typing import Any

import cv2
import numpy as np
import onnxruntime

from edgeclf_runtime.bundle.open_bundle import Bundle, Model, open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.device.machine import machine_facts

BACKEND, MODELS = "onnxruntime", ("fp32", "int8-cpu")
ROUNDS, FRAMES, WARMUP, PERCENTILE = 12, 60, 20, 10


def main() -> None:
    """Measure, and print a line for each model, or JSON for compare.py."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a bundle with fp32 or int8-cpu, best of a small network")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    cv2.setNumThreads(1)
    bundle = open_bundle(arguments.bundle)
    models = [model for model in bundle.models if model.name in MODELS]
    rows = {f"frame to label by bare inference, {model.name}": measure(bundle, model) for model in models}
    if arguments.json:
        size = [bundle.preprocessing.width, bundle.preprocessing.height]
        print(json.dumps({"benchmark": "ratios", "size": size, "rows": rows, "machine": machine_facts()}))
        return
    for name, row in rows.items():
        print(f"{name:<42} {np.median(row['ratios']):.3f} x (rounds {min(row['ratios'])} to {max(row['ratios'])})")


def measure(bundle: Bundle, model: Model) -> dict[str, Any]:
    """Return the ratio of each round."""
    random = np.random.RandomState(0)
    frames = [random.randint(0, 256, (720, 1280, 3)).astype(np.uint8) for _ in range(4)]
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.intra_op_num_threads = 3, 1
    session = onnxruntime.InferenceSession(bundle.file(model.file).path, options, providers=["CPUExecutionProvider"])
    outputs = [session.get_outputs()[0].name]
    with Classifier.open(bundle, model.name, BACKEND, threads=1) as classifier:
        batches = [classifier.prepare(frame) for frame in frames]
        times: list[tuple[float, float]] = []
        for number in range(WARMUP + ROUNDS * FRAMES):
            start = time.perf_counter()
            classifier.classify(frames[number % len(frames)])
            middle = time.perf_counter()
            session.run(outputs, {"image": batches[number % len(frames)]})
            times.append((middle - start, time.perf_counter() - middle))
    rounds = np.array(times[WARMUP:]).reshape(ROUNDS, FRAMES, 2)
    whole, bare = np.percentile(rounds, PERCENTILE, axis=1).T
    return {
        "ratios": [round(float(ratio), 4) for ratio in whole / bare],
        "bare_ms": round(float(np.median(bare)) * 1e3, 4),
    }


if __name__ == "__main__":
    main()
