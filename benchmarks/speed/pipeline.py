"""From a camera's frame to its label: what edgeclf costs beside the bare model, ultralytics, and the way that tutorials show.

    python3 benchmarks/speed/pipeline.py RUN
    python3 benchmarks/speed/pipeline.py RUN --threads 1 --json >pipeline.json

Method: contenders take turns in processes of their own, stopped in between (``rounds.py``), on the same 1280 x 720
pictures: frames in memory for the latency from frame to label, an MJPEG file of them for the sustained rate.

  bare        ``InferenceSession.run`` of the same file on one input made beforehand: neither frames nor labels
  edgeclf     ``Classifier.classify`` of a frame; ``Classifier.stream`` of the video, as ``run`` does it: as many
              inferences at once as threads
  tutorial    PIL, torchvision's Resize, CenterCrop, ToTensor, Normalize, torch eager, softmax; ``cv2.VideoCapture``
  ultralytics ``YOLO(FILE).predict``, of a frame, and of the video with ``stream=True``, no results written or drawn
  decode      only ``cv2.VideoCapture.read``, the upper limit of what reads the video one frame after another

RUN's files (``edgeclf train``, ``export``, ``quantize``) are what bare, edgeclf and tutorial share: the same weights.
With ultralytics the file is its own small classifier with random weights, exported by itself; edgeclf runs the very same
nodes and weights, with a transpose and a division by 255 put before them, because its inputs are pixels, and without the
softmax at the end, which it does itself.  Threads: as many for every contender (ultralytics has no option for it and
takes all cores: with fewer for the others, the comparison favors it).  Memory is the most (RSS) of the contender's own
process; start-up is from the start of the interpreter to the first label.
"""

from __future__ import annotations

import argparse
import contextlib
import itertools
import json
import os
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from frame_contenders import FRAMES, OPENERS, SIZE, VIDEO, YOLO, YOLO_OURS, make_pictures, make_yolo
from rounds import (
    PATIENCE_S,
    Contender,
    interval,
    others,
    others_line,
    percentiles,
    ratio,
    serve,
    take_turns,
    time_steps,
)

from edgeclf_runtime.device.machine import machine_facts

_SKIPPED = 30

# A contender and what it is held against.
BASES = {
    "bare fp32": None,
    "edgeclf fp32": "bare fp32",
    "tutorial": "bare fp32",
    "bare int8-cpu": None,
    "edgeclf int8-cpu": "bare int8-cpu",
    "bare yolo": None,
    "edgeclf yolo": "bare yolo",
    "ultralytics": "bare yolo",
    "decode": None,
}
# What is claimed: a contender's rate or latency by another's.
CLAIMS = (
    ("frame_ms", "edgeclf int8-cpu", "bare int8-cpu"),
    ("frame_ms", "edgeclf fp32", "bare fp32"),
    ("frame_ms", "edgeclf yolo", "bare yolo"),
    ("frame_ms", "ultralytics", "edgeclf yolo"),
    ("frame_ms", "tutorial", "edgeclf fp32"),
    ("frame_ms", "tutorial", "edgeclf int8-cpu"),
    ("video_fps", "edgeclf int8-cpu", "bare int8-cpu"),
    ("video_fps", "edgeclf yolo", "ultralytics"),
    ("video_fps", "edgeclf fp32", "tutorial"),
    ("video_fps", "edgeclf int8-cpu", "tutorial"),
)


def main() -> None:
    """Let the contenders take turns and print a row for each, and what was claimed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN", help="with model.fp32.onnx and model.int8-cpu.onnx")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each (all cores)")
    parser.add_argument("--rounds", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=1.0, help="a turn, of frames and of video (1)")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, help="seconds for turns that others disturbed (60)"
    )
    parser.add_argument("--contenders", nargs="+", choices=list(BASES), default=list(BASES), metavar="NAME")
    parser.add_argument("--yolo", default="yolo26n-cls.yaml", metavar="YAML", help="ultralytics' classifier")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep the video and ultralytics' file here")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(lambda: open_contender(arguments))
        return
    with contextlib.ExitStack() as stack:
        arguments.work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        prepare(arguments)
        report = measure(arguments)
    print(
        json.dumps({"benchmark": "pipeline", **report, "machine": machine_facts()}) if arguments.json else table(report)
    )


def prepare(arguments: argparse.Namespace) -> None:
    """Make the pictures, the video and ultralytics' file, in a process of their own."""
    from multiprocessing import get_context

    arguments.work.mkdir(parents=True, exist_ok=True)
    # What ultralytics prints belongs to stderr: stdout is the report's.
    with get_context("spawn").Pool(1, os.dup2, (2, 1)) as pool:
        if not (arguments.work / VIDEO).is_file():
            pool.apply(make_pictures, (arguments.run, arguments.work))
        if not (arguments.work / YOLO_OURS).is_file() and any("yolo" in name for name in arguments.contenders):
            try:
                pool.apply(make_yolo, (arguments.yolo, arguments.work))
            except ImportError as error:
                print(f"ultralytics is left out: {error}", file=sys.stderr)


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the rows by contender, the claims' ratios, and the reasons of those that cannot run."""
    with contextlib.ExitStack() as stack:
        contenders = {}
        for name in arguments.contenders:
            print(f"opening {name}", file=sys.stderr)
            command = [sys.executable, __file__, arguments.run, "--work", str(arguments.work), "--worker", name]
            command += ["--threads", str(arguments.threads)]
            contenders[name] = stack.enter_context(Contender(command, arguments.threads))
        able = {name: contender for name, contender in contenders.items() if not contender.reason}
        answers = take_turns(able, arguments.rounds, {"seconds": arguments.seconds}, arguments.patience)
    rows = {name: _row(found, contenders[name].facts) for name, found in answers.items()}
    for name, row in rows.items():
        base = BASES[name]
        if base in rows:
            over = [np.median(a) - np.median(b) for a, b in zip(row["rounds_ms"], rows[base]["rounds_ms"], strict=True)]
            row["over_bare_ms"], row["base"] = interval(over), base
            row["to_bare"] = ratio(row["rounds_ms"], rows[base]["rounds_ms"])
    claims = [
        {"what": what, "of": name, "by": other, **_claim(what, rows[name], rows[other])}
        for what, name, other in CLAIMS
        if name in rows and other in rows
    ]
    reasons = {name: contender.reason for name, contender in contenders.items() if contender.reason}
    facts = {"threads": arguments.threads, "size": SIZE, "others": others(answers)}
    return {**facts, "rows": rows, "claims": claims, "cannot_run": reasons}


def _row(answers: list[dict[str, Any]], facts: dict[str, Any]) -> dict[str, Any]:
    row: dict[str, Any] = {"video_fps": interval([answer["fps"] for answer in answers])}
    row["rounds_fps"] = [answer["fps"] for answer in answers]
    row["rounds_ms"] = [answer["samples_ms"] for answer in answers]
    return {**percentiles(row["rounds_ms"]), **row, "peak_mb": answers[-1]["peak_mb"], "start_s": facts["start_s"]}


def _claim(what: str, row: Mapping[str, Any], other: Mapping[str, Any]) -> dict[str, float]:
    if what == "frame_ms":
        return ratio(row["rounds_ms"], other["rounds_ms"])
    return interval(np.divide(row["rounds_fps"], other["rounds_fps"]))


def open_contender(arguments: argparse.Namespace) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """Open a contender in its own process; see ``rounds.serve``."""
    kind, _, model = arguments.worker.partition(" ")
    files = {"": None, "yolo": arguments.work / (YOLO if kind == "bare" else YOLO_OURS)}
    file = files.get(model, Path(arguments.run, f"model.{model}.onnx"))
    step, labels = OPENERS[kind](file, arguments)
    frames = np.load(arguments.work / FRAMES, mmap_mode="r" if kind == "bare" else None)
    step(frames[0])

    def turn(seconds: float) -> dict[str, Any]:
        turns = itertools.cycle(frames)
        samples = time_steps(lambda: step(next(turns)), seconds)
        return {"samples_ms": samples, "fps": frames_a_second(labels(str(arguments.work / VIDEO)), seconds)}

    return turn, {}


def frames_a_second(labels: Iterable[object], seconds: float) -> float:
    """Return the rate at which labels come, once the first 30 have."""
    items = iter(labels)
    for _ in range(_SKIPPED):
        next(items)
    count, start = 0, time.perf_counter()
    for _ in items:
        count += 1
        if time.perf_counter() - start >= seconds:
            break
    rate = count / (time.perf_counter() - start)
    getattr(items, "close", lambda: None)()
    return round(rate, 3)


def table(report: Mapping[str, Any]) -> str:
    """Return the rows and claims as people read them."""
    lines = [
        "{} x {}, {} threads".format(*report["size"], report["threads"]),
        f"{'':<18} {'p50':>7} {'p90':>7} {'p99':>7} ms  {'over bare':>20}  {'video':>7}   {'most':>6}  {'start':>6}",
    ]
    for name, row in report["rows"].items():
        over = (
            "{:+6.2f} ms {:+7.1%}".format(row["over_bare_ms"]["median"], row["to_bare"]["median"] - 1)
            if "to_bare" in row
            else ""
        )
        lines.append(
            f"{name:<18} {row['p50']:7.2f} {row['p90']:7.2f} {row['p99']:7.2f}     {over:>20}  "
            f"{row['video_fps']['median']:6.1f}/s {row['peak_mb']:5} MB  {row['start_s']:5.2f} s"
        )
    units = {"frame_ms": "latency", "video_fps": "rate"}
    lines += [
        "{} of {} is {median:.2f} x that of {} ({low:.2f} to {high:.2f})".format(
            units[c["what"]], c["of"], c["by"], **c
        )
        for c in report["claims"]
    ]
    lines += [f"{name:<18} cannot run: {reason}" for name, reason in report["cannot_run"].items()]
    lines.append(others_line(report["others"]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
