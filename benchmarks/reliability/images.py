"""Checks that a damaged or hostile image file does not crash or hang the decoder, fill the memory, or show uninitialized memory.

    python3 benchmarks/reliability/images.py --count 100000 --json

Method: about 100 small good files of every kind that is read (``image_corpus.py``) are damaged in so many ways, the same
for a ``--seed``: bytes and bits flipped, numbers in headers replaced, files cut, spliced and inserted into, and the parts
that a format is made of (segments, chunks, tags) dropped, repeated, moved, mixed and changed inside, with their checksums
made right (``image_mutations.py``).  Or the files of ``--folder FOLDER`` are taken as they are.  ``decode_image`` gets
each one twice, in two processes, in which glibc fills fresh and freed memory with two different bytes
(``MALLOC_PERTURB_`` 85 and 170).  Counted are

  crashed      the process died (its input is kept in ``--keep FOLDER``, and it goes on behind it), or took 60 s
  raised       something else than an ImageError
  slow         more than 1 s of processor time
  too_large    more than 50 megapixels came out
  unwritten    the two processes disagree on a pixel, or on whether there are any: somebody read memory that nobody wrote

and, as figures, how many files of each format were decoded and refused, the time by quantiles, and by how much the most
memory of a process (VmHWM, set back before each file) exceeded what it had before.  Any of the five is exit code 1.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
import zlib
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.errors import ImageError
from edgeclf_runtime.images.read import MAX_PIXELS, decode_image

FILLS = ("85", "170")
_SLOW_S, _HANGS_S, _ADDRESS_SPACE = 1.0, 60, 8 << 30
Inputs = Callable[[int], tuple[str, bytes]]


def main() -> None:
    """Decode damaged files in pairs of processes, and print what happened."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=10_000, help="damaged files (10000)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="take these files as they are")
    parser.add_argument("--jobs", type=int, default=1, help="pairs of processes at a time (1)")
    parser.add_argument("--keep", type=Path, metavar="FOLDER", help="write the files that failed there")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", type=int, nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    inputs, count = make_inputs(arguments)
    if arguments.worker:
        work(inputs, range(arguments.worker[0], count, arguments.worker[1]))
        return
    tally = Tally(inputs, arguments.keep)
    threads = [
        threading.Thread(target=decode_share, args=(tally, job, arguments.jobs, count)) for job in range(arguments.jobs)
    ]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        threads[0].join(1)
        print(f"\r{tally.done} of {count}, {sum(tally.failed.values())} failed", end="", file=sys.stderr)
    print(file=sys.stderr)
    report = tally.report()
    if arguments.json:
        facts = {"benchmark": "reliability images", "seed": arguments.seed, "count": count}
        facts["folder"] = arguments.folder and arguments.folder.name
        print(json.dumps({**facts, **report, "machine": machine_facts()}))
    else:
        print_table(report)
    raise SystemExit(any(report["failed"].values()) or tally.done != count)


def make_inputs(arguments: argparse.Namespace) -> tuple[Inputs, int]:
    """Return what gives the name and the bytes of each input, and how many there are."""
    if arguments.folder:
        paths = sorted(path for path in arguments.folder.rglob("*") if path.is_file())
        return lambda number: (str(paths[number].relative_to(arguments.folder)), paths[number].read_bytes()), len(paths)
    from image_corpus import make_corpus
    from image_mutations import damaged

    files = make_corpus()
    return lambda number: damaged(files, arguments.seed, number), arguments.count


def work(inputs: Inputs, numbers: range) -> None:
    """Decode inputs and print a line of JSON for each: its number, its name, what came out, the seconds and the memory."""
    output = os.fdopen(os.dup(1), "w", buffering=1)
    silence = os.open(os.devnull, os.O_WRONLY)
    # OpenCV and its libraries write there of every damaged file.
    os.dup2(silence, 1)
    os.dup2(silence, 2)
    resource.setrlimit(resource.RLIMIT_AS, (_ADDRESS_SPACE, _ADDRESS_SPACE))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for number in numbers:
        name, data = inputs(number)
        before_kb = reset_memory_kb()
        signal.alarm(_HANGS_S)  # its default action ends the process inside of a library too
        start = time.process_time()
        outcome = decode(data)
        seconds = time.process_time() - start
        signal.alarm(0)
        memory_mb = (memory_kb("VmHWM") - before_kb) / 1024
        output.write(json.dumps([number, name, outcome, round(seconds, 4), round(memory_mb, 1)]) + "\n")


def decode(data: bytes) -> list[Any]:
    """Return "decoded" with the shape and a checksum of the pixels, "refused" or "raised" with the reason."""
    try:
        image = decode_image(data, "photo")
    except ImageError as error:
        return ["refused", str(error)]
    except Exception as error:
        return ["raised", repr(error)]
    return ["decoded", image.shape, zlib.crc32(np.ascontiguousarray(image))]


def memory_kb(name: str) -> int:
    """Return a field of this process's status in KB."""
    return int(Path("/proc/self/status").read_text(encoding="ascii").split(name + ":")[1].split()[0])


def reset_memory_kb() -> int:
    """Set the most memory back to what there is, and return that in KB."""
    Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    return memory_kb("VmRSS")


class Worker:
    """A process that decodes a share of the inputs; started again behind an input that it died of."""

    def __init__(self, fill: str, share: int, shares: int, count: int) -> None:
        self._environment = {**os.environ, "MALLOC_PERTURB_": fill}
        self._share, self._shares, self._count = share, shares, count
        self._start(share)

    def _start(self, number: int) -> None:
        command = [sys.executable, *sys.argv, "--worker", str(number), str(self._shares)]
        self._process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=self._environment)

    def answers(self) -> Iterator[list[Any]]:
        """Yield what each input of the share gave."""
        for number in range(self._share, self._count, self._shares):
            assert self._process.stdout
            line = self._process.stdout.readline()
            if line:
                yield json.loads(line)
                continue
            code = self._process.wait()
            yield [number, "", ["crashed", code], 0, 0]
            self._start(number + self._shares)
        self._process.wait()


def decode_share(tally: Tally, share: int, shares: int, count: int) -> None:
    """Let two processes with different fills decode a share of the inputs."""
    workers = [Worker(fill, share, shares, count) for fill in FILLS]
    for answers in zip(*(worker.answers() for worker in workers), strict=True):
        tally.add(*answers)


class Tally:
    """The results of the inputs."""

    def __init__(self, inputs: Inputs, keep: Path | None) -> None:
        self.failed = Counter(dict.fromkeys(("crashed", "raised", "slow", "too_large", "unwritten"), 0))
        self._inputs, self._keep, self._lock = inputs, keep, threading.Lock()
        self._formats: dict[str, Counter[str]] = {}
        self._seconds: list[float] = []
        self._memory_mb: list[float] = []
        self._failures: list[list[Any]] = []

    @property
    def done(self) -> int:
        """The number of inputs that were decoded or refused."""
        return len(self._seconds)

    def add(self, one: list[Any], other: list[Any]) -> None:
        """Count what the two processes made of an input."""
        number, name, outcome, *_ = one
        with self._lock:
            self._seconds.append(min(one[3], other[3]))
            self._memory_mb.append(max(one[4], other[4]))
            kind = name.split()[0] if " " in name else Path(name).suffix
            self._formats.setdefault(kind, Counter())[outcome[0]] += 1
            for failure in self._faults(one, other):
                self.failed[failure] += 1
                self._failures.append([failure, number, name, outcome, other[2], one[3]])
                self._write(failure, number)

    def _faults(self, one: list[Any], other: list[Any]) -> Iterator[str]:
        outcomes = one[2], other[2]
        for what in ("crashed", "raised"):
            if any(outcome[0] == what for outcome in outcomes):
                yield what
        if outcomes[0] != outcomes[1]:
            yield "unwritten"
        # The lower of two: other programs take time too.
        if min(one[3], other[3]) > _SLOW_S:
            yield "slow"
        if any(outcome[0] == "decoded" and outcome[1][0] * outcome[1][1] > MAX_PIXELS for outcome in outcomes):
            yield "too_large"

    def _write(self, failure: str, number: int) -> None:
        if self._keep:
            self._keep.mkdir(parents=True, exist_ok=True)
            (self._keep / f"{failure}-{number}").write_bytes(self._inputs(number)[1])

    def report(self) -> dict[str, Any]:
        """Return all figures."""
        quantiles = {"p50": 0.5, "p99": 0.99, "p99.9": 0.999, "most": 1.0}
        return {
            "failed": dict(self.failed),
            "failures": self._failures[:100],
            "formats": {kind: dict(counts) for kind, counts in sorted(self._formats.items())},
            "ms": {name: round(float(np.quantile(self._seconds, at)) * 1e3, 2) for name, at in quantiles.items()},
            "memory_mb": {name: round(float(np.quantile(self._memory_mb, at)), 1) for name, at in quantiles.items()},
        }


def print_table(report: dict[str, Any]) -> None:
    """Print the figures for people."""
    for kind, counts in report["formats"].items():
        print(f"{kind:<8} {counts.get('decoded', 0):7} decoded {counts.get('refused', 0):7} refused")
    print("processor time, ms: ", report["ms"])
    print("memory, MB:         ", report["memory_mb"])
    print("failed:             ", report["failed"])
    for failure in report["failures"]:
        print(*failure)


if __name__ == "__main__":
    main()
