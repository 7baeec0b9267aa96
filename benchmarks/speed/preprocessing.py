"""Measures the cost of preprocessing a frame, by the frame's size.

    python3 benchmarks/speed/preprocessing.py

Method: random frames of each size go through ``preprocess`` to 224 x 224 and ``as_batch``, the sizes in turns, 300
times after a warm-up.  Runs on every Python from 3.6 on with the runtime in its path.
"""

import argparse
import json
import time

import numpy as np

from edgeclf_runtime.commands.bench import machine_facts, summarize
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess

SIZES = ((300, 300), (640, 480), (1280, 720), (1920, 1080), (4032, 3024))


def main():
    """Measure and print p50, p90 and p99 in milliseconds."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeat", type=int, default=300)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    spec = Preprocessing(224, 224)
    random = np.random.RandomState(0)
    frames = {size: random.randint(0, 256, (size[1], size[0], 3), np.uint8) for size in SIZES}
    samples = {size: [] for size in SIZES}
    for turn in range(arguments.repeat + 10):
        for size, frame in frames.items():
            start = time.perf_counter()
            as_batch([preprocess(frame, spec)])
            if turn >= 10:
                samples[size].append((time.perf_counter() - start) * 1e3)
    rows = {"{} x {}".format(*size): summarize(values) for size, values in samples.items()}
    if arguments.json:
        print(json.dumps({"latency_ms": rows, "machine": machine_facts()}))
        return
    print("{:<12} {:>6} {:>6} {:>6}  ms to 224 x 224".format("frame", "p50", "p90", "p99"))
    for name, row in rows.items():
        print("{:<12} {p50:6.2f} {p90:6.2f} {p99:6.2f}".format(name, **row))


if __name__ == "__main__":
    main()
