"""Measures the latency of one network in every library that could run it.

    python3 benchmarks/speed/latency.py resnet18 --batch 1
    python3 benchmarks/speed/latency.py RUN --json >latency.json

Method: the network, a run's, a bundle's or a timm backbone with random weights, is brought into the form that each
library reads (``networks.py``), INT8 from the same photographs everywhere, and opened with the same threads and batch
(``contenders.py``).  The contenders take turns in processes of their own, stopped in between (``rounds.py``).  A turn is
a warm-up and so many seconds of inference of the same random pixels, float32 [N, height, width, 3] in, logits out,
layout and normalization included.  Given are p50, p90 and p99 over all rounds, and the ratio to ``--ours``: of each
round the ratio of the medians, and of these the median with a 95 % interval by bootstrap over the rounds.  "off" is the
largest difference of a logit from FP32's (``ONNX Runtime FP32``), in standard deviations of those logits, so that nobody
is fast at something else.  A contender that cannot run is listed with its reason.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
from contenders import CONTENDERS
from rounds import PATIENCE_S, Contender, others, others_line, percentiles, ratio, serve, take_turns, time_steps

from edgeclf_runtime.device.machine import machine_facts

FP32 = "ONNX Runtime FP32"


def main() -> None:
    """Let the contenders take turns and print a row for each."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("network", metavar="RUN|NAME.edge|BACKBONE")
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)), help="of each (all cores)")
    parser.add_argument("--rounds", type=int, default=12)
    parser.add_argument("--seconds", type=float, default=1.0, help="a turn, beside its warm-up (1)")
    parser.add_argument(
        "--patience", type=float, default=PATIENCE_S, help="seconds for turns that others disturbed (60)"
    )
    parser.add_argument("--contenders", nargs="+", choices=list(CONTENDERS), default=list(CONTENDERS), metavar="NAME")
    parser.add_argument("--ours", choices=list(CONTENDERS), default="edgeclf int8-cpu", metavar="NAME")
    parser.add_argument("--calibration", type=int, default=300, metavar="N", help="images, of a named backbone (300)")
    parser.add_argument("--work", type=Path, metavar="FOLDER", help="keep the model files here, and use those there")
    parser.add_argument("--prepare", action="store_true", help="make the files in --work, and measure nothing")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", metavar="NAME", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(lambda: open_contender(arguments.worker, arguments.work, arguments.threads, arguments.batch))
        return
    with contextlib.ExitStack() as stack:
        work = arguments.work or Path(stack.enter_context(tempfile.TemporaryDirectory()))
        facts = prepare(arguments.network, work, arguments.calibration)
        if arguments.prepare:
            return
        report = measure(work, arguments)
    report = {"benchmark": "latency", "network": facts, **report, "machine": machine_facts()}
    print(json.dumps(report) if arguments.json else table(report))


def prepare(network: str, work: Path, calibration_images: int) -> dict[str, Any]:
    """Make the model files, in this process's child, so that none of the libraries stays loaded here."""
    from multiprocessing import get_context

    from networks import NETWORK_FILE, make_network

    with get_context("spawn").Pool(1) as pool:
        pool.apply(make_network, (network, work, calibration_images))
    return json.loads((work / NETWORK_FILE).read_text(encoding="utf-8"))


def measure(work: Path, arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the rows by contender, and the reasons of those that cannot run."""
    with contextlib.ExitStack() as stack:
        contenders = {}
        for name in dict.fromkeys([*arguments.contenders, arguments.ours]):
            print(f"opening {name}", file=sys.stderr)
            command = [sys.executable, __file__, str(work), "--work", str(work), "--worker", name]
            command += ["--threads", str(arguments.threads), "--batch", str(arguments.batch)]
            contenders[name] = stack.enter_context(Contender(command, arguments.threads))
        able = {name: contender for name, contender in contenders.items() if not contender.reason}
        answers = take_turns(able, arguments.rounds, {"seconds": arguments.seconds}, arguments.patience)
    if arguments.ours not in answers:
        raise SystemExit(f"{arguments.ours} cannot run: {contenders[arguments.ours].reason}; choose another --ours")
    rounds = {name: [answer["samples_ms"] for answer in found] for name, found in answers.items()}
    reference = contenders[FP32].facts.get("logits") if FP32 in answers else None
    rows = {
        name: {
            **percentiles(samples),
            "ratio": ratio(samples, rounds[arguments.ours]),
            "off": difference(contenders[name].facts["logits"], reference),
            "peak_mb": answers[name][-1]["peak_mb"],
            "start_s": contenders[name].facts["start_s"],
            "version": contenders[name].facts["version"],
            "rounds_ms": samples,
        }
        for name, samples in rounds.items()
    }
    return {
        "ours": arguments.ours,
        "batch": arguments.batch,
        "threads": arguments.threads,
        "others": others(answers),
        "rows": rows,
        "cannot_run": {name: contender.reason for name, contender in contenders.items() if contender.reason},
    }


def open_contender(
    name: str, work: Path, threads: int, batch: int
) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """Open a contender in its own process; see ``rounds.serve``."""
    facts = json.loads((work / "network.json").read_text(encoding="utf-8"))
    shape = (batch, facts["height"], facts["width"], 3)
    images = np.random.RandomState(0).randint(0, 256, shape).astype(np.float32)
    infer, version = CONTENDERS[name](work, threads, batch)
    logits = np.asarray(infer(images))
    if logits.shape != (batch, facts["classes"]):
        raise ValueError(f"it returns logits of shape {logits.shape}")

    def turn(seconds: float) -> dict[str, Any]:
        return {"samples_ms": time_steps(lambda: infer(images), seconds)}

    return turn, {"version": version, "logits": [round(float(value), 5) for value in logits[0]]}


def difference(logits: list[float], reference: list[float] | None) -> float | None:
    """Return the largest difference from the reference in the reference's standard deviations, None without one."""
    if reference is None:
        return None
    return round(float(np.abs(np.subtract(logits, reference)).max() / np.std(reference)), 4)


def table(report: Mapping[str, Any]) -> str:
    """Return the rows as people read them, the fastest first."""
    facts = report["network"]
    lines = [
        f"{facts['source']} ({facts['backbone']}, weights: {facts['weights']}), {facts['width']} x {facts['height']}, "
        f"batch {report['batch']}, {report['threads']} threads",
        f"{'':<26} {'p50':>8} {'p90':>8} {'p99':>8} ms  {'to ours (95 % interval)':<26} {'off':>6} {'MB':>6}  version",
    ]
    for name, row in sorted(report["rows"].items(), key=lambda item: item[1]["p50"]):
        to_ours = "{median:6.2f} x ({low:.2f} to {high:.2f})".format(**row["ratio"])
        off = "" if row["off"] is None else f"{row['off']:.2f}"
        lines.append(
            f"{name:<26} {row['p50']:8.2f} {row['p90']:8.2f} {row['p99']:8.2f}     {to_ours:<26} {off:>6} {row['peak_mb']:6}  {row['version']}"
        )
    lines += [f"{name:<26} cannot run: {reason}" for name, reason in report["cannot_run"].items()]
    lines.append(others_line(report["others"]))
    return "\n".join(lines)


if __name__ == "__main__":
    main()
