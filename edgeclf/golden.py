"""A bundle's golden images, every model's logits on them, and the differences that a device may show.

A correct device computes what this host computes, apart from rounding.  The size of that error is measured: INT8 and
FP16 differ from FP32 on this host only by rounding, and another library's INT8 is about as far from FP32 as ours.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime import golden
from edgeclf_runtime.bundle import Tolerance
from edgeclf_runtime.images import read_image
from edgeclf_runtime.preprocess import Preprocessing, as_batch, preprocess

from .datasets import Dataset, Sample
from .models import open_model
from .runs import Run

# The smallest rounding error of a logit to assume, relative to the golden logits' spread: other libraries, processors and
# versions add in another order.
_LEAST_TOLERANCE = {"fp32": 1e-5, "fp16": 1e-3, "int8": 2.5e-3}
# The allowed mean difference, as a multiple of that error or of INT8's mean difference from FP32 on ordinary images,
# whichever is larger.  Correct libraries were up to 1.3 times the latter apart (OpenVINO, ONNX Runtime on Arm).  ONNX
# Runtime's own kernels gave equal bits from 1.10 to 1.32 on x86, and were at most 0.12 times it off on arm64.
_TIMES, _TIMES_SAME = 2.0, 0.25
_SAME = ("int8-cpu", "onnxruntime")
# Candidates for each golden image; the one on which INT8 differs least from FP32 is kept, so that damage stands out.
_CHOICES = 4
# The largest difference among a few hundred logits, as a multiple of the mean difference.
_LARGEST_BY_MEAN = 8.0
_SMALLEST_TOLERANCE = 5e-4


def write_golden(work: Path, run: Run, dataset: Dataset, models: list[str], count: int) -> dict[str, dict[str, Any]]:
    """Write ``count`` golden images and each model's logits; return the tolerances by model and backend, ready for JSON.

    The second half is tinted, so that a wrong color order shows even if all photographs are gray.
    """
    import cv2

    pictures, noise = _choose(run, dataset, models, count)
    (work / "golden").mkdir(exist_ok=True)
    names, batches = [], []
    for number, picture in enumerate(pictures):
        name = f"golden/{number:03d}.png"
        # PNG, because JPEG decoders differ in the last bit between versions of OpenCV.
        # Written by Python, whose error names the reason.
        (work / name).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        names.append(name)
        batches.append(as_batch([preprocess(read_image(work / name), run.preprocessing)]))
    logits = {model: _logits(run, model, batches) for model in models}
    rows = {model: [[round(float(value), 6) for value in row] for row in values] for model, values in logits.items()}
    (work / golden.FILE).write_text(json.dumps({"images": names, "logits": rows}, indent=1) + "\n", encoding="utf-8")
    return {model: tolerances_of(model, logits["fp32"], logits[model], noise) for model in models}


def tolerances_of(name: str, reference: np.ndarray, logits: np.ndarray, noise: float) -> dict[str, dict[str, float]]:
    """Return the limits of the difference from ``logits``, by backend, ready for JSON.

    reference: FP32's logits; both [images, labels].  noise: INT8's mean difference from FP32 on ordinary images.
    """
    precision = name.split("-")[0]
    noise = noise if precision == "int8" else 0.0
    found = {"default": _tolerance(precision, _TIMES, reference, logits, noise)}
    if name == _SAME[0]:
        found[_SAME[1]] = _tolerance(precision, _TIMES_SAME, reference, logits, noise)
    return {backend: tolerance._asdict() for backend, tolerance in found.items()}


def _tolerance(precision: str, times: float, reference: np.ndarray, logits: np.ndarray, noise: float) -> Tolerance:
    spread = float(logits.max() - logits.min())
    difference = np.abs(logits.astype(np.float64) - reference)
    rounding = max(_LEAST_TOLERANCE[precision] * spread, noise, float(difference.mean()))
    mean = max(_SMALLEST_TOLERANCE, times * rounding)
    return Tolerance(
        largest=round(max(_LARGEST_BY_MEAN * mean, times * float(difference.max())), 6),
        mean=round(mean, 6),
        # The divergence grows with the square of the logits' error.
        divergence=round(max(mean**2, times * golden.divergence(reference, logits)), 9),
    )


def tinted(image: np.ndarray) -> np.ndarray:
    """Return an image, uint8 [height, width, 3] BGR, in warmer light: its three channels differ, but stay close to the photograph."""
    return np.asarray((image * np.array([0.8, 0.9, 1.0])).round().astype(np.uint8))


def _choose(run: Run, dataset: Dataset, models: list[str], count: int) -> tuple[list[np.ndarray], float]:
    """Return the golden images, and the median over all candidates of INT8's mean difference from FP32.

    The labels take turns; each image is the one of its _CHOICES candidates on which INT8 differs least.
    """
    turns = [samples for samples in dataset.by_label("val").values() if samples]
    slots = []
    for number in range(count):
        samples, turn = turns[number % len(turns)], number // len(turns) * _CHOICES
        slots.append(samples[turn : turn + _CHOICES] or samples[:_CHOICES])
    pictures = [[_picture(sample, run, 2 * number >= count) for sample in slot] for number, slot in enumerate(slots)]
    noise = _noise(run, models, [picture for slot in pictures for picture in slot])
    chosen, first = [], 0
    for slot in pictures:
        chosen.append(slot[int(noise[first : first + len(slot)].argmin())])
        first += len(slot)
    return chosen, float(np.median(noise))


def _picture(sample: Sample, run: Run, colored: bool) -> np.ndarray:
    image = _shrink(read_image(sample.path), run.preprocessing)
    return tinted(image) if colored else image


def _noise(run: Run, models: list[str], pictures: list[np.ndarray]) -> np.ndarray:
    """Return each image's mean difference between a CPU's INT8 logits and FP32's, [images]; 0 without an INT8 file."""
    names = [name for name in ("int8-cpu", "int8-arm") if name in models][:1]
    if not names:
        return np.zeros(len(pictures))
    batches = [as_batch([preprocess(picture, run.preprocessing)]) for picture in pictures]
    reference, found = (_logits(run, name, batches) for name in ("fp32", *names))
    return np.asarray(np.abs(found - reference).mean(1))


def _logits(run: Run, name: str, batches: list[np.ndarray]) -> np.ndarray:
    with open_model(run.file(f"model.{name}.onnx")) as opened:
        return np.concatenate([opened.classifier.runner.infer(batch) for batch in batches])


def _shrink(image: np.ndarray, spec: Preprocessing) -> np.ndarray:
    """Halve a photograph while it stays larger than the model's input: small to store, but still resized on the device."""
    import cv2

    while min(image.shape[:2]) >= 2 * max(spec.height, spec.width):
        size = image.shape[1] // 2, image.shape[0] // 2
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image
