"""Calibration sets: the images whose activations determine the INT8 ranges.

A set has only training images; an image whose content is also in val or test is refused.  On disk
it is a folder under ``calibration/`` that holds no images, only their list:

    recipe.json       source, split, seed, rule and size
    images.sha256     hash and path of each image, in the format of ``sha256sum -c``
    prepare.py        writes both again
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.files.outputs import claim_output
from edgeclf_runtime.files.read import read_bytes, read_json, sha256_bytes, sha256_file
from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch

from ..data.datasets import NAMED_SETS, Dataset, read_images
from ..data.findings import listed
from ..data.folder_update import settle, updated_folder
from ..data.pixels import load_pixels
from ..data.schemas import MAX_JSON_BYTES, RECIPE
from ..display.json_file import json_text
from ..display.progress import say
from ..errors import DataError, OptionError, reason
from ..training.runs import split_facts
from .rules import RULES

RECIPE_FILE = "recipe.json"
LIST_FILE = "images.sha256"
FEW_IMAGES = 100
"""A set with fewer images is reported as small."""
FEWEST_LEFT = 20
"""A set of which fewer images are left, or fewer than half, is refused."""
EVALUATION_IMAGES = 500
"""Evaluation images needed to tell a one-point drop from noise; a smaller validation split is topped up from train."""


@dataclass(frozen=True)
class CalibrationSet:
    """The images of a calibration set, each with its hash."""

    recipe: JsonObject
    root: Path
    entries: tuple[tuple[str, str], ...]
    """sha256 and path relative to the root, sorted by path."""

    def __len__(self) -> int:
        return len(self.entries)

    @property
    def paths(self) -> list[Path]:
        """The image files."""
        return [self.root / name for _, name in self.entries]

    @property
    def listing(self) -> str:
        """The content of images.sha256."""
        return "".join(f"{digest}  {name}\n" for digest, name in self.entries)

    @property
    def sha256(self) -> str:
        """Hash of the list, and so of every image in it."""
        return sha256_bytes(self.listing.encode())

    def verify(self) -> CalibrationSet:
        """Return the set without the images that are missing or have changed since it was made, with a warning.

        Raises DataError, which names the first ones, if fewer than half of the images or than FEWEST_LEFT are left.
        """
        left = self._unchanged()
        if len(left) == len(self):
            return self
        lost = [name for digest, name in self.entries if (digest, name) not in left]
        if len(left) < max(FEWEST_LEFT, len(self) / 2):
            raise DataError(
                f"{listed(lost)} in {self.root} are missing or have changed since the calibration set was made, "
                f"{len(lost)} of its {len(self)} images: "
                "make the set again, or, if the images have moved, quantize again and name the folder that has them now with --data"
            )
        say(
            f"warning: {len(lost)} of the {len(self)} calibration images are missing from {self.root} or have changed, "
            f"first {lost[0]}; continuing with the other {len(left)}"
        )
        return replace(self, entries=tuple(entry for entry in self.entries if entry in left))

    def _unchanged(self) -> frozenset[tuple[str, str]]:
        """Return the entries whose files are there and have the content that they had."""
        return frozenset(
            (digest, name)
            for digest, name in self.entries
            if (self.root / name).is_file() and sha256_file(self.root / name) == digest
        )

    def warn_if_few(self) -> CalibrationSet:
        """Print a warning if the set is small, and return self."""
        if len(self) < FEW_IMAGES:
            say(f"warning: {len(self)} calibration images are few; {FEW_IMAGES} or more are usual")
        return self

    def batches(self, spec: Preprocessing) -> Batches:
        """Return the images as batches of one, preprocessed each time they are read."""
        return Batches(self.paths, spec)

    def save(self, folder: str | Path, overwrite: bool = False) -> None:
        """Write recipe.json and images.sha256 into a folder; its other files stay."""
        contents = {RECIPE_FILE: json_text(self.recipe, indent=1) + "\n", LIST_FILE: self.listing}
        with updated_folder(folder) as work:
            for name, text in contents.items():
                claim_output(Path(folder, name), overwrite)
                (work / name).write_text(text, encoding="utf-8")

    def refuse_held_out(self, dataset: Dataset) -> CalibrationSet:
        """Return self; DataError names the first image whose content is also in val or test of a data set."""
        held_out = [sample for sample in dataset.samples if sample.split in ("val", "test")]
        seen = dict(zip(dataset.sha256(held_out), held_out, strict=True))
        for digest, name in self.entries:
            if digest in seen:
                raise DataError(
                    f"{self.root / name} is also {seen[digest].path} in {seen[digest].split}: "
                    "calibration must not see evaluation images; remove one of the two, or make the set again, "
                    "from the run's own split: edgeclf calibrate DATA --model RUN"
                )
        return self

    @classmethod
    def load(cls, folder: str | Path, data: str | Path | Dataset | None = None) -> CalibrationSet:
        """Read a set from its folder, without images that are missing or changed, see verify(); DataError if it is not one.

        data: what holds the images now, if they have moved; they are recognized by their content.
        """
        folder = Path(folder)
        settle(folder)
        try:
            recipe = read_json(folder / RECIPE_FILE, MAX_JSON_BYTES)
            RECIPE(recipe, RECIPE_FILE)
            entries = _read_entries(folder / LIST_FILE)
            source = recipe["source"]
        except (OSError, ValueError) as error:
            name = f"{Path(error.filename).name}: " if isinstance(error, OSError) and error.filename else ""
            raise DataError(
                f"{folder} is not a calibration set ({RECIPE_FILE} and {LIST_FILE} were expected: {name}{reason(error)}); "
                "make one with: edgeclf calibrate DATA --output FOLDER"
            ) from None
        root = read_images(source).root if source in NAMED_SETS else Path(source)
        found = cls(recipe, root, entries)
        return found.verify() if data is None else found.moved_to(read_images(data)).verify()

    def moved_to(self, data: Dataset) -> CalibrationSet:
        """Return the set with the images that ``data`` has, by their content; itself if its own folder has as many of them."""
        names: dict[str, list[str]] = defaultdict(list)
        for sample, digest in zip(data.samples, data.sha256(data.samples), strict=True):
            names[digest].append(data.relative(sample))
        found = sum(bool(names[digest]) for digest, _ in self.entries)
        if not found or (found < len(self) and len(self._unchanged()) >= found):
            return self
        moved = [
            (digest, name if name in names[digest] else next(iter(names[digest]), name))
            for digest, name in self.entries
        ]
        return replace(self, root=data.root, entries=tuple(sorted(moved, key=lambda entry: entry[1])))

    @classmethod
    def select(
        cls,
        dataset: Dataset,
        size: int = 300,
        seed: int = 0,
        rule: str = "stratified",
        vectors: np.ndarray | None = None,
    ) -> CalibrationSet:
        """Choose images from train by a rule in RULES; the same seed gives the same images.

        vectors: float [train images, ...], the features for "diverse" or the logits for "uncertain".
        Raises DataError if a chosen image is also in val or test.
        """
        if size < 1:
            raise OptionError(f"the size of a calibration set is {size}; 1 or more was expected (300 is usual)")
        if rule not in RULES:
            raise OptionError(f"there is no rule {rule!r}; choose from {', '.join(RULES)}")
        train = dataset.split("train")
        # A copy of an image would only count that image twice.
        first: dict[str, int] = {}
        for index, digest in enumerate(dataset.sha256(train)):
            first.setdefault(digest or f"unreadable {index}", index)
        distinct = list(first.values())
        train = [train[index] for index in distinct]
        digests = dataset.sha256(train)
        vectors = np.zeros((len(train), 1), np.float32) if vectors is None else vectors[distinct]
        labels = [sample.label for sample in train]
        chosen = RULES[rule](digests, labels, min(size, len(train)), seed, vectors)
        entries = sorted(
            ((digests[index], dataset.relative(train[index])) for index in chosen), key=lambda entry: entry[1]
        )
        source = dataset.name if dataset.name in NAMED_SETS else str(dataset.root.resolve())
        recipe = {
            "source": source,
            "split": split_facts(dataset),
            "rule": rule,
            "size": len(entries),
            "seed": seed,
        }
        return cls(recipe, dataset.root, tuple(entries)).refuse_held_out(dataset)


def within_training_images(dataset: Dataset, size: int) -> int:
    """Return how many training images a calibration set may take: ``size``, or half of them if that is less.

    The others are needed as evaluation images, unless the validation split has EVALUATION_IMAGES.
    """
    counts = dataset.counts()
    most = counts["train"] if counts["val"] >= EVALUATION_IMAGES else max(1, counts["train"] // 2)
    if size > most:
        left = counts["train"] - most
        kept = f"; the other {left} are needed to evaluate INT8" if left else ""
        say(f"calibration takes {most} of the {counts['train']} training images, not {size}{kept}")
    return min(size, most)


def _read_entries(file: Path) -> tuple[tuple[str, str], ...]:
    """Return the hash and path of each image in an images.sha256; ValueError names an invalid line."""
    lines = read_bytes(file, MAX_JSON_BYTES).decode("utf-8").splitlines()
    entries = []
    for number, line in enumerate(lines, 1):
        found = re.fullmatch(r"([0-9a-f]{64})  ([^\0]{1,4096})", line)
        if not found:
            raise ValueError(
                f"{file.name}, line {number}: {line[:80]!a}; a sha256, two spaces and a path were expected"
            )
        entries.append((found.group(1), found.group(2)))
    if not entries:
        raise ValueError(f"{file.name} lists no images")
    return tuple(entries)


class Batches(Sequence[np.ndarray]):
    """A calibration set's images as float32 [1, height, width, 3], values 0 to 255, decoded on each read."""

    def __init__(self, paths: list[Path], spec: Preprocessing) -> None:
        self.paths, self.spec = paths, spec

    def __len__(self) -> int:
        return len(self.paths)

    def __getitem__(self, index: Any) -> Any:
        return as_batch([load_pixels(self.paths[index], self.spec)])
