"""Counts the pictures that clients post, as Prometheus reads them."""

import collections
import threading
from typing import Counter, Dict, List, Mapping, Tuple

from ....text.prometheus import Family


class Counts:
    """The answers to posted pictures since the program started, and the time of their stages.  Threads may share it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._answers: "Counter[int]" = collections.Counter({200: 0})  # a rate needs a zero to begin from
        self._stages: Dict[Tuple[str, str], List[float]] = {}

    def answer(self, status: int) -> None:
        """Count an answer by its status."""
        with self._lock:
            self._answers[status] += 1

    def stages(self, model: str, timings_ms: Mapping[str, float]) -> None:
        """Add the time of each stage of a result."""
        with self._lock:
            for stage, took_ms in timings_ms.items():
                total = self._stages.setdefault((model, stage), [0, 0.0])
                total[0] += 1
                total[1] += took_ms / 1e3

    def families(self) -> List[Family]:
        """Return the metrics."""
        with self._lock:
            answers = [("", {"status": str(status)}, float(count)) for status, count in sorted(self._answers.items())]
            stages = [
                (part, {"model": model, "stage": stage}, figure)
                for (model, stage), (count, total_s) in sorted(self._stages.items())
                for part, figure in (("_sum", total_s), ("_count", count))
            ]
        return [
            Family("edgeclf_posted_pictures_total", "counter", "Answers to posted pictures by their status.", answers),
            Family(
                "edgeclf_posted_stage_seconds", "summary", "Time of each stage of a posted picture's result.", stages
            ),
        ]
