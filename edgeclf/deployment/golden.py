"""Writes a bundle's golden images, every model's logits on them, and the differences that a device may show.

A correct device computes the same as this host, apart from rounding.  The size of that error is measured: INT8 and
FP16 differ from FP32 on this host only by rounding, and another library's INT8 is about as far from FP32 as ours.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from edgeclf_runtime.bundle.open_bundle import Tolerance
from edgeclf_runtime.classify import golden
from edgeclf_runtime.device.machine import inference_threads
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess
from edgeclf_runtime.images.read import read_image
from edgeclf_runtime.runners.base import Outputs, joined, output_order

from ..data.datasets import Dataset, Sample
from ..data.pixels import read_photo
from ..display.json_file import write_json
from ..graph.inference import infer_file_outputs
from ..targets import model_file, precision_of
from ..training.runs import Run

# The smallest rounding error of a logit to assume, relative to the spread of the golden logits: other libraries,
# processors and versions add in another order.
_LEAST_TOLERANCE = {"fp32": 1e-5, "fp16": 1e-3, "int8": 2.5e-3}
# The allowed mean difference, as a multiple of that error, of INT8's mean difference from FP32 on ordinary images, or of
# INT8's difference from the same file computed without any integer kernel, whichever is largest.  Correct libraries
# (OpenVINO, ONNX Runtime on Arm) differ by up to 1.3 times the second.
_TIMES, _TIMES_SAME = 2.0, 0.3
# With only these operators (EfficientNet-Lite0, ResNet-18) ONNX Runtime computes equal bits in all versions on x86, and
# differs little on arm64.  Around others (HardSigmoid, Sigmoid, Mul) it moves and drops Q/DQ, differently from 1.21 on, and
# the logits of correct versions differ as much as INT8 differs from FP32.
_SAME = ("int8-cpu", "onnxruntime")
_SAME_OPERATORS = frozenset(
    (
        *("Add", "Clip", "Constant", "Conv", "DequantizeLinear", "Flatten", "Gemm", "GlobalAveragePool", "MaxPool"),
        *("QuantizeLinear", "Relu", "Transpose"),
    )
)
# Candidates for each golden image; the one on which INT8 differs least from FP32 is kept, so that damage stands out.
_CHOICES = 4
# A picture that is square, or no larger than the model's input, cannot show a wrong resize.  So every second one gets
# this size relative to the input, and this width relative to its height; every eighth is larger, so that it is halved too.
_FRAME, _LARGE_FRAME, _FRAME_RATIO = 1.5, 2.5, 4 / 3
# The largest difference among a few hundred logits, as a multiple of the mean difference.
_LARGEST_BY_MEAN = 8.0
_SMALLEST_TOLERANCE = 5e-4
# The same for features, as a share of the spread of their projections; correct libraries differ by a hundredth of it.
_SMALLEST_SHARE = 1e-4


Tolerances = dict[str, dict[str, float]]
"""Limits of the difference from a model's golden outputs, by backend, ready for JSON."""


@dataclass(frozen=True)
class GoldenFacts:
    """A model's facts from the golden images, for the manifest."""

    tolerances: Tolerances
    features: int | None
    """The number of its features; None if it has none."""


class _Found(NamedTuple):
    """A model's outputs for some images: logits, and the projections and the number of its features, if it has any."""

    logits: np.ndarray
    projections: np.ndarray | None
    features: int | None


def write_golden(work: Path, run: Run, dataset: Dataset, models: list[str], count: int) -> dict[str, GoldenFacts]:
    """Write ``count`` golden images, and each model's logits and projected features; return each model's facts.

    The second half is tinted, so that a wrong color order shows even if all photographs are gray; every second one must
    be resized and cropped.
    """
    import cv2

    pictures, noises = _choose(run, dataset, models, count)
    (work / "golden").mkdir(exist_ok=True)
    names, batches = [], []
    for number, picture in enumerate(pictures):
        name = f"golden/{number:03d}.png"
        # PNG, because JPEG decoders differ in the last bit between versions of OpenCV.
        # Written by Python, whose errors name the reason.
        (work / name).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
        names.append(name)
        batches.append(as_batch([preprocess(read_image(work / name), run.preprocessing)]))
    found = {model: _infer(run, model, batches) for model in models}
    quantized = _cpu_int8(models)
    if quantized:
        literal = _mean_differences(_literal(run, quantized, batches), found[quantized])
        noises = tuple(max(pair) for pair in zip(noises, literal, strict=True))
    logits: dict[str, Any] = {
        model: [[round(float(value), 6) for value in row] for row in one.logits] for model, one in found.items()
    }
    features = {
        model: [[float(f"{value:.7g}") for value in row] for row in one.projections]
        for model, one in found.items()
        if one.projections is not None
    }
    # With the labels, because the same logits with labels in another order mean something else.
    facts = {"images": names, "labels": list(run.labels), "logits": logits, "features": features}
    write_json(work / golden.FILE, facts)
    return {model: _facts(run, model, found, noises) for model in models}


def _facts(run: Run, model: str, found: dict[str, _Found], noises: tuple[float, ...]) -> GoldenFacts:
    reference, one, same = found["fp32"], found[model], _has_same_kernels(run, model)
    tolerances = tolerances_of(model, reference.logits, one.logits, noises[0], same)
    if one.projections is not None:
        base = one.projections if reference.projections is None else reference.projections
        for backend, limits in tolerances.items():
            times = _TIMES if backend == "default" else _TIMES_SAME
            limits["features"] = features_limit(model, base, one.projections, noises[1], times)
    return GoldenFacts(tolerances, one.features)


def tolerances_of(
    name: str, reference: np.ndarray, logits: np.ndarray, noise: float, same_kernels: bool = True
) -> Tolerances:
    """Return the limits of the difference from ``logits``, by backend, ready for JSON.

    reference: FP32's logits; both [images, labels].  noise: mean difference between two correct computations of INT8.
    same_kernels: whether every version of the host's library computes the file in the same way.
    """
    precision = precision_of(name)
    noise = noise if precision == "int8" else 0.0
    found = {"default": _tolerance(precision, _TIMES, reference, logits, noise)}
    if name == _SAME[0] and same_kernels:
        found[_SAME[1]] = _tolerance(precision, _TIMES_SAME, reference, logits, noise)
    return {
        backend: {key: value for key, value in tolerance._asdict().items() if value is not None}
        for backend, tolerance in found.items()
    }


def features_limit(
    name: str, reference: np.ndarray, projections: np.ndarray, noise: float, times: float = _TIMES
) -> float:
    """Return the limit of the mean difference from ``projections``; arguments as for tolerances_of().

    Features have no usual size, so the smallest limit is relative to their spread.
    """
    precision = precision_of(name)
    spread = float(np.ptp(projections))
    rounding = _rounding(precision, spread, noise if precision == "int8" else 0.0, np.abs(projections - reference))
    return float(f"{max(_SMALLEST_SHARE * spread, times * rounding):.6g}")


def _tolerance(precision: str, times: float, reference: np.ndarray, logits: np.ndarray, noise: float) -> Tolerance:
    spread = float(logits.max() - logits.min())
    difference = np.abs(logits.astype(np.float64) - reference)
    rounding = _rounding(precision, spread, noise, difference)
    mean = max(_SMALLEST_TOLERANCE, times * rounding)
    return Tolerance(
        largest=round(max(_LARGEST_BY_MEAN * mean, times * float(difference.max())), 6),
        mean=round(mean, 6),
        # The divergence grows with the square of the logits' error.
        divergence=round(max(mean**2, times * golden.divergence(reference, logits)), 9),
    )


def _rounding(precision: str, spread: float, noise: float, difference: np.ndarray) -> float:
    """Return the rounding error to assume of a logit or a projection; difference: from FP32's."""
    return max(_LEAST_TOLERANCE[precision] * spread, noise, float(difference.mean()))


def tinted(image: np.ndarray) -> np.ndarray:
    """Return an image, uint8 [height, width, 3] BGR, in warmer light: its channels differ, but stay close to the photograph."""
    return np.asarray((image * np.array([0.8, 0.9, 1.0])).round().astype(np.uint8))


def _choose(run: Run, dataset: Dataset, models: list[str], count: int) -> tuple[list[np.ndarray], tuple[float, ...]]:
    """Return the golden images, and the medians over all candidates of INT8's mean differences from FP32: of logits, of projections.

    Labels alternate; each image is the one of its _CHOICES candidates on which INT8 differs least.
    """
    turns = [samples for samples in dataset.by_label("val").values() if samples]
    slots = []
    for number in range(count):
        samples, turn = turns[number % len(turns)], number // len(turns) * _CHOICES
        slots.append(samples[turn : turn + _CHOICES] or samples[:_CHOICES])
    pictures = [[_picture(sample, run, number, count) for sample in slot] for number, slot in enumerate(slots)]
    noise, of_features = _noise(run, models, [picture for slot in pictures for picture in slot])
    chosen: list[np.ndarray] = []
    used: set[Path] = set()
    first = 0
    for slot, candidates in zip(slots, pictures, strict=True):
        found = noise[first : first + len(slot)]
        first += len(slot)
        order = found.argsort(kind="stable")
        # With few validation images, candidates repeat.  A different image proves more, unless INT8 differs more on it than usual.
        fresh = (index for index in order if slot[index].path not in used and found[index] <= np.median(noise))
        best = next(fresh, order[0])
        used.add(slot[best].path)
        chosen.append(candidates[best])
    return chosen, (float(np.median(noise)), float(np.median(of_features)))


def _picture(sample: Sample, run: Run, number: int, count: int) -> np.ndarray:
    """Return the golden image with that number of ``count``, as it is stored."""
    large = number % 8 == 3
    image = _shrink(read_photo(sample.path), run.preprocessing, 4 if large else 2)
    if number % 2:
        image = as_frame(image, run.preprocessing, _LARGE_FRAME if large else _FRAME)
    return tinted(image) if 2 * number >= count else image


def as_frame(image: np.ndarray, spec: Preprocessing, times: float) -> np.ndarray:
    """Return an image, uint8 [height, width, 3] BGR, that must be resized and cropped, as a camera's frame must.

    times: smallest shorter side, relative to the model's input.  The content stays in the middle, where the crop is.
    """
    import cv2

    factor = times * max(spec.height, spec.width) / min(image.shape[:2])
    if factor > 1:
        image = cv2.resize(image, None, fx=factor, fy=factor, interpolation=cv2.INTER_LINEAR)
    height, width = image.shape[:2]
    missing = round((_FRAME_RATIO * height - width) / 2)
    if missing > 0 and height < _FRAME_RATIO * width:
        image = cv2.copyMakeBorder(image, 0, 0, missing, missing, cv2.BORDER_REFLECT_101)
    return np.asarray(image)


def _noise(run: Run, models: list[str], pictures: list[np.ndarray]) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's mean differences between a CPU's INT8 file and FP32, [images]; 0 without an INT8 file.

    The first are of the logits, the second of the projected features.
    """
    name = _cpu_int8(models)
    if name is None:
        return np.zeros(len(pictures)), np.zeros(len(pictures))
    batches = [as_batch([preprocess(picture, run.preprocessing)]) for picture in pictures]
    return _differences(*(_infer(run, model, batches) for model in ("fp32", name)))


def _differences(one: _Found, other: _Found) -> tuple[np.ndarray, np.ndarray]:
    """Return each image's mean difference of the logits, and of the projections, 0 if there are none; [images] each."""
    logits = np.abs(one.logits - other.logits).mean(1)
    if one.projections is None or other.projections is None:
        return logits, np.zeros(len(logits))
    return logits, np.abs(one.projections - other.projections).mean(1)


def _mean_differences(one: _Found, other: _Found) -> tuple[float, ...]:
    return tuple(float(values.mean()) for values in _differences(one, other))


def _infer(run: Run, name: str, batches: list[np.ndarray]) -> _Found:
    return _found(infer_file_outputs(run.file(model_file(name)), name, batches))


def _found(outputs: Outputs) -> _Found:
    logits, features = outputs
    if features is None:
        return _Found(logits, None, None)
    return _Found(logits, golden.project(features), features.shape[1])


def _cpu_int8(models: list[str]) -> str | None:
    return next((name for name in ("int8-cpu", "int8-arm") if name in models), None)


def _literal(run: Run, name: str, batches: list[np.ndarray]) -> _Found:
    """Return what a file gives computed operator by operator, each Q and DQ as it is: no integer kernels, no fusion."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    options.intra_op_num_threads = inference_threads()
    session = onnxruntime.InferenceSession(str(run.file(model_file(name))), options, providers=["CPUExecutionProvider"])
    (image,) = session.get_inputs()
    names = [output.name for output in session.get_outputs()]
    wanted = [names[index] for index in output_order(names)]
    return _found(joined([Outputs(*session.run(wanted, {image.name: batch})) for batch in batches]))


def _has_same_kernels(run: Run, name: str) -> bool:
    if name != _SAME[0]:
        return False
    import onnx

    graph = onnx.load(run.file(model_file(name))).graph
    return {node.op_type for node in graph.node} <= _SAME_OPERATORS


def _shrink(image: np.ndarray, spec: Preprocessing, times: int) -> np.ndarray:
    """Halve a photograph while it is ``times`` the model's input or larger: small to store, but still resized on the device."""
    import cv2

    while min(image.shape[:2]) >= times * max(spec.height, spec.width):
        size = image.shape[1] // 2, image.shape[0] // 2
        image = cv2.resize(image, size, interpolation=cv2.INTER_AREA)
    return image
