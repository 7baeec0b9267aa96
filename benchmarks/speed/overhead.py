"""Measures the cost of a frame's way to its label on top of the bare inference.

    python3 benchmarks/speed/overhead.py demo/solar.edge

Method: for each model that ONNX Runtime runs, blocks of 50 frames take turns, after 10 that do not count: in one
block only ``InferenceSession.run``, with the default options and the input made beforehand; in the next
``Classifier.classify`` of 1280 x 720 BGR frames, crop and resize included, by the same file with the same number
of threads.  Each block opens its own session and lets go of it, because the idle threads of another would disturb
it.  The ratio is the median over the pairs of neighboring blocks of the ratio of their medians, since a machine's
speed drifts.  The frames are four different ones in turn, so that a frame is not in the processor's cache, as a camera's is
not.  Runs on every Python from 3.6 on with the runtime in its path.
"""

import argparse
import json
import time

import numpy as np

from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.commands.bench import summarize
from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.results import STAGES

BLOCK, WARMUP = 50, 10


def main():
    """Measure each model and print p50, p90 and p99 in milliseconds, and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a bundle with models for ONNX Runtime")
    parser.add_argument("--blocks", type=int, default=12, help="of each kind, by model (12)")
    parser.add_argument("--threads", type=int, help="of ONNX Runtime; its own choice without it")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    random = np.random.RandomState(0)
    frames = [random.randint(0, 256, (720, 1280, 3)).astype(np.uint8) for _ in range(4)]
    models = [model for model in bundle.models if "onnxruntime" in model.backends]
    rows = {model.name: _measure(bundle, model, frames, arguments.blocks, arguments.threads) for model in models}
    if arguments.json:
        print(json.dumps({"models": rows, "threads": arguments.threads, "machine": machine_facts()}))
        return
    print("{:<10} {:<12} {:>7} {:>7} {:>7}  ms".format("model", "stage", "p50", "p90", "p99"))
    for name, row in rows.items():
        for stage, figures in row["latency_ms"].items():
            print("{:<10} {:<12} {p50:7.3f} {p90:7.3f} {p99:7.3f}".format(name, stage, **figures))
        print("{:<10} frame to label is {ratio:.3f} x bare inference".format(name, **row))


def _measure(bundle, model, frames, blocks, threads):
    ratios, samples = [], {stage: [] for stage in ("bare", "total", *STAGES)}
    for _ in range(blocks):
        with Classifier.open(bundle, model.name, "onnxruntime", threads=threads) as classifier:
            inputs = [classifier.prepare(frame) for frame in frames]
            for number in range(WARMUP + BLOCK):
                start = time.perf_counter()
                result = classifier.classify(frames[number % len(frames)])
                total = (time.perf_counter() - start) * 1e3
                if number >= WARMUP:
                    for stage in STAGES:
                        samples[stage].append(result.timings_ms[stage])
                    samples["total"].append(total)
        samples["bare"] += _bare(bundle.file(model.file), inputs, threads)
        ratios.append(np.median(samples["total"][-BLOCK:]) / np.median(samples["bare"][-BLOCK:]))
    latency_ms = {stage: summarize(values) for stage, values in samples.items()}
    return {"latency_ms": latency_ms, "ratio": round(float(np.median(ratios)), 3)}


def _bare(path, inputs, threads):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if threads:
        options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    output, samples = [session.get_outputs()[0].name], []
    for number in range(WARMUP + BLOCK):
        batch = inputs[number % len(inputs)]
        start = time.perf_counter()
        session.run(output, {"image": batch})
        samples.append((time.perf_counter() - start) * 1e3)
    return samples[WARMUP:]


if __name__ == "__main__":
    main()
