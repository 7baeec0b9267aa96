"""Logits that were computed before, kept beside a run's models, so that each model infers each image once.

``quantize`` writes them for its evaluation images, and ``bundle`` uses those of the validation split again.  They are valid
for the same model file, image file, preprocessing, library version and processor; whatever is not known is inferred.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from edgeclf_runtime.device.machine import machine_facts
from edgeclf_runtime.files.read import sha256_bytes, sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners import backend_version

from ..data.npz import reading_npz, write_npz
from ..data.schemas import LOGITS
from ..graph.inference import infer_file
from .evaluation_set import EvaluationSet

LOGIT_FILE = "logits.npz"


class LogitStore:
    """Logits by model file and image file; read_logits() reads one, write_logits() writes one."""

    def __init__(self, rows: Mapping[str, Mapping[str, np.ndarray]] | None = None) -> None:
        self._rows = rows or {}

    def infer(self, model: Path, name: str, images: EvaluationSet, what: str) -> np.ndarray:
        """Return an ONNX file's logits of the images, float32 [images, labels]; only those not known are inferred.

        name: of the model, as targets.FLAVORS has it, or fp32.  what: names the work in the progress.
        """
        known = self._rows.get(sha256_file(model), {})
        missing = [i for i, digest in enumerate(images.sha256) if digest not in known] if known else range(len(images))
        if len(missing) == len(images):
            return infer_file(model, name, images.batches(what))
        part = images.subset(missing)
        found = iter(infer_file(model, name, part.batches(what)) if len(part) else ())
        return np.stack([known[digest] if digest in known else next(found) for digest in images.sha256])


def read_logits(path: Path, spec: Preprocessing) -> LogitStore:
    """Read what is still valid of a file that write_logits() wrote; an empty LogitStore if nothing is."""
    try:
        with reading_npz(path, LOGITS) as (header, arrays):
            if header["from"] != _circumstances(spec):
                return LogitStore()
            rows = {}
            for number, digest in enumerate(header["models"]):
                logits = arrays[f"logits_{number}"]
                if logits.ndim != 2 or len(logits) != len(header["images"]) or logits.dtype != np.float32:
                    raise ValueError("the logits have another shape or type")
                rows[digest] = dict(zip(header["images"], logits, strict=True))
            return LogitStore(rows)
    except ValueError:
        return LogitStore()


def write_logits(path: Path, images: EvaluationSet, logits: Mapping[str, np.ndarray]) -> None:
    """Write the logits of an evaluation set, float32 [images, labels], by the SHA-256 of each model file."""
    header = {"from": _circumstances(images.spec), "images": images.sha256, "models": list(logits)}
    write_npz(path, header, {f"logits_{number}": rows for number, rows in enumerate(logits.values())})


def _circumstances(spec: Preprocessing) -> dict[str, str]:
    """Return what logits depend on beside the model and the image."""
    return {
        "preprocessing": sha256_bytes(json.dumps(spec._asdict(), sort_keys=True).encode()),
        "onnxruntime": str(backend_version("onnxruntime")),
        "processor": str(machine_facts()["processor"]),
    }
