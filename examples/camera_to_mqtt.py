"""Publishes a camera's label over MQTT each time it changes.

    python3 examples/camera_to_mqtt.py pets.edge /dev/video0 mqtt://broker/line/4

The label is smoothed over half a second.  While the broker is unreachable, messages are kept on disk; they are
sent when it is back.
Needs paho-mqtt.
"""

import argparse

from edgeclf_runtime import Classifier, open_camera
from edgeclf_runtime.results import find_origin
from edgeclf_runtime.sinks import open_sink
from edgeclf_runtime.streaming.smoothing import Smoother


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("camera", metavar="SOURCE", help="/dev/video0, csi://0, rtsp://..., test://, a video file")
    parser.add_argument("broker", metavar="mqtt://[USER@]HOST/TOPIC")
    parser.add_argument("--frames", type=int, default=0, help="stop after this many frames (0: never)")
    arguments = parser.parse_args()
    with Classifier.open(arguments.bundle) as classifier, open_camera(arguments.camera) as camera:
        origin = find_origin(classifier.bundle_id, camera.name)
        with open_sink(arguments.broker, origin=origin) as broker:
            last = None
            for count, item in enumerate(classifier.stream(camera, Smoother(seconds=0.5)), 1):
                if item.result.label != last:
                    last = item.result.label
                    broker.write(item)
                    print(item, flush=True)
                if count == arguments.frames:
                    break


if __name__ == "__main__":
    main()
