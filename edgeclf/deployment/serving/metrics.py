"""Counts requests and adds up the time of their stages, as Prometheus reads it.

The text format is version 0.0.4 of https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from edgeclf_runtime.device.machine import proc_bytes

KIND = "text/plain; version=0.0.4; charset=utf-8"
_ESCAPES = {ord("\\"): "\\\\", ord('"'): '\\"', ord("\n"): "\\n"}

Sample = tuple[str, Mapping[str, str], float]


class Metrics:
    """A server's counts since it started; threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests: Counter[tuple[str, int]] = Counter()
        self._stages: defaultdict[tuple[str, str], list[float]] = defaultdict(lambda: [0.0, 0])
        self._results: Counter[tuple[str, str, str]] = Counter()
        self._swaps: Counter[tuple[str, str]] = Counter()

    def request(self, path: str, status: int) -> None:
        """Count an answer; path: the route's, so that clients cannot make up new ones."""
        with self._lock:
            self._requests[path, status] += 1

    def stage(self, model: str, stage: str, ms: float) -> None:
        """Add the time of a stage of a request."""
        with self._lock:
            total = self._stages[model, stage]
            total[0] += ms / 1e3
            total[1] += 1

    def result(self, model: str, label: str, reason: str) -> None:
        """Count a classified image, by its likeliest label and the reason for which it is unknown."""
        with self._lock:
            self._results[model, label, reason or "no"] += 1

    def swap(self, model: str, outcome: str) -> None:
        """Count a bundle that was replaced on disk; outcome: "opened" or "refused"."""
        with self._lock:
            self._swaps[model, outcome] += 1

    def text(self, waiting: int, limit: int, versions: Mapping[str, Mapping[str, str]]) -> str:
        """Return all metrics; waiting, limit: of the queue.  versions: facts about each open model, by name."""
        with self._lock:
            requests = [({"path": path, "status": str(status)}, n) for (path, status), n in self._requests.items()]
            stages = [({"model": name, "stage": stage}, s, n) for (name, stage), (s, n) in self._stages.items()]
            results = [
                ({"model": name, "label": label, "rejected": reason}, n)
                for (name, label, reason), n in self._results.items()
            ]
            swaps = [({"model": name, "outcome": outcome}, n) for (name, outcome), n in self._swaps.items()]
        memory = proc_bytes("/proc/self/status", "VmRSS")
        lines = [
            *_family("edgeclf_requests_total", "counter", "Answers by status.", [("", *one) for one in requests]),
            *_family(
                "edgeclf_results_total", "counter", "Images by their likeliest label.", [("", *one) for one in results]
            ),
            *_family("edgeclf_queue_length", "gauge", "Requests that wait.", [("", {}, waiting)]),
            *_family("edgeclf_queue_limit", "gauge", "Requests that may wait.", [("", {}, limit)]),
            *_family("edgeclf_stage_seconds", "summary", "Time of each stage of a request.", _summary(stages)),
            *_family(
                "edgeclf_bundle_swaps_total", "counter", "Bundles replaced on disk.", [("", *one) for one in swaps]
            ),
            *_family(
                "edgeclf_model_info",
                "gauge",
                "The open bundles.",
                [("", {"model": name, **facts}, 1) for name, facts in versions.items()],
            ),
            *_family("process_cpu_seconds_total", "counter", "Processor time.", [("", {}, time.process_time())]),
            *_family("process_resident_memory_bytes", "gauge", "Memory.", [("", {}, memory)] if memory else []),
        ]
        return "".join(lines)


def _summary(stages: Iterable[tuple[Mapping[str, str], float, float]]) -> Iterable[Sample]:
    for labels, total_s, count in stages:
        yield "_sum", labels, total_s
        yield "_count", labels, count


def _family(name: str, kind: str, help: str, samples: Iterable[Sample]) -> Iterable[str]:
    yield f"# HELP {name} {help}\n# TYPE {name} {kind}\n"
    for end, labels, value in samples:
        pairs = ",".join(f'{key}="{text.translate(_ESCAPES)}"' for key, text in labels.items())
        yield f"{name}{end}{'{' + pairs + '}' if pairs else ''} {float(value)!r}\n"
