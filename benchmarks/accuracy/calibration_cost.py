"""Measures the cost of collecting activations relative to the FP32 inference of the same images, and whether memory grows.

    python3 benchmarks/accuracy/calibration_cost.py RUN

Method: blocks of calibration images, decoded beforehand, take turns: once through ONNX Runtime only, with its default
options, and once through ``collect_histograms``; given is the median over the blocks of the ratio of their times.  Then
``--images`` images are collected from one after the other, the calibration set's over and over, decoded again each time; given is
the process's largest memory after a tenth of them and at the end.
"""

import argparse
import json
import resource
import time

import numpy as np

from edgeclf.calibration.sets import CalibrationSet
from edgeclf.graph.int8.activations import collect_histograms
from edgeclf.graph.prepare import prepare
from edgeclf.training.runs import read_run
from edgeclf_runtime.device.machine import machine_facts

BLOCK = 30


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--blocks", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    run = read_run(arguments.run)
    model = prepare(run.file("model.fp32.onnx"))
    batches = CalibrationSet.select(run.dataset(), 300).batches(run.preprocessing)
    report = {
        "ratio": ratio(model, [batches[i] for i in range(BLOCK)], arguments.blocks),
        **memory(model, batches, arguments.images),
        "machine": machine_facts(),
    }
    if arguments.json:
        print(json.dumps(report))
        return
    print("looking at the activations takes {ratio:.2f} x the time of FP32 inference".format(**report))
    print("memory {first_mb:.0f} MB after {first_images} images, {last_mb:.0f} MB after {images}".format(**report))


def ratio(model, batches, blocks: int) -> float:
    """Return the median over the blocks of the time of collect_histograms by that of inference."""
    import onnxruntime

    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    found = []
    for _ in range(blocks):
        start = time.perf_counter()
        for batch in batches:
            session.run(None, {"image": batch})
        middle = time.perf_counter()
        collect_histograms(model, batches)
        found.append((time.perf_counter() - middle) / (middle - start))
    return round(float(np.median(found)), 3)


def memory(model, batches, images: int) -> dict:
    """Return the largest memory of this process after a tenth of the images, and after all."""
    first = images // 10
    seen = []
    for count in (first, images):
        collect_histograms(model, Repeated(batches, count))
        seen.append(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024)
    return {
        "first_images": first,
        "first_mb": round(seen[0], 1),
        "images": images,
        "last_mb": round(seen[1], 1),
    }


class Repeated:
    """A sequence of a length that gives another's items over and over."""

    def __init__(self, items, length: int) -> None:
        self.items, self.length = items, length

    def __len__(self) -> int:
        return self.length

    def __getitem__(self, place: int):
        if place >= self.length:
            raise IndexError(place)
        return self.items[place % len(self.items)]


if __name__ == "__main__":
    main()
