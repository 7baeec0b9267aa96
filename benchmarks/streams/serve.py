"""Measures a web server of a bundle: its throughput beside the bare model's, its latency, and overload.

    python3 benchmarks/streams/serve.py BUNDLE

Method: ``edgeclf serve`` runs in its own process and gets a JPEG of 640 x 480 pixels, made from a golden image, over keep-alive
connections on loopback; the client is this process, and takes its processor time from the same machine.  In each round, for
some seconds each and in turns: the bare model (one thread for each processor infers a prepared image over and over), the
Classifier's way from the file's bytes to the label with the same threads, and the server with four times as many connections as
threads, each of which sends its next request when it has its answer.  The same with batches of 8 prepared images: the bare model, and
the server's /v2/models/NAME/infer with binary tensors of UINT8.  The tables show the medians of the rounds, and of the ratios
within a round.  The capacity is the median throughput of the server.  Then requests come at random times (Poisson) at a twentieth
of it ("unloaded"), at half of it, and at four times it for 20 seconds; a latency counts from the time at which a request should have been sent.  Of the overload,
the statuses are counted, and the server's memory is read before, in the middle and at the end.  The processor time of an image is that of the
process which classifies, without the client's; other programs change it less than the throughput.
"""

import argparse
import asyncio
import collections
import contextlib
import json
import pathlib
import random
import signal
import subprocess
import sys
import threading
import time
from urllib.parse import urlsplit

import cv2
import numpy as np

sys.path[:0] = [str(pathlib.Path(__file__).parents[2]), str(pathlib.Path(__file__).parents[2] / "deploy")]

from edgeclf_runtime.classify.classifier import Classifier  # noqa: E402
from edgeclf_runtime.commands.bench import machine_facts  # noqa: E402
from edgeclf_runtime.device.machine import cores, proc_bytes  # noqa: E402
from edgeclf_runtime.images.read import decode_image  # noqa: E402

CLOSED, CONNECTIONS, BATCH = 4, 256, 8
# What each rate is compared with.
BARE = {"Classifier": "bare model", "server": "bare model", "server, batches": "bare model, batches"}


def main():
    """Run the rounds and the loads, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=7, metavar="N", help="rounds of each turn (7)")
    parser.add_argument("--seconds", type=float, default=2, metavar="S", help="of a turn (2)")
    parser.add_argument(
        "--overload", type=float, default=20, metavar="S", help="seconds at four times the capacity (20)"
    )
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with served(arguments.bundle) as (process, server):
        found = asyncio.run(measure(arguments, process, server))
    if arguments.json:
        print(json.dumps({**found, "machine": machine_facts()}))
    else:
        show(found)


def show(found):
    """Print the figures for people."""
    print("{model} on {backend}, {threads} threads".format(**found))
    print("                     images a second  relative to the bare model  processor time of an image, ms")
    for name, rate in found["images_per_s"].items():
        row = (name, rate, found["relative_to_bare"].get(name, 1), found["cpu_ms"][name])
        print("{:<20} {:>15.1f}  {:>26.2f}  {:>30.2f}".format(*row))
    for name, load in found["loads"].items():
        print(
            "{}: {rate:.0f} requests a second, statuses {statuses}, of those with 200 {served_per_s:.1f} a second, "
            "p50 {p50_ms:.1f} ms, p99 {p99_ms:.1f} ms; memory {memory_mb} MB".format(name, **load)
        )


def jpeg(bundle):
    """Return a photograph's bytes."""
    pixels = cv2.resize(cv2.imread(str(sorted(bundle.glob("golden/*.png"))[0])), (640, 480))
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 90])[1].tobytes()


@contextlib.contextmanager
def served(bundle):
    """Yield the process of a server, and what it says of itself."""
    command = [sys.executable, "-m", "edgeclf", "serve", str(bundle), "--port", "0", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process, json.loads(process.stdout.readline())
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()


def request(host, path, body, headers):
    """Return the bytes of a POST."""
    lines = [f"POST {path} HTTP/1.1", f"Host: {host.netloc}", *headers, f"Content-Length: {len(body)}", "", ""]
    return "\r\n".join(lines).encode() + body


def tensors(host, name, images):
    """Return a request of the Open Inference Protocol with a binary tensor, and binary logits as its answer."""
    pixels = images.astype(np.uint8)
    facts = {"name": "image", "datatype": "UINT8", "shape": pixels.shape}
    outputs = [{"name": "logits", "parameters": {"binary_data": True}}]
    inputs = [{**facts, "parameters": {"binary_data_size": pixels.nbytes}}]
    head = json.dumps({"inputs": inputs, "outputs": outputs}).encode()
    headers = [f"Inference-Header-Content-Length: {len(head)}", "Content-Type: application/octet-stream"]
    return request(host, f"/v2/models/{name}/infer", head + pixels.tobytes(), headers)


async def measure(arguments, process, server):
    """Return all figures."""
    threads, host, photo = cores(), urlsplit(server["address"]), jpeg(arguments.bundle)
    model = server["models"][0]
    picture = request(host, "/classify", photo, ["Content-Type: image/jpeg"])
    rates, cpu_ms = collections.defaultdict(list), collections.defaultdict(list)
    with Classifier.open(arguments.bundle, model["file"], model["backend"], at_once=threads) as classifier:
        batch = classifier.prepare(decode_image(photo))
        batches = np.repeat(batch, BATCH, axis=0)
        turns = {
            "bare model": (1, lambda: classifier.infer(batch)),
            "Classifier": (1, lambda: classifier.classify(decode_image(photo))),
            "bare model, batches": (BATCH, lambda: classifier.infer(batches)),
        }
        asked = {"server": (1, picture), "server, batches": (BATCH, tensors(host, model["name"], batches))}
        await closed_loop(host, picture, CLOSED * threads, 1)
        for _ in range(arguments.rounds):
            for name, (images, work) in turns.items():
                before = time.process_time()
                done = in_threads(work, threads, arguments.seconds) * images
                cpu_ms[name].append((time.process_time() - before) / done * 1e3)
                rates[name].append(done / arguments.seconds)
            for name, (images, sent) in asked.items():
                before = processor_s(process.pid)
                done = await closed_loop(host, sent, CLOSED * threads, arguments.seconds) * images
                cpu_ms[name].append((processor_s(process.pid) - before) / done * 1e3)
                rates[name].append(done / arguments.seconds)
    capacity = float(np.median(rates["server"]))
    loads = {
        "unloaded": await open_loop(host, picture, capacity / 20, arguments.overload, process.pid),
        "half load": await open_loop(host, picture, capacity / 2, arguments.overload / 2, process.pid),
        "four times": await open_loop(host, picture, capacity * 4, arguments.overload, process.pid),
    }
    ratios = {name: np.array(rates[name]) / rates[bare] for name, bare in BARE.items()}
    return {
        "model": model["file"],
        "backend": model["backend"],
        "threads": threads,
        "rounds": arguments.rounds,
        "images_per_s": {name: round(float(np.median(values)), 1) for name, values in rates.items()},
        "relative_to_bare": {name: round(float(np.median(values)), 3) for name, values in ratios.items()},
        "cpu_ms": {name: round(float(np.median(values)), 2) for name, values in cpu_ms.items()},
        "loads": loads,
    }


def in_threads(work, threads, seconds):
    """Return how often several threads together do some work."""
    counts, end = [0] * threads, time.perf_counter() + seconds

    def run(number):
        while time.perf_counter() < end:
            work()
            counts[number] += 1

    running = [threading.Thread(target=run, args=(number,)) for number in range(threads)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()
    return sum(counts)


class Connection:
    """A keep-alive connection that sends the same request over and over."""

    @classmethod
    async def open(cls, host, sent):
        self = cls()
        self._reader, self._writer = await asyncio.open_connection(host.hostname, host.port)
        self._request = sent
        return self

    async def send(self):
        """Return the status of an answer."""
        self._writer.write(self._request)
        head = await self._reader.readuntil(b"\r\n\r\n")
        size = int(head.lower().partition(b"\ncontent-length: ")[2].partition(b"\r")[0])
        await self._reader.readexactly(size)
        return int(head[9:12])

    def close(self):
        self._writer.close()


async def closed_loop(host, sent, connections, seconds):
    """Return the number of answers that connections got to a request, each one after another."""
    end = time.perf_counter() + seconds

    async def ask():
        connection, done = await Connection.open(host, sent), 0
        while time.perf_counter() < end:
            assert await connection.send() == 200
            done += 1
        connection.close()
        return done

    return sum(await asyncio.gather(*(ask() for _ in range(connections))))


async def open_loop(host, picture, rate, seconds, pid):
    """Return the statuses and the latencies of requests that come at random times."""
    free = asyncio.LifoQueue()  # so that few connections are in use, and none is idle for long
    for _ in range(CONNECTIONS):
        free.put_nowait(await Connection.open(host, picture))
    statuses, times_ms, memory, running = collections.Counter(), [], [memory_mb(pid)], set()

    async def ask(at):
        connection = await free.get()
        try:
            status = await connection.send()
        except (OSError, asyncio.IncompleteReadError):
            status, connection = "lost", await Connection.open(host, picture)
        free.put_nowait(connection)
        statuses[status] += 1
        if status == 200:
            times_ms.append((time.perf_counter() - at) * 1e3)

    start = at = time.perf_counter()
    while at < start + seconds:
        at += random.expovariate(rate)
        await asyncio.sleep(max(0.0, at - time.perf_counter()))
        task = asyncio.ensure_future(ask(at))
        running.add(task)
        task.add_done_callback(running.discard)
        if len(memory) == 1 and at > start + seconds / 2:
            memory.append(memory_mb(pid))
    sent_s = time.perf_counter() - start
    memory.append(memory_mb(pid))
    await asyncio.gather(*running)
    while not free.empty():
        free.get_nowait().close()
    p50, p99 = np.percentile(times_ms, [50, 99])
    return {
        "rate": round(sum(statuses.values()) / sent_s, 1),
        "statuses": {str(status): count for status, count in sorted(statuses.items(), key=str)},
        "served_per_s": round(statuses[200] / sent_s, 1),
        "p50_ms": round(float(p50), 1),
        "p99_ms": round(float(p99), 1),
        "memory_mb": memory,
    }


def processor_s(pid):
    """Return the processor time that a process has taken."""
    fields = pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def memory_mb(pid):
    """Return a process's memory."""
    return round((proc_bytes(f"/proc/{pid}/status", "VmRSS") or 0) / 2**20, 1)


if __name__ == "__main__":
    main()
