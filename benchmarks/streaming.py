"""Does classifying a camera keep up with the bare model, and is the label of what is there now?

    python3 benchmarks/streaming.py NAME.edge

Method: generated 1280 x 720 frames (``test://``, captured in a process of their own as a camera's are), and one thread
for the backend, so that capture and preprocessing have a core to themselves.  Three programs take turns, each a process
of its own, and of every round the ratios are taken; their medians are given:
  bare      ``InferenceSession.run`` on one frame's input, over and over
  keep up   ``stream`` on a camera that is a fifth faster than bare: frames classified a second, against bare
  overload  ``stream`` on a camera of twice the rate that ``keep up`` reached: ages of the frames at their label
The age is held against two frame intervals plus the 99th percentile of inference in the same process.
"""

import argparse
import json
import subprocess
import sys
import time

import numpy as np

from edgeclf_runtime.benchmark import machine_facts
from edgeclf_runtime.bundle import open_bundle
from edgeclf_runtime.camera import open_camera
from edgeclf_runtime.classifier import Classifier
from edgeclf_runtime.stream import stream

WIDTH, HEIGHT = 1280, 720
_WARM_UP_S = 1.0


def main():
    """Run the rounds and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("--model", default="int8-cpu")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--seconds", type=float, default=8.0, help="each program's time in a round (8)")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=("bare", "stream"), help=argparse.SUPPRESS)
    parser.add_argument("--fps", type=float, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        worker = {"bare": bare, "stream": classify_camera}[arguments.worker]
        print(json.dumps(worker(arguments)))
        return
    rounds = [one_round(arguments) for _ in range(arguments.rounds)]
    median = {name: round(float(np.median([row[name] for row in rounds])), 3) for name in rounds[0]}
    if arguments.json:
        print(json.dumps({"median": median, "rounds": rounds, "machine": machine_facts()}))
        return
    print("bare                 {bare_fps:.1f} frames a second".format(**median))
    print("a camera, classified {stream_fps:.1f} frames a second, {ratio:.3f} of bare".format(**median))
    print(
        "at twice that rate   age at the label p50 {age_p50_ms:.1f} ms, p99 {age_p99_ms:.1f} ms; "
        "two intervals and p99 inference are {bound_ms:.1f} ms".format(**median)
    )


def one_round(arguments):
    """Run the three programs once; returns their figures."""
    plain = run_worker(arguments, "bare")
    kept = run_worker(arguments, "stream", 1.2 * plain["fps"])
    overload = run_worker(arguments, "stream", 2 * kept["fps"])
    return {
        "bare_fps": plain["fps"],
        "stream_fps": kept["fps"],
        "ratio": kept["fps"] / plain["fps"],
        "age_p50_ms": overload["age_p50_ms"],
        "age_p99_ms": overload["age_p99_ms"],
        "inference_p99_ms": overload["inference_p99_ms"],
        "bound_ms": 2e3 / (2 * kept["fps"]) + overload["inference_p99_ms"],
        "dropped": overload["dropped"],
    }


def run_worker(arguments, worker, fps=0.0):
    """Run this script as one of the programs; returns what it measured."""
    options = {"model": arguments.model, "threads": arguments.threads, "seconds": arguments.seconds, "fps": fps}
    command = [sys.executable, __file__, arguments.bundle, "--worker", worker]
    command += [text for name, value in options.items() for text in ("--" + name, str(value))]
    return json.loads(subprocess.check_output(command).decode())


def bare(arguments):
    """Return how many inferences a second the model alone makes."""
    import onnxruntime

    bundle = open_bundle(arguments.bundle)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = arguments.threads, 3
    path = bundle.file(bundle.model(arguments.model).file)
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    spec = bundle.preprocessing
    batch = np.random.RandomState(0).randint(0, 256, (1, spec.height, spec.width, 3)).astype(np.float32)
    until(time.monotonic() + _WARM_UP_S, lambda: session.run(None, {"image": batch}))
    start = time.monotonic()
    count = until(start + arguments.seconds, lambda: session.run(None, {"image": batch}))
    return {"fps": count / (time.monotonic() - start)}


def until(end, step):
    """Call ``step`` until the time has come; returns how often."""
    count = 0
    while time.monotonic() < end:
        step()
        count += 1
    return count


def classify_camera(arguments):
    """Classify a generated camera; returns frames a second, ages and inference times."""
    classifier = Classifier.open(arguments.bundle, arguments.model, "onnxruntime", threads=arguments.threads)
    with classifier, open_camera("test://", WIDTH, HEIGHT, arguments.fps) as camera:
        items = stream(classifier, camera)
        until(time.monotonic() + _WARM_UP_S, lambda: next(items))
        before = next(items)
        start = time.monotonic()
        found = []
        until(start + arguments.seconds, lambda: found.append(next(items)))
        seconds = time.monotonic() - start
        items.close()
    ages = [item.age_ms for item in found]
    return {
        "fps": len(found) / seconds,
        "age_p50_ms": float(np.percentile(ages, 50)),
        "age_p99_ms": float(np.percentile(ages, 99)),
        "inference_p99_ms": float(np.percentile([item.result.timings_ms["inference"] for item in found], 99)),
        "dropped": found[-1].dropped - before.dropped,
    }


if __name__ == "__main__":
    main()
