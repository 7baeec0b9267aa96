"""A run: the folder that train or import writes, and that export, quantize and bundle read.

run.json              labels, preprocessing, options, data, metrics and versions
split.csv             every image with its label, split and sha256
metrics.csv           one line per epoch
train.yaml            the options, as edgeclf train --config takes them
model.safetensors     the trained weights
report.html           results on the validation images, for people; with report.json and predictions.csv
model.fp32.onnx       added by export
model.*, timm/        other formats, added by export --format
model.int8-*.onnx     added by quantize, with quantization.json and, for people, quantization.html

An imported run has model.fp32.onnx from the beginning, neither model.safetensors, metrics.csv nor a report, and
split.csv only if it was imported with data.
"""

from __future__ import annotations

import csv
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from edgeclf_runtime.files.read import read_bytes, read_json, sha256_file
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.images.preprocess import Preprocessing

from ..data import splits
from ..data.datasets import SPLITS, Dataset, read_images
from ..data.folder_update import settle
from ..data.pixels import without_unreadable
from ..data.schemas import IMPORTED, IMPORTED_RUN, MAX_JSON_BYTES, RUN, RUN_FORMAT, RUN_FORMAT_VERSION, SPLIT
from ..display.progress import say
from ..errors import DataError, EdgeclfError, ModelError, WeightsError, first_sentence
from ..options import SplitOptions
from ..targets import CALIBRATION_CACHE, FLAVORS, model_file
from .run_images import (
    about_accepted,
    about_left_out,
    as_recorded,
    at_root,
    in_dataset,
    nothing_left,
    refuse_lost_labels,
    unknown_to,
)

if TYPE_CHECKING:
    from .architecture import ImageClassifier

RUN_FILE = "run.json"
SPLIT_FILE = splits.SPLIT_FILE
METRICS_FILE = "metrics.csv"
CONFIG_FILE = "train.yaml"
WEIGHTS_FILE = "model.safetensors"
_SPLIT_COLUMNS = ("path", "label", "split", "group", "sha256")
# The command that writes each file, for the files that train does not write.
_MAKERS = {
    model_file("fp32"): "export",
    **dict.fromkeys([*map(model_file, FLAVORS), CALIBRATION_CACHE, "quantization.json"], "quantize"),
}


@dataclass(frozen=True)
class Run:
    """A trained classifier on disk; read by :func:`read_run`."""

    path: Path
    facts: JsonObject

    @property
    def imported(self) -> bool:
        """True if another program trained its model."""
        return self.facts.get("kind") == IMPORTED

    @property
    def name(self) -> str:
        """The name of its data, or of the imported model's file if it has no data."""
        return (self.facts["data"] or self.facts["model"])["name"]

    @property
    def labels(self) -> tuple[str, ...]:
        """The class names, in the order of the logits."""
        return tuple(self.facts["labels"])

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing from an image to the model's input."""
        return Preprocessing(**self.facts["preprocessing"])

    @property
    def split_options(self) -> SplitOptions | None:
        """Options of the split of its data, or None if the data came with its own split, or if there is none."""
        return read_split_options(self.facts["data"] and self.facts["data"]["split"])

    @property
    def kept_split(self) -> bool:
        """True if images kept the split that another run gave them, so that only split.csv says which one."""
        data: JsonObject = self.facts["data"] or {}
        return bool(data.get("kept_split", self.facts.get("options", {}).get("split_of")))

    def file(self, name: str) -> Path:
        """Return the path of one of its files; if it is missing, ModelError names the command that makes it."""
        path = self.path / name
        if not path.is_file():
            maker = _MAKERS.get(name, "train")
            raise ModelError(
                f"{self.path} has no {name}; make it with: edgeclf {maker} {self.path if maker != 'train' else 'DATA --output RUN'}"
            )
        return path

    @property
    def seed(self) -> int:
        """The seed of its split, or of its training if the data came with its own split."""
        options = self.split_options
        return int(self.facts["options"].get("seed", 0) if options is None else options.seed)

    def dataset(
        self,
        data: str | Path | Dataset | None = None,
        needs: Sequence[str] = (),
        skip_unreadable: bool = False,
        accept_new: bool = False,
    ) -> Dataset:
        """Return the images of its train, val and test splits, as they were at training or import.

        Images that are gone are left out, with a warning, also among the findings.

        data: what holds the images now, if they are not where they were; they are recognized by their content, and images
        that the run has not seen are left out.  needs: splits in which no label may have lost all of its images.
        skip_unreadable: leave out images that cannot be decoded.  accept_new: if ``data`` has no image of
        the run's val, take those that the run has not seen as val.

        Raises DataError if no image is left, if a split lost a label that it needs, or if the run was imported without data.
        """
        if self.facts["data"] is None:
            raise DataError(
                f"{self.path} was imported without images, which this step needs: import {self.name} again, with --data, "
                "the folder of your labeled images, and --overwrite"
            )
        rows, name = self.split_rows(), str(self.path)
        given = None if data is None else read_images(data)
        root = given.root if given is not None else Path(self.facts["data"]["root"])
        hashes, samples, gone = in_dataset(rows, given) if given is not None else at_root(rows, root)
        new = unknown_to(rows, given) if given is not None else []
        if accept_new and new and not any(sample.split == "val" for sample in samples):
            samples += [replace(sample, split="val") for sample in new]
            findings, needs = [about_accepted(name, len(new), str(data))], ()
        elif samples:
            findings = about_left_out(name, gone, len(rows), new, str(data))
        else:
            raise DataError(nothing_left(name, self.facts["data"]["root"], gone, given))
        found = Dataset(
            self.name,
            root,
            self.labels,
            tuple(samples),
            divided_by=self.split_options,
            findings=tuple(findings),
            _hashes=hashes,
        )
        for finding in findings:
            say(f"{finding.severity}: {finding.message}")
        if skip_unreadable:
            found = without_unreadable(found)
        refuse_lost_labels(name, rows, found.samples, needs)
        return found

    def images_here(self, data: str | Path | None = None) -> Dataset | None:
        """Return its images as dataset() does; None, with a message, if none is where it was and ``data`` is not given."""
        try:
            return self.dataset(data)
        except DataError:
            if data is not None:
                raise
            say("none of the run's images was found: its network is compared on random pixels instead")
            return None

    def recall(self, data: Dataset) -> Dataset:
        """Return a data set with each image that this run has seen in the split in which it was then.

        Images are recognized by their content; the others keep their splits.
        """
        return as_recorded(self.split_rows(), data) if self.facts["data"] else data

    def trained_on(self) -> frozenset[str]:
        """Return the hashes of the images of its train split; of an imported run, whose training is not known, none."""
        if self.imported or not self.facts["data"]:
            return frozenset()
        return frozenset(row["sha256"] for row in self.split_rows() if row["split"] == "train" and row["sha256"])

    def split_rows(self) -> list[dict[str, str]]:
        """Return the lines of its split.csv; ModelError if it is damaged."""
        return _read_split(self.file(SPLIT_FILE), self.labels)

    def network(self) -> ImageClassifier:
        """Return the trained network on the CPU, in evaluation mode.

        Raises WeightsError if its weights are damaged, and ModelError for an imported run.
        """
        if self.imported:
            raise ModelError(
                f"{self.path} was imported from {self.facts['model']['name']}, so it has no torch network; "
                f"its model is {model_file('fp32')}, named fp32"
            )
        from .architecture import build
        from .weights.checkpoint import read_state_dict

        network = build(
            self.facts["options"]["backbone"],
            len(self.labels),
            stem_stride=self.facts["options"].get("stem_stride"),
            pooling=self.facts.get("pooling"),
            norm_eps=self.facts.get("norm_eps"),
        )
        file = self.file(WEIGHTS_FILE)
        try:
            network.load_state_dict(read_state_dict(file))
        except RuntimeError as error:
            raise WeightsError(f"{file} does not fit its run ({first_sentence(error)}); train again") from None
        return network.eval()


def read_run(path: str | Path) -> Run:
    """Read a run folder; ModelError if it is not a run, is damaged, or has a newer format."""
    path = Path(path)
    settle(path)
    file = path / RUN_FILE
    if not file.is_file():
        raise ModelError(f"{path} is not a run (it has no {RUN_FILE}); make one with: edgeclf train DATA --output RUN")
    try:
        facts = read_json(file, MAX_JSON_BYTES)
        _check_version(path, facts)
        (IMPORTED_RUN if isinstance(facts, dict) and facts.get("kind") == IMPORTED else RUN)(facts, "")
        Preprocessing(**facts["preprocessing"]).check()
    except ModelError:
        raise
    except (OSError, ValueError, EdgeclfError) as error:
        raise ModelError(f"{file} is damaged ({error}); train again") from None
    return Run(path, facts)


def _check_version(path: Path, facts: object) -> None:
    found = (facts.get("format"), facts.get("format_version")) if isinstance(facts, dict) else (None, None)
    if found[0] == RUN_FORMAT and isinstance(found[1], int) and found[1] > RUN_FORMAT_VERSION:
        raise ModelError(
            f"{path} has format {RUN_FORMAT} {found[1]}; this edgeclf reads {RUN_FORMAT} {RUN_FORMAT_VERSION}: upgrade edgeclf"
        )


def _read_split(file: Path, labels: tuple[str, ...]) -> list[dict[str, str]]:
    """Return the rows of a split.csv; ModelError names the first damaged line."""
    known = frozenset(labels)
    try:
        lines = read_bytes(file, splits.MAX_SPLIT_BYTES).decode("utf-8").splitlines(keepends=True)
        reader = csv.DictReader(lines, strict=True)
        if tuple(reader.fieldnames or ()) != _SPLIT_COLUMNS:
            raise ValueError(f"its columns are {reader.fieldnames}; {', '.join(_SPLIT_COLUMNS)} were expected")
        rows = []
        for row in reader:
            problem = _wrong_cell(row, known)
            if problem:
                raise ValueError(f"line {reader.line_num}: {problem}")
            rows.append(row)
    except (OSError, ValueError, csv.Error) as error:
        raise ModelError(f"{file} is damaged ({error}); train again") from None
    return rows


def _wrong_cell(row: dict[str, str], labels: frozenset[str]) -> str:
    if None in row or None in row.values():
        return f"the number of cells is wrong; {len(_SPLIT_COLUMNS)} were expected"
    if not row["path"] or "\0" in row["path"]:
        return "the path is empty or contains a zero byte"
    if row["label"] not in labels:
        return f"the label is {row['label'][:60]!a}; one of the run's labels was expected"
    if row["split"] not in SPLITS:
        return f"the split is {row['split'][:60]!a}; one of {', '.join(SPLITS)} was expected"
    if row["sha256"] and not re.fullmatch("[0-9a-f]{64}", row["sha256"]):
        return f"the sha256 is {row['sha256'][:70]!a}; 64 hexadecimal digits were expected"
    return ""


def read_split_options(facts: JsonObject | None) -> SplitOptions | None:
    """Return the SplitOptions of a JSON object, None for None; ValueError if it is something else."""
    SPLIT(facts, "split")
    return None if facts is None else SplitOptions(**{"method": "exact", **facts})


def write_split(folder: Path, dataset: Dataset) -> str:
    """Write split.csv into a run's folder and return its sha256."""
    with (folder / SPLIT_FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(_SPLIT_COLUMNS)
        for sample, digest in zip(dataset.samples, dataset.sha256(dataset.samples), strict=True):
            writer.writerow((dataset.relative(sample), sample.label, sample.split, sample.group, digest))
    return sha256_file(folder / SPLIT_FILE)


def split_facts(dataset: Dataset) -> JsonObject | None:
    """Return the options of a data set's split as a JSON-compatible dict, None if it came with its own split."""
    if dataset.divided_by is None:
        return None
    facts = asdict(dataset.divided_by)
    # split.csv has what came of it, and the other run may be gone.
    del facts["split_of"]
    # Written as before there was a choice, so that such records stay equal.
    usual = {"method": "exact", "group_by": None, "group_similar": False}
    return {key: value for key, value in facts.items() if key not in usual or value != usual[key]}


def data_facts(dataset: Dataset, folder: Path) -> JsonObject:
    """Write a data set's split into a run's folder, and return what run.json says of the data."""
    return {
        "name": Path(os.path.abspath(dataset.name)).name,
        "root": os.path.abspath(dataset.root),
        "split": split_facts(dataset),
        "split_sha256": write_split(folder, dataset),
        "images": dataset.counts(),
        # Of a division, its options do not say then on which side an image is.
        "kept_split": dataset.divided_by is not None and dataset.divided_by.split_of is not None,
    }
