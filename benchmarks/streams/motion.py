"""Measures the processor time that `run --when-motion` saves on a still scene, and how soon a change is seen.

    python3 benchmarks/streams/motion.py NAME.edge

Method: a still picture of 1280 x 720 with a sensor's noise (new in each frame, standard deviation 4), 30 frames a second, is played
in real time as a camera is, once as raw frames (I420, nothing to decode) and once as JPEGs.  `run`'s loop classifies it and writes
.jsonl, with and without the gate, in turns.  Counted is the processor time of all threads, so that other programs hardly matter: of
the classifying process, and of the process that reads the camera, whose time no gate saves.  The first two seconds do not count.

For the age of a change, an object of 40 x 40 pixels appears in the recorded noise at random times: frames from its first to the
first that passes the gate.
"""

import argparse
import contextlib
import json
import os
import resource
import statistics
import tempfile
import time

import cv2
import numpy as np

from edgeclf_runtime.capture.open_camera import open_camera
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.commands.bench import machine_facts
from edgeclf_runtime.sinks import open_sink
from edgeclf_runtime.sinks.base import Sink
from edgeclf_runtime.streaming.motion import MotionGate
from edgeclf_runtime.streaming.run_loop import Run

WIDTH, HEIGHT, FPS = 1280, 720, 30
SIGMA = 4.0
WARM_UP_S = 2.0
CODECS = {"raw": "I420", "jpeg": "MJPG"}


def still_frames(count):
    """Yield frames of a soft picture under new noise."""
    chance = np.random.RandomState(0)
    soft = cv2.resize(
        chance.randint(40, 216, (9, 16, 3)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    grains = chance.normal(0, SIGMA, (8, HEIGHT, WIDTH, 3)).astype(np.float32)
    for number in range(count):
        grain = np.roll(grains[number % 8], 97 * number, 1)
        yield np.clip(soft + grain, 0, 255).astype(np.uint8)


def record(path, codec, seconds):
    """Write the still scene as a video."""
    writer = cv2.VideoWriter(path, cv2.VideoWriter_fourcc(*codec), FPS, (WIDTH, HEIGHT))
    for frame in still_frames(int(seconds * FPS)):
        writer.write(frame)
    writer.release()


class WarmUp(Sink):
    """Notes the processor time of this process when the warm-up ends, and the frames until then."""

    def __init__(self):
        self.start, self.frames, self.at = None, 0, None

    def write(self, item):
        """Take one StreamResult."""
        self.frames += 1
        if self.start is None and item.frame.position_s >= WARM_UP_S:
            self.start, self.frames, self.at = time.process_time(), 0, item.frame.position_s


def play(classifier, path, gate, seconds):
    """Classify a video in real time; returns processor seconds for a second of video, of this process and of the reader's."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    warm = WarmUp()
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        lines = stack.enter_context(open_sink(os.path.join(folder, "r.jsonl")))
        camera = stack.enter_context(open_camera(path, policy="latest")).wait_opened()
        Run(classifier, camera, [lines, warm], motion=gate).go()
        used = time.process_time() - warm.start
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    reader = sum(getattr(after, name) - getattr(before, name) for name in ("ru_utime", "ru_stime"))
    return used / (seconds - warm.at), reader / seconds, warm.frames / (seconds - warm.at)


def delays(count):
    """Return the frames after which an object that appears passes the gate: 0 is its first frame."""
    frames = list(still_frames(40))
    chance = np.random.RandomState(1)
    found = []
    for _ in range(count):
        gate, number = MotionGate(), 0
        for number in range(3 * FPS + chance.randint(FPS)):
            gate.passes(frames[number % len(frames)], number / FPS)
        top, left = chance.randint(HEIGHT - 40), chance.randint(WIDTH - 40)
        for waited in range(2 * FPS):
            image = frames[(number + 1 + waited) % len(frames)].copy()
            patch = image[top : top + 40, left : left + 40]
            patch[:] = cv2.add(patch, np.full_like(patch, 40))
            if gate.passes(image, (number + 1 + waited) / FPS):
                break
        found.append(waited)
    return found


def main():
    """Measure and print a row for each kind of camera."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("--model", help="of the bundle (default: as run chooses)")
    parser.add_argument("--threads", type=int, help="of the backend (default: as run chooses)")
    parser.add_argument("--seconds", type=float, default=10.0, help="of the video (default: 10)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = {}
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        classifier = stack.enter_context(Classifier.open(arguments.bundle, arguments.model, threads=arguments.threads))
        for kind, codec in CODECS.items():
            path = os.path.join(folder, kind + ".avi")
            record(path, codec, arguments.seconds)
            rounds = [
                [play(classifier, path, gate, arguments.seconds) for gate in (None, MotionGate())]
                for _ in range(arguments.rounds)
            ]
            rows[kind] = summarize(rounds)
            os.remove(path)
        used = f"{classifier.model} on {classifier.backend}"
    waited = delays(60)
    figures = {"rows": rows, "delay_frames": {"median": statistics.median(waited), "most": max(waited)}, "model": used}
    if arguments.json:
        print(json.dumps(dict(figures, machine=machine_facts())))
        return
    print(f"{used}; ms of processor time for a frame of the camera")
    print("camera   classifying: every frame  when-motion  ratio   reading   with reading   frames a second")
    for kind, row in rows.items():
        print(
            f"{kind:8} {row['every_ms']:24.2f} {row['motion_ms']:12.2f} {row['ratio']:6.1f} {row['reader_ms']:9.2f} "
            f"{row['whole_ratio']:14.1f}   {row['every_fps']:.1f}, {row['motion_fps']:.1f}"
        )
    print(f"an object is seen after {figures['delay_frames']['median']:g} frames (median), {max(waited)} (most)")


def summarize(rounds):
    """Return the medians over rounds of pairs: without and with the gate."""

    def median(of):
        return statistics.median(of(*pair) for pair in rounds)

    return {
        "every_ms": median(lambda every, motion: every[0] / FPS * 1e3),
        "motion_ms": median(lambda every, motion: motion[0] / FPS * 1e3),
        "ratio": median(lambda every, motion: every[0] / motion[0]),
        "reader_ms": median(lambda every, motion: (every[1] + motion[1]) / 2 / FPS * 1e3),
        "whole_ratio": median(lambda every, motion: sum(every[:2]) / sum(motion[:2])),
        "every_fps": median(lambda every, motion: every[2]),
        "motion_fps": median(lambda every, motion: motion[2]),
    }


if __name__ == "__main__":
    main()
