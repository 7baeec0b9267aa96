"""Measures the time that cached features save compared with the tutorials' loop, and the cost of our loop over a bare one.

    python3 benchmarks/training/loops.py DATA
    python3 benchmarks/training/loops.py DATA --images 400 --epochs 4 --json

Method: the same backbone, weights, images, epochs and batch size; each program a process of its own, in turns, timed
from its first batch on, imports excluded.
  edgeclf     ``extract_features`` once, then ``fit_head``: the backbone sees each image once
  tutorial    ``ImageFolder`` and ``DataLoader`` (two workers), torchvision's Resize, CenterCrop, ToTensor and Normalize,
              the frozen backbone in torch every epoch, Adam on a new head
  full        one epoch of ``fit_network``: every layer, deterministic algorithms, metrics, the best epoch kept
  bare        the same by a plain loop of torch in channels_last, with the same images, augmentation and optimizer
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.device.machine import machine_facts

LOOPS = ("edgeclf", "tutorial", "full", "bare")


def main() -> None:
    """Time the programs in turns and print seconds, accuracies and images a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="as edgeclf train takes it: elpv, or a folder of class folders")
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=400, help="of train, and a quarter of it to validate on (400)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=LOOPS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        workers = {"edgeclf": train_edgeclf, "tutorial": train_tutorial, "full": train_full, "bare": train_bare}
        workers[arguments.worker](arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = Path(folder)
        link_images(arguments)
        rounds = [[run(arguments, name) for name in LOOPS] for _ in range(arguments.rounds)]
    rows = {name: _medians([found[place] for found in rounds]) for place, name in enumerate(LOOPS)}
    ratio = float(np.median([found[1]["seconds"] / found[0]["seconds"] for found in rounds]))
    cost = float(np.median([found[2]["seconds"] / found[3]["seconds"] for found in rounds]))
    passes = float(np.median([found[0]["seconds"] / found[0]["pass_s"] for found in rounds]))
    report = {"benchmark": "training", "epochs": arguments.epochs, "rows": rows, "ratio": round(ratio, 2)}
    report |= {"full_over_bare": round(cost, 3), "head_over_pass": round(passes, 2)}
    if arguments.json:
        names = ("data", "backbone", "image_size", "images", "batch", "rounds")
        facts = {name: getattr(arguments, name) for name in names}
        print(json.dumps({**facts, **report, "machine": machine_facts()}))
        return
    for name, row in rows.items():
        print(f"{name:<10} {row['seconds']:7.1f} s, validation accuracy {row['accuracy']:.4f}")
    print(f"the tutorial's loop takes {ratio:.2f} x as long for {arguments.epochs} epochs")
    print(f"{arguments.epochs} epochs of the head take {passes:.2f} x as long as the pass over the images")
    print(f"full takes {cost:.3f} x as long as the bare loop")


def link_images(arguments: argparse.Namespace) -> None:
    """Make train/ and val/ of class folders, the classes in turns, as ``ImageFolder`` reads them."""
    from edgeclf.data.datasets import load_dataset
    from edgeclf.options import SplitOptions

    dataset = load_dataset(arguments.data, SplitOptions())
    by_label = [[sample for sample in dataset.samples if sample.label == label] for label in dataset.labels]
    shortest = min(map(len, by_label))
    samples = [sample for group in zip(*(samples[:shortest] for samples in by_label), strict=True) for sample in group]
    wanted = arguments.images + arguments.images // 4
    if len(samples) < wanted:
        raise SystemExit(f"{arguments.data} gives {len(samples)} images, the labels in turns; {wanted} were asked for")
    for number, sample in enumerate(samples[:wanted]):
        split = "train" if number < arguments.images else "val"
        folder = arguments.folder / split / sample.label
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number:05d}{sample.path.suffix}").symlink_to(sample.path.resolve())


def run(arguments: argparse.Namespace, name: str) -> dict[str, Any]:
    """Run one of the programs; returns its figures."""
    options = ("backbone", "weights", "image_size", "images", "epochs", "batch", "folder")
    command = [sys.executable, __file__, arguments.data, "--worker", name]
    command += [f"--{option.replace('_', '-')}={getattr(arguments, option)}" for option in options]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    print(f"{name}: {found[-1]}", file=sys.stderr)
    return json.loads(found[-1])


def train_edgeclf(arguments: argparse.Namespace) -> None:
    """Train a head on features that are extracted once."""
    from edgeclf.data.datasets import load_dataset
    from edgeclf.options import SplitOptions, TrainOptions
    from edgeclf.training.backbones import create
    from edgeclf.training.features import extract_features
    from edgeclf.training.loop.head import fit_head
    from edgeclf_runtime.images.preprocess import Preprocessing

    splits = {name: load_dataset(arguments.folder / name, SplitOptions()) for name in ("train", "val")}
    network = create(arguments.backbone, len(splits["train"].labels), arguments.weights)
    spec = Preprocessing(arguments.image_size, arguments.image_size)
    start = time.perf_counter()
    features = {name: extract_features(network, list(part.samples), spec, name) for name, part in splits.items()}
    targets = {name: np.array([part.index(sample) for sample in part.samples]) for name, part in splits.items()}
    pass_s = time.perf_counter() - start
    options = TrainOptions(epochs=arguments.epochs, batch_size=arguments.batch)
    rows = fit_head(network.head, features, targets, options).rows
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": round(seconds, 2), "pass_s": round(pass_s, 2), "accuracy": rows[-1]["val_accuracy"]}))


def train_full(arguments: argparse.Namespace) -> None:
    """Train every layer for one epoch by edgeclf's loop, deterministic, with the best epoch kept."""
    from edgeclf.options import TrainOptions
    from edgeclf.training.backbones import create
    from edgeclf.training.loop.network import fit_network
    from edgeclf.training.machine.determinism import seeded

    pictures, labels = _pictures(arguments)
    network = create(arguments.backbone, labels, arguments.weights)
    options = TrainOptions(finetune="full", epochs=1, batch_size=arguments.batch, workers=2)
    with seeded(0):
        start = time.perf_counter()
        row = fit_network(network, pictures, options).best_row
    print(json.dumps({"seconds": round(time.perf_counter() - start, 2), "accuracy": row["val_accuracy"]}))


def train_bare(arguments: argparse.Namespace) -> None:
    """Do the same by a plain loop of torch in channels_last: the same images, augmentation, optimizer and schedule."""
    import torch

    from edgeclf.options import AugmentationOptions
    from edgeclf.training.augmentation import augmentation
    from edgeclf.training.backbones import create
    from edgeclf.training.loop.loaders import EpochSampler, Images, image_loader

    pictures, labels = _pictures(arguments)
    network = create(arguments.backbone, labels, arguments.weights)
    loaders = {}
    for split, paths in pictures.paths.items():
        train, change = split == "train", augmentation(AugmentationOptions(), arguments.image_size)
        images = Images(paths, pictures.targets[split], pictures.spec, change if train else None)
        sampler = EpochSampler(len(images), 0 if train else None, lambda: 0)
        loaders[split] = image_loader(images, sampler, arguments.batch, 2, False, train)
    start = time.perf_counter()
    network.train().requires_grad_(True).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1e-3, total_steps=max(10, len(loaders["train"])))
    for pixels, targets, _ in loaders["train"]:
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(network(pixels.float()), targets).backward()
        optimizer.step()
        schedule.step()
    network.eval()
    with torch.no_grad():
        right = sum(int((network(pixels.float()).argmax(1) == targets).sum()) for pixels, targets, _ in loaders["val"])
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": round(seconds, 2), "accuracy": right / len(pictures.paths["val"])}))


def _pictures(arguments: argparse.Namespace) -> Any:
    from edgeclf.data.datasets import load_dataset
    from edgeclf.options import SplitOptions
    from edgeclf.training.loop.network import Pictures
    from edgeclf_runtime.images.preprocess import Preprocessing

    splits = {name: load_dataset(arguments.folder / name, SplitOptions()) for name in ("train", "val")}
    paths = {name: [sample.path for sample in part.samples] for name, part in splits.items()}
    targets = {name: np.array([part.index(sample) for sample in part.samples]) for name, part in splits.items()}
    return Pictures(paths, targets, Preprocessing(arguments.image_size, arguments.image_size)), len(
        splits["train"].labels
    )


def train_tutorial(arguments: argparse.Namespace) -> None:
    """Train a head as tutorials do, through the frozen backbone every epoch."""
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    from edgeclf.training.backbones import create

    network = create(arguments.backbone, 2, arguments.weights).backbone
    config, size = network.pretrained_cfg, arguments.image_size
    steps = [transforms.Resize(size), transforms.CenterCrop(size), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(config["mean"], config["std"])])
    folders = {name: ImageFolder(str(arguments.folder / name), transform) for name in ("train", "val")}
    loaders = {
        name: torch.utils.data.DataLoader(folder, arguments.batch, shuffle=name == "train", num_workers=2)
        for name, folder in folders.items()
    }
    start = time.perf_counter()
    network.requires_grad_(False)
    network.reset_classifier(len(folders["train"].classes))
    optimizer = torch.optim.Adam(network.get_classifier().parameters(), lr=1e-3)
    for _ in range(arguments.epochs):
        network.train()
        for images, labels in loaders["train"]:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
        network.eval()
        with torch.no_grad():
            right = sum(int((network(images).argmax(1) == labels).sum()) for images, labels in loaders["val"])
    seconds = time.perf_counter() - start
    print(json.dumps({"seconds": round(seconds, 2), "accuracy": right / len(folders["val"])}))


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.median([row[name] for row in rows])), 4) for name in rows[0]}


if __name__ == "__main__":
    main()
