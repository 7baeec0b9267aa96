"""Keeps logits beside a run's models, so that each model infers each image once.

``quantize``, ``evaluate``, ``compare`` and ``bundle`` write what they infer, and use what another of them has written.  Logits
are valid for the same model file, image file, preprocessing, library version and processor.
"""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import numpy as np

from edgeclf_runtime.device.machine import cores, machine_facts
from edgeclf_runtime.files.outputs import new_file
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners import backend_version
from edgeclf_runtime.runners.base import Runner

from ..data.npz import MOST_BYTES, reading_npz, write_npz
from ..data.pixels import preprocessing_sha256
from ..data.schemas import LOGITS
from ..errors import EdgeclfError
from ..graph.inference import infer, infer_file
from ..targets import FLAVORS, model_file
from ..training.runs import Run
from .evaluation_set import EvaluationSet
from .open_model import OpenModel

LOGIT_FILE = "logits.npz"
_TYPES = np.dtype(np.float32), np.dtype(np.int32)
_MOST_BYTES = MOST_BYTES // 2
"""Logits that are kept; the rest of the file is hashes."""


class LogitStore:
    """Logits by model file and image file; whatever it infers, it remembers.

    changed    whether it has logits that the file it was read from lacks
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, np.ndarray]] = {}
        self.changed = False

    def add(self, model_sha256: str, images_sha256: Sequence[str], logits: np.ndarray) -> None:
        """Remember a model's logits, float32 [images, labels]."""
        self._rows.setdefault(model_sha256, {}).update(zip(images_sha256, logits, strict=True))
        self.changed = True

    def known(self, model_sha256: str, images: EvaluationSet) -> np.ndarray | None:
        """Return a model's logits of the images, float32 [images, labels], None unless all are known."""
        rows = self._rows.get(model_sha256, {})
        return np.stack([rows[image] for image in images.sha256]) if rows.keys() >= set(images.sha256) else None

    def infer(
        self, model: Path, name: str, images: EvaluationSet, what: str, runner: Runner | None = None
    ) -> np.ndarray:
        """Return an ONNX file's logits of the images, float32 [images, labels]; only those not known are inferred.

        name: of the model, as in targets.FLAVORS, or fp32.  what: names the work in the progress display.  runner: the
        file's, if it is open already.
        """
        digest = sha256_file(model)
        rows = self._rows.setdefault(digest, {})
        missing = [i for i, image in enumerate(images.sha256) if image not in rows]
        if missing:
            part = images if len(missing) == len(images) else images.subset(missing)
            batches = part.batches(what)
            logits = infer(runner, batches, cores()) if runner else infer_file(model, name, batches)
            self.add(digest, [images.sha256[i] for i in missing], logits)
        return np.stack([rows[image] for image in images.sha256])

    def write(self, path: Path, spec: Preprocessing, models: Collection[str]) -> None:
        """Write the logits of the models with these hashes, as far as the file stays readable."""
        kept = {digest: rows for digest, rows in self._rows.items() if digest in models}
        images = list(dict.fromkeys(image for rows in kept.values() for image in rows))
        index, room = {image: number for number, image in enumerate(images)}, _MOST_BYTES
        arrays: dict[str, np.ndarray] = {}
        for number, rows in enumerate(kept.values()):
            logits = np.stack(list(rows.values()))
            room -= logits.nbytes
            part = logits if room >= 0 else logits[:0]
            arrays[f"logits_{number}"] = part
            arrays[f"images_{number}"] = np.array([index[image] for image in rows], np.int32)[: len(part)]
        if images:
            write_npz(path, {"from": _circumstances(spec), "images": images, "models": list(kept)}, arrays)


def read_logits(path: Path, spec: Preprocessing) -> LogitStore:
    """Read a file that LogitStore.write() wrote; returns an empty LogitStore if it is missing, damaged or no longer valid."""
    store = LogitStore()
    try:
        with reading_npz(path, LOGITS) as (header, arrays):
            if header["from"] != _circumstances(spec):
                return LogitStore()
            for number, digest in enumerate(header["models"]):
                logits, rows = arrays[f"logits_{number}"], arrays[f"images_{number}"]
                if logits.ndim != 2 or rows.shape != (len(logits),) or (logits.dtype, rows.dtype) != _TYPES:
                    raise ValueError("the logits have another shape or type")
                store.add(digest, [header["images"][row] for row in rows], logits)
    except ValueError:
        return LogitStore()
    store.changed = False
    return store


@contextlib.contextmanager
def stored_logits(run: Run) -> Iterator[LogitStore]:
    """Yield the logits beside a run's models; what is new is kept there when the block succeeds, if the folder allows it."""
    path = run.path / LOGIT_FILE
    store = read_logits(path, run.preprocessing)
    yield store
    if store.changed:
        files = [run.path / model_file(name) for name in ("fp32", *FLAVORS)]
        models = {sha256_file(file) for file in files if file.is_file()}
        # A run may be read only, and its disk full: then each command infers again.
        with contextlib.suppress(OSError, EdgeclfError), new_file(path, overwrite=True) as work:
            store.write(Path(work), run.preprocessing, models)


def logits_of(opened: OpenModel, images: EvaluationSet) -> np.ndarray:
    """Return an open model's logits of the images, float32 [images, labels]; those of a run's file are kept beside it."""
    what, runner, run = f"evaluating {opened.name}", opened.classifier.runner, opened.run
    if run is None or opened.file is None or opened.file.parent != run.path:
        return infer(runner, images.batches(what), cores())
    with stored_logits(run) as store:
        return store.infer(opened.file, opened.name, images, what, runner)


def _circumstances(spec: Preprocessing) -> dict[str, str]:
    """Return what logits depend on besides the model and the image."""
    return {
        "preprocessing": preprocessing_sha256(spec),
        "onnxruntime": str(backend_version("onnxruntime")),
        "processor": str(machine_facts()["processor"]),
    }
