"""Measures the processor time that `run --when-motion` saves on a still scene, and how soon a change is seen.

    python3 benchmarks/streams/motion.py NAME.edge

Method: a camera by HTTP sends a still picture of 1280 x 720 with a sensor's noise (new in each frame, standard deviation 4), 30 times
a second, once as raw frames (YUV4MPEG with I420, nothing to decode) and once as JPEGs (MJPEG).  `run`'s loop classifies it and writes
.jsonl, with and without the gate, in turns.  Counted is the processor time of all threads, so that other programs hardly matter: of
the classifying process, and of the process that reads the camera, which decodes fewer frames of a still scene.  The first two seconds
do not count.

For the age of a change, an object of 40 x 40 pixels appears in the recorded noise at random times: frames from its first to the
first that passes the gate.
"""

import argparse
import contextlib
import http.server
import itertools
import json
import multiprocessing
import os
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
from edgeclf_runtime.streaming.run_loop import Run, RunStopped

WIDTH, HEIGHT, FPS = 1280, 720, 30
SIGMA = 4.0
WARM_UP_S = 2.0
KINDS = ("raw", "jpeg")


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


def stream_of(kind):
    """Return the head of an answer of the camera, and some of its frames as it sends them."""
    if kind == "jpeg":
        pictures = [
            cv2.imencode(".jpg", frame, [cv2.IMWRITE_JPEG_QUALITY, 85])[1].tobytes() for frame in still_frames(40)
        ]
        head = b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n"
        return "multipart/x-mixed-replace; boundary=frame", b"", [head % len(one) + one + b"\r\n" for one in pictures]
    frames = [cv2.cvtColor(frame, cv2.COLOR_BGR2YUV_I420).tobytes() for frame in still_frames(40)]
    return (
        "video/x-yuv4mpeg",
        b"YUV4MPEG2 W%d H%d F%d:1 Ip A1:1 C420jpeg\n" % (WIDTH, HEIGHT, FPS),
        [b"FRAME\n" + one for one in frames],
    )


def serve(kind, ports):
    """Be a camera; puts its port into a queue."""
    media, head, frames = stream_of(kind)

    class Camera(http.server.BaseHTTPRequestHandler):
        """Sends the frames again and again, in real time."""

        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Type", media)
            self.end_headers()
            start = time.monotonic()
            with contextlib.suppress(OSError):
                self.wfile.write(head)
                for number in itertools.count():
                    self.wfile.write(frames[number % len(frames)])
                    time.sleep(max(0.0, start + (number + 1) / FPS - time.monotonic()))

        def log_message(self, *arguments):
            """Print nothing."""

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Camera)
    ports.put(server.server_port)
    server.serve_forever()


def processor_s(process):
    """Return the processor seconds of another process."""
    with open(f"/proc/{process}/stat") as stream:
        fields = stream.read().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


class Meter(Sink):
    """Counts frames and processor time after the warm-up, and ends the run.

    figures     processor seconds of this process and of the reader, and frames, all for a second
    """

    def __init__(self, reader, seconds):
        self.reader, self.seconds, self.begun = reader, seconds, time.monotonic()
        self.start, self.frames, self.figures, self.run = None, 0, (), None

    def write(self, item):
        """Take one StreamResult."""
        now = time.monotonic() - self.begun
        times = now, time.process_time(), processor_s(self.reader), self.frames
        self.frames += 1
        if self.start is None and now >= WARM_UP_S:
            self.start = times
        if now >= self.seconds:
            spent, *figures = (after - before for before, after in zip(self.start, times, strict=True))
            self.figures = [figure / spent for figure in figures]
            self.run.stop()


def play(classifier, port, gate, seconds):
    """Classify the camera's frames; returns Meter.figures."""
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(tempfile.TemporaryDirectory())
        lines = stack.enter_context(open_sink(os.path.join(folder, "r.jsonl")))
        camera = stack.enter_context(open_camera(f"http://127.0.0.1:{port}/")).wait_opened()
        meter = Meter(camera._capture._process.pid, seconds)
        meter.run = Run(classifier, camera, [lines, meter], motion=gate)
        with contextlib.suppress(RunStopped):
            meter.run.go()
    return meter.figures


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
    parser.add_argument("--seconds", type=float, default=10.0, help="of each run (default: 10)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    rows = {}
    context = multiprocessing.get_context("spawn")
    with contextlib.ExitStack() as stack:
        classifier = stack.enter_context(Classifier.open(arguments.bundle, arguments.model, threads=arguments.threads))
        for kind in KINDS:
            ports = context.Queue()
            camera = context.Process(target=serve, args=(kind, ports), daemon=True)
            camera.start()
            port = ports.get()
            rounds = [
                [play(classifier, port, gate, arguments.seconds) for gate in (None, MotionGate())]
                for _ in range(arguments.rounds)
            ]
            rows[kind] = summarize(rounds)
            camera.terminate()
        used = f"{classifier.model} on {classifier.backend}"
    waited = delays(60)
    figures = {"rows": rows, "delay_frames": {"median": statistics.median(waited), "most": max(waited)}, "model": used}
    if arguments.json:
        print(json.dumps(dict(figures, machine=machine_facts())))
        return
    print(f"{used}; ms of processor time for a frame of the camera")
    print(
        "camera   classifying: every frame  when-motion  ratio   reading: every frame  when-motion   ratio of all   frames a second"
    )
    for kind, row in rows.items():
        print(
            f"{kind:8} {row['every_ms']:24.2f} {row['motion_ms']:12.2f} {row['ratio']:6.1f} {row['reading_ms']:22.2f} "
            f"{row['resting_ms']:12.2f} {row['whole_ratio']:14.1f}   {row['every_fps']:.1f}, {row['motion_fps']:.1f}"
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
        "reading_ms": median(lambda every, motion: every[1] / FPS * 1e3),
        "resting_ms": median(lambda every, motion: motion[1] / FPS * 1e3),
        "whole_ratio": median(lambda every, motion: sum(every[:2]) / sum(motion[:2])),
        "every_fps": median(lambda every, motion: every[2]),
        "motion_fps": median(lambda every, motion: motion[2]),
    }


if __name__ == "__main__":
    main()
