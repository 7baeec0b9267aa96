"""Labelled images on disk, and their division into train, val and test.

``load_dataset`` reads every layout that users have: a folder of class folders, a folder with
``train/``, ``val/`` and ``test/``, a CSV file, or a named set.  Where the data brings no
division, images are divided by the hash of their content: the same seed gives the same
division on every machine, whatever the files are called, and two copies of one image never
end up on both sides.

Knows nothing of pixels: files are hashed here, never decoded.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.read import is_image_name
from edgeclf_runtime.text.terminal import is_invisible, printable

from ..errors import DataError, DependencyError
from ..options import SplitOptions
from .splits import divide

SPLITS = ("train", "val", "test")
# Persian, Hindi and others are written with them.
_JOINERS = "\u200c\u200d"
_FOLDER_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Sample:
    """One labelled image file.

    ``group`` refines the stratification (ELPV: the cell type); "" where there is none.
    """

    path: Path
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """Labelled images, each in one split."""

    name: str
    root: Path
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    empty: tuple[Path, ...] = ()
    """Class folders that hold no image."""
    unlabelled: tuple[Path, ...] = ()
    """Images beside the class folders, which belong to no class."""
    divided_by: SplitOptions | None = None
    """The options that divided it, or None where the data brought its own division."""
    _hashes: dict[Path, str] = field(default_factory=dict, compare=False, repr=False)

    def split(self, name: str) -> list[Sample]:
        """Return the samples of one split; DataError where it has none."""
        found = [sample for sample in self.samples if sample.split == name]
        if not found:
            there = ", ".join(f"{split} ({count})" for split, count in self.counts().items() if count) or "none"
            raise DataError(f"{self.name} has no images in the split {name!r}; it has {there}: choose one of these")
        return found

    def counts(self) -> dict[str, int]:
        """Return the number of images by split."""
        return {name: sum(sample.split == name for sample in self.samples) for name in SPLITS}

    def index(self, sample: Sample) -> int:
        """Return a sample's label as its place in ``labels``."""
        return self._places[sample.label]

    @cached_property
    def _places(self) -> dict[str, int]:
        return {label: place for place, label in enumerate(self.labels)}

    def by_label(self, split: str) -> dict[str, list[Sample]]:
        """Return the samples of a split by label, in the order of ``labels``, of labels without a sample too."""
        found: dict[str, list[Sample]] = {label: [] for label in self.labels}
        for sample in self.split(split):
            found[sample.label].append(sample)
        return found

    def relative(self, sample: Sample) -> str:
        """Return a sample's path from the set's root, with forward slashes."""
        return Path(os.path.relpath(sample.path, self.root)).as_posix()

    def sha256(self, samples: Iterable[Sample]) -> list[str]:
        """Return the SHA-256 of each sample's file, "" where it cannot be read; a file is read once."""
        samples = list(samples)
        missing = [sample.path for sample in samples if sample.path not in self._hashes]
        with ThreadPoolExecutor() as pool:
            self._hashes.update(zip(missing, pool.map(_hash, missing), strict=True))
        return [self._hashes[sample.path] for sample in samples]

    def without(self, paths: set[Path]) -> Dataset:
        """Return the set without some files."""
        return replace(self, samples=tuple(sample for sample in self.samples if sample.path not in paths))


def load_dataset(data: str | Path | Dataset, options: SplitOptions | None = None) -> Dataset:
    """Read a data set and divide it where it is not divided yet.

    data: a folder of class folders, a folder with train/, val/ and test/, a CSV file with the
    columns path, label and perhaps split, or one of NAMED_SETS.  Raises DataError where it is
    none of these or holds no image.
    """
    if isinstance(data, Dataset):
        return data
    name = str(data)
    if name in NAMED_SETS:
        dataset = NAMED_SETS[name]()
    elif Path(data).is_dir():
        dataset = _from_folder(Path(data))
    elif Path(data).is_file() and name.lower().endswith(".csv"):
        dataset = _from_csv(Path(data))
    else:
        what = "is a file, but no .csv" if Path(data).exists() else "does not exist"
        raise DataError(
            f"{data} {what}: a folder of class folders, a .csv file, or one of {', '.join(NAMED_SETS)} was expected"
        )
    return _divide(dataset, options or SplitOptions())


def _from_folder(root: Path) -> Dataset:
    splits, classes = _class_folders(root)
    unlabelled = [path for folder in [root, *splits] for path in _images(folder, nested=False)]
    if not classes and unlabelled:
        raise DataError(
            f"{unlabelled[0].parent} holds images but no class folders: move each class's images into a folder of the class's name"
        )
    samples, empty = [], []
    for split, folder in classes:
        paths = _images(folder)
        samples += [Sample(path, folder.name, split) for path in paths]
        if not paths:
            empty.append(folder)
    if not samples:
        raise DataError(
            f"{root} holds no images: put each class's images (JPEG, PNG, BMP, WebP or TIFF) into a folder of its name there"
        )
    return _dataset(str(root), root, samples, empty, unlabelled)


def _class_folders(root: Path) -> tuple[list[Path], list[tuple[str, Path]]]:
    """Return the folders that are splits, and the class folders, each with its split ("" where there is none)."""
    folders = _folders(root)
    splits = {folder: _FOLDER_NAMES[folder.name.lower()] for folder in folders if folder.name.lower() in _FOLDER_NAMES}
    others = [folder for folder in folders if folder not in splits]
    # A class may well be called "train" (or "test"); what tells it from a split is that no class folders are in it.
    inner = [folder for folder in splits if _folders(folder)]
    if others and inner:
        raise DataError(
            f"{root} holds {inner[0].name}/ with class folders in it and, beside it, {', '.join(f.name for f in others)}: "
            "either train/, val/ and test/ or class folders were expected, not both"
        )
    if others:
        return [], [("", folder) for folder in folders]
    return list(splits), [(split, folder) for top, split in splits.items() for folder in _folders(top)]


def _folders(root: Path) -> list[Path]:
    here = root.resolve()
    return sorted(
        entry
        for entry in root.iterdir()
        if entry.is_dir()
        and not entry.name.startswith((".", "__"))
        # A link back to the folder, or to one above it, is no class.
        and not here.is_relative_to(entry.resolve())
    )


def _images(folder: Path, nested: bool = True) -> list[Path]:
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent)
        # Links may lead in circles.
        known = here in seen
        seen.add(here)
        folders[:] = sorted(name for name in folders if nested and not known and not name.startswith("."))
        if not known:
            found += [Path(parent, name) for name in names if is_image_name(name) and not name.startswith(".")]
    return sorted(found)


def _from_csv(file: Path) -> Dataset:
    samples = []
    for line, row in _read_rows(file):
        path, label, split = (str(row.get(column) or "").strip() for column in ("path", "label", "split"))
        if not path or not label:
            raise DataError(f"{file}, line {line}: path or label is empty; fill it in or remove the line")
        if split and split.lower() not in _FOLDER_NAMES:
            raise DataError(f"{file}, line {line}: the split is {split!r}; train, val or test was expected")
        samples.append(Sample(file.parent / path, label, _FOLDER_NAMES.get(split.lower(), "")))
    undivided = sum(not sample.split for sample in samples)
    if 0 < undivided < len(samples):
        raise DataError(
            f"{file}: {undivided} of {len(samples)} lines name no split; name one in every line, or in none"
        )
    return _dataset(str(file), file.parent, samples)


def _read_rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Return each row of a CSV file with the number of its line."""
    with file.open(newline="", encoding="utf-8-sig") as stream:
        try:
            header = stream.readline()
            # Spreadsheets write semicolons where the comma is the decimal sign.
            delimiter = max(",;\t", key=header.count)
            columns = [column.strip().lower() for column in next(csv.reader([header], delimiter=delimiter), [])]
            reader = csv.DictReader(stream, columns, delimiter=delimiter)
            rows = [(reader.line_num + 1, row) for row in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file} is not a CSV file in UTF-8 ({error}); save it as one") from None
    if not {"path", "label"} <= set(columns):
        raise DataError(
            f"{file} has the columns {', '.join(columns) or '(none)'}; path, label and perhaps split were expected in its first line"
        )
    if not rows:
        raise DataError(f"{file} lists no images: a line with path and label was expected for each")
    return rows


def _elpv() -> Dataset:
    """Solar cells, 300 x 300, grey; defective from a probability of 0.5 on (Deitsch et al. 2019)."""
    try:
        import elpv_dataset
    except ImportError:
        raise DependencyError(
            'the set elpv is not installed; install it: python3 -m pip install "edgeclf[demo]"'
        ) from None
    root = Path(elpv_dataset.__file__).parent / "data"
    samples = []
    for line in (root / "labels.csv").read_text().splitlines():
        name, probability, cell_type = line.split()
        samples.append(Sample(root / name, "defective" if float(probability) >= 0.5 else "functional", group=cell_type))
    return _dataset("elpv", root, samples)


def _cifar10() -> Dataset:
    """CIFAR-10 by torchvision, unpacked once into PNG files."""
    from edgeclf_runtime.files.outputs import new_folder
    from edgeclf_runtime.files.user_folders import home_cache_folder

    named = os.environ.get("EDGECLF_DATA") or home_cache_folder()
    home = Path(os.path.expanduser(named or "~"))
    if home.parts[0].startswith("~"):
        raise DataError("there is no home to look for CIFAR-10 in: set HOME, or name a folder by EDGECLF_DATA")
    images = home / "cifar10"
    if not images.exists():
        import cv2
        from torchvision.datasets import CIFAR10

        try:
            parts = {"train": CIFAR10(home, train=True), "test": CIFAR10(home, train=False)}
        except RuntimeError:
            raise DataError(
                f"CIFAR-10 is not in {home}; fetch it once: python3 -c "
                f'"from torchvision.datasets import CIFAR10; CIFAR10({str(home)!r}, download=True)" '
                "(EDGECLF_DATA names another folder)"
            ) from None
        with new_folder(images) as work:
            for split, part in parts.items():
                for number, (pixels, target) in enumerate(zip(part.data, part.targets, strict=True)):
                    folder = Path(work, split, part.classes[target])
                    folder.mkdir(parents=True, exist_ok=True)
                    # Written by Python, whose error names the reason.
                    data = cv2.imencode(".png", pixels[:, :, ::-1])[1].tobytes()
                    (folder / f"{number:05d}.png").write_bytes(data)
    return replace(_from_folder(images), name="cifar10")


NAMED_SETS: dict[str, Callable[[], Dataset]] = {"elpv": _elpv, "cifar10": _cifar10}


def _dataset(
    name: str, root: Path, samples: list[Sample], empty: Iterable[Path] = (), unlabelled: Iterable[Path] = ()
) -> Dataset:
    for sample in samples:
        try:
            str(sample.path).encode()
        except UnicodeEncodeError:
            raise DataError(f"the name {os.fsencode(sample.path)!r} is not in UTF-8; rename it") from None
    empty = tuple(empty)
    labels = {sample.label for sample in samples} | {folder.name for folder in empty}
    _check_labels(name, labels)
    return Dataset(name, root, tuple(sorted(labels)), tuple(samples), empty, tuple(unlabelled))


def _check_labels(name: str, labels: set[str]) -> None:
    """Refuse labels that command a terminal, break lines, or look like others; they would go into every bundle."""
    for label in sorted(labels):
        if any(is_invisible(letter) and letter not in _JOINERS for letter in label):
            raise DataError(
                f"{name} has the label '{printable(label)}', with a control character or another invisible one (shown "
                "escaped): rename the class folder, or write the label anew in the CSV file"
            )


def _divide(dataset: Dataset, options: SplitOptions) -> Dataset:
    """Give every sample a split; a validation split that is missing comes out of train."""
    there = {sample.split for sample in dataset.samples}
    if "" in there:
        shares = {"test": options.test, "val": options.val}
    elif "val" not in there and "train" in there:
        shares = {"val": options.val}
    else:
        return dataset
    divisible = [sample for sample in dataset.samples if sample.split in ("", "train")]
    # A file that cannot be read is divided by its path; the integrity check names it later.
    digests = [digest or str(sample.path) for sample, digest in zip(divisible, dataset.sha256(divisible), strict=True)]
    splits = divide([(sample.label, sample.group) for sample in divisible], digests, shares, options.seed)
    split_of = {sample.path: split for sample, split in zip(divisible, splits, strict=True)}
    samples = tuple(replace(sample, split=split_of.get(sample.path, sample.split)) for sample in dataset.samples)
    return replace(dataset, samples=samples, divided_by=options)


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""
