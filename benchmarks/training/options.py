"""Accuracy that distillation, a curriculum and adversarial training bring on few labeled solar cells.

    python3 benchmarks/training/options.py --seeds 0 1

Method: for each seed the ELPV cells are split (75/25, stratified); only ``--labeled`` of the training images keep their label,
and ``--unlabeled`` others are images without one.  The teacher is a head on EfficientNet-Lite0 with twice the side, trained on
the same labeled images.  Each row is EfficientNet-Lite0 trained in all layers with the same settings and one option more; the
options take turns within a seed.  All are evaluated on the same test images, which chose nothing.  The attack is FGSM on the
first 200 test images.  An accuracy on 655 images has a standard error of about 1.5 points.
"""

from __future__ import annotations

import argparse
import json
import statistics
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

import edgeclf
from edgeclf import Dataset, TrainOptions
from edgeclf.data.pixels import load_batches
from edgeclf.evaluation.robustness.attack import fgsm
from edgeclf_runtime.device.machine import machine_facts

ATTACKED = 200


def main() -> None:
    """Train every row once a seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--labeled", type=int, default=400)
    parser.add_argument("--unlabeled", type=int, default=600)
    parser.add_argument("--image-size", type=int, default=96)
    parser.add_argument("--epochs", type=int, default=6)
    parser.add_argument("--learning-rate", type=float, default=3e-4)
    parser.add_argument("--eps", type=float, default=2.0)
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    found = []
    for seed in arguments.seeds:
        with tempfile.TemporaryDirectory(prefix="edgeclf.") as folder:
            found += _of_seed(seed, Path(folder), arguments)
    if arguments.json:
        print(json.dumps({"rows": found, "arguments": vars(arguments), "machine": machine_facts()}))
        return
    print(f"{'':<22} {'accuracy':>8} {'attacked':>8}  each seed")
    for name in dict.fromkeys(row["name"] for row in found):
        rows = [row for row in found if row["name"] == name]
        accuracy, attacked = (statistics.mean(row[key] for row in rows) for key in ("accuracy", "attacked"))
        each = "  ".join(f"{row['accuracy']:.4f}" for row in rows)
        print(f"{name:<22} {accuracy:>8.4f} {attacked:>8.4f}  {each}")


def _of_seed(seed: int, folder: Path, arguments: argparse.Namespace) -> list[dict[str, Any]]:
    data, images = _few_labels(seed, folder, arguments)
    size, teacher = arguments.image_size, folder / "teacher"
    edgeclf.train(data, teacher, seed=seed, image_size=2 * size)
    usual = TrainOptions(
        seed=seed,
        image_size=size,
        finetune="full",
        epochs=arguments.epochs,
        learning_rate=arguments.learning_rate,
        augment="inspection",
    )
    taught = {"teacher": str(teacher)}
    rows: dict[str, dict[str, Any]] = {
        "plain": {},
        "teacher": taught,
        "teacher, unlabeled": {**taught, "unlabeled": str(images)},
        "curriculum 0.5": {"curriculum": 0.5},
        f"adversarial {arguments.eps:g}": {"adversarial": arguments.eps},
    }
    found = [_row("(the teacher itself)", teacher, data, seed, arguments.eps)]
    for number, (name, options) in enumerate(rows.items()):
        run = folder / str(number)
        edgeclf.train(data, run, usual, **options)
        found.append(_row(name, run, data, seed, arguments.eps))
    return found


def _few_labels(seed: int, folder: Path, arguments: argparse.Namespace) -> tuple[Dataset, Path]:
    """Return the cells with few labeled images in train, and a folder with links to others."""
    data = edgeclf.load_dataset("elpv", edgeclf.SplitOptions(seed=seed))
    train = data.split("train")
    order = np.random.default_rng(seed).permutation(len(train))
    others = [train[index].path for index in order[arguments.labeled :]]
    images = folder / "unlabeled"
    images.mkdir()
    for path in others[: arguments.unlabeled]:
        (images / path.name).symlink_to(path)
    return data.without(set(others)), images


def _row(name: str, run: Path, data: Dataset, seed: int, eps: float) -> dict[str, Any]:
    accuracy = edgeclf.evaluate(run, data).accuracy
    opened = edgeclf.read_run(run)
    samples = data.split("test")[:ATTACKED]
    truth = np.array([data.index(sample) for sample in samples])
    batches = load_batches([sample.path for sample in samples], opened.preprocessing, 20, "attacking")
    right, start, network = 0, 0, opened.network().requires_grad_(False)
    for batch in batches:
        own = truth[start : start + len(batch)]
        right += int((_logits(network, fgsm(network, batch, own, eps)).argmax(1) == own).sum())
        start += len(batch)
    return {"name": name, "seed": seed, "accuracy": accuracy, "attacked": right / len(samples)}


def _logits(network: Any, batch: np.ndarray) -> np.ndarray:
    import torch

    with torch.no_grad():
        found: np.ndarray = network(torch.from_numpy(batch)).numpy()
    return found


if __name__ == "__main__":
    main()
