"""Accuracy after the same time of training, beside the loops of timm, fastai and a tutorial.

    pip install fastai
    python3 benchmarks/training/trainers.py --seeds 0 1 2 --minutes 5

Method: the same backbone with the same weights, image size and division of the data, and the same time: each trainer, in a
process of its own and in turns, measures a few steps and takes as many epochs as fit.  Accuracy is that of the test images,
which chose nothing.  A trainer whose figures are in WORK is not run again.
  edgeclf    ``train --finetune full --augment inspection --minutes``
  experts    the same, on the experts' probabilities instead of labels (ELPV only)
  timm       timm's loader, optimizer, cosine schedule with warm-up, label smoothing and averaged weights, as its train.py has
             them: AdamW, 1e-3, weight decay 0.05; crops of half to all of the image, both flips, color jitter
  fastai     ``vision_learner`` and ``fine_tune``, whose defaults are kept, with both flips among the augmentations
  tutorial   torchvision's ImageFolder, random crop with padding, flips; SGD 0.01, momentum 0.9, weight decay 5e-4, the rate
             halved every ten epochs, batches of 128: the recipe that a tutorial on CIFAR-10 gives
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import edgeclf
from edgeclf import SplitOptions, TrainOptions
from edgeclf_runtime.device.machine import machine_facts

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "accuracy"))
TRAINERS = ("edgeclf", "experts", "timm", "fastai", "tutorial")
WARM_UP, TIMED = 2, 4
"""Steps before those that are timed, and those."""


def main() -> None:
    """Run every trainer once a seed and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", default="elpv", help="as edgeclf train takes it (default: elpv)")
    parser.add_argument("--trainers", nargs="+", choices=TRAINERS, default=list(TRAINERS))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--minutes", type=float, default=5)
    parser.add_argument("--backbone", default="tf_efficientnet_lite0")
    parser.add_argument("--image-size", type=int, default=128)
    parser.add_argument("--work", type=Path, help="folder for the figures; default: a temporary one")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--worker", choices=TRAINERS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        print(json.dumps(globals()[f"train_{arguments.worker}"](arguments)))
        return
    with tempfile.TemporaryDirectory() as folder:
        work = arguments.work or Path(folder)
        work.mkdir(parents=True, exist_ok=True)
        rows = [row_of(name, seed, arguments, work) for seed in arguments.seeds for name in arguments.trainers]
    if arguments.json:
        facts = {name: getattr(arguments, name) for name in ("data", "minutes", "backbone", "image_size")}
        print(json.dumps({**facts, "rows": rows, "machine": machine_facts()}))
        return
    print("trainer   accuracy  epochs  seconds  each seed")
    for name in arguments.trainers:
        own = [row for row in rows if row["trainer"] == name]
        mean = {key: statistics.mean(row[key] for row in own) for key in ("accuracy", "epochs", "seconds")}
        each = "  ".join(f"{row['accuracy']:.4f}" for row in own)
        print(f"{name:<9}   {mean['accuracy']:.4f}  {mean['epochs']:6.1f}  {mean['seconds']:7.0f}  {each}")


def row_of(name: str, seed: int, arguments: argparse.Namespace, work: Path) -> dict[str, Any]:
    """Return the figures of a trainer for a seed; run now, unless they are there."""
    file = work / f"{name}-{arguments.image_size}-{arguments.minutes:g}-{seed}.json"
    if file.is_file():
        return json.loads(file.read_text())
    with tempfile.TemporaryDirectory() as folder:
        link_images(arguments.data, seed, Path(folder))
        save_weights(arguments.backbone, Path(folder) / "weights.pt")
        command = [sys.executable, __file__, f"--data={arguments.data}", f"--worker={name}", f"--folder={folder}"]
        command += [f"--minutes={arguments.minutes}", f"--image-size={arguments.image_size}", f"--seeds={seed}"]
        command += [f"--backbone={arguments.backbone}"]
        found = json.loads(subprocess.run(command, stdout=subprocess.PIPE, check=True).stdout.splitlines()[-1])
    row = {"trainer": name, "seed": seed, **found}
    print(json.dumps(row), file=sys.stderr, flush=True)
    file.write_text(json.dumps(row) + "\n")
    return row


def link_images(data: str, seed: int, folder: Path) -> None:
    """Make train/, val/ and test/ of class folders out of edgeclf's splits."""
    dataset = edgeclf.load_dataset(data, SplitOptions(seed=seed))
    for split in ("train", "val", "test"):
        for number, sample in enumerate(dataset.split(split)):
            place = folder / split / sample.label
            place.mkdir(parents=True, exist_ok=True)
            (place / f"{number:05d}{sample.path.suffix}").symlink_to(sample.path.resolve())


def save_weights(backbone: str, file: Path) -> None:
    """Write the weights that every trainer starts from, as timm names them."""
    import torch

    from edgeclf.training.backbones import create

    torch.save(create(backbone, 2, "imagenet").backbone.state_dict(), file)


def train_edgeclf(arguments: argparse.Namespace, **options: Any) -> dict[str, Any]:
    """Train by edgeclf."""
    chosen = TrainOptions(
        seed=arguments.seeds[0],
        backbone=arguments.backbone,
        image_size=arguments.image_size,
        finetune="full",
        epochs=100,
        minutes=arguments.minutes,
        augment="inspection",
        ema=0.99,
        learning_rate=1e-3,
        weight_decay=0.05,
        **options,
    )
    start = time.monotonic()
    report = edgeclf.train(arguments.data, arguments.folder / "run", chosen)
    seconds = time.monotonic() - start
    accuracy = edgeclf.evaluate(arguments.folder / "run", arguments.data).accuracy
    return {"accuracy": accuracy, "epochs": report.epochs, "seconds": round(seconds, 1)}


def train_experts(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train by edgeclf on the experts' probabilities."""
    from solar_cells import write_probabilities

    targets = arguments.folder / "probabilities.csv"
    write_probabilities(targets)
    return train_edgeclf(arguments, soft_targets=str(targets))


def train_timm(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as timm's train.py does."""
    from timm.data import ImageDataset, create_loader
    from timm.loss import LabelSmoothingCrossEntropy
    from timm.optim import create_optimizer_v2
    from timm.scheduler import CosineLRScheduler
    from timm.utils import ModelEmaV3

    network = timm_network(arguments)
    usual = {"input_size": (3, arguments.image_size, arguments.image_size), "num_workers": 2}
    usual |= {"mean": network.pretrained_cfg["mean"], "std": network.pretrained_cfg["std"], "use_prefetcher": False}
    own = {"is_training": True, "hflip": 0.5, "vflip": 0.5, "color_jitter": 0.2, "scale": (0.5, 1.0)}
    train = create_loader(ImageDataset(str(arguments.folder / "train")), batch_size=32, **usual, **own)
    test = create_loader(ImageDataset(str(arguments.folder / "test")), batch_size=64, crop_pct=1.0, **usual)
    loss = LabelSmoothingCrossEntropy(0.1)
    averaged = ModelEmaV3(network, decay=0.99)

    def prepare(epochs: int) -> Callable[[Any, Any, int], None]:
        optimizer = create_optimizer_v2(network, opt="adamw", lr=1e-3, weight_decay=0.05)
        schedule = CosineLRScheduler(
            optimizer, epochs * len(train), warmup_t=len(train), warmup_lr_init=1e-5, t_in_epochs=False
        )

        def step(images: Any, labels: Any, number: int) -> None:
            optimizer.zero_grad()
            loss(network(images), labels).backward()
            optimizer.step()
            schedule.step_update(number + 1)
            averaged.update(network, step=number)

        return step

    epochs, seconds = fit(network, train, prepare, arguments.minutes, lambda: averaged.set(network))
    return {"accuracy": accuracy_of(averaged.module, test), "epochs": epochs, "seconds": seconds}


def train_tutorial(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train as a tutorial on CIFAR-10 does."""
    import torch
    from torchvision import transforms
    from torchvision.datasets import ImageFolder

    network, size = timm_network(arguments), arguments.image_size
    last = [transforms.ToTensor(), transforms.Normalize(network.pretrained_cfg["mean"], network.pretrained_cfg["std"])]
    first = [transforms.Resize((size, size))]
    augmented = [*first, transforms.RandomCrop(size, padding=size // 8), transforms.RandomHorizontalFlip(), *last]
    folders = {
        "train": ImageFolder(str(arguments.folder / "train"), transforms.Compose(augmented)),
        "test": ImageFolder(str(arguments.folder / "test"), transforms.Compose([*first, *last])),
    }
    train, test = (
        torch.utils.data.DataLoader(folder, 128, shuffle=name == "train", num_workers=2)
        for name, folder in folders.items()
    )

    def prepare(epochs: int) -> Callable[[Any, Any, int], None]:
        optimizer = torch.optim.SGD(network.parameters(), lr=0.01, momentum=0.9, weight_decay=5e-4)
        schedule = torch.optim.lr_scheduler.StepLR(optimizer, 10 * len(train), 0.5)

        def step(images: Any, labels: Any, number: int) -> None:
            optimizer.zero_grad()
            torch.nn.functional.cross_entropy(network(images), labels).backward()
            optimizer.step()
            schedule.step()

        return step

    epochs, seconds = fit(network, train, prepare, arguments.minutes)
    return {"accuracy": accuracy_of(network, test), "epochs": epochs, "seconds": seconds}


def train_fastai(arguments: argparse.Namespace) -> dict[str, Any]:
    """Train by fastai's fine_tune."""
    import torch
    from fastai.vision.all import ImageDataLoaders, Resize, accuracy, aug_transforms, get_image_files, vision_learner

    batches = aug_transforms(flip_vert=True)
    loaders = ImageDataLoaders.from_folder(
        arguments.folder,
        train="train",
        valid="val",
        item_tfms=Resize(arguments.image_size),
        batch_tfms=batches,
        bs=32,
        num_workers=2,
        seed=arguments.seeds[0],
    )
    learner = vision_learner(loaders, arguments.backbone, pretrained=False, metrics=accuracy)
    weights = torch.load(arguments.folder / "weights.pt", weights_only=True)
    missing, _ = learner.model[0].model.load_state_dict(weights, strict=False)
    assert not missing, missing
    first = {name: value.clone() for name, value in learner.model.state_dict().items()}
    # One frozen and one free epoch take about as long as two free ones; the first is cheaper.
    start = time.monotonic()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(1)
    epochs = max(1, round(2 * arguments.minutes * 60 / (time.monotonic() - start)) - 1)
    learner.model.load_state_dict(first)
    learner.create_opt()
    start = time.monotonic()
    with learner.no_bar(), learner.no_logging():
        learner.fine_tune(epochs)
    seconds = time.monotonic() - start
    files = get_image_files(arguments.folder / "test")
    with learner.no_bar():
        scores, _ = learner.get_preds(dl=learner.dls.test_dl(files))
    named = [learner.dls.vocab[index] == file.parent.name for index, file in zip(scores.argmax(1), files, strict=True)]
    return {"accuracy": sum(named) / len(named), "epochs": epochs + 1, "seconds": round(seconds, 1)}


def timm_network(arguments: argparse.Namespace) -> Any:
    """Return timm's network with the weights and a new head."""
    import timm
    import torch

    torch.manual_seed(arguments.seeds[0])
    network = timm.create_model(arguments.backbone, num_classes=len(list((arguments.folder / "train").iterdir())))
    weights = torch.load(arguments.folder / "weights.pt", weights_only=True)
    missing, _ = network.load_state_dict(
        {name: weights[name] for name in weights if name in body(network)}, strict=False
    )
    assert set(missing) == set(network.state_dict()) - body(network), missing
    return network.to(memory_format=torch.channels_last)


def body(network: Any) -> set[str]:
    """Return the names of the weights that are not the head's."""
    head = network.pretrained_cfg["classifier"]
    return {name for name in network.state_dict() if not name.startswith(f"{head}.")}


def fit(network: Any, loader: Any, prepare: Any, minutes: float, restart: Any = None) -> tuple[int, float]:
    """Train for as many epochs as fit into the time, the first steps timed and undone; returns epochs and seconds."""
    first = {name: value.clone() for name, value in network.state_dict().items()}
    step, start, seconds = prepare(1), 0.0, 0.0
    network.train()
    for number, (images, labels) in enumerate(loader):
        if number == WARM_UP:
            start = time.monotonic()
        if number == WARM_UP + TIMED:
            seconds = (time.monotonic() - start) / TIMED
            break
        step(images, labels, number)
    network.load_state_dict(first)
    if restart:
        restart()
    epochs, number, start = max(1, int(minutes * 60 / (seconds * len(loader)))), 0, time.monotonic()
    step = prepare(epochs)
    for _ in range(epochs):
        for images, labels in loader:
            step(images, labels, number)
            number += 1
    return epochs, round(time.monotonic() - start, 1)


def accuracy_of(network: Any, loader: Any) -> float:
    """Return the share of the images that the network names right."""
    import torch

    network.eval()
    with torch.no_grad():
        found = [(network(images).argmax(1) == labels) for images, labels in loader]
    return float(torch.cat(found).float().mean())


if __name__ == "__main__":
    main()
