"""``bench``: measures the latency of a bundle's models on this machine, stage by stage, and their energy.

The figures are for frames of a camera's size, one after another, and for the machine as it was: the report contains the
machine's facts, and the time windows in which it throttled.
"""

import os
import time
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple, Union

from ..bundle.open_bundle import open_bundle
from ..classify.classifier import Classifier
from ..classify.golden import golden_images
from ..classify.selection import Selection, candidates, prepare
from ..classify.tuning.choice import choose
from ..device.machine import machine_facts
from ..device.telemetry import PowerMeter, Telemetry, read_telemetry, throttled
from ..errors import BackendError, EdgeclfError
from ..files.schema import JsonObject
from ..images.read import decode_image
from ..text.terminal import printable, show_line

if TYPE_CHECKING:
    import numpy as np

    from ..bundle.open_bundle import Bundle
    from ..classify.tuning.choice import Choice, Tuning

    Frames = Sequence[Tuple[bytes, np.ndarray]]  # a JPEG, and the frame in it

# "total" is the time from a frame to its label, the sum of the stages before it.  "capture" is not part of it: the time to
# decode the frame from a JPEG, as USB cameras and files deliver it; a CSI camera's frames need no decoding.
STAGES = ("preprocess", "transfer", "inference", "postprocess", "total", "capture")
PERCENTILES = (50, 90, 95, 99)
COLUMNS = ("p50", "p90", "p95", "p99", "mean", "std")
ROUNDS = 3
WINDOW_S = 1.0
FRAME_SIZE = (1280, 720)
MAX_FRAMES = 8  # all are in memory, decoded
MAX_CAPTURES = 100  # in each round


class BenchReport(NamedTuple):
    """Latencies of each model in a bundle, and the machine that they were measured on.

    latency_ms      by model, by stage: p50, p90, p95, p99, mean and standard deviation in milliseconds; None for a stage
                    that the backend does not measure (transfer, on a CPU)
    samples_ms      by model: the totals of all frames, in the order of measurement
    failures        by model: the reason why it could not be measured
    machine         see machine_facts()
    backends        by model: its backend
    frame_size      width and height of the frames
    frames_per_s    by model: frames per second, one after another, from frame to label
    joules_per_frame    by model: energy per frame of the whole module (a PC: of its processors), idle power included; None
                    if power cannot be read
    throttling      by model: the number of windows of about a second, of throttled ones, and of unknown ones, and
                    latency_ms without the throttled ones (None if all or none are throttled)
    telemetry       before and after: see Telemetry
    """

    latency_ms: Dict[str, Dict[str, Optional[Dict[str, float]]]]
    samples_ms: Dict[str, List[float]]
    failures: Dict[str, str]
    machine: Dict[str, object]
    backends: Dict[str, str]
    frame_size: List[int]
    frames_per_s: Dict[str, float]
    joules_per_frame: Dict[str, Optional[float]]
    throttling: Dict[str, JsonObject]
    telemetry: Dict[str, Dict[str, object]]

    def to_dict(self) -> Dict[str, object]:
        """Return the report as JSON can hold it."""
        return dict(self._asdict())

    def __str__(self) -> str:
        lines = ["{:<16} {:<12}".format("model", "stage") + "".join(" {:>8}".format(name) for name in COLUMNS) + "  ms"]
        for model, stages in self.latency_ms.items():
            for stage in STAGES:
                row = stages[stage]
                if row is not None:
                    figures = "".join(" {:>8.2f}".format(row[name]) for name in COLUMNS)
                    lines.append("{:<16} {:<12}{}".format(model, stage, figures))
        lines += ["{:<16} {}".format(model, self._summary(model)) for model in self.latency_ms]
        lines = list(map(printable, lines))
        lines += [printable("{:<16} {}".format(*failure), "\n" + " " * 17) for failure in self.failures.items()]
        return "\n".join(lines)

    def _summary(self, model: str) -> str:
        energy, windows = self.joules_per_frame[model], self.throttling[model]
        known = windows["windows"] - windows["unknown"]
        return "{:.1f} frames per second of {} x {} on {}; {}; {}".format(
            self.frames_per_s[model],
            self.frame_size[0],
            self.frame_size[1],
            self.backends[model],
            "energy unknown" if energy is None else "{:.1f} mJ per frame".format(energy * 1e3),
            "throttled in {} of {} windows".format(windows["throttled"], known) if known else "throttling unknown",
        )


class _Row(NamedTuple):
    """The milliseconds that a frame took: by stage, and altogether; and the number of its window."""

    ms: Dict[str, Optional[float]]
    total: float
    window: int


class _Runs:
    """The measurements of a model."""

    def __init__(self) -> None:
        self.rows: List[_Row] = []
        self.captures: List[float] = []
        self.windows: List[Optional[bool]] = []
        self.joules: List[Optional[float]] = []
        self.backend = ""


def bench(
    bundle: Union[str, "os.PathLike[str]"],
    repeat: int = 100,
    warmup: int = 10,
    backend: str = "auto",
    threads: Optional[int] = None,
    size: Tuple[int, int] = FRAME_SIZE,
    root: str = "/",
    tune: Optional[bool] = False,
    show_tuning: "Optional[Callable[[Tuning], object]]" = None,
    models: Optional[Sequence[str]] = None,
) -> BenchReport:
    """Measure every model of a bundle on its golden images, scaled to a camera's frames.

    The models take turns in ROUNDS rounds, so that a machine whose speed drifts favors none, and only the measured one is
    loaded: the idle threads of another would disturb it.  Each stays on the backend that a run would choose for it; one that
    fails there is not measured.

    repeat      number of frames per model, over all rounds
    warmup      number of frames before them in each round, which are not counted
    size        width and height of the frames
    root        folder that has /proc and /sys
    tune, show_tuning   see Classifier.open(); each model is measured on the backend and with the threads that are fastest
    models      names of the models to measure; None: all

    Raises OptionError for an unknown backend, and BackendError if no model runs.
    """
    opened = open_bundle(bundle)
    frames = camera_frames(golden_images(opened)[:MAX_FRAMES], size)
    before = read_telemetry(root)
    usual = candidates(opened, None, backend)
    choice = choose(opened, usual, threads, tune=tune, show=show_tuning)
    known = {model.name for model, _ in usual}
    names = sorted(known if models is None else known.intersection(models))
    choices = {name: choice.of_model(name) for name in names}
    prepare(opened, [pair for name in names for pair in choices[name].pairs[:1]])
    measured: Dict[str, _Runs] = {}
    failures: Dict[str, str] = {}
    try:
        for turn in range(ROUNDS):
            count = repeat * (turn + 1) // ROUNDS - repeat * turn // ROUNDS
            for name in [name for name in names if count and name not in failures]:
                show_line("{}, round {} of {}".format(name, turn + 1, ROUNDS))
                try:
                    with _open(opened, choices[name], threads) as classifier:
                        choices[name] = choices[name].of_backend(classifier.backend)
                        _measure(classifier, frames, count, warmup, measured.setdefault(name, _Runs()), root)
                except EdgeclfError as error:
                    failures[name] = str(error)
    finally:
        show_line("")
    measured = {name: runs for name, runs in measured.items() if name not in failures}
    if not measured:
        raise BackendError("\n".join(failures.values()))
    return _report(measured, failures, size, before, root)


def _open(bundle: "Bundle", choice: "Choice", threads: Optional[int]) -> Classifier:
    model, runner = Selection(bundle, choice.pairs, threads, ways=choice.ways).open_next()
    # Without a fallback, which would mix the figures of two backends.
    return Classifier(runner, bundle.labels, bundle.preprocessing, model.name, model.temperature, model.threshold)


def camera_frames(images: "Sequence[np.ndarray]", size: Tuple[int, int]) -> "Frames":
    """Return pairs of a JPEG and the frame in it, uint8 [height, width, 3], of images scaled to (width, height)."""
    import cv2

    jpegs = [cv2.imencode(".jpg", cv2.resize(image, tuple(size)))[1].tobytes() for image in images]
    return [(jpeg, decode_image(jpeg)) for jpeg in jpegs]


def _measure(classifier: Classifier, frames: "Frames", count: int, warmup: int, runs: _Runs, root: str) -> None:
    """Measure one round, and add its rows, windows and energy to ``runs``."""
    runs.backend = classifier.backend
    for i in range(warmup):
        classifier.classify(decode_image(frames[i % len(frames)][0]))
    runs.captures += [_decode_ms(frames[i % len(frames)][0]) for i in range(min(count, MAX_CAPTURES))]
    look, end = read_telemetry(root), time.monotonic() + WINDOW_S
    with PowerMeter(root) as meter:
        for i in range(count):
            runs.rows.append(_classify(classifier, frames[i % len(frames)][1], len(runs.windows)))
            if time.monotonic() >= end or i == count - 1:
                last, look = look, read_telemetry(root)
                runs.windows.append(throttled(last, look))
                show_line("{}, {} frames, p50 {:.1f} ms".format(classifier.model, len(runs.rows), _median(runs.rows)))
                end = time.monotonic() + WINDOW_S
    runs.joules.append(meter.energy_j)


def _decode_ms(jpeg: bytes) -> float:
    start = time.perf_counter()
    decode_image(jpeg)
    return (time.perf_counter() - start) * 1e3


def _classify(classifier: Classifier, image: "np.ndarray", window: int) -> _Row:
    stages = classifier.classify(image).timings_ms
    total = sum(stages.values())
    transfer = classifier.runner.transfer_ms
    # infer() includes the copies to the GPU and back.
    inference = stages["inference"] - (transfer or 0.0)
    return _Row(dict(stages, total=total, transfer=transfer, inference=inference), total, window)


def _report(
    measured: Dict[str, _Runs], failures: Dict[str, str], size: Sequence[int], before: Telemetry, root: str
) -> BenchReport:
    return BenchReport(
        latency_ms={name: _latency_ms(runs.rows, runs.captures) for name, runs in measured.items()},
        samples_ms={name: [round(row.total, 3) for row in runs.rows] for name, runs in measured.items()},
        failures=failures,
        machine=machine_facts(root),
        backends={name: runs.backend for name, runs in measured.items()},
        frame_size=list(size),
        frames_per_s={
            name: round(len(runs.rows) / sum(row.total for row in runs.rows) * 1e3, 3)
            for name, runs in measured.items()
        },
        joules_per_frame={name: _joules_per_frame(runs) for name, runs in measured.items()},
        throttling={name: _throttling(runs) for name, runs in measured.items()},
        telemetry={"before": before.to_dict(), "after": read_telemetry(root).to_dict()},
    )


def _joules_per_frame(runs: _Runs) -> Optional[float]:
    joules = [energy for energy in runs.joules if energy is not None]
    return round(sum(joules) / len(runs.rows), 6) if len(joules) == len(runs.joules) else None


def _throttling(runs: _Runs) -> JsonObject:
    slowed = [number for number, slow in enumerate(runs.windows) if slow]
    rest = [row for row in runs.rows if row.window not in slowed]
    return {
        "windows": len(runs.windows),
        "throttled": len(slowed),
        "unknown": runs.windows.count(None),
        "latency_ms": _latency_ms(rest, runs.captures) if slowed and rest else None,
    }


def _latency_ms(rows: List[_Row], captures: List[float]) -> Dict[str, Optional[Dict[str, float]]]:
    found: Dict[str, Optional[Dict[str, float]]] = {}
    for stage in STAGES:
        values = captures if stage == "capture" else [row.ms[stage] for row in rows]
        known = [value for value in values if value is not None]
        found[stage] = summarize(known) if len(known) == len(values) else None
    return found


def _median(rows: List[_Row]) -> float:
    return float(sorted(row.total for row in rows)[len(rows) // 2])


def summarize(values: Sequence[float]) -> Dict[str, float]:
    """Return percentiles, mean and population standard deviation of numbers, rounded to a thousandth."""
    import numpy as np

    summary = {"p{}".format(p): round(float(np.percentile(values, p)), 3) for p in PERCENTILES}
    summary["mean"] = round(float(np.mean(values)), 3)
    summary["std"] = round(float(np.std(values)), 3)
    return summary
