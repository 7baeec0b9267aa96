"""Fine-tunes a Q/DQ file's weights so that its logits come close to FP32's on the training images."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from edgeclf_runtime.images.preprocess import as_batch

from ...display.progress import track
from ...evaluation.evaluation_set import EvaluationSet
from ...graph.inference import infer_file
from ...targets import FLAVORS
from .grid import TunedWeights
from .record import Finetuning, Outcome
from .torch_graph import TorchGraph

if TYPE_CHECKING:
    import onnx
    import torch

MOST_IMAGES = 2000
"""Of more training images this many are used, evenly spaced."""
_BATCH = 16
_RATE = 1e-3
"""Largest change of a weight in a step, relative to the root mean square of its tensor.

Tensors whose batch norm was folded differ in size by factors of a hundred, so one rate for all would fit few (relative steps:
Shazeer and Stern, "Adafactor: Adaptive Learning Rates with Sublinear Memory Cost", ICML 2018)."""
_LEAST_SIZE = 1e-3
_WARM_UP = 0.1


@dataclass(frozen=True)
class TrainingImages:
    """Images to fine-tune on, and what FP32 says of them: distillation needs no labels."""

    pixels: np.ndarray
    """uint8 [images, height, width, 3]."""
    logits: np.ndarray
    """FP32's, float32 [images, labels]."""

    def __len__(self) -> int:
        return len(self.pixels)


def read_training_images(images: EvaluationSet, source: Path) -> TrainingImages:
    """Return images with the logits that an FP32 file has for them."""
    pixels = np.stack(list(images.pixels("reading training images")))
    batches = (as_batch([one]) for one in track(pixels, "computing fp32's logits of the training images", len(pixels)))
    return TrainingImages(pixels, infer_file(source, "fp32", batches))


@dataclass(frozen=True)
class Finetuner:
    """The options of fine-tuning, and its images."""

    images: Callable[[], TrainingImages]
    """Called if they are needed."""
    epochs: int
    seed: int

    def tune(
        self, name: str, model: onnx.ModelProto, quantized: onnx.ModelProto
    ) -> tuple[TunedWeights, tuple[float, float]]:
        """Return a flavor's weights and the loss before and after; see tune()."""
        graph_of = partial(TorchGraph, model, quantized, FLAVORS[name].sums_of_16_bits)
        values, losses = tune(graph_of, self.images(), self.epochs, self.seed, f"fine-tuning {name}")
        return TunedWeights(model, values), losses

    def record(
        self, *, kept: bool, losses: tuple[float, float], time_s: float, before: Outcome, after: Outcome
    ) -> Finetuning:
        """Return the record of fine-tuning a flavor."""
        return Finetuning(
            kept=kept,
            images=len(self.images()),
            epochs=self.epochs,
            seed=self.seed,
            loss_before=losses[0],
            loss_after=losses[1],
            time_s=time_s,
            before=before,
            after=after,
        )


def tune(
    graph_of: Callable[[str], TorchGraph], images: TrainingImages, epochs: int, seed: int, what: str
) -> tuple[dict[str, np.ndarray], tuple[float, float]]:
    """Return weights that fit a Q/DQ file's grid better than those that it has, and the loss before and after.

    graph_of: makes the file's graph on a device, such as "cpu"; its ranges and scales stay.  what: names the work in the progress.

    The loss is the mean squared difference of the logits from FP32's, each image's mean logit taken out, as a share of FP32's
    variance: distillation at a high temperature (Hinton et al., "Distilling the Knowledge in a Neural Network", 2015).  The
    first figure is the mean of the first epoch, the second that of the last.
    """
    import torch

    from ...training.machine.determinism import seeded
    from ...training.machine.memory import freed_memory_kept

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with seeded(seed), freed_memory_kept():
        graph = graph_of(device)
        turns = _turns(len(images), epochs, seed)
        groups = _groups(graph)
        optimizer = torch.optim.AdamW(groups, weight_decay=0.0)
        rates = [group["lr"] for group in groups]
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimizer, rates, total_steps=len(turns) + 1, pct_start=_WARM_UP, cycle_momentum=False
        )
        scale = float(_centered(torch.from_numpy(images.logits)).square().mean()) or 1.0
        losses = []
        for chosen in track(turns, what, len(turns)):
            wanted = torch.from_numpy(images.logits[chosen]).to(device)
            found = graph(torch.from_numpy(images.pixels[chosen].astype(np.float32)).to(device))
            loss = _centered(found - wanted).square().mean() / scale
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            losses.append(loss.item())
    in_epoch = len(turns) // epochs
    return graph.tuned(), (float(np.mean(losses[:in_epoch])), float(np.mean(losses[-in_epoch:])))


def _groups(graph: TorchGraph) -> list[dict[str, Any]]:
    """Return each tensor with its own rate."""
    sizes = {name: float(value.detach().square().mean().sqrt()) for name, value in graph.weights.items()}
    return [{"params": [value], "lr": _RATE * max(sizes[name], _LEAST_SIZE)} for name, value in graph.weights.items()]


def _centered(logits: torch.Tensor) -> torch.Tensor:
    """Return logits without each image's mean, which changes no probability."""
    return logits - logits.mean(1, keepdim=True)


def _turns(images: int, epochs: int, seed: int) -> list[np.ndarray]:
    """Return the indices of each step's images: each epoch in another order."""
    batch = min(_BATCH, images)
    order = np.random.default_rng(seed)
    every = [order.permutation(images)[: images // batch * batch] for _ in range(epochs)]
    return [one for epoch in every for one in epoch.reshape(-1, batch)]
