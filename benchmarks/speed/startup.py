"""Measures the time until a device's command line answers, and until the first frame has its label.

    python3 benchmarks/speed/startup.py NAME.edge

Method: programs are started in turns and timed from outside, and the medians are given.
  interpreter   ``python3 -c pass``
  help          ``python3 -m edgeclf_runtime --help``
  bundle help   ``python3 NAME.edge --help``, which verifies the bundle's code first
  backend       onnxruntime, numpy and OpenCV imported, the model loaded and run once
  first label   ``run`` on a generated camera, from the start of the program to its first line, the
                verification of the whole bundle and its golden images included
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np

import edgeclf_runtime
from edgeclf_runtime.bundle.open_bundle import open_bundle
from edgeclf_runtime.commands.bench import machine_facts

BACKEND = """
import sys, cv2, numpy, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1], providers=["CPUExecutionProvider"])
shape = [size if isinstance(size, int) else 1 for size in session.get_inputs()[0].shape]
session.run(None, {"image": numpy.zeros(shape, numpy.float32)})
print("done")
"""


def main():
    """Start each program so often and print the medians."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("--model", default="int8-cpu")
    parser.add_argument("--repeat", type=int, default=9)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    bundle = open_bundle(arguments.bundle)
    run = ["run", "--source", "test://", "--json", "--frames", "1", "--model", arguments.model]
    programs = {
        "interpreter": ["-c", "print()"],
        "help": ["-m", "edgeclf_runtime", "--help"],
        "bundle_help": [bundle.path, "--help"],
        "backend": ["-c", BACKEND, bundle.file(bundle.model(arguments.model).file)],
        "first_label": [bundle.path, *run],
    }
    samples = {name: [] for name in programs}
    for _ in range(arguments.repeat):
        for name, command in programs.items():
            samples[name].append(seconds_to_first_line(command))
    median = {name: round(float(np.median(values)), 3) for name, values in samples.items()}
    over = {
        "help_over_interpreter": round(median["help"] - median["interpreter"], 3),
        "bundle_help_over_interpreter": round(median["bundle_help"] - median["interpreter"], 3),
        "first_label_over_backend": round(median["first_label"] - median["backend"], 3),
    }
    if arguments.json:
        print(json.dumps({"median_s": dict(median, **over), "machine": machine_facts()}))
        return
    for name, value in dict(median, **over).items():
        print(f"{name:<28} {value:6.3f} s")


def seconds_to_first_line(command):
    """Return the seconds from starting a Python until it has written a line."""
    environment = dict(os.environ, PYTHONPATH=str(Path(edgeclf_runtime.__file__).parents[1]))
    start = time.perf_counter()
    process = subprocess.Popen(
        [sys.executable, *command], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, env=environment
    )
    line = process.stdout.readline()
    seconds = time.perf_counter() - start
    process.stdout.close()
    process.wait()
    if not line:
        raise SystemExit("{} wrote nothing".format(" ".join(command[:3])))
    return seconds


if __name__ == "__main__":
    main()
