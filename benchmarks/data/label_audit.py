"""Measures how many wrong labels ``edgeclf audit`` finds: Fashion-MNIST with labels that were changed on purpose.

    python3 benchmarks/data/label_audit.py --work WORK [--images 10000] [--flips 0.05] [--size 224] [--cleanlab PYTHON] [--json]

Method: 10,000 training images of Fashion-MNIST (Debian's package dataset-fashion-mnist), drawn by seed, are written as PNG files into
class folders, 5 % of them into the folder of another class, drawn by seed, all others equally often.  Copies of 8 solar cells from the
package elpv-dataset, if it is installed, are put into one class as outliers.  ``audit`` is called twice, the second time with
features from its cache, which gives the time beyond features.  Given are recall and precision of the labels reported as wrong (a reported
image counts as right only if its label was changed, so labels that were wrong before count as errors), by split, of the outliers, and the
processor time of the second call.

With --cleanlab, the Python of an environment with cleanlab (AGPL; never a dependency of edgeclf) finds wrong labels by the same out-of-sample
probabilities, with its usual filter and the same number of images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
from public_sets import _LABELS, _read_idx

_OUTLIERS = 8
_CLEANLAB = """
import json, sys
import numpy as np
from cleanlab.filter import find_label_issues
from cleanlab.rank import get_label_quality_scores
data = np.load(sys.argv[1])
labels, probabilities = data["labels"], data["probabilities"]
scores = get_label_quality_scores(labels, probabilities)
found = {how: np.flatnonzero(find_label_issues(labels, probabilities, filter_by=how, n_jobs=1)).tolist()
         for how in ("prune_by_noise_rate", "confident_learning", "both")}
found["self-confidence, as many"] = np.argsort(scores)[: int(sys.argv[2])].tolist()
print(json.dumps(found))
"""


def write_images(folder: Path, count: int, flips: float) -> dict[str, str]:
    """Write images into the folders of their labels, some of them wrong; return the true label of each path."""
    import cv2

    labels = _read_idx("train-labels-idx1-ubyte.gz", "labels")
    images = _read_idx("train-images-idx3-ubyte.gz", "images").reshape(-1, 28, 28)
    random = np.random.default_rng(0)
    chosen = np.sort(random.choice(len(labels), count, replace=False))
    changed = set(random.choice(chosen, round(flips * count), replace=False).tolist())
    for label in _LABELS:
        (folder / label).mkdir(parents=True)
    truth = {}
    for index in chosen:
        given = labels[index] if index not in changed else (labels[index] + random.integers(1, 10)) % 10
        path = f"{_LABELS[given]}/{index:05}.png"
        cv2.imwrite(str(folder / path), images[index])
        truth[path] = _LABELS[labels[index]]
    for number, cell in enumerate(_solar_cells()):
        path = f"bag/cell{number:02}.png"
        (folder / path).write_bytes(cell.read_bytes())
        truth[path] = "outlier"
    return truth


def _solar_cells() -> list[Path]:
    try:
        from edgeclf import load_dataset

        return [sample.path for sample in load_dataset("elpv").samples[::60][:_OUTLIERS]]
    except Exception as error:  # DependencyError: without outliers
        print(f"no outliers: {error}", file=sys.stderr)
        return []


def measure(data: Path, work: Path, truth: dict[str, str], size: int) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """Return the figures of two audits, and what the second one judged."""
    import edgeclf
    from edgeclf.evaluation.audit import audit

    seconds, judged = [], {}

    def remember(*arguments: Any) -> Any:
        judged.update(zip(("probabilities", "labels", "known", "judged"), arguments, strict=True))
        return judge(*arguments)

    judge = audit.judge
    with mock.patch.object(audit, "judge", remember):
        for _ in range(2):
            wall, cpu = time.monotonic(), time.process_time()
            report = edgeclf.audit(data, work / "audit", overwrite=True, image_size=size)
            seconds.append((time.monotonic() - wall, time.process_time() - cpu))
    right = {path for path, label in truth.items() if label not in (path.partition("/")[0], "outlier")}
    outliers = {path for path, label in truth.items() if label == "outlier"}
    found = {one.path: one.split for one in report.wrong_labels}
    figures: dict[str, Any] = {
        "images": len(truth),
        "changed": len(right),
        **_figures(set(found), right, "labels"),
        "suggestion_right": round(
            float(
                np.mean([truth[one.path] == one.suggested_label for one in report.wrong_labels if one.path in right])
            ),
            4,
        ),
        **_figures({one.path for one in report.outliers}, outliers, "outliers"),
        "seconds": [round(wall, 1) for wall, _ in seconds],
        "processor_seconds": [round(cpu, 1) for _, cpu in seconds],
        "page_kb": round((work / "audit" / "audit.html").stat().st_size / 1e3),
    }
    return figures, judged


def _figures(found: set[str], right: set[str], name: str) -> dict[str, float]:
    both = len(found & right)
    return {
        f"{name}_found": len(found),
        f"{name}_recall": round(both / max(1, len(right)), 4),
        f"{name}_precision": round(both / max(1, len(found)), 4),
    }


def beside_cleanlab(python: str, work: Path, judged: dict[str, np.ndarray], changed: np.ndarray, count: int) -> Any:
    """Return the figures of cleanlab's filters on the same probabilities."""
    file = work / "judged.npz"
    np.savez(file, **judged)
    command = [python, "-c", _CLEANLAB, str(file), str(count)]
    out = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    right = set(map(str, np.flatnonzero(changed)))
    return {how: _figures(set(map(str, found)), right, how) for how, found in json.loads(out).items()}


def main() -> None:
    """Write the images, audit them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", required=True, type=Path, help="folder for the images, the features and the audit")
    parser.add_argument("--images", type=int, default=10_000)
    parser.add_argument("--flips", type=float, default=0.05)
    parser.add_argument("--size", type=int, default=224, help="side of the network's input")
    parser.add_argument("--cleanlab", metavar="PYTHON", help="interpreter of an environment with cleanlab")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    data, truths = arguments.work / "images", arguments.work / "truth.json"
    if not truths.is_file():
        truths.write_text(json.dumps(write_images(data, arguments.images, arguments.flips)))
    truth = json.loads(truths.read_text())
    os.environ["XDG_CACHE_HOME"] = str(arguments.work / "cache")
    figures, judged = measure(data, arguments.work, truth, arguments.size)
    if arguments.cleanlab:
        paths = sorted(truth)  # the order of a data set
        changed = np.array([truth[path] not in (path.partition("/")[0], "outlier") for path in paths])
        figures["cleanlab"] = beside_cleanlab(
            arguments.cleanlab, arguments.work, judged, changed, figures["labels_found"]
        )
    if not arguments.json:
        for name, value in figures.items():
            print(f"{name:20} {value}")
    print(json.dumps(figures))


if __name__ == "__main__":
    main()
