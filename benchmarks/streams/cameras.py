"""Measures whether a lost camera is reopened every time, and whether anything is left behind.

    python3 benchmarks/streams/cameras.py --losses 200

Method: real servers on loopback (MJPEG over HTTP, and RTSP by GStreamer where Debian's package is there), one camera
each, in a process of its own for each kind of loss.  The camera is lost in one way over and over: the server is killed
and started again, stopped by SIGSTOP and continued, its connections are reset, its bytes replaced by random ones, or it
comes back with another picture size.  It stays away for 0.2 to 3 seconds at random.  Measured are the seconds from the
fault to CameraLost, and from the fault's end to the next frame; and, before the first and after the last loss, the
process's threads, file descriptors, children and memory.  ``timeout_s`` is 1 second here (3 by default), so that a loss
takes seconds; whatever waits for a time-out takes that much longer with the default.
"""

import argparse
import contextlib
import gc
import json
import os
import random
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

from edgeclf_runtime.capture.open_camera import open_camera  # noqa: E402
from edgeclf_runtime.commands.bench import machine_facts  # noqa: E402
from edgeclf_runtime.errors import CameraLost  # noqa: E402
from tests.support.cameras import Proxy, Server, has_rtsp_server  # noqa: E402

SERVERS = ("mjpeg", "rtsp")
KINDS = ("kill", "stop", "reset", "garbage", "resize")
TIMEOUT_S = 1.0
_GIVE_UP_S = 60.0
_FRAMES_BETWEEN = 10


def main():
    """Run the losses and print detection, recovery and what was left behind."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--losses", type=int, default=20, metavar="N", help="losses of each kind and server (20)")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    parser.add_argument("--jobs", type=int, default=2, metavar="N", help="cameras at the same time (2)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, metavar=("SERVER", "KIND"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(lose(*arguments.worker, arguments.losses)))
        return
    if "rtsp" in arguments.servers and not has_rtsp_server():
        print("rtsp is left out: Debian's gir1.2-gst-rtsp-server-1.0 is not installed", file=sys.stderr)
        arguments.servers.remove("rtsp")
    rows = run_workers([(s, k) for k in arguments.kinds for s in arguments.servers], arguments)
    if arguments.json:
        print(json.dumps({"timeout_s": TIMEOUT_S, "losses": rows, "machine": machine_facts()}))
        return
    print(
        "{:<6} {:<8} {:>6}  detected p50   p99   max   back p50   p99   max  s   left behind".format("", "", "losses")
    )
    for row in rows:
        print(
            "{server:<6} {kind:<8} {losses:>6}        {0:6.2f} {1:5.2f} {2:5.2f}     {3:6.2f} {4:5.2f} {5:5.2f}      "
            "{threads:+d} threads, {descriptors:+d} descriptors, {children:+d} processes, {memory_mb:+.1f} MB".format(
                *(row[what][name] for what in ("detected_s", "back_s") for name in ("p50", "p99", "max")),
                **row,
                **row["left"],
            )
        )


def run_workers(wanted, arguments):
    """Run each (server, kind) in a process of its own, a few at a time; returns their rows in order."""
    running, rows = {}, {}
    waiting = list(wanted)
    while waiting or running:
        while waiting and len(running) < arguments.jobs:
            task = waiting.pop(0)
            command = [sys.executable, __file__, "--losses", str(arguments.losses), "--worker", *task]
            running[task] = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
        for task, process in list(running.items()):
            if process.poll() is not None:
                del running[task]
                out = process.communicate()[0]
                if process.returncode:
                    raise SystemExit("{} {} failed".format(*task))
                rows[task] = json.loads(out.decode())
                print("{} {}: done".format(*task), file=sys.stderr)
        time.sleep(0.2)
    return [rows[task] for task in wanted]


def lose(kind_of_server, kind, losses):
    """Lose one camera so often; returns the row."""
    detected, back = [], []
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(Server(kind_of_server))
        proxy = stack.enter_context(Proxy(server.port))
        camera = stack.enter_context(open_camera(server.uri(proxy.port), timeout_s=TIMEOUT_S))
        # The first loss loads what only a loss needs.
        one_loss(kind, server, proxy, camera)
        before = resources()
        for _ in range(losses):
            seconds = one_loss(kind, server, proxy, camera)
            detected.append(seconds[0])
            back.append(seconds[1])
        after = resources()
    return {
        "server": kind_of_server,
        "kind": kind,
        "losses": losses,
        "detected_s": spread(detected),
        "back_s": spread(back),
        "left": {name: round(after[name] - before[name], 2) for name in before},
    }


def one_loss(kind, server, proxy, camera):
    """Return the seconds until the loss was reported, and from the fault's end until there was a frame."""
    for _ in range(_FRAMES_BETWEEN):
        camera.read()
    start = time.monotonic()
    {"kill": server.kill, "stop": server.pause, "reset": proxy.reset, "garbage": proxy.send_garbage}.get(
        kind, server.kill
    )()
    wait_for_loss(camera)
    detected = time.monotonic() - start
    time.sleep(random.uniform(0.2, 3.0))
    if kind == "resize":
        server.size = (320, 240) if server.size == (160, 120) else (160, 120)
    {"stop": server.resume, "reset": lambda: None, "garbage": lambda: proxy.send_garbage(False)}.get(
        kind, server.start
    )()
    end = time.monotonic()
    wait_for_frame(camera)
    return detected, time.monotonic() - end


def wait_for_loss(camera):
    """Read until the camera is lost."""
    give_up = time.monotonic() + _GIVE_UP_S
    try:
        while time.monotonic() < give_up:
            camera.read(0.1)
    except CameraLost:
        return
    raise SystemExit(f"a loss was not seen within {_GIVE_UP_S:.0f} s")


def wait_for_frame(camera):
    """Read until there is a frame."""
    give_up = time.monotonic() + _GIVE_UP_S
    while time.monotonic() < give_up:
        try:
            if camera.read(0.05) is not None:
                return
        except CameraLost:
            pass
    raise SystemExit(f"the camera was not back within {_GIVE_UP_S:.0f} s")


def resources():
    """Return the process's threads, file descriptors, children, and memory in MB."""
    gc.collect()
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines() if ":" in line)
    children = Path(f"/proc/self/task/{os.getpid()}/children").read_text().split()
    return {
        "threads": int(status["Threads"]),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "children": len(children),
        "memory_mb": int(status["VmRSS"].split()[0]) / 1024,
    }


def spread(values):
    """Return p50, p99 and the largest of seconds."""
    import numpy as np

    return dict({f"p{p}": round(float(np.percentile(values, p)), 3) for p in (50, 99)}, max=round(max(values), 3))


if __name__ == "__main__":
    main()
