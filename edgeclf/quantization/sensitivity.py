"""Measures how much each layer loses in INT8, and finds how few must go back to float."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..data.sampling import evenly_spaced
from ..display.progress import track
from ..graph.layers import Layer
from ..graph.onnx_file import INPUT, probing_session

if TYPE_CHECKING:
    import onnx

T = TypeVar("T")
_IMAGES = 16


@dataclass(frozen=True)
class LayerNoise:
    """Noise that INT8 adds to one layer's output, with all layers before it in INT8 too."""

    layer: str
    snr_db: float
    """Signal-to-noise ratio of the output relative to FP32's, in decibels; 20 dB: noise of one tenth."""


@dataclass(frozen=True)
class LayerEffect:
    """Effect on the logits of INT8 in one layer only, with all others in float."""

    layer: str
    snr_db: float
    """Signal-to-noise ratio of the logits."""
    drop: float
    """Accuracy drop, on the images used."""
    agreement: float


def measure_noise(
    model: onnx.ModelProto, quantized: onnx.ModelProto, layers: Sequence[Layer], batches: Sequence[np.ndarray]
) -> list[LayerNoise]:
    """Return the noise of each layer that is in both graphs, noisiest first, on a few of the images.

    model, quantized: onnx.ModelProto, the float one and its Q/DQ form.
    """
    there = {name for node in quantized.graph.node for name in node.output}
    layers = [layer for layer in layers if layer.output in there]
    names = [layer.output for layer in layers]
    sessions = [probing_session(graph, names) for graph in (model, quantized)]
    signal, noise = np.zeros(len(layers)), np.zeros(len(layers))
    chosen = [batches[i] for i in evenly_spaced(len(batches), _IMAGES)]
    for batch in chosen:
        for index, (wanted, found) in enumerate(
            zip(*(one.run(names, {INPUT: batch}) for one in sessions), strict=True)
        ):
            signal[index] += np.square(wanted, dtype=np.float64).sum()
            noise[index] += np.square(found - wanted, dtype=np.float64).sum()
    rows = [LayerNoise(layer.name, _decibels(s, n)) for layer, s, n in zip(layers, signal, noise, strict=True)]
    return sorted(rows, key=lambda row: row.snr_db)


def measure_effects(
    layers: Sequence[Layer],
    alone: Callable[[Layer], np.ndarray],
    reference: np.ndarray,
    truth: np.ndarray,
) -> list[LayerEffect]:
    """Return the effect of each layer, worst first.

    alone: returns the logits, float32 [images, labels], of the file in which only this layer is INT8.
    reference: FP32's logits of the same images.  truth: int [images], indices of the true labels.
    """
    right = (reference.argmax(1) == truth).mean()
    rows = []
    for layer in track(layers, "measuring layers one by one", len(layers)):
        found = alone(layer)
        rows.append(
            LayerEffect(
                layer.name,
                _decibels(float(np.square(reference).sum()), float(np.square(found - reference).sum())),
                float(right - (found.argmax(1) == truth).mean()),
                float((found.argmax(1) == reference.argmax(1)).mean()),
            )
        )
    return sorted(rows, key=lambda row: row.snr_db)


def fewest(count: int, attempt: Callable[[int], T | None]) -> tuple[int, T] | None:
    """Return the smallest of 1 to ``count`` for which ``attempt`` returns a result, with the result; None if there is none.

    Doubles until one is enough, then bisects: a larger count is assumed to be at least as good.
    """
    enough, last, found = 0, 0, None
    step = 1
    while found is None and last < count:
        enough = min(step, count)
        found = attempt(enough)
        if found is None:
            last, step = enough, 2 * step
    if found is None:
        return None
    while enough - last > 1:
        middle = (enough + last) // 2
        better = attempt(middle)
        if better is None:
            last = middle
        else:
            enough, found = middle, better
    return enough, found


def _decibels(signal: float, noise: float) -> float:
    return round(float(10 * np.log10(max(signal, 1e-30) / max(noise, 1e-30))), 2)
