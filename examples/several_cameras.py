"""Classifies several cameras with one model in memory, one thread for each camera.

    python3 examples/several_cameras.py pets.edge /dev/video0 rtsp://10.0.0.7/stream1

Threads may share a Classifier, but not a camera or a smoother.  If a camera is lost, it is reopened, and the others continue.
"""

import argparse
import threading

from edgeclf_runtime import Classifier, EdgeclfError, open_camera
from edgeclf_runtime.streaming.smoothing import Smoother


def watch(classifier: Classifier, source: str, most: int) -> None:
    """Print the label of a camera each time it changes, until it ends or ``most`` frames were classified (0: no limit)."""
    last, count = None, 0
    try:
        with open_camera(source) as camera:
            for item in classifier.stream(camera, Smoother(seconds=0.5)):
                count += 1
                if item.result.label != last:
                    last = item.result.label
                    print(f"{source}: {item.result.verdict}", flush=True)
                if count == most:
                    break
    except EdgeclfError as error:  # this camera only
        print(f"{source}: error: {error}", flush=True)
    print(f"{source}: {count} frames", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("cameras", metavar="SOURCE", nargs="+")
    parser.add_argument("--frames", type=int, default=0, help="stop after this many frames of each camera (0: never)")
    arguments = parser.parse_args()
    with Classifier.open(arguments.bundle) as classifier:
        threads = [
            threading.Thread(target=watch, args=(classifier, source, arguments.frames)) for source in arguments.cameras
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()


if __name__ == "__main__":
    main()
