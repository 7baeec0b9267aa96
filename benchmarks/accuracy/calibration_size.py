"""Finds how many calibration images are enough, and which rule chooses them best.

    python3 benchmarks/accuracy/calibration_size.py RUN

Method: for each size, rule and seed a calibration set is chosen from the run's training images, the INT8 file for CPUs
is made from it (ranges by "mse"), and both FP32 and INT8 classify the test images.  Given are the medians over the seeds of the drop in
accuracy (points; with the smallest and the largest) and of the share of images that get the same label from both.
The run is copied first and stays as it is.
"""

import argparse
import json
import shutil
import tempfile
from pathlib import Path

import numpy as np

from edgeclf import CalibrateOptions, QuantizeOptions, calibrate, quantize
from edgeclf.evaluation.evaluate import Evaluation, evaluate
from edgeclf.training.runs import read_run
from edgeclf_runtime.commands.bench import machine_facts

SIZES = (16, 32, 64, 128, 300, 500)
RULES = ("stratified", "random", "diverse", "uncertain")


def main() -> None:
    """Run the study and print a row for each size and rule."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", metavar="RUN")
    parser.add_argument("--sizes", type=int, nargs="+", default=list(SIZES))
    parser.add_argument("--rules", nargs="+", choices=RULES, default=list(RULES))
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        run = Path(shutil.copytree(arguments.run, Path(folder, "run")))
        dataset = read_run(run).dataset()
        fp32 = evaluate(run / "model.fp32.onnx", dataset, split="test")
        rows = [study(run, size, rule, arguments.seeds, fp32) for size in arguments.sizes for rule in arguments.rules]
    if arguments.json:
        print(json.dumps({"fp32": fp32.accuracy, "images": fp32.images, "rows": rows, "machine": machine_facts()}))
        return
    print(
        f"FP32 {fp32.accuracy:.4f} on {fp32.images} images\n{'size':>5}  {'rule':<12} drop (points)            agreement"
    )
    for row in rows:
        print(
            f"{row['size']:>5}  {row['rule']:<12} {row['drop']:+.2f} ({row['drop_min']:+.2f} to {row['drop_max']:+.2f})"
            f"   {row['agreement']:.4f}"
        )


def study(run: Path, size: int, rule: str, seeds: int, fp32: Evaluation) -> dict:
    """Return the row of one size and rule."""
    dataset = read_run(run).dataset()
    drops, agreements = [], []
    for seed in range(seeds):
        with tempfile.TemporaryDirectory() as calibration:
            calibrate(
                dataset, calibration, CalibrateOptions(size=size, rule=rule, model=str(run), seed=seed, force=True)
            )
            quantize(
                run,
                QuantizeOptions(calibration=calibration, flavors=("int8-cpu",), method="mse", max_drop=1.0),
                overwrite=True,
            )
        int8 = evaluate(run / "model.int8-cpu.onnx", dataset, split="test")
        drops.append(100 * (fp32.accuracy - int8.accuracy))
        agreements.append(float((fp32.logits.argmax(1) == int8.logits.argmax(1)).mean()))
    return {
        "size": size,
        "rule": rule,
        "drop": round(float(np.median(drops)), 2),
        "drop_min": round(min(drops), 2),
        "drop_max": round(max(drops), 2),
        "agreement": round(float(np.median(agreements)), 4),
    }


if __name__ == "__main__":
    main()
