"""An open model's logits and features of labeled images: few as they come, many kept in the user's cache folder, or by Ray."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from edgeclf_runtime.device.machine import cores, machine_facts
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners import backend_version
from edgeclf_runtime.runners.base import Outputs, joined

from ...data.pixels import in_batches, load_all, preprocessing_sha256
from ...errors import EdgeclfError, OptionError
from ...graph.inference import infer_outputs, infer_outputs_each
from ..evaluation_set import EvaluationSet
from ..open_model import OpenModel, open_model
from .image_cache import IMAGES_OF_A_FILE, Arrays, Chosen, ImageCache, user_folder
from .ray_engine import each_on_ray

FOLDER = "outputs"
_TYPES = {"logits": np.dtype(np.float32), "features": np.dtype(np.float16)}
_LARGEST = float(np.finfo(np.float16).max)


def image_outputs(
    opened: OpenModel, images: EvaluationSet, what: str, engine: str = "local", features: bool = True
) -> Outputs:
    """Return an open model's logits, float32 [images, labels], and features of images, float16 [images, features].

    what: names the work in the progress display.  features: False leaves them out; they are None too if the model has none.
    More images than fit one file of an ImageCache are kept there.  Raises OptionError for Ray and a model that torch runs.
    """
    if engine == "local" and (len(images) <= IMAGES_OF_A_FILE or opened.file is None):
        logits, found = infer_outputs(opened.classifier.runner, images.batches(what), cores())
        return Outputs(logits, as_halves(found) if features and found is not None else None)
    if opened.file is None:
        raise OptionError(
            f"{opened.name} runs on torch, which --engine ray does not: export the run, or leave --engine out"
        )
    runner, spec = opened.classifier.runner, opened.classifier.preprocessing
    model, name = (opened.file, None) if opened.bundle is None else (opened.bundle, opened.name)
    job = _Inference(os.path.abspath(model), name, sha256_file(opened.file), _way(opened), features)

    def compute(missing: Mapping[str, Path]) -> Iterator[tuple[str, Outputs]]:
        if engine == "ray":
            return each_on_ray(job, missing, what)
        index = {digest: number for number, digest in enumerate(images.sha256)}
        part = images if len(missing) == len(images) else images.subset([index[digest] for digest in missing])
        return zip(missing, job.kept(infer_outputs_each(runner, part.batches(what), cores())), strict=True)

    device = "cpu" if engine == "ray" else runner.device
    key = f"{job.sha256} {features} {job.way} {device} {circumstances(spec)}"
    cache = ImageCache(user_folder(FOLDER), key, _packed, _unpacked)
    rows = cache.recall(dict(zip(images.sha256, images.paths, strict=True)), compute)
    return joined([rows[digest] for digest in images.sha256])


@dataclass(frozen=True)
class _Inference:
    """The outputs of images, one Outputs for each, as a process of Ray computes them.

    model, name: as open_model() takes them.  sha256: of the model's file.  way: as _way() gives it here.
    """

    model: str
    name: str | None
    sha256: str
    way: str
    features: bool

    def __call__(self, paths: list[str]) -> list[Outputs]:
        opened = _open(self)
        if _way(opened) != self.way:
            raise EdgeclfError(
                f"{self.model} runs by {_way(opened)} on a machine of the cluster, {self.way} was expected, as on the one that asks: "
                "install the same versions on both"
            )
        batches = in_batches(load_all(map(Path, paths), opened.classifier.preprocessing), 1)
        return list(self.kept(infer_outputs_each(opened.classifier.runner, batches)))

    def kept(self, found: Iterable[Outputs]) -> Iterator[Outputs]:
        """Yield outputs with features as they are kept."""
        for logits, features in found:
            yield Outputs(logits, as_halves(features) if self.features and features is not None else None)


def _way(opened: OpenModel) -> str:
    """Return what runs a model, which decides its logits besides the file."""
    runner = opened.classifier.runner
    return f"{type(runner).__name__} {runner.version}"


@lru_cache(maxsize=1)
def _open(job: _Inference) -> OpenModel:
    """Open a model, once in a process; every inference has one thread, as those of a command have."""
    import cv2

    cv2.setNumThreads(1)
    return open_model(job.model, job.name, at_once=max(2, cores()))


def _packed(results: Sequence[Outputs]) -> Arrays:
    logits, features = joined(results)
    return {"logits": logits} if features is None else {"logits": logits, "features": features}


def _unpacked(chosen: Chosen, arrays: Arrays) -> dict[str, Outputs]:
    """Return the outputs of some rows; ValueError for arrays of another shape or type."""
    names = ["logits", *(["features"] if "features" in arrays else [])]
    found = {name: arrays[name] for name in names}
    if any(one.ndim != 2 or one.dtype != _TYPES[name] or len(one) <= max(chosen)[0] for name, one in found.items()):
        raise ValueError("the arrays have another shape or type")
    return {digest: Outputs(**{name: one[at : at + 1] for name, one in found.items()}) for at, digest in chosen}


def as_halves(features: np.ndarray) -> np.ndarray:
    """Return features as float16; those beyond its range become its largest number."""
    return np.clip(features, -_LARGEST, _LARGEST).astype(np.float16)


def circumstances(spec: Preprocessing) -> dict[str, str]:
    """Return what logits depend on besides the model and the image."""
    return {
        "preprocessing": preprocessing_sha256(spec),
        "onnxruntime": str(backend_version("onnxruntime")),
        "processor": str(machine_facts()["processor"]),
    }
