"""Counts requests and adds up the time of their stages, as Prometheus reads it."""

from __future__ import annotations

import threading
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping

from edgeclf_runtime.sinks.live.metrics import process_families
from edgeclf_runtime.text.prometheus import Family, Labels, Sample, single, text_of


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
        families = [
            Family("edgeclf_requests_total", "counter", "Answers by status.", _counts(requests)),
            Family("edgeclf_results_total", "counter", "Images by their likeliest label.", _counts(results)),
            single("edgeclf_queue_length", "gauge", "Requests that wait.", waiting),
            single("edgeclf_queue_limit", "gauge", "Requests that may wait.", limit),
            Family("edgeclf_stage_seconds", "summary", "Time of each stage of a request.", _summary(stages)),
            Family("edgeclf_bundle_swaps_total", "counter", "Bundles replaced on disk.", _counts(swaps)),
            Family(
                "edgeclf_model_info",
                "gauge",
                "The open bundles.",
                [("", {"model": name, **facts}, 1) for name, facts in versions.items()],
            ),
        ]
        return text_of([*families, *process_families()], {})


def _counts(samples: Iterable[tuple[Labels, float]]) -> Iterable[Sample]:
    return [("", labels, count) for labels, count in samples]


def _summary(stages: Iterable[tuple[Labels, float, float]]) -> Iterable[Sample]:
    for labels, total_s, count in stages:
        yield "_sum", labels, total_s
        yield "_count", labels, count
