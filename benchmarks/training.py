"""What do cached features save against the loop that tutorials show, and what does a second process bring?

    python3 benchmarks/training.py DATA
    python3 benchmarks/training.py DATA --images 400 --epochs 4 --json

Method: the same backbone, weights, images, epochs and batch size; each program a process of its own, in turns, timed
from its first batch on, imports excluded.
  edgeclf     ``extract_features`` once, then ``fit_head``: the backbone sees each image once
  tutorial    ``ImageFolder`` and ``DataLoader`` (two workers), torchvision's Resize, CenterCrop, ToTensor and Normalize,
              the frozen backbone in torch every epoch, Adam on a new head
DDP: whole-network training steps (``edgeclf.training.loop.Fit`` by Lightning, strategy ddp, gloo) under torchrun with one and with two
processes of one thread each, the batch divided among them; images a second after three steps of warm-up.  ``edgeclf
train`` itself uses one device; this says what several processes would bring on this machine.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.device.machine import machine_facts

LOOPS = ("edgeclf", "tutorial")
_WARM_UP_STEPS = 3


def main() -> None:
    """Time the programs in turns and print seconds, accuracies and images a second."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", metavar="DATA", help="as edgeclf train takes it: elpv, or a folder of class folders")
    parser.add_argument("--backbone", default="efficientnet_lite0")
    parser.add_argument("--weights", default="imagenet")
    parser.add_argument("--image-size", type=int, default=224)
    parser.add_argument("--images", type=int, default=400, help="of train, and a quarter of it to validate on (400)")
    parser.add_argument("--epochs", type=int, default=4)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--steps", type=int, default=6, help="of DDP, beside three of warm-up (6); 0 leaves it out")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=(*LOOPS, "ddp"), help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        {"edgeclf": train_edgeclf, "tutorial": train_tutorial, "ddp": train_ddp}[arguments.worker](arguments)
        return
    with tempfile.TemporaryDirectory() as folder:
        arguments.folder = Path(folder)
        link_images(arguments)
        rounds = [[run(arguments, name) for name in LOOPS] for _ in range(arguments.rounds)]
        ddp = [run(arguments, "ddp", processes) for processes in (1, 2)] if arguments.steps else []
    rows = {name: _medians([found[place] for found in rounds]) for place, name in enumerate(LOOPS)}
    ratio = float(np.median([tutorial["seconds"] / ours["seconds"] for ours, tutorial in rounds]))
    report = {"benchmark": "training", "epochs": arguments.epochs, "rows": rows, "ratio": round(ratio, 2), "ddp": ddp}
    if arguments.json:
        names = ("data", "backbone", "image_size", "images", "batch", "rounds")
        facts = {name: getattr(arguments, name) for name in names}
        print(json.dumps({**facts, **report, "machine": machine_facts()}))
        return
    for name, row in rows.items():
        print(f"{name:<10} {row['seconds']:7.1f} s, validation accuracy {row['accuracy']:.4f}")
    print(f"the tutorial's loop takes {ratio:.2f} x as long for {arguments.epochs} epochs")
    for row in ddp:
        print(f"DDP, {row['processes']} process(es): {row['images_per_s']:.1f} images a second")


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


def run(arguments: argparse.Namespace, name: str, processes: int = 0) -> dict[str, Any]:
    """Run one of the programs, under torchrun where processes are given; returns its figures."""
    options = ("backbone", "weights", "image_size", "images", "epochs", "batch", "steps", "folder")
    start = ["-m", "torch.distributed.run", f"--nproc-per-node={processes}"] if processes else []
    command = [sys.executable, *start, __file__, arguments.data, "--worker", name]
    command += [f"--{option.replace('_', '-')}={getattr(arguments, option)}" for option in options]
    found = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.splitlines()
    print(f"{name}: {found[-1]}", file=sys.stderr)
    return json.loads(found[-1])


def train_edgeclf(arguments: argparse.Namespace) -> None:
    """Train a head on features that are extracted once."""
    from edgeclf.data.datasets import load_dataset
    from edgeclf.options import SplitOptions
    from edgeclf.training.backbones import create
    from edgeclf.training.features import extract_features
    from edgeclf.training.loop import fit_head
    from edgeclf_runtime.images.preprocess import Preprocessing

    splits = {name: load_dataset(arguments.folder / name, SplitOptions()) for name in ("train", "val")}
    network = create(arguments.backbone, len(splits["train"].labels), arguments.weights)
    spec = Preprocessing(arguments.image_size, arguments.image_size)
    start = time.perf_counter()
    features = {name: extract_features(network, list(part.samples), spec, name) for name, part in splits.items()}
    targets = {name: np.array([part.index(sample) for sample in part.samples]) for name, part in splits.items()}
    rows = fit_head(network.head, features, targets, arguments.epochs, arguments.batch, 1e-3)
    print(json.dumps({"seconds": round(time.perf_counter() - start, 2), "accuracy": rows[-1]["val_accuracy"]}))


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


def train_ddp(arguments: argparse.Namespace) -> None:
    """Take training steps of the whole network as one of torchrun's processes; the first prints images a second."""
    import os

    import lightning
    import torch

    from edgeclf.data.datasets import load_dataset
    from edgeclf.options import AugmentationOptions, SplitOptions
    from edgeclf.training.backbones import create
    from edgeclf.training.loop import Fit, Images, augmentation
    from edgeclf_runtime.images.preprocess import Preprocessing

    torch.set_num_threads(1)
    world = int(os.environ["WORLD_SIZE"])
    dataset = load_dataset(arguments.folder / "train", SplitOptions())
    network = create(arguments.backbone, len(dataset.labels), arguments.weights)
    network.train().requires_grad_(True)
    network.normalize.requires_grad_(False)
    network = network.to(memory_format=torch.channels_last)
    paths = [sample.path for sample in dataset.samples]
    targets = np.array([dataset.index(sample) for sample in dataset.samples])
    spec = Preprocessing(arguments.image_size, arguments.image_size)
    images = Images(paths, targets, spec, augmentation(AugmentationOptions(), arguments.image_size))
    ends: list[float] = []
    advance: Callable[[], None] = lambda: ends.append(time.perf_counter())  # noqa: E731
    steps = _WARM_UP_STEPS + arguments.steps
    # Images are used again where there are too few for the steps.
    sampler = torch.utils.data.RandomSampler(images, replacement=True, num_samples=steps * arguments.batch)
    loader = torch.utils.data.DataLoader(images, arguments.batch // world, sampler=sampler, drop_last=True)
    trainer = lightning.Trainer(
        accelerator="cpu",
        strategy="ddp",
        devices=world,
        max_steps=steps,
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        limit_val_batches=0,
    )
    trainer.fit(Fit(network, len(dataset.labels), 1e-3, steps, advance), loader)
    if trainer.is_global_zero:
        seconds = ends[-1] - ends[_WARM_UP_STEPS - 1]
        rate = arguments.steps * (arguments.batch // world) * world / seconds
        print(json.dumps({"processes": world, "images_per_s": round(rate, 2)}))


def _medians(rows: list[dict[str, float]]) -> dict[str, float]:
    return {name: round(float(np.median([row[name] for row in rows])), 4) for name in rows[0]}


if __name__ == "__main__":
    main()
