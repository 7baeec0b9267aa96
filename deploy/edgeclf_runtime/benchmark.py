"""How long a bundle's models take on this machine, stage by stage."""

import platform
import sys
from typing import Any, Dict, List, NamedTuple

from . import __version__
from .bundle import open_bundle
from .classifier import Classifier, candidates
from .errors import BackendError, EdgeclfError
from .golden import golden_images

STAGES = ("preprocess", "inference", "postprocess", "total")
PERCENTILES = (50, 90, 99)
ROUNDS = 3


class BenchReport(NamedTuple):
    """Latencies of each model in a bundle, and the machine that they were measured on.

    latency_ms      by model, by stage: p50, p90, p99, mean in milliseconds
    samples_ms      by model: the single totals, in the order of measurement
    failures        by model: why it could not be measured
    """

    latency_ms: Dict[str, Dict[str, Dict[str, float]]]
    samples_ms: Dict[str, List[float]]
    failures: Dict[str, str]
    machine: Dict[str, Any]

    def to_dict(self) -> Dict[str, Any]:
        """The report as JSON can hold it."""
        return dict(self._asdict())

    def __str__(self):
        lines = ["{:<16} {:<12} {:>8} {:>8} {:>8} {:>8}  ms".format("model", "stage", "p50", "p90", "p99", "mean")]
        for model, stages in self.latency_ms.items():
            for stage in STAGES:
                row = stages[stage]
                figures = "".join(" {:>8.2f}".format(row[name]) for name in ("p50", "p90", "p99", "mean"))
                lines.append("{:<16} {:<12}{}".format(model, stage, figures))
        lines += ["{:<16} {}".format(model, reason) for model, reason in self.failures.items()]
        return "\n".join(lines)


def bench(bundle, repeat=100, warmup=10, backend="auto", threads=None):
    """Measure every model of a bundle on its golden images.

    The models take turns in ROUNDS rounds, so that a machine whose speed drifts favours none,
    and only the one that is measured is loaded: the idle threads of another would disturb it.
    Each is opened on the first backend that runs it.  Returns a BenchReport; raises BackendError
    where none runs.
    """
    bundle = open_bundle(bundle)
    images = golden_images(bundle)
    samples: Dict[str, List[Dict[str, float]]] = {}
    failures: Dict[str, str] = {}
    for turn in range(ROUNDS):
        count = repeat * (turn + 1) // ROUNDS - repeat * turn // ROUNDS
        for name in sorted({model.name for model, _ in candidates(bundle, None, backend)} - set(failures)):
            try:
                with Classifier.open(bundle, name, backend, threads=threads) as classifier:
                    samples.setdefault(name, []).extend(_measure(classifier, images, count, warmup))
            except EdgeclfError as error:
                failures[name] = str(error)
    if not samples:
        raise BackendError("\n".join(failures.values()))
    return BenchReport(
        latency_ms={
            name: {stage: summarise([row[stage] for row in rows]) for stage in STAGES} for name, rows in samples.items()
        },
        samples_ms={name: [round(row["total"], 3) for row in rows] for name, rows in samples.items()},
        failures=failures,
        machine=machine_facts(),
    )


def _measure(classifier, images, count, warmup):
    timings = [classifier.classify(images[i % len(images)]).timings_ms for i in range(warmup + count)]
    return [dict(row, total=sum(row.values())) for row in timings[warmup:]]


def summarise(values):
    """Return p50, p90, p99 and mean of numbers, rounded to a thousandth."""
    import numpy as np

    summary = {"p{}".format(p): round(float(np.percentile(values, p)), 3) for p in PERCENTILES}
    summary["mean"] = round(float(np.mean(values)), 3)
    return summary


def machine_facts():
    """Return what a figure depends on: processor, cores, and versions."""
    import os

    import cv2
    import numpy as np

    facts = {
        "machine": platform.machine(),
        "processor": _processor(),
        "cores": len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "edgeclf_runtime": __version__,
    }
    if "onnxruntime" in sys.modules:
        facts["onnxruntime"] = sys.modules["onnxruntime"].__version__
    return facts


def _processor():
    try:
        with open("/proc/cpuinfo", encoding="utf-8") as stream:
            names = [line.split(":", 1)[1].strip() for line in stream if line.startswith(("model name", "Model"))]
    except OSError:
        names = []
    return names[0] if names else platform.processor()
