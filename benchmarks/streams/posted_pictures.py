"""Measures what pictures that are posted to the live page's server cost: their own time, and the camera's rate.

    python3 benchmarks/streams/posted_pictures.py NAME.edge

Method: a camera of 1280 x 720, 30 frames a second, is classified by `run`'s loop as fast as it comes ("latest"), and shown on a page
that nobody watches.  For the time of a request, a JPEG of the same size is decoded and classified in this process, and posted by
another one, in turns, while there is no camera; medians, also with a classifier that answers at once.  For the camera's rate and the age of its labels, clients in another process
post as fast as they are answered, for some seconds each, in turns: none; four whose pictures are refused before they are read (415);
sixteen, of which most are refused because others wait (503); one whose pictures are classified.
"""

import argparse
import contextlib
import http.client
import json
import multiprocessing
import statistics
import threading
import time
import urllib.error
import urllib.request

import cv2
import numpy as np

from edgeclf_runtime.capture.camera import Camera
from edgeclf_runtime.classify.classifier import Classifier
from edgeclf_runtime.commands.bench import machine_facts
from edgeclf_runtime.errors import EndOfStream
from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.images.read import decode_image
from edgeclf_runtime.sinks.base import Sink
from edgeclf_runtime.sinks.live.sink import LiveSink
from edgeclf_runtime.streaming.run_loop import Run

WIDTH, HEIGHT, FPS = 1280, 720, 30
# Clients, and the media type that they state.
LOADS = {
    "none": (0, ""),
    "refused": (4, "text/plain"),
    "most wait": (16, "image/jpeg"),
    "classified": (1, "image/jpeg"),
}


def picture():
    """Return a soft picture under a sensor's noise, BGR."""
    chance = np.random.RandomState(0)
    soft = cv2.resize(
        chance.randint(40, 216, (9, 16, 3)).astype(np.float32), (WIDTH, HEIGHT), interpolation=cv2.INTER_CUBIC
    )
    return np.clip(soft + chance.normal(0, 4, soft.shape), 0, 255).astype(np.uint8)


class Clock(Camera):
    """A camera that has a frame at each tick, and drops those for which nobody asked in time."""

    def __init__(self, image):
        self.image, self.number, self.stopped = image, 0, threading.Event()
        self.start = time.monotonic()

    def read(self, timeout_s=None):
        """Return the next frame."""
        self.number = max(self.number + 1, int((time.monotonic() - self.start) * FPS))
        if self.stopped.wait(max(self.start + self.number / FPS - time.monotonic(), 0)):
            raise EndOfStream("stopped")
        return Frame(self.image, self.number, time.time(), time.monotonic(), 0.0, "")


class Ages(Sink):
    """Notes when each result came, and the age of its frame."""

    def __init__(self):
        self.found = []

    def write(self, item):
        """Take one StreamResult."""
        self.found.append((time.monotonic(), item.age_ms))


def post(url, data, kind="image/jpeg"):
    """Post a picture; returns the status and the JSON of the answer."""
    request = urllib.request.Request(url + "v1/classify", data, {"Content-Type": kind})
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, json.loads(answer.read().decode("ascii"))
    except urllib.error.HTTPError as error:
        with error:
            return error.code, {}
    except (OSError, http.client.HTTPException):
        return "closed", {}


def client(pipe):
    """Post what the pipe asks for: (url, data, media type, seconds, clients); send the count of each status, or the seconds of one request."""
    for url, data, kind, seconds, count in iter(pipe.recv, None):
        if not count:
            start = time.perf_counter()
            status, _ = post(url, data)
            assert status == 200
            pipe.send(time.perf_counter() - start)
            continue
        found, end, lock = {}, time.monotonic() + seconds, threading.Lock()

        def work(url=url, data=data, kind=kind, end=end, found=found, lock=lock):
            while time.monotonic() < end:
                status, _ = post(url, data, kind)
                with lock:
                    found[status] = found.get(status, 0) + 1

        threads = [threading.Thread(target=work) for _ in range(count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        pipe.send(found)


def request_times(classify, url, data, pipe, count):
    """Return median milliseconds of decoding and classifying a JPEG in this process, and of posting it."""
    here, posted = [], []
    for _ in range(count):
        start = time.perf_counter()
        classify(decode_image(data))
        here.append(time.perf_counter() - start)
        pipe.send((url, data, "", 0, 0))
        posted.append(pipe.recv())
    return [1e3 * statistics.median(times) for times in (here, posted)]


def camera_rates(classifier, sink, image, data, pipe, seconds, rounds):
    """Return, for each load, frames a second, median and 99th percentile of the age, and answers a second by status."""
    camera, ages = Clock(image), Ages()
    thread = threading.Thread(target=Run(classifier, camera, [sink, ages]).go)
    thread.start()
    time.sleep(2)
    found = {name: [[], {}, 0.0] for name in LOADS}
    for _ in range(rounds):
        for name, (count, kind) in LOADS.items():
            start = time.monotonic()
            if count:
                pipe.send((sink.url, data, kind, seconds, count))
                for status, number in pipe.recv().items():
                    found[name][1][status] = found[name][1].get(status, 0) + number
            else:
                time.sleep(seconds)
            end = time.monotonic()
            found[name][0] += [age for at, age in list(ages.found) if start <= at < end]
            found[name][2] += end - start
    camera.stopped.set()
    thread.join()
    return {
        name: {
            "frames_per_s": round(len(some) / took, 2),
            "age_ms": round(float(np.percentile(some, 50)), 2),
            "age_p99_ms": round(float(np.percentile(some, 99)), 2),
            "answers_per_s": {
                str(status): round(number / took, 1) for status, number in sorted(statuses.items(), key=str)
            },
        }
        for name, (some, statuses, took) in found.items()
    }


def main():
    """Measure and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("--backend", default="auto")
    parser.add_argument("--seconds", type=float, default=5.0, help="for each load, in each round (default: 5)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--count", type=int, default=100, help="number of requests that are timed (default: 100)")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    image = picture()
    data = cv2.imencode(".jpg", image)[1].tobytes()
    context = multiprocessing.get_context("spawn")
    pipe, other = context.Pipe()
    process = context.Process(target=client, args=(other,), daemon=True)
    process.start()
    with contextlib.ExitStack() as stack:
        classifier = stack.enter_context(Classifier.open(arguments.bundle, backend=arguments.backend))
        sink = stack.enter_context(LiveSink(":0", classifier.labels, classify=classifier.classify))
        result = classifier.classify(image)
        with LiveSink(":0", classifier.labels, classify=lambda pixels: result) as instant:
            times = [request_times(lambda pixels: result, instant.url, data, pipe, arguments.count)]
        times.append(request_times(classifier.classify, sink.url, data, pipe, arguments.count))
        loads = camera_rates(classifier, sink, image, data, pipe, arguments.seconds, arguments.rounds)
        name = f"{classifier.model} on {classifier.backend}"
    pipe.send(None)
    process.join()
    if arguments.json:
        rows = {
            key: [round(one, 2) for one in pair]
            for key, pair in zip(("instant_ms", "classified_ms"), times, strict=True)
        }
        print(json.dumps(dict({"machine": machine_facts(), "model": name, "loads": loads}, **rows)))
        return
    print(f"a JPEG of {len(data) / 1e3:.0f} kB in this process, and posted:")
    for what, (here_ms, posted_ms) in zip(("without a model", name), times, strict=True):
        print(f"{what:<24}{here_ms:8.2f} ms {posted_ms:8.2f} ms")
    for load, row in loads.items():
        figures = "{frames_per_s:6.2f} frames a second, age {age_ms:.1f} ms (p99 {age_p99_ms:.1f}), answers a second {answers_per_s}"
        print(f"{load:<12}" + figures.format(**row))


if __name__ == "__main__":
    main()
