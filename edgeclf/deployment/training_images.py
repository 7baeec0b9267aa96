"""Reads the images that show a device what a run was trained on."""

from __future__ import annotations

import numpy as np

from edgeclf_runtime.streaming.health.baseline import LEAST_IMAGES

from ..data.datasets import Dataset, Sample
from ..data.pixels import load_each, load_pixels
from ..data.sampling import evenly_spaced
from ..display.progress import track
from ..errors import ImageError
from ..evaluation.evaluation_set import MOST_BYTES_KEPT, EvaluationSet
from ..training.runs import Run

_MOST_IMAGES = 2000


def training_images(run: Run, dataset: Dataset) -> tuple[EvaluationSet, str]:
    """Return a run's training images and the name of their split: "val" if the training images are gone.

    They are evenly spaced and decoded, at most 2,000 of them and 512 MB.  Those that cannot be read are left out.
    """
    split = "train" if dataset.counts()["train"] >= LEAST_IMAGES else "val"
    samples, spec = dataset.split(split), run.preprocessing
    most = min(_MOST_IMAGES, MOST_BYTES_KEPT // (spec.height * spec.width * 3))
    chosen = [samples[index] for index in evenly_spaced(len(samples), most)]

    def load(sample: Sample) -> np.ndarray | None:
        try:
            return load_pixels(sample.path, spec)
        except ImageError:
            return None

    pixels = list(track(load_each(chosen, load), "reading training images", len(chosen)))
    readable = [(sample, one) for sample, one in zip(chosen, pixels, strict=True) if one is not None]
    return EvaluationSet(
        [sample for sample, _ in readable], run.labels, spec, dataset.name, [one for _, one in readable]
    ), split
