"""Writes images with the input tensor and the logits that each must give, to test the preprocessing of other programs."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.outputs import new_folder
from edgeclf_runtime.images.preprocess import as_batch, preprocess
from edgeclf_runtime.images.read import read_image
from edgeclf_runtime.runners.base import Runner

from ...data.datasets import Dataset
from ...data.pixels import first_readable, load_each, read_photo
from ...data.sampling import evenly_spaced
from ...display.json_file import write_json
from ...training.runs import Run
from ..golden import as_frame, tinted

GOLDEN = "golden.json"
"""The list of the cases, with labels and preprocessing."""
# Smallest shorter side of each image relative to the model's input: none is as large as the input, so that all are
# resized; the later ones are halved first, once and twice.
_SIZES = (0.6, 1.5, 2.5, 4.5)


def write_golden_tensors(
    folder: str | Path,
    run: Run,
    data: Dataset,
    reference: Runner,
    overwrite: bool = False,
    skip_unreadable: bool = False,
) -> None:
    """Write a few real images, each with its input tensor and the reference's logits.

    skip_unreadable: take others instead of images that cannot be decoded.

    NNN.png  NNN.input.npy, float32 [1, height, width, 3]  NNN.logits.npy, float32 [1, labels]
    """
    photos = _photos(data, skip_unreadable)
    with new_folder(folder, overwrite, GOLDEN) as work:
        cases = []
        for number, photo in enumerate(photos):
            image = _image(photo, run, number)
            cases.append(_write_case(Path(work), f"{number:03d}", image, run, reference))
        facts = {
            "format": "edgeclf-golden-tensors",
            "labels": list(run.labels),
            "preprocessing": run.preprocessing._asdict(),
            "cases": cases,
        }
        write_json(Path(work, GOLDEN), facts)


def _photos(data: Dataset, skip_unreadable: bool) -> Iterator[np.ndarray]:
    """Yield photographs evenly from val, uint8 [height, width, 3]."""
    samples = [sample for sample in data.samples if sample.split == "val"] or list(data.samples)
    chosen = [samples[index] for index in evenly_spaced(len(samples), len(_SIZES))]
    if skip_unreadable:
        chosen = first_readable(dict.fromkeys([*chosen, *data.samples]), len(_SIZES))
    return load_each([sample.path for sample in chosen], read_photo)


def _image(photo: np.ndarray, run: Run, number: int) -> np.ndarray:
    """Return an image that must be resized and cropped: every second one is upright and has odd sides."""
    import cv2

    spec = run.preprocessing
    side = max(1, round(_SIZES[number] * max(spec.height, spec.width)))
    factor = side / min(photo.shape[:2])
    photo = cv2.resize(
        photo, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA if factor < 1 else cv2.INTER_LINEAR
    )
    frame = as_frame(tinted(photo), spec, 0.1)
    return frame if number % 2 == 0 else np.ascontiguousarray(frame.transpose(1, 0, 2)[: frame.shape[1] // 2 * 2 - 1])


def _write_case(work: Path, name: str, image: np.ndarray, run: Run, reference: Runner) -> dict[str, str]:
    import cv2

    (work / f"{name}.png").write_bytes(cv2.imencode(".png", image)[1].tobytes())
    tensor = as_batch([preprocess(read_image(work / f"{name}.png"), run.preprocessing)])
    logits = reference.infer(tensor)
    np.save(work / f"{name}.input.npy", tensor)
    np.save(work / f"{name}.logits.npy", logits)
    label = run.labels[int(logits[0].argmax())]
    return {"image": f"{name}.png", "input": f"{name}.input.npy", "logits": f"{name}.logits.npy", "label": label}
