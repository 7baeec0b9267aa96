"""Measures several cameras in one process beside a single one: their rates, ages and memory, and what the loss of one does.

    python3 benchmarks/streams/several_cameras.py solar.edge [--cameras 4] [--fps 15] [--seconds 60] [--json]

Method: each camera is a process on the loopback that sends pictures of 1280 x 720, encoded before, as MJPEG over HTTP.  `run` classifies
one of them, and then all in one process (`--source camera1=... --source camera2=...`), with the same model and backend, and writes
JSON lines, which are read here.  The first ten seconds are left out.  Given are each camera's frames a second, the 99th percentile of
the age at the label, and the memory of the process and its readers.  Then the last camera is killed, and the other cameras' ages of the same
length of time are compared with those before.

Exit codes: 0 each camera has 95 % of the single one's rate, at most twice its age and 70 MB more memory, and the others' ages rise by 10 % at
most when one is killed; 3 not.
"""

from __future__ import annotations

import argparse
import contextlib
import http.server
import json
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from typing import IO, Any

import numpy as np
from endurance import read

from edgeclf_runtime.commands.bench import machine_facts

SIZE, PICTURES = (1280, 720), 30
WARM_UP_S = 10.0
LEAST_RATE, MOST_AGE, MOST_MB, MOST_RISE = 0.95, 2.0, 70.0, 1.10


def main() -> None:
    """Run one camera, then several, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", help="a bundle, NAME.edge")
    parser.add_argument("--cameras", type=int, default=4)
    parser.add_argument("--fps", type=int, default=15)
    parser.add_argument("--seconds", type=float, default=60.0, help="length of each of the three measurements (60)")
    parser.add_argument("--model", default="int8-cpu")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        serve(arguments.fps)
        return
    single = measure(arguments, 1)["before"]
    several = measure(arguments, arguments.cameras)
    report = {"single": single, "several": several, "machine": machine_facts()}
    found = verdict(single, several, arguments.cameras)
    print(json.dumps({**report, **found}) if arguments.json else text_of(single, several, found))
    raise SystemExit(0 if found["passed"] else 3)


def serve(fps: int) -> None:
    """Send pictures to whoever asks, on a free port, which is printed."""
    import cv2

    rng = np.random.default_rng(0)
    base = cv2.resize(rng.integers(0, 256, (45, 80, 3), np.uint8), SIZE, interpolation=cv2.INTER_CUBIC)
    pictures = []
    for number in range(PICTURES):
        image = np.roll(base, 13 * number, axis=1)
        data = cv2.imencode(".jpg", image)[1].tobytes()
        pictures.append(b"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: %d\r\n\r\n%b\r\n" % (len(data), data))

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
            self.end_headers()
            start, number = time.monotonic(), 0
            with contextlib.suppress(OSError):
                while True:
                    self.wfile.write(pictures[number % PICTURES])
                    number += 1
                    time.sleep(max(0.0, start + number / fps - time.monotonic()))

        def log_message(self, *arguments: object) -> None:
            """Say nothing."""

    class Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
        daemon_threads = True

    server = Server(("127.0.0.1", 0), Handler)
    print(server.server_address[1], flush=True)
    server.serve_forever()


@contextlib.contextmanager
def camera(fps: int) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """Start a camera, and give its process and address."""
    process = subprocess.Popen(
        [sys.executable, __file__, "-", "--serve", "--fps", str(fps)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    try:
        assert process.stdout
        yield process, f"http://127.0.0.1:{int(process.stdout.readline())}/camera.mjpg"
    finally:
        process.kill()
        process.wait()


def measure(arguments: argparse.Namespace, count: int) -> dict[str, Any]:
    """Return the figures of a run with so many cameras, and, of several, those after the last one was killed."""
    with contextlib.ExitStack() as stack:
        cameras = [stack.enter_context(camera(arguments.fps)) for _ in range(count)]
        words = [word for number, (_, uri) in enumerate(cameras, 1) for word in ("--source", f"camera{number}={uri}")]
        command = [sys.executable, arguments.bundle, "run", *words, "--model", arguments.model, "--json", "--no-health"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        try:
            assert process.stdout
            lines = Lines(process.stdout)
            found = {"before": window(lines, arguments.seconds, process.pid)}
            if count > 1:
                cameras[-1][0].kill()
                found["after"] = window(lines, arguments.seconds, process.pid)
        finally:
            process.terminate()
            process.wait()
    return found


class Lines:
    """The results that a run writes, read in a thread."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._rows: list[tuple[float, str, float]] = []
        threading.Thread(target=self._read, args=(stream,), daemon=True).start()

    def _read(self, stream: IO[bytes]) -> None:
        for line in stream:
            found = json.loads(line)
            if "frame" in found:
                self._rows.append((time.monotonic(), found["camera"], found["age_ms"]))

    def between(self, start: float, end: float) -> dict[str, list[float]]:
        """Return the ages in milliseconds of the results of a time, by camera."""
        ages: dict[str, list[float]] = {}
        for at, name, age_ms in list(self._rows):
            if start <= at < end:
                ages.setdefault(name, []).append(age_ms)
        return ages


def window(lines: Lines, seconds: float, pid: int) -> dict[str, Any]:
    """Return rate and age of each camera over a time from now on, after the warm-up, and the memory at its end."""
    time.sleep(WARM_UP_S)
    start = time.monotonic()
    time.sleep(seconds)
    ages = lines.between(start, start + seconds)
    return {
        "rate": {name: round(len(found) / seconds, 2) for name, found in sorted(ages.items())},
        "p50_ms": {name: round(float(np.percentile(found, 50)), 2) for name, found in sorted(ages.items())},
        "p99_ms": {name: round(float(np.percentile(found, 99)), 2) for name, found in sorted(ages.items())},
        "mb": round(read(pid)[0], 1),
    }


def verdict(single: dict[str, Any], several: dict[str, Any], count: int) -> dict[str, Any]:
    """Return each figure asked for."""
    rate, age = single["rate"]["camera1"], single["p99_ms"]["camera1"]
    before, after = several["before"], several["after"]
    others = [f"camera{number}" for number in range(1, count)]
    found = {
        "least_rate": round(min(before["rate"].values()) / rate, 3),
        "most_age": round(max(before["p99_ms"].values()) / age, 2),
        "mb_each": round((before["mb"] - single["mb"]) / (count - 1), 1),
        "most_rise": round(max(after["p99_ms"][name] / before["p99_ms"][name] for name in others), 3),
    }
    passed = found["least_rate"] >= LEAST_RATE and found["most_age"] <= MOST_AGE
    return {**found, "passed": passed and found["mb_each"] <= MOST_MB and found["most_rise"] <= MOST_RISE}


def text_of(single: dict[str, Any], several: dict[str, Any], found: dict[str, Any]) -> str:
    """Return the table for people."""
    lines = [f"{'':22}" + "frames/s     p50 ms     p99 ms"]
    for what, part in (("single", single), ("several", several["before"]), ("one killed", several["after"])):
        for name, rate in part["rate"].items():
            lines.append(f"{what:11} {name:10} {rate:8.2f} {part['p50_ms'][name]:10.2f} {part['p99_ms'][name]:10.2f}")
        lines.append(f"{what:11} memory     {part['mb']:8.1f} MB")
    lines.append(
        f"least rate {found['least_rate']:.3f} ({LEAST_RATE}), most age {found['most_age']:.2f} ({MOST_AGE:g}), "
        f"memory for each more {found['mb_each']:.1f} MB ({MOST_MB:g}), age after a loss {found['most_rise']:.3f} ({MOST_RISE})"
    )
    return "\n".join(lines)


if __name__ == "__main__":
    main()
