"""Keeps logits beside a run's models, so that each model infers each image once.

``quantize`` writes them for its evaluation images, and ``bundle`` uses those of the validation split again.  They are valid
for the same model file, image file, preprocessing, library version and processor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners import backend_version

from ..data.npz import reading_npz, write_npz
from ..data.pixels import preprocessing_sha256
from ..data.schemas import LOGITS
from ..graph.inference import infer_file
from .evaluation_set import EvaluationSet

LOGIT_FILE = "logits.npz"


class LogitStore:
    """Logits by model file and image file; whatever it infers, it remembers."""

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, np.ndarray]] = {}

    def add(self, model_sha256: str, images_sha256: Sequence[str], logits: np.ndarray) -> None:
        """Remember a model's logits, float32 [images, labels]."""
        self._rows.setdefault(model_sha256, {}).update(zip(images_sha256, logits, strict=True))

    def known(self, model_sha256: str, images: EvaluationSet) -> np.ndarray | None:
        """Return a model's logits of the images, float32 [images, labels], None unless all are known."""
        rows = self._rows.get(model_sha256, {})
        return np.stack([rows[image] for image in images.sha256]) if rows.keys() >= set(images.sha256) else None

    def infer(self, model: Path, name: str, images: EvaluationSet, what: str) -> np.ndarray:
        """Return an ONNX file's logits of the images, float32 [images, labels]; only those not known are inferred.

        name: of the model, as in targets.FLAVORS, or fp32.  what: names the work in the progress display.
        """
        digest = sha256_file(model)
        known = self._rows.get(digest, {})
        missing = [i for i, image in enumerate(images.sha256) if image not in known]
        if missing:
            part = images if len(missing) == len(images) else images.subset(missing)
            self.add(digest, [images.sha256[i] for i in missing], infer_file(model, name, part.batches(what)))
        return np.stack([self._rows[digest][image] for image in images.sha256])


def read_logits(path: Path, spec: Preprocessing) -> LogitStore:
    """Read a file that write_logits() wrote; returns an empty LogitStore if it is missing, damaged or no longer valid."""
    try:
        with reading_npz(path, LOGITS) as (header, arrays):
            if header["from"] != _circumstances(spec):
                return LogitStore()
            store = LogitStore()
            for number, digest in enumerate(header["models"]):
                logits = arrays[f"logits_{number}"]
                if logits.ndim != 2 or len(logits) != len(header["images"]) or logits.dtype != np.float32:
                    raise ValueError("the logits have another shape or type")
                store.add(digest, header["images"], logits)
            return store
    except ValueError:
        return LogitStore()


def write_logits(path: Path, images: EvaluationSet, logits: Mapping[str, np.ndarray]) -> None:
    """Write the logits of an evaluation set, float32 [images, labels], by the SHA-256 of each model file."""
    header = {"from": _circumstances(images.spec), "images": images.sha256, "models": list(logits)}
    write_npz(path, header, {f"logits_{number}": rows for number, rows in enumerate(logits.values())})


def _circumstances(spec: Preprocessing) -> dict[str, str]:
    """Return what logits depend on besides the model and the image."""
    return {
        "preprocessing": preprocessing_sha256(spec),
        "onnxruntime": str(backend_version("onnxruntime")),
        "processor": str(machine_facts()["processor"]),
    }
