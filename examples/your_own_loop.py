"""Classifies frames that your own program already has as arrays.  Here they come from OpenCV, and go to a video with their labels.

    python3 examples/your_own_loop.py pets.edge video.avi labeled.avi

An array is uint8, [height, width, 3] in BGR (OpenCV's order) or [height, width] in gray; for RGB (Pillow's order) pass
``order="rgb"``.
"""

import argparse

import cv2

from edgeclf_runtime import Classifier


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("video")
    parser.add_argument("output", metavar="LABELED.avi")
    arguments = parser.parse_args()
    frames = cv2.VideoCapture(arguments.video)
    size = (int(frames.get(cv2.CAP_PROP_FRAME_WIDTH)), int(frames.get(cv2.CAP_PROP_FRAME_HEIGHT)))
    rate = frames.get(cv2.CAP_PROP_FPS) or 15
    writer = cv2.VideoWriter(arguments.output, cv2.VideoWriter_fourcc(*"MJPG"), rate, size)
    count = 0
    with Classifier.open(arguments.bundle) as classifier:
        while True:
            more, frame = frames.read()
            if not more:
                break
            result = classifier.classify(frame)
            cv2.putText(frame, result.verdict, (8, size[1] - 8), cv2.FONT_HERSHEY_SIMPLEX, 0.5, (0, 255, 0))
            writer.write(frame)
            count += 1
    writer.release()
    frames.release()
    print(f"{count} frames in {arguments.output}")


if __name__ == "__main__":
    main()
