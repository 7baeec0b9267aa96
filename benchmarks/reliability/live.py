"""Measures whether a viewer of the live page gets in while others attack it.

    python3 benchmarks/reliability/live.py

Method: a live page of a 1280 x 720 camera at 15 frames a second, in a process of its own, on 127.0.0.1; it needs no
bundle.  A second process attacks it for ``--seconds``, in one way after the other, with ``--connections`` at the same
time: each that the page ends is opened again at once, up to RECONNECTS_PER_S in all.  Meanwhile this process looks at
the page as a viewer: one stays and is read to the end (one viewer more for each time that it was ended), and again and
again another comes, asks for pictures, and leaves after a second.  Viewers share the attackers' address, the worst that
can be; if the attackers have many, each viewer has one of its own, as a machine has.  Measured are the newcomers'
time to the first byte and to the first picture, both viewers' pictures a second, and the page's memory and threads: at
most, and what is left after the attack.  Other programs cost a viewer time too, so the JSON has the machine's load.
Nothing outside 127.0.0.0/8 can be attacked: the page is this program's own.
"""

import argparse
import contextlib
import json
import os
import random
import select
import socket
import statistics
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np

from edgeclf_runtime.commands.bench import machine_facts
from edgeclf_runtime.images.frame import Frame
from edgeclf_runtime.results import Result, StreamResult
from edgeclf_runtime.sinks.live.sink import LiveSink

FPS = 15
RECONNECTS_PER_S = 200
MOST_CONNECTIONS, MOST_SECONDS = 500, 120  # of one attack
FILL_S, LOOK_S = 1.0, 1.0  # until the attackers are connected, and of one newcomer
WAIT_S = 30
TRICKLE_S = 0.5
HOST, ANOTHER_HOST = "127.0.0.1", "127.0.1.1"
MACHINES = [f"127.0.0.{number}" for number in range(2, 18)]
REQUEST = b"GET /%s HTTP/1.1\r\nHost: localhost\r\n\r\n"
GARBAGE = (
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    b"GET / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"GET /" + b"x" * 100000,
    b"GET / HTTP/1.1\r\nHost: localhost\r\nX: " + b"x" * 100000,
    b"GET / HTTP/1.1\r\nHost: evil.example\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: localhost\r\n\r\n",
)
# By name: what a connection sends at first, what it sends every TRICKLE_S, and from which addresses it comes.
ATTACKS = {
    "silent": (b"", b"", [HOST]),
    "slow headers": (b"GET / HTTP/1.1\r\nX-Slow: ", b"x", [HOST]),
    "unread pictures": (REQUEST % b"picture.mjpg", b"", [HOST]),
    "unread, 16 machines": (REQUEST % b"picture.mjpg", b"", MACHINES),
    "unread events": (REQUEST % b"events", b"", [HOST]),
    "garbage": (None, b"", [HOST]),
}


def main():
    """Run the attacks, one after the other, and print what a viewer had of the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=100, metavar="N", help="attackers at the same time (100)")
    parser.add_argument("--seconds", type=float, default=10.0, metavar="S", help="of each attack (10)")
    parser.add_argument("--attacks", nargs="+", choices=ATTACKS, default=list(ATTACKS))
    parser.add_argument("--json", action="store_true", help="the figures as one line, the table on stderr")
    parser.add_argument("--serve", action="store_true", help=argparse.SUPPRESS)
    parser.add_argument("--attack", nargs=2, metavar=("NAME", "PORT"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if not (0 < arguments.connections <= MOST_CONNECTIONS and 0 < arguments.seconds <= MOST_SECONDS):
        parser.error(f"1 to {MOST_CONNECTIONS} connections and up to {MOST_SECONDS} s were expected")
    if not arguments.attack and arguments.seconds < FILL_S + LOOK_S:
        parser.error(
            f"--seconds {arguments.seconds:g} is too short: the attackers connect for {FILL_S:g} s, and a newcomer looks for "
            f"{LOOK_S:g} s; at least {FILL_S + LOOK_S:g} was expected"
        )
    if arguments.serve:
        serve()
    elif arguments.attack:
        attack(*arguments.attack, arguments.connections, arguments.seconds)
    else:
        report(measure(arguments), arguments)


def report(figures, arguments):
    """Print a table for people and, with --json, a line for machines."""
    table = sys.stderr if arguments.json else sys.stdout
    print("attack               got in      first byte ms   first picture ms  pictures/s      page", file=table)
    print("                               p50        max   p50          max  new   stays     MB, threads", file=table)
    for row in figures["attacks"]:
        line = "{attack:<20} {got_in:>3}/{newcomers:<3} {first_byte_ms[p50]:7.1f} {first_byte_ms[max]:10.1f} "
        line += "{first_picture_ms[p50]:6.1f} {first_picture_ms[max]:11.1f} {newcomers_fps:6.1f} {viewer_fps:5.1f} "
        line += "(ended {viewer_ended}x) {memory_mb:.1f}, {threads}"
        print(line.format(**row), file=table)
    print(
        "left behind: {threads:+d} threads, {descriptors:+d} descriptors, {memory_mb:+.1f} MB after the first attack, "
        "{ended_threads} threads after the page was closed".format(**figures["left"]),
        file=table,
    )
    if arguments.json:
        print(json.dumps(dict(figures, load=round(os.getloadavg()[0], 1), machine=machine_facts())))


def measure(arguments):
    """Return the figures of every attack on one page."""
    with subprocess.Popen(
        [sys.executable, __file__, "--serve"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, universal_newlines=True
    ) as page:
        port = int(page.stdout.readline())
        look(port, 2.0)
        rows, readings = [], []
        for name in ["none", *arguments.attacks]:
            rows.append(measure_attack(name, port, page.pid, arguments))
            readings.append(settle(page.pid, readings[0] if readings else None))
            print(rows[-1]["attack"], "done", file=sys.stderr)
        page.stdin.close()
        ended = int(page.stdout.readline())
    # The first attack fills what is kept: Python's arenas, the threads' stacks.
    first, last = readings[min(1, len(readings) - 1)], readings[-1]
    left = {
        "threads": last["threads"] - readings[0]["threads"],
        "descriptors": last["descriptors"] - readings[0]["descriptors"],
        "memory_mb": round(last["memory_mb"] - first["memory_mb"], 1),
        "ended_threads": ended,
    }
    return {
        "connections": arguments.connections,
        "seconds": arguments.seconds,
        "fps": FPS,
        "attacks": rows,
        "left": left,
    }


def settle(pid, wanted):
    """Return the page's Reading once nobody is connected any more, or after WAIT_S."""
    end = time.monotonic() + WAIT_S
    while True:
        time.sleep(0.5)
        reading = read(pid)
        if wanted is None or reading["threads"] <= wanted["threads"] or time.monotonic() > end:
            return reading


def read(pid):
    """Return memory in MB, threads and file descriptors of a process."""
    (line,) = [line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if "VmRSS" in line]
    return {
        "memory_mb": int(line.split()[1]) / 1024,
        "threads": len(os.listdir(f"/proc/{pid}/task")),
        "descriptors": len(os.listdir(f"/proc/{pid}/fd")),
    }


def measure_attack(name, port, pid, arguments):
    """Return one attack's row."""
    stay, stop = [], threading.Event()
    viewer = threading.Thread(target=watch, args=(port, stop, stay))
    viewer.start()
    command = [sys.executable, __file__, "--connections", str(arguments.connections)]
    command += ["--seconds", str(arguments.seconds), "--attack", name, str(port)]
    attackers = subprocess.Popen(command) if name in ATTACKS else None
    time.sleep(FILL_S)
    end = time.monotonic() + arguments.seconds - FILL_S
    looks, readings = [], []
    address = ANOTHER_HOST if name in ATTACKS and HOST not in ATTACKS[name][2] else HOST
    while time.monotonic() < end:
        looks.append(look(port, LOOK_S, address=address))
        readings.append(read(pid))
    stop.set()
    viewer.join()
    if attackers:
        attackers.wait()
    got_in = [look for look in looks if look]
    return {
        "attack": name,
        "newcomers": len(looks),
        "got_in": len(got_in),
        "first_byte_ms": spread([look["first_byte_ms"] for look in got_in]),
        "first_picture_ms": spread([look["first_picture_ms"] for look in got_in]),
        "newcomers_fps": round(statistics.median([look["fps"] for look in got_in] or [0.0]), 1),
        "viewer_fps": round(sum(look["pictures"] for look in stay if look) / arguments.seconds, 1),
        "viewer_ended": len(stay) - 1,
        "memory_mb": round(max(reading["memory_mb"] for reading in readings), 1),
        "threads": max(reading["threads"] for reading in readings),
    }


def spread(values):
    """Return the median and the largest of some values, or of none."""
    values = values or [float("inf")]
    return {"p50": round(statistics.median(values), 1), "max": round(max(values), 1)}


def watch(port, stop, looks):
    """Look at the pictures until ``stop`` is set, again each time that the page ends them."""
    while not stop.is_set():
        looks.append(look(port, float("inf"), stop))
        stop.wait(1.0)


def look(port, seconds, stop=None, address=HOST):
    """Watch for some time; returns times to the first byte and picture, pictures and their rate, or None for none."""
    began = time.monotonic()
    pictures, first_byte, first_picture = 0, None, None
    with contextlib.suppress(OSError), socket.create_connection((HOST, port), WAIT_S, (address, 0)) as connection:
        connection.sendall(REQUEST % b"picture.mjpg")
        with connection.makefile("rb") as reader:
            first_byte = reader.read(1) and time.monotonic()
            for _ in range(10 * MOST_SECONDS * FPS):
                if not take(reader):
                    break
                pictures += 1
                first_picture = first_picture or time.monotonic()
                if time.monotonic() - began > seconds or (stop and stop.is_set()):
                    break
    if not pictures:
        return None
    return {
        "first_byte_ms": 1e3 * (first_byte - began),
        "first_picture_ms": 1e3 * (first_picture - began),
        "pictures": pictures,
        "fps": pictures / (time.monotonic() - began),
    }


def take(reader):
    """Read to the end of the next picture; returns whether there is one."""
    for line in reader:
        if line.startswith(b"Content-Length: "):
            reader.readline()
            length = int(line.split()[1])
            return len(reader.read(length)) == length
    return False


def serve():
    """Show a generated camera on a page until stdin ends; prints the port and, at the end, the threads that are left."""
    before = threading.active_count()
    image = np.kron(np.random.RandomState(0).randint(0, 256, (90, 160, 3), np.uint8), np.ones((8, 8, 1), np.uint8))
    result = Result("a label", 0.9, [("a label", 0.9)], {}, "none", "none", None)
    stop = threading.Event()
    threading.Thread(target=lambda: (sys.stdin.read(), stop.set()), daemon=True).start()
    with LiveSink(":0", ["a label"]) as sink:
        print(sink.url.rpartition(":")[2].strip("/"), flush=True)
        number = 0
        while not stop.wait(1.0 / FPS):
            number += 1
            frame = Frame(np.roll(image, number * 8, 1), number, time.time(), time.monotonic(), 1.0, "")
            sink.write(StreamResult(frame, result, 1.0))
    print(threading.active_count() - before, flush=True)


def attack(name, port, count, seconds):
    """Hold ``count`` connections to the page for some time, and open each again that it ends."""
    first, trickle, addresses = ATTACKS[name]
    now = sent_at = time.monotonic()
    end, allowed = now + seconds, float(count)
    held, ended = {}, select.poll()
    while now < end:
        while len(held) < count and allowed >= 1:
            allowed -= 1
            connection = start(int(port), random.choice(addresses), first)
            if connection:
                held[connection.fileno()] = connection
                ended.register(connection, select.POLLRDHUP)  # what was sent is never looked at
        for number, _ in ended.poll(20):
            ended.unregister(number)
            held.pop(number).close()
        if trickle and now - sent_at > TRICKLE_S:
            sent_at = now
            for connection in held.values():
                with contextlib.suppress(OSError):
                    connection.send(trickle)
        allowed = min(allowed + (time.monotonic() - now) * RECONNECTS_PER_S, count)
        now = time.monotonic()
    for connection in held.values():
        connection.close()


def start(port, address, first):
    """Return a connection from an address that has sent something, or None if the page does not take it."""
    connection = socket.socket()
    try:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        connection.settimeout(1.0)
        connection.bind((address, 0))
        connection.connect((HOST, port))
        connection.settimeout(0.0)
        connection.send(random.choice(GARBAGE) if first is None else first)
    except OSError:
        connection.close()
        return None
    return connection


if __name__ == "__main__":
    main()
