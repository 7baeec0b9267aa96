"""Measures the cost of a frame of an annotated video, by the kind of file.

    python3 benchmarks/streams/movies.py

Method: a moving picture of 1280 x 720 with a camera's noise, 30 frames of it, is encoded and written to a temporary
file of each kind.  Counted is the processor time of the process, so that other programs hardly matter, and the bytes.
Runs on every Python from 3.6 on with the runtime in its path.
"""

import argparse
import json
import os
import tempfile
import time

import cv2
import numpy as np

from edgeclf_runtime.commands.bench import machine_facts
from edgeclf_runtime.sinks.movies import SUFFIXES, find_format

SIZE, FPS = (1280, 720), 15.0


def frames(count):
    """Return frames of a soft picture that moves to the left under new noise."""
    random = np.random.RandomState(0)
    width, height = SIZE
    soft = cv2.resize(random.randint(0, 256, (24, 40, 3)).astype(np.uint8), (width + 3 * count, height), None, 0, 0, 2)
    noise = np.abs(random.normal(0, 2, (height, width, 3))).astype(np.uint8)
    return [cv2.add(soft[:, 3 * i : 3 * i + width], np.roll(noise, 37 * i, 1)) for i in range(count)]


def measure(suffix, images):
    """Return the kind of file, milliseconds of processor time, and bytes, a frame."""
    kind = find_format(suffix)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "video" + suffix)
        with open(path, "wb+", buffering=0) as stream:
            movie = kind.make(path if kind.by_path else stream, SIZE, FPS)
            start = time.process_time()
            for image in images:
                movie.add(kind.encode(image))
            movie.finish()
            used = time.process_time() - start
        return kind.make.__name__, used / len(images) * 1e3, os.path.getsize(path) // len(images)


def main():
    """Measure and print a row for each kind of file."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=30)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    images = frames(arguments.frames)
    rows = {suffix: measure(suffix, images) for suffix in SUFFIXES}
    if arguments.json:
        print(json.dumps({"opencv": cv2.__version__, "rows": rows, "machine": machine_facts()}))
        return
    print(f"OpenCV {cv2.__version__}, 1280 x 720     ms a frame  kB a frame")
    for suffix, (name, ms, size) in rows.items():
        print(f"{suffix:<8} {name:<18} {ms:>10.1f} {size / 1e3:>11.0f}")


if __name__ == "__main__":
    main()
