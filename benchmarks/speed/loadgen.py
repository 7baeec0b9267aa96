"""Runs the runtime under MLPerf's load generator, which decides whether the measurement is VALID.

    python3 benchmarks/speed/loadgen.py RUN
    python3 benchmarks/speed/loadgen.py RUN --seconds 2 --scenarios SingleStream      # a smoke test

Method: LoadGen (``pip install mlcommons-loadgen``), which MLCommons wrote and we did not, decides which samples are
asked for and when, measures, and gives the verdict.  A sample is a decoded test image of the run; what is timed is
``Classifier.classify``, from pixels to label, preprocessing included (MLPerf leaves that out).  Scenarios, with the
durations and counts of MLPerf's rules for edge systems:
  SingleStream    one sample, the next when it is answered; the 90th percentile of latency
  MultiStream     eight samples at once; the 99th percentile of latency of the eight
  Offline         all samples at once, answered by batches of eight; samples a second
Each scenario and mode is a process of its own.  In accuracy mode LoadGen asks for each image once and logs the answers,
which are held against the labels.

MLPerf is a registered name of MLCommons; these are no MLPerf results, which are made with its models and data sets.
"""

from __future__ import annotations

import argparse
import array
import json
import os
import re
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from edgeclf_runtime.device.machine import machine_facts

SCENARIOS = ("SingleStream", "MultiStream", "Offline")
MODES = ("Performance", "Accuracy")
_AT_ONCE = 8
_MINIMUM_S = 60.0
# What early stopping needs for its percentile, and Offline by MLPerf's rules, whatever the duration.
_QUERIES = {"SingleStream": 100, "MultiStream": 662, "Offline": 24_576}
_UNITS = {
    "90.0th percentile latency (ns)": "p90_ms",
    "99.0th percentile latency (ns)": "p99_ms",
    "50.00 percentile latency (ns)": "p50_ms",
    "Samples per second": "samples_per_s",
}


def main() -> None:
    """Run each scenario in both modes and print LoadGen's verdicts."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--model", default="int8-cpu")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--scenarios", nargs="+", choices=SCENARIOS, default=list(SCENARIOS))
    parser.add_argument("--modes", nargs="+", choices=MODES, default=list(MODES))
    parser.add_argument("--seconds", type=float, default=60.0, help="at least, in performance mode (60, as MLPerf)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", nargs=2, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(drive(arguments, *arguments.worker)))
        return
    rows = [_in_process(arguments, scenario, mode) for scenario in arguments.scenarios for mode in arguments.modes]
    report = {"benchmark": "loadgen", "model": arguments.model, "threads": arguments.threads, "rows": rows}
    if arguments.json:
        print(json.dumps({**report, "machine": machine_facts()}))
        return
    for row in rows:
        figures = "  ".join(f"{name} {value}" for name, value in row.items() if name not in ("scenario", "mode"))
        print(f"{row['scenario']:<13} {row['mode']:<12} {figures}")


def _in_process(arguments: argparse.Namespace, scenario: str, mode: str) -> dict[str, Any]:
    print(f"{scenario}, {mode}", file=sys.stderr)
    command = [sys.executable, __file__, arguments.run, "--worker", scenario, mode, "--model", arguments.model]
    command += ["--threads", str(arguments.threads), "--seconds", str(arguments.seconds)]
    # LoadGen itself writes to stdout before the answer.
    lines = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    return json.loads(lines[-1])


def drive(arguments: argparse.Namespace, scenario: str, mode: str) -> dict[str, Any]:
    """Let LoadGen drive the runtime once; returns its summary, and the accuracy in accuracy mode."""
    import mlperf_loadgen as loadgen

    from edgeclf.evaluation.open_model import open_model
    from edgeclf.training.runs import read_run
    from edgeclf_runtime.images.read import read_image

    dataset = read_run(arguments.run).dataset()
    samples = dataset.split("test")
    pixels = [read_image(sample.path) for sample in samples]
    with open_model(arguments.run, arguments.model) as opened, tempfile.TemporaryDirectory() as folder:
        classifier = opened.classifier
        places = {label: place for place, label in enumerate(classifier.labels)}

        def issue(queries: list[Any]) -> None:
            for first in range(0, len(queries), _AT_ONCE):
                some = queries[first : first + _AT_ONCE]
                if len(some) == 1:
                    results = [classifier.classify(pixels[some[0].index])]
                else:
                    results = classifier.classify_batch([pixels[query.index] for query in some])
                # One byte a label; LoadGen copies it, in accuracy mode, before the call returns.
                answers = [array.array("B", [places[result.label]]) for result in results]
                loadgen.QuerySamplesComplete(
                    [
                        loadgen.QuerySampleResponse(query.id, answer.buffer_info()[0], 1)
                        for query, answer in zip(some, answers, strict=True)
                    ]
                )

        system = loadgen.ConstructSUT(issue, lambda: None)
        library = loadgen.ConstructQSL(len(samples), len(samples), lambda indices: None, lambda indices: None)
        rate = _samples_per_s(classifier, pixels[:_AT_ONCE])
        log = loadgen.LogSettings()
        log.log_output.outdir = folder
        loadgen.StartTestWithLogSettings(
            system, library, _settings(loadgen, arguments.seconds, rate, scenario, mode), log
        )
        loadgen.DestroyQSL(library)
        loadgen.DestroySUT(system)
        row = {"scenario": scenario, "mode": mode}
        if mode == "Accuracy":
            truth = [dataset.index(sample) for sample in samples]
            return {**row, **_accuracy(Path(folder, "mlperf_log_accuracy.json"), truth)}
        return {**row, **read_summary(Path(folder, "mlperf_log_summary.txt").read_text(encoding="utf-8"))}


def _samples_per_s(classifier: Any, pixels: list[Any]) -> float:
    """Return the rate of batches, which LoadGen wants to know before; warms up at the same time."""
    for count in range(1, len(pixels) + 1):
        classifier.classify_batch(pixels[:count])
    start = time.perf_counter()
    for _ in range(_AT_ONCE):
        classifier.classify_batch(pixels)
    return _AT_ONCE * len(pixels) / (time.perf_counter() - start)


def _settings(loadgen: Any, seconds: float, rate: float, scenario: str, mode: str) -> Any:
    settings = loadgen.TestSettings()
    settings.scenario = getattr(loadgen.TestScenario, scenario)
    settings.mode = getattr(loadgen.TestMode, f"{mode}Only")
    settings.min_duration_ms = round(seconds * 1e3)
    few = scenario == "Offline" and seconds < _MINIMUM_S
    settings.min_query_count = round(rate * seconds) if few else _QUERIES[scenario]
    settings.multi_stream_samples_per_query = _AT_ONCE
    # The query must last for the duration: more samples than the rate found asks for, as the machine may be faster then.
    settings.offline_expected_qps = 1.3 * rate
    return settings


def read_summary(text: str) -> dict[str, Any]:
    """Return what mlperf_log_summary.txt says: verdict, percentiles in milliseconds, samples a second, queries' duration."""
    found = dict(re.findall(r"^\s*([^:\n]+?)\s*:\s*(.+?)\s*$", text, re.MULTILINE))
    row: dict[str, Any] = {"verdict": found["Result is"]}
    for name, short in _UNITS.items():
        if name in found:
            value = float(found[name])
            row[short] = round(value / 1e6 if short.endswith("_ms") else value, 3)
    row["checks"] = {name: found[name] for name in found if name.endswith("satisfied") or name.startswith("Early")}
    return row


def _accuracy(path: Path, truth: list[int]) -> dict[str, Any]:
    answers = json.loads(path.read_text(encoding="utf-8"))
    # The last query of eight is filled up with samples that were asked for before.
    labels = {answer["qsl_idx"]: int(answer["data"], 16) for answer in answers}
    right = sum(label == truth[place] for place, label in labels.items())
    return {"images": len(labels), "accuracy": round(right / len(labels), 6)}


if __name__ == "__main__":
    main()
