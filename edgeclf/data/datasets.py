"""Labeled images on disk, and their split into train, val and test.

``load_dataset`` reads a folder of class folders, a folder with ``train/``, ``val/`` and
``test/``, a CSV file, or a named set.  Data without a split of its own is split by the hash of
each file: the same seed gives the same split on every machine, whatever the file names, and
two copies of an image never end up in different splits.  Files are hashed here, not decoded.
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
# Persian, Hindi and other scripts use them.
_JOINERS = "\u200c\u200d"
_FOLDER_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}


@dataclass(frozen=True)
class Sample:
    """One labeled image file.

    group: refines the stratification of the split (ELPV: the cell type); "" if there is none.
    """

    path: Path
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True)
class Dataset:
    """Labeled images, each in one split."""

    name: str
    root: Path
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    empty: tuple[Path, ...] = ()
    """Class folders without images."""
    unlabelled: tuple[Path, ...] = ()
    """Images next to the class folders, which have no class."""
    divided_by: SplitOptions | None = None
    """Options of the split, or None if the data came with its own."""
    _hashes: dict[Path, str] = field(default_factory=dict, compare=False, repr=False)

    def split(self, name: str) -> list[Sample]:
        """Return the samples of one split; DataError if there are none."""
        found = [sample for sample in self.samples if sample.split == name]
        if not found:
            others = ", ".join(f"{split} ({count})" for split, count in self.counts().items() if count) or "none"
            raise DataError(f"{self.name} has no images in the split {name!r}; it has {others}: choose one of these")
        return found

    def counts(self) -> dict[str, int]:
        """Return the number of images by split."""
        return {name: sum(sample.split == name for sample in self.samples) for name in SPLITS}

    def index(self, sample: Sample) -> int:
        """Return the index of a sample's label in ``labels``."""
        return self._indices[sample.label]

    @cached_property
    def _indices(self) -> dict[str, int]:
        return {label: index for index, label in enumerate(self.labels)}

    def by_label(self, split: str) -> dict[str, list[Sample]]:
        """Return the samples of a split by label, in the order of ``labels``; labels without samples are included."""
        found: dict[str, list[Sample]] = {label: [] for label in self.labels}
        for sample in self.split(split):
            found[sample.label].append(sample)
        return found

    def relative(self, sample: Sample) -> str:
        """Return a sample's path relative to the root, with forward slashes."""
        return Path(os.path.relpath(sample.path, self.root)).as_posix()

    def sha256(self, samples: Iterable[Sample]) -> list[str]:
        """Return the SHA-256 of each sample's file, "" if it cannot be read; each file is read only once."""
        samples = list(samples)
        missing = [sample.path for sample in samples if sample.path not in self._hashes]
        with ThreadPoolExecutor() as pool:
            self._hashes.update(zip(missing, pool.map(_hash, missing), strict=True))
        return [self._hashes[sample.path] for sample in samples]

    def without(self, paths: set[Path]) -> Dataset:
        """Return the data set without the given files."""
        return replace(self, samples=tuple(sample for sample in self.samples if sample.path not in paths))


def load_dataset(data: str | Path | Dataset, options: SplitOptions | None = None) -> Dataset:
    """Read a data set, and split it if it has no split yet.

    data: a folder of class folders, a folder with train/, val/ and test/, a CSV file with the
    columns path, label and optionally split, or one of NAMED_SETS.  Raises DataError if it is
    none of these or has no images.
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
        what = "is a file, but not a .csv" if Path(data).exists() else "does not exist"
        raise DataError(
            f"{data} {what}: a folder of class folders, a .csv file, or one of {', '.join(NAMED_SETS)} was expected"
        )
    return _divide(dataset, options or SplitOptions())


def _from_folder(root: Path) -> Dataset:
    splits, classes = _class_folders(root)
    unlabelled = [path for folder in [root, *splits] for path in _images(folder, nested=False)]
    if not classes and unlabelled:
        raise DataError(
            f"{unlabelled[0].parent} holds images but no class folders: move the images of each class into a folder with the class's name"
        )
    samples, empty = [], []
    for split, folder in classes:
        paths = _images(folder)
        samples += [Sample(path, folder.name, split) for path in paths]
        if not paths:
            empty.append(folder)
    if not samples:
        raise DataError(
            f"{root} holds no images: put the images of each class (JPEG, PNG, BMP, WebP or TIFF) into a folder with its name there"
        )
    return _dataset(str(root), root, samples, empty, unlabelled)


def _class_folders(root: Path) -> tuple[list[Path], list[tuple[str, Path]]]:
    """Return the split folders, and the class folders, each with its split ("" if there is none)."""
    folders = _folders(root)
    splits = {folder: _FOLDER_NAMES[folder.name.lower()] for folder in folders if folder.name.lower() in _FOLDER_NAMES}
    others = [folder for folder in folders if folder not in splits]
    # A class may be called "train" or "test"; unlike a split, it contains no class folders.
    inner = [folder for folder in splits if _folders(folder)]
    if others and inner:
        raise DataError(
            f"{root} holds {inner[0].name}/ with class folders in it and, next to it, {', '.join(f.name for f in others)}: "
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
        # A link to the folder itself, or to one above it, is not a class.
        and not here.is_relative_to(entry.resolve())
    )


def _images(folder: Path, nested: bool = True) -> list[Path]:
    found, seen = [], set()
    for parent, folders, names in os.walk(folder, followlinks=True):
        here = os.path.realpath(parent)
        # Links may form circles.
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
            raise DataError(f"{file}, line {line}: path or label is empty; fill it in, or remove the line")
        if split and split.lower() not in _FOLDER_NAMES:
            raise DataError(f"{file}, line {line}: the split is {split!r}; train, val or test was expected")
        samples.append(Sample(file.parent / path, label, _FOLDER_NAMES.get(split.lower(), "")))
    unsplit = sum(not sample.split for sample in samples)
    if 0 < unsplit < len(samples):
        raise DataError(
            f"{file}: {unsplit} of {len(samples)} lines have no split; fill it in on every line, or on none"
        )
    return _dataset(str(file), file.parent, samples)


def _read_rows(file: Path) -> list[tuple[int, dict[str, str]]]:
    """Return each row of a CSV file with its line number."""
    with file.open(newline="", encoding="utf-8-sig") as stream:
        try:
            header = stream.readline()
            # Spreadsheets write semicolons in countries with a decimal comma.
            delimiter = max(",;\t", key=header.count)
            columns = [column.strip().lower() for column in next(csv.reader([header], delimiter=delimiter), [])]
            reader = csv.DictReader(stream, columns, delimiter=delimiter)
            rows = [(reader.line_num + 1, row) for row in reader]
        except (csv.Error, UnicodeDecodeError) as error:
            raise DataError(f"{file} is not a CSV file in UTF-8 ({error}); save it as CSV UTF-8") from None
    if not {"path", "label"} <= set(columns):
        raise DataError(
            f"{file} has the columns {', '.join(columns) or '(none)'}; path, label and optionally split were expected in its first line"
        )
    if not rows:
        raise DataError(f"{file} lists no images: a line with path and label for each was expected")
    return rows


def _elpv() -> Dataset:
    """Load ELPV: solar cells, 300 x 300, gray; defective from a probability of 0.5 (Deitsch et al. 2019)."""
    try:
        import elpv_dataset
    except ImportError:
        raise DependencyError(
            'the data set elpv is not installed; install it: python3 -m pip install "edgeclf[demo]"'
        ) from None
    root = Path(elpv_dataset.__file__).parent / "data"
    samples = []
    for line in (root / "labels.csv").read_text().splitlines():
        name, probability, cell_type = line.split()
        samples.append(Sample(root / name, "defective" if float(probability) >= 0.5 else "functional", group=cell_type))
    return _dataset("elpv", root, samples)


def _cifar10() -> Dataset:
    """Load CIFAR-10 from torchvision's copy, unpacked once into PNG files."""
    from edgeclf_runtime.files.outputs import new_folder
    from edgeclf_runtime.files.user_folders import home_cache_folder

    named = os.environ.get("EDGECLF_DATA") or home_cache_folder()
    home = Path(os.path.expanduser(named or "~"))
    if home.parts[0].startswith("~"):
        raise DataError("there is no home folder to look for CIFAR-10 in: set HOME, or set EDGECLF_DATA to a folder")
    images = home / "cifar10"
    if not images.exists():
        import cv2
        from torchvision.datasets import CIFAR10

        try:
            parts = {"train": CIFAR10(home, train=True), "test": CIFAR10(home, train=False)}
        except RuntimeError:
            raise DataError(
                f"CIFAR-10 is not in {home}; download it once: python3 -c "
                f'"from torchvision.datasets import CIFAR10; CIFAR10({str(home)!r}, download=True)" '
                "(to use another folder, set EDGECLF_DATA)"
            ) from None
        with new_folder(images) as work:
            for split, part in parts.items():
                for number, (pixels, target) in enumerate(zip(part.data, part.targets, strict=True)):
                    folder = Path(work, split, part.classes[target])
                    folder.mkdir(parents=True, exist_ok=True)
                    # cv2.imwrite would not say why it failed.
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
    """Refuse labels that control a terminal, break lines or look like others; every bundle would contain them."""
    for label in sorted(labels):
        if any(is_invisible(letter) and letter not in _JOINERS for letter in label):
            raise DataError(
                f"{name} has the label '{printable(label)}', with a control or other invisible character (shown escaped): "
                "rename the class folder, or retype the label in the CSV file"
            )


def _divide(dataset: Dataset, options: SplitOptions) -> Dataset:
    """Give every sample a split; a missing validation split is taken from train."""
    present = {sample.split for sample in dataset.samples}
    if "" in present:
        shares = {"test": options.test, "val": options.val}
    elif "val" not in present and "train" in present:
        shares = {"val": options.val}
    else:
        return dataset
    divisible = [sample for sample in dataset.samples if sample.split in ("", "train")]
    # A file that cannot be read is split by its path; the integrity check reports it later.
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
