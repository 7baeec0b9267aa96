"""Measures each run's accuracy in FP32 and in every flavor, and its latency, beside published results.

    python3 benchmarks/accuracy/accuracy.py RUN RUN2 --json >accuracy.json

Method: each of a run's model files classifies the run's own test images, one image an inference, the flavors for other
processors with the precise sums that those have (``edgeclf.graph.inference``).  Intervals are Wilson's, 95 %; the drop against FP32
is paired (``edgeclf.evaluation.comparison``), on the same images.  Then the files that an x86 host runs take turns in processes of their own
(``rounds.py``) for p50 of one inference.  Published rows are printed beside, with their sources: other data, or other
splits, so they tell the order of magnitude and no more.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "speed"))

from rounds import Contender, percentiles, serve, take_turns, time_steps

from edgeclf_runtime.device.machine import machine_facts

MODELS = ("fp32", "int8-cpu", "int8-arm", "int8-tensorrt", "int8-fp16", "fp16")
TIMED = ("fp32", "int8-cpu")

# What, data, FP32 and INT8 in percent, source.
PUBLISHED = (
    ("linear SVM", "ELPV", 82.44, None, "Deitsch et al., Solar Energy 185 (2019), 455-468"),
    ("VGG-19, fine-tuned", "ELPV", 88.42, None, "Deitsch et al., Solar Energy 185 (2019), 455-468"),
    (
        "ResNet-18",
        "ImageNet",
        69.758,
        69.494,
        "torchvision.models.quantization (fbgemm), pytorch.org/vision/stable/models.html",
    ),
    (
        "ResNet-50",
        "ImageNet",
        76.13,
        75.92,
        "torchvision.models.quantization (fbgemm), pytorch.org/vision/stable/models.html",
    ),
    ("EfficientNet-Lite0", "ImageNet", 75.1, 74.4, "github.com/tensorflow/tpu, efficientnet/lite/README.md"),
)


def main() -> None:
    """Evaluate every file of every run, time them, and print the table beside the published rows."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="+", metavar="RUN")
    parser.add_argument("--threads", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=0.5, help="a turn of the latency (0.5)")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", metavar="MODEL", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        serve(lambda: open_model_file(Path(arguments.runs[0]), arguments.worker, arguments.threads))
        return
    rows = [row for run in arguments.runs for row in evaluate_run(Path(run))]
    add_latency(rows, arguments)
    report = {"benchmark": "accuracy", "threads": arguments.threads, "rows": rows, "published": PUBLISHED}
    print(json.dumps({**report, "machine": machine_facts()}) if arguments.json else table(report))


def evaluate_run(path: Path) -> list[dict[str, Any]]:
    """Return a row for each model file of a run."""
    from edgeclf.data.pixels import load_batches
    from edgeclf.evaluation.comparison import compare
    from edgeclf.graph.inference import infer_file
    from edgeclf.training.runs import read_run

    run = read_run(path)
    dataset = run.dataset()
    samples = dataset.split("test")
    truth = np.array([dataset.index(sample) for sample in samples])
    paths = [sample.path for sample in samples]
    rows: list[dict[str, Any]] = []
    reference = None
    for model in [model for model in MODELS if (path / f"model.{model}.onnx").is_file()]:
        file = run.file(f"model.{model}.onnx")
        logits = infer_file(file, model, load_batches(paths, run.preprocessing, 1, f"{path.name} {model}"))
        reference = logits if reference is None else reference
        compared = compare(run.labels, truth, reference, logits)
        right = int((logits.argmax(1) == truth).sum())
        rows.append(
            {
                "run": str(path),
                "name": run.facts["model"]["name"] if run.imported else run.facts["options"]["backbone"],
                "data": run.name,
                "size": [run.preprocessing.width, run.preprocessing.height],
                "finetune": run.facts["options"].get("finetune"),
                "model": model,
                "images": len(truth),
                "accuracy": round(right / len(truth), 6),
                "accuracy_interval": wilson(right, len(truth)),
                "drop": round(compared.drop, 6),
                "drop_interval": [round(bound, 6) for bound in compared.drop_interval],
                "agreement": round(compared.agreement, 6),
                "megabytes": round(file.stat().st_size / 1e6, 2),
            }
        )
    return rows


def wilson(right: int, count: int) -> list[float]:
    """Return Wilson's 95 % interval of a share (E. B. Wilson, JASA 22, 1927)."""
    from scipy.stats import binomtest

    found = binomtest(right, count).proportion_ci(method="wilson")
    return [round(float(found.low), 6), round(float(found.high), 6)]


def add_latency(rows: list[dict[str, Any]], arguments: argparse.Namespace) -> None:
    """Add p50, p90 and p99 of one inference to the rows of the models that this host runs."""
    with contextlib.ExitStack() as stack:
        contenders = {}
        for number, row in enumerate(rows):
            if row["model"] in TIMED:
                command = [sys.executable, __file__, row["run"], "--worker", row["model"]]
                command += ["--threads", str(arguments.threads)]
                contenders[str(number)] = stack.enter_context(Contender(command, arguments.threads))
        answers = take_turns(contenders, arguments.rounds, {"seconds": arguments.seconds})
    for name, found in answers.items():
        rows[int(name)].update(percentiles([answer["samples_ms"] for answer in found]))


def open_model_file(run: Path, model: str, threads: int) -> tuple[Callable[..., dict[str, Any]], dict[str, Any]]:
    """Open a model in its own process; see ``rounds.serve``."""
    from edgeclf_runtime.runners.onnxruntime import OnnxRuntimeRunner

    runner = OnnxRuntimeRunner(run / f"model.{model}.onnx", threads)
    spec = json.loads(runner.metadata["edgeclf"])["preprocessing"]
    batch = np.random.RandomState(0).randint(0, 256, (1, spec["height"], spec["width"], 3)).astype(np.float32)
    return lambda seconds: {"samples_ms": time_steps(lambda: runner.infer(batch), seconds)}, {}


def table(report: Mapping[str, Any]) -> str:
    """Return the rows as people read them."""
    lines = [
        f"{'':<20} {'pixels':>9} {'model':<14} {'accuracy (95 % interval)':<27} {'drop (95 % interval)':<29} {'agree':>6} {'MB':>6} {'p50':>8}"
    ]
    for row in report["rows"]:
        low, high = row["accuracy_interval"]
        drop = "{:+.4f} ({:+.4f} to {:+.4f})".format(row["drop"], *row["drop_interval"])
        p50 = f"{row['p50']:5.2f} ms" if "p50" in row else ""
        size = "{} x {}".format(*row["size"])
        lines.append(
            f"{row['name']:<20} {size:>9} {row['model']:<14} {row['accuracy']:.4f} ({low:.4f} to {high:.4f})  "
            f"{drop:<29} {row['agreement']:.4f} {row['megabytes']:6.1f} {p50:>8}"
        )
    lines.append("published")
    for what, data, fp32, int8, source in report["published"]:
        figures = f"{fp32:.2f}" + (f" -> {int8:.2f}" if int8 else "")
        lines.append(f"{what:<20} {data:<9} {figures:<16} {source}")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
