"""Counts what a stream gives, as Prometheus reads it."""

import bisect
import collections
import itertools
import time
from typing import TYPE_CHECKING, Counter, Dict, Iterable, Iterator, List, Mapping, Tuple

from ...device.machine import proc_bytes
from ...text.prometheus import Family, Sample, joined, single, text_of

if TYPE_CHECKING:
    from ...results import StreamEvent, StreamResult
    from .sink import LiveSink

AGES_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


class Metrics:
    """The counts of one stream since the program started.  Not safe to use from several threads at once.

    camera      the camera's name for everyone who may read them
    bundle      the first digits of the bundle's id, until a result gives them
    """

    def __init__(self, camera: str, bundle: str = "") -> None:
        self._common = {"camera": camera, "bundle": bundle}
        self._results: "Counter[Tuple[str, str, str]]" = collections.Counter()
        self._stages: Dict[Tuple[str, str], List[float]] = {}
        self._ages = [0] * (len(AGES_S) + 1)
        self._ages_s = self._captured_at = 0.0
        self._dropped = self._losses = 0

    def take(self, item: "StreamResult") -> None:
        """Count a result."""
        result = item.result
        self._common["bundle"] = item.origin.bundle
        self._results[result.model, result.candidate or result.label, result.reason] += 1
        self._dropped, self._captured_at = item.dropped, item.frame.captured_at
        age_s = item.age_ms / 1e3
        self._ages[bisect.bisect_left(AGES_S, age_s)] += 1
        self._ages_s += age_s
        self._stage(result.model, "capture", item.frame.capture_ms)
        for stage, took_ms in result.timings_ms.items():
            self._stage(result.model, stage, took_ms)

    def _stage(self, model: str, stage: str, took_ms: float) -> None:
        total = self._stages.setdefault((model, stage), [0, 0.0])
        total[0] += 1
        total[1] += took_ms / 1e3

    def event(self, event: "StreamEvent") -> None:
        """Count an event."""
        self._losses += event.state == "lost"

    def families(self, state: Mapping[str, object], more: Iterable[Family] = ()) -> List[Family]:
        """Return all metrics, and more, with the labels of the stream; ``state`` is LiveSink.state()."""
        return joined([(self._families(state), self._common), (more, self._common)])

    def _families(self, state: Mapping[str, object]) -> Iterator[Family]:
        verdicts = state["changed"]
        assert isinstance(verdicts, list)
        yield single(
            "edgeclf_camera_up",
            "gauge",
            "1 if frames arrive, 0 if the camera is lost or silent.",
            state["state"] == "live",
        )
        yield single("edgeclf_camera_losses_total", "counter", "Times that the camera was lost.", self._losses)
        yield single(
            "edgeclf_last_frame_timestamp_seconds", "gauge", "When the newest frame was captured.", self._captured_at
        )
        yield single("edgeclf_frames_dropped_total", "counter", "Frames captured and not classified.", self._dropped)
        results = (
            ("", {"model": model, "label": label, "rejected": reason or "no"}, float(count))
            for (model, label, reason), count in sorted(self._results.items())
        )
        yield Family(
            "edgeclf_results_total", "counter", "Results by the likeliest label, and why it was rejected.", results
        )
        stages = (
            (part, {"model": model, "stage": stage}, figure)
            for (model, stage), (count, total_s) in sorted(self._stages.items())
            for part, figure in (("_sum", total_s), ("_count", count))
        )
        yield Family("edgeclf_stage_seconds", "summary", "Time of each stage of a result.", stages)
        yield Family(
            "edgeclf_result_age_seconds", "histogram", "From a frame's capture to its label.", self._histogram()
        )
        yield single(
            "edgeclf_backend_degraded",
            "gauge",
            "1 while a worse model or backend has taken over.",
            bool(state["degraded"]),
        )
        changed = [("", {"verdict": str(verdict)}, 1.0) for verdict in verdicts]
        yield Family(
            "edgeclf_health_changed", "gauge", "1 for each way in which the stream differs from training.", changed
        )

    def _histogram(self) -> Iterator[Sample]:
        names = [repr(limit_s) for limit_s in AGES_S] + ["+Inf"]
        counts = list(itertools.accumulate(self._ages))
        for name, count in zip(names, counts):
            yield "_bucket", {"le": name}, count
        yield "_sum", {}, self._ages_s
        yield "_count", {}, counts[-1]


def counts_of(sinks: "Iterable[LiveSink]") -> str:
    """Return the counts of some streams, and of this process, as Prometheus reads them."""
    streams = joined((sink.families(), {}) for sink in sinks)
    return text_of([*streams, *process_families()], {})


def process_families() -> Iterator[Family]:
    """Yield what Prometheus's own clients give of every program, under the same names."""
    yield single("process_cpu_seconds_total", "counter", "Processor time of this process.", time.process_time())
    memory = proc_bytes("/proc/self/status", "VmRSS")
    if memory is not None:
        yield single("process_resident_memory_bytes", "gauge", "Memory of this process.", memory)
