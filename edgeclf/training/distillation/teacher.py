"""The network that another one learns from, besides its labels.

Hinton et al. 2015, "Distilling the Knowledge in a Neural Network".  The teacher sees each image once, as it is, in its own size
and preprocessing.  Beyer et al. 2022, "Knowledge distillation: A good teacher is patient and consistent", found that a teacher
should see the very view that its student sees; that costs the pass of a larger network in every step, and gives it no more than
the student's resolution.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.read import sha256_file

from ...data.datasets import Dataset
from ...data.findings import Finding, counted, listed, warning
from ...data.pixels import load_batches
from ...errors import ModelError
from ...graph.inference import infer_file_each
from ...options import TrainOptions
from ...targets import model_file
from ..features import batch_of, run_network, write_rows
from ..runs import WEIGHTS_FILE, Run, read_run
from .unlabeled import Unlabeled, find_unlabeled

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Teacher:
    """A run that a network learns from."""

    run: Run
    order: tuple[int, ...]
    """Its output of each of the data's labels."""
    unlabeled: Unlabeled | None
    findings: tuple[Finding, ...]

    @property
    def sha256(self) -> str:
        """The hash of its weights."""
        return sha256_file(self._file)

    @property
    def _file(self) -> Path:
        return self.run.file(model_file("fp32") if self.run.imported else WEIGHTS_FILE)

    def facts(self) -> dict[str, object]:
        """Return what a run records of it, for JSON."""
        return {
            "run": str(self.run.path),
            "backbone": self.run.facts["options"].get("backbone"),
            "preprocessing": self.run.facts["preprocessing"],
            "sha256": self.sha256,
            "unlabeled": None if self.unlabeled is None else self.unlabeled.facts(),
        }

    def logits(
        self, paths: Sequence[Path], file: Path, device: torch.device, deadline: float | None = None
    ) -> np.ndarray:
        """Return its logits of images, float32 [images, labels], in the order of the data's labels.

        file: a .npy file that keeps them, in the order of its own labels.  deadline: see cache_features().
        """
        if not file.is_file():
            parts = self._infer(paths, device)
            write_rows(file, (len(paths), len(self.run.labels)), parts, deadline)
        found: np.ndarray = np.load(file, allow_pickle=False)[:, list(self.order)]
        if not np.isfinite(found).all():
            raise ModelError(f"the teacher {self.run.path} produces non-finite logits; choose another --teacher")
        return found

    def _infer(self, paths: Sequence[Path], device: torch.device) -> Iterator[np.ndarray]:
        spec, what = self.run.preprocessing, "the teacher's logits"
        if self.run.imported:
            return infer_file_each(self._file, "fp32", load_batches(paths, spec, 1, what))
        return run_network(self.run.network(), load_batches(paths, spec, batch_of(device), what), spec, device)


def read_teacher(options: TrainOptions, dataset: Dataset) -> Teacher | None:
    """Return the teacher that the options name; None if they name none.

    Raises ModelError if it is not a run, or has other labels, and DataError if there are no images without labels.
    """
    if options.teacher is None:
        return None
    run = read_run(options.teacher)
    if sorted(run.labels) != sorted(dataset.labels):
        raise ModelError(
            f"the teacher {run.path} has the labels {listed(run.labels)}, but the data has {listed(dataset.labels)}: train a "
            "teacher on the same labels, or leave out --teacher"
        )
    images = None if options.unlabeled is None else find_unlabeled(Path(options.unlabeled), dataset)
    findings = [] if images is None else images.findings()
    order = tuple(run.labels.index(label) for label in dataset.labels)
    return Teacher(run, order, images, (*_seen(run, dataset), *findings))


def _seen(run: Run, dataset: Dataset) -> list[Finding]:
    """Return a warning about images of val and test that the teacher was trained on."""
    held = [sample for split in ("val", "test") for sample in dataset.split(split)]
    known = run.trained_on()
    seen = [sample.path for sample, digest in zip(held, dataset.sha256(held), strict=True) if digest in known]
    if not seen:
        return []
    what = f"the teacher was trained on {len(seen)} of the {counted(len(held), 'image')} of val and test"
    return [warning("teacher", f"{what}, so the accuracy there may be too high: train it on the same split", seen)]
