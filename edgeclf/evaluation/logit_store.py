"""Keeps logits and features beside a run's models, so that each model infers each image once.

``quantize``, ``evaluate``, ``compare`` and ``bundle`` write what they infer, and use what another of them has written.  Outputs
are valid for the same model file, image file, preprocessing, library version and processor.  Features are float16, which rounds
them by 0.05 % at most, less than INT8 does.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.outputs import new_file
from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.runners.base import Outputs

from ..data.npz import MOST_BYTES, reading_npz, write_npz
from ..data.schemas import LOGITS
from ..errors import EdgeclfError
from ..graph.inference import infer_file_outputs
from ..graph.onnx_file import has_features
from ..targets import FLAVORS, model_file
from ..training.runs import Run
from .bulk.image_outputs import as_halves, circumstances, image_outputs
from .evaluation_set import EvaluationSet
from .open_model import OpenModel

LOGIT_FILE = "logits.npz"
_TYPES = np.dtype(np.float32), np.dtype(np.int32)
_FEATURE_TYPES = np.dtype(np.float16), np.dtype(np.int32)
_MOST_BYTES = MOST_BYTES // 2
"""Logits that are kept; the rest of the file is hashes, and features as far as there is room."""
_MOST_FEATURE_BYTES = MOST_BYTES // 4
Compute = Callable[[EvaluationSet, str], Outputs]


class LogitStore:
    """Logits and features by model file and image file; whatever it infers, it remembers.

    changed    whether it has outputs that the file it was read from lacks
    """

    def __init__(self) -> None:
        self._rows: dict[str, dict[str, np.ndarray]] = {}
        self._features: dict[str, dict[str, np.ndarray]] = {}
        self.changed = False

    def add(
        self, model_sha256: str, images_sha256: Sequence[str], logits: np.ndarray, features: np.ndarray | None = None
    ) -> None:
        """Remember a model's logits, float32 [images, labels], and perhaps its features, [images, features]."""
        self._rows.setdefault(model_sha256, {}).update(zip(images_sha256, logits, strict=True))
        if features is not None:
            rows = zip(images_sha256, as_halves(features), strict=True)
            self._features.setdefault(model_sha256, {}).update(rows)
        self.changed = True

    def known(self, model_sha256: str, images: EvaluationSet) -> np.ndarray | None:
        """Return a model's logits of the images, float32 [images, labels], None unless all are known."""
        rows = self._rows.get(model_sha256, {})
        return _stacked(rows, images) if rows.keys() >= set(images.sha256) else None

    def infer(
        self, model: Path, name: str, images: EvaluationSet, what: str, compute: Compute | None = None
    ) -> np.ndarray:
        """Return an ONNX file's logits of the images, float32 [images, labels]; only those not known are inferred.

        name: of the model, as in targets.FLAVORS, or fp32.  what: names the work in the progress display.  compute: returns the
        file's outputs of images, if it is open already.
        """
        digest = sha256_file(model)
        rows = self._rows.setdefault(digest, {})
        self._infer_missing(digest, rows, model, name, images, what, compute)
        return _stacked(rows, images)

    def outputs(
        self, model: Path, name: str, images: EvaluationSet, what: str, compute: Compute | None = None
    ) -> Outputs:
        """Return an ONNX file's logits and features of the images; features are float16 [images, features].

        They are None if the model has none.  Arguments as for infer().
        """
        import onnx

        if not has_features(onnx.load(model)):
            return Outputs(self.infer(model, name, images, what, compute))
        digest = sha256_file(model)
        logits, features = self._rows.setdefault(digest, {}), self._features.setdefault(digest, {})
        self._infer_missing(digest, logits.keys() & features.keys(), model, name, images, what, compute)
        return Outputs(_stacked(logits, images), _stacked(features, images))

    def _infer_missing(
        self,
        digest: str,
        known: Collection[str],
        model: Path,
        name: str,
        images: EvaluationSet,
        what: str,
        compute: Compute | None,
    ) -> None:
        missing = [i for i, image in enumerate(images.sha256) if image not in known]
        if missing:
            part = images if len(missing) == len(images) else images.subset(missing)
            found = compute(part, what) if compute else infer_file_outputs(model, name, part.batches(what))
            self.add(digest, [images.sha256[i] for i in missing], *found)

    def write(self, path: Path, spec: Preprocessing, models: Collection[str]) -> None:
        """Write the outputs of the models with these hashes, as far as the file stays readable: logits first."""
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
        arrays.update(self._feature_arrays(kept, index))
        if images:
            write_npz(path, {"from": circumstances(spec), "images": images, "models": list(kept)}, arrays)

    def _feature_arrays(self, kept: Iterable[str], index: Mapping[str, int]) -> dict[str, np.ndarray]:
        """Return the features to write; index: an image's number by its hash.

        A model's are kept whole or not at all: statistics need all of them.
        """
        room, arrays = _MOST_FEATURE_BYTES, {}
        for number, digest in enumerate(kept):
            rows = self._features.get(digest)
            size = sum(row.nbytes for row in rows.values()) if rows else 0
            if rows and size <= room:
                room -= size
                arrays[f"features_{number}"] = np.stack(list(rows.values()))
                arrays[f"featured_{number}"] = np.array([index[image] for image in rows], np.int32)
        return arrays


def _stacked(rows: Mapping[str, np.ndarray], images: EvaluationSet) -> np.ndarray:
    return np.stack([rows[image] for image in images.sha256])


def read_logits(path: Path, spec: Preprocessing) -> LogitStore:
    """Read a file that LogitStore.write() wrote; returns an empty LogitStore if it is missing, damaged or no longer valid."""
    store = LogitStore()
    try:
        with reading_npz(path, LOGITS) as (header, arrays):
            if header["from"] != circumstances(spec):
                return LogitStore()
            for number, digest in enumerate(header["models"]):
                logits, rows = arrays[f"logits_{number}"], arrays[f"images_{number}"]
                if logits.ndim != 2 or rows.shape != (len(logits),) or (logits.dtype, rows.dtype) != _TYPES:
                    raise ValueError("the logits have another shape or type")
                store.add(digest, [header["images"][row] for row in rows], logits)
                store._features[digest] = _read_features(header["images"], arrays, number)
    except ValueError:
        return LogitStore()
    store.changed = False
    return store


def _read_features(images: Sequence[str], arrays: Mapping[str, np.ndarray], number: int) -> dict[str, np.ndarray]:
    if f"features_{number}" not in arrays:
        return {}
    features, rows = arrays[f"features_{number}"], arrays[f"featured_{number}"]
    if features.ndim != 2 or rows.shape != (len(features),) or (features.dtype, rows.dtype) != _FEATURE_TYPES:
        raise ValueError("the features have another shape or type")
    return {images[row]: one for row, one in zip(rows, features, strict=True)}


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


def logits_of(opened: OpenModel, images: EvaluationSet, engine: str = "local") -> np.ndarray:
    """Return an open model's logits of the images, float32 [images, labels]; those of a run's file are kept beside it."""
    what, run, file = f"evaluating {opened.name}", opened.run, opened.file
    if run is None or file is None or file.parent != run.path:
        return image_outputs(opened, images, what, engine, features=False).logits
    with stored_logits(run) as store:
        return store.infer(file, opened.name, images, what, partial(image_outputs, opened, engine=engine))


def outputs_of(opened: OpenModel, images: EvaluationSet, engine: str = "local") -> Outputs:
    """Return an open model's logits and features of the images, as LogitStore.outputs() does; see logits_of()."""
    what, run, file = f"evaluating {opened.name}", opened.run, opened.file
    if run is None or file is None or file.parent != run.path:
        return image_outputs(opened, images, what, engine)
    with stored_logits(run) as store:
        return store.outputs(file, opened.name, images, what, partial(image_outputs, opened, engine=engine))
