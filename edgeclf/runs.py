"""A run: the folder that training leaves behind, and that export, quantize and bundle start from.

run.json              what was trained, with which options, data and versions
split.csv             every image with its label, split and sha256
metrics.csv           one line an epoch
model.safetensors     the trained weights
model.fp32.onnx       added by export
model.int8-*.onnx     added by quantize, with quantization.json and quantization.html, the same for people
"""

from __future__ import annotations

import csv
import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.files import sha256_file
from edgeclf_runtime.preprocess import Preprocessing

from .datasets import Dataset, Sample
from .errors import DataError, ModelError, WeightsError
from .splitting import SplitOptions
from .update import settle

if TYPE_CHECKING:
    from .backbones import ImageClassifier

FORMAT = "edgeclf-run"
FORMAT_VERSION = 1
RUN_FILE = "run.json"
SPLIT_FILE = "split.csv"
METRICS_FILE = "metrics.csv"
WEIGHTS_FILE = "model.safetensors"


@dataclass(frozen=True)
class Run:
    """A trained classifier on disk; read by :func:`read_run`."""

    path: Path
    facts: dict[str, Any]

    @property
    def name(self) -> str:
        """The name of the data that it was trained on."""
        return self.facts["data"]["name"]

    @property
    def labels(self) -> tuple[str, ...]:
        """The names of the classes, in the order of the logits."""
        return tuple(self.facts["labels"])

    @property
    def preprocessing(self) -> Preprocessing:
        """How an image becomes the model's input."""
        return Preprocessing(**self.facts["preprocessing"])

    @property
    def split_options(self) -> SplitOptions | None:
        """How its data was divided, or None where the data brought its own division."""
        return read_split_options(self.facts["data"]["split"])

    def file(self, name: str) -> Path:
        """Return the path of one of its files; ModelError says which command makes it where it is missing."""
        path = self.path / name
        if not path.is_file():
            maker = {"model.fp32.onnx": "export", "model.fp16.onnx": "quantize", "calibration.cache": "quantize"}.get(
                name, "quantize" if "int8" in name or name == "quantization.json" else "train"
            )
            raise ModelError(
                f"{self.path} holds no {name}; make it with: edgeclf {maker} {self.path if maker != 'train' else 'DATA --output RUN'}"
            )
        return path

    def dataset(self) -> Dataset:
        """Return the images that it was trained, validated and tested on, as they were divided then.

        Raises DataError where they are no longer where they were.
        """
        root = Path(self.facts["data"]["root"])
        hashes, samples = {}, []
        with self.file(SPLIT_FILE).open(newline="", encoding="utf-8") as stream:
            for row in csv.DictReader(stream):
                # By name alone, as the path was made relative: "..", if taken from a link, leads elsewhere.
                path = Path(os.path.normpath(root / row["path"]))
                samples.append(Sample(path, row["label"], row["split"], row["group"]))
                hashes[path] = row["sha256"]
        gone = [sample.path for sample in samples if not sample.path.exists()]
        if gone:
            raise DataError(
                f"{len(gone)} of the {len(samples)} images of {self.path} are gone, {gone[0]} is the first: put them back, "
                f"or, if the folder {root} has moved, write its new place into {self.path / RUN_FILE}, under data.root"
            )
        return Dataset(self.name, root, self.labels, tuple(samples), divided_by=self.split_options, _hashes=hashes)

    def network(self) -> ImageClassifier:
        """Return the trained network, in evaluation mode, on the CPU; WeightsError where its weights are damaged."""
        from .backbones import create, read_state_dict

        network = create(self.facts["options"]["backbone"], len(self.labels))
        file = self.file(WEIGHTS_FILE)
        try:
            network.load_state_dict(read_state_dict(file))
        except RuntimeError as error:
            raise WeightsError(f"{file} does not fit its run ({str(error).splitlines()[0]}); train again") from None
        return network.eval()


def read_run(path: str | Path) -> Run:
    """Read a run folder; ModelError where it is none, or of a newer format."""
    path = Path(path)
    settle(path)
    file = path / RUN_FILE
    if not file.is_file():
        raise ModelError(
            f"{path} is not a run (it holds no {RUN_FILE}); make one with: edgeclf train DATA --output RUN"
        )
    try:
        facts = json.loads(file.read_text(encoding="utf-8"))
        if facts["format"] != FORMAT or facts["format_version"] > FORMAT_VERSION:
            raise ModelError(
                f"{path} is of format {facts['format']} {facts['format_version']}; this edgeclf reads {FORMAT} {FORMAT_VERSION}: upgrade it"
            )
        run = Run(path, facts)
        # What is missing or garbled shows here, not in the middle of the work.
        _ = run.name, run.labels, run.preprocessing, run.split_options, facts["options"]["backbone"]
    except (ValueError, KeyError, TypeError) as error:
        raise ModelError(f"{file} is damaged ({error!r}); train again") from None
    return run


def read_split_options(facts: dict[str, Any] | None) -> SplitOptions | None:
    """Return the SplitOptions that JSON holds, None for None."""
    return None if facts is None else SplitOptions(**facts)


def write_split(folder: Path, dataset: Dataset) -> str:
    """Write split.csv into a run's folder and return its sha256."""
    with (folder / SPLIT_FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "label", "split", "group", "sha256"))
        for sample, digest in zip(dataset.samples, dataset.sha256(dataset.samples), strict=True):
            writer.writerow((dataset.relative(sample), sample.label, sample.split, sample.group, digest))
    return sha256_file(folder / SPLIT_FILE)


def split_facts(dataset: Dataset) -> dict[str, Any] | None:
    """Return how a data set was divided, as JSON can hold it."""
    return None if dataset.divided_by is None else asdict(dataset.divided_by)
