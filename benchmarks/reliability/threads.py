"""Checks that one classifier, shared by threads, gives right labels while its backends fail at random.

    python3 benchmarks/reliability/threads.py

Method: for each backend a process of its own, so that a crash of it is seen.  There a classifier of a small bundle
begins with that backend, the other two take over, and ``--threads`` threads classify ``--count`` images each, in
``--rounds`` rounds with a classifier of their own.  Every inference, golden images included, fails with a probability
of ``--infer-faults``, and every opening with ``--open-faults``: by TypeError, OSError, MemoryError, SystemExit and others.
Better backends are tried again after 20 ms to 0.1 s in the place of a minute to an hour.  When all threads have done
their part they go on until the classifier is closed beneath them.

Counted are labels other than those of a single thread without faults; errors other than BackendError; uses of a runner
that is closed, closings of one that is in use, and two threads at once in one that does not allow it, each of which
would crash a native library one day; runners, threads and file descriptors that are left; and the memory's growth from
the end of the first round to the end of the last.  A classification that finds every backend failing raises BackendError,
is counted as refused, and is tried again.
"""

from __future__ import annotations

import argparse
import gc
import json
import logging
import os
import random
import subprocess
import sys
import tempfile
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1]))

import numpy as np  # noqa: E402

from benchmarks.reliability.small_bundle import make_small_bundle  # noqa: E402
from edgeclf_runtime.bundle.open_bundle import Bundle, open_bundle  # noqa: E402
from edgeclf_runtime.classify import recovery, selection  # noqa: E402
from edgeclf_runtime.classify.classifier import Classifier  # noqa: E402
from edgeclf_runtime.device.machine import machine_facts  # noqa: E402
from edgeclf_runtime.errors import BackendError  # noqa: E402
from edgeclf_runtime.runners import backend_version, open_runner  # noqa: E402
from tests.support.faults import ERRORS, Opener, Watched, again  # noqa: E402

BACKENDS = ("onnxruntime", "openvino", "opencv")
IMAGES = 40
WRONG = ("wrong", "other_errors", "misuses", "runners_left", "threads_left", "descriptors_left", "crashed")
MOST_GROWTH_MB = 20.0
TIMEOUT_S = 1800


def main() -> None:
    """Let a process do the work for each backend, and print what came of it."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=4, metavar="N", help="that share a classifier (4)")
    parser.add_argument("--count", type=int, default=1000, metavar="N", help="images of each thread and round (1000)")
    parser.add_argument("--rounds", type=int, default=3, metavar="N", help="classifiers, one after the other (3)")
    parser.add_argument("--infer-faults", type=float, default=0.01, metavar="P", help="of each inference (0.01)")
    parser.add_argument("--open-faults", type=float, default=0.2, metavar="P", help="of each opening (0.2)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--json", action="store_true", help="the figures as one line, the table on stderr")
    parser.add_argument("--only", choices=BACKENDS, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.only:
        print(json.dumps(measure(arguments.only, arguments)))
        return
    rows = [in_a_process(backend) for backend in filter(backend_version, BACKENDS)]
    report(rows, arguments)
    if any(row[name] for row in rows for name in WRONG) or any(row["growth_mb"] > MOST_GROWTH_MB for row in rows):
        raise SystemExit(1)


def in_a_process(backend: str) -> dict[str, Any]:
    """Return one backend's figures."""
    command = [sys.executable, __file__, *sys.argv[1:], "--only", backend]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, timeout=TIMEOUT_S, check=False)
    if done.returncode:
        return {**dict.fromkeys([*COLUMNS, *WRONG], 0), "backend": backend, "crashed": 1}
    return json.loads(done.stdout)


COLUMNS = ("classified", "refused", "infer_faults", "open_faults", "fallbacks", "returns", "growth_mb", "seconds")


def report(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Print a table for people and, with --json, a line for machines."""
    table = sys.stderr if arguments.json else sys.stdout
    columns = [*COLUMNS, *WRONG]
    print(f"{'':16} " + " ".join(f"{row['backend']:>12}" for row in rows), file=table)
    for name in columns:
        print(f"{name:16} " + " ".join(f"{row[name]:>12}" for row in rows), file=table)
    if arguments.json:
        options = {name: value for name, value in vars(arguments).items() if name not in ("json", "only")}
        versions = {row["backend"]: backend_version(row["backend"]) for row in rows}
        load = round(os.getloadavg()[0], 1)
        print(json.dumps({**options, "rows": rows, "versions": versions, "load": load, "machine": machine_facts()}))


class Faults:
    """Lets openings and inferences fail at random."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.random, self.arguments = random.Random(arguments.seed), arguments
        self.counts: Counter[str] = Counter()
        self.lock = threading.Lock()

    def maybe(self, kind: str, probability: float) -> None:
        with self.lock:
            error = self.random.choice(ERRORS) if self.random.random() < probability else None
            self.counts[kind] += error is not None
        if error is not None:
            raise again(error)

    def infer(self, number: int) -> None:
        self.maybe("infer_faults", self.arguments.infer_faults)

    def open(self) -> None:
        self.maybe("open_faults", self.arguments.open_faults)


class FaultyOpener(Opener):
    """Opens runners that fail at random."""

    def __init__(self, faults: Faults) -> None:
        super().__init__(open_runner)
        self.faults = faults

    def __call__(self, *arguments: Any) -> Watched:
        self.faults.open()
        runner = super().__call__(*arguments)
        runner.fault = self.faults.infer
        return runner


class Changes(logging.Handler):
    """Counts the backends that took over and came back, and keeps their lines from stderr."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Counter[str] = Counter()

    def emit(self, record: logging.LogRecord) -> None:
        self.counts["fallbacks"] += "is replaced by" in record.getMessage()
        self.counts["returns"] += "works again" in record.getMessage()


def measure(backend: str, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the figures of one backend, which the others replace."""
    recovery.FIRST_S, recovery.MOST_S = 0.02, 0.1
    changes, faults, counts = Changes(), Faults(arguments), Counter[str]()
    logging.getLogger("edgeclf_runtime").addHandler(changes)
    logging.getLogger("edgeclf_runtime").propagate = False
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        make_small_bundle(Path(folder, "small.edge"))
        bundle = with_backends(open_bundle(str(Path(folder, "small.edge"))), backend)
        images = np.random.default_rng(arguments.seed).integers(0, 256, (IMAGES, 1, 1, 3), np.uint8).repeat(40, 1)
        images = images.repeat(48, 2)
        labels = right_labels(bundle, images)
        before, readings = None, []
        for _ in range(arguments.rounds):
            opener = FaultyOpener(faults)
            selection.open_runner = opener
            classify_in_threads(open_classifier(bundle), images, labels, arguments, counts)
            readings.append(settled(before))
            before = before or readings[0]
            counts["misuses"] += len([what for runner in opener.runners for what in runner.wrong])
            counts["runners_left"] += sum(not runner.was_closed.is_set() for runner in opener.runners)
    last = readings[-1]
    return {
        "backend": backend,
        **{
            name: counts[name] for name in ("classified", "refused", "wrong", "other_errors", "misuses", "runners_left")
        },
        **{name: faults.counts[name] for name in ("infer_faults", "open_faults")},
        **{name: changes.counts[name] for name in ("fallbacks", "returns")},
        "labels": len(set(labels)),
        "threads_left": max(0, last["threads"] - before["threads"]) + (threading.active_count() - 1),
        "descriptors_left": max(0, last["descriptors"] - before["descriptors"]),
        "growth_mb": round(last["memory_mb"] - before["memory_mb"], 1),
        "crashed": 0,
        "seconds": round(time.monotonic() - began, 1),
    }


def with_backends(bundle: Bundle, first: str) -> Bundle:
    """Return the bundle for all backends, one of them before the others."""
    names = (first, *(name for name in BACKENDS if name != first))
    return bundle._replace(models=tuple(model._replace(backends=names) for model in bundle.models))


def right_labels(bundle: Bundle, images: Any) -> list[str]:
    """Return the labels that one thread gets without faults, on every backend the same."""
    found = []
    for name in filter(backend_version, BACKENDS):
        with Classifier.open(bundle, backend=name, threads=1) as classifier:
            found.append([classifier.classify(image).top[0][0] for image in images])
    assert all(labels == found[0] for labels in found)
    return found[0]


def open_classifier(bundle: Bundle) -> Classifier:
    """Return a classifier; if no backend could be opened, of the next attempt."""
    while True:
        try:
            return Classifier.open(bundle, threshold=0.0, threads=1)
        except BackendError:
            continue


def classify_in_threads(
    classifier: Classifier, images: Any, labels: list[str], arguments: argparse.Namespace, counts: Counter[str]
) -> None:
    """Classify in all threads, which go on until the classifier is closed."""
    done, lock = threading.Semaphore(0), threading.Lock()

    def work(start: int) -> None:
        mine: Counter[str] = Counter()
        turn = start
        while True:
            try:
                label = classifier.classify(images[turn % IMAGES]).label
            except BackendError as error:
                if "the classifier is closed" in str(error):
                    break
                mine["refused"] += 1
                continue
            except BaseException as error:
                print(f"another error: {error!r}", file=sys.stderr)
                mine["other_errors"] += 1
            else:
                mine["classified"] += 1
                mine["wrong"] += label != labels[turn % IMAGES]
            turn += 1
            if turn - start == arguments.count:
                done.release()
        with lock:
            counts.update(mine)

    threads = [threading.Thread(target=work, args=(number,)) for number in range(arguments.threads)]
    for thread in threads:
        thread.start()
    for _ in threads:
        done.acquire()
    classifier.close()
    for thread in threads:
        thread.join()


def settled(wanted: dict[str, float] | None) -> dict[str, float]:
    """Return threads, descriptors and memory of this process, once attempts in the background have ended."""
    for thread in threading.enumerate():
        if thread is not threading.main_thread():
            thread.join(30)
    gc.collect()
    lines = Path("/proc/self/status").read_text().splitlines()
    (line,) = [line for line in lines if "VmRSS" in line]
    return {
        "threads": len(os.listdir("/proc/self/task")),
        "descriptors": len(os.listdir("/proc/self/fd")),
        "memory_mb": int(line.split()[1]) / 1024,
    }


if __name__ == "__main__":
    main()
