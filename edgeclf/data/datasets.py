"""Labeled images on disk, and their split into train, val and test.

``load_dataset`` reads a folder of class folders, a folder with ``train/``, ``val/`` and
``test/``, a CSV file, or a named set.  Data without a split of its own is split by the hash of
each file: the same seed gives the same split on every machine, whatever the file names, two
copies of an image never end up in different splits, and no image changes sides when others are
added.  Images of a group stay together.  Files are hashed here, not decoded.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path

from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.text.terminal import is_invisible, printable

from ..display.report import page, paragraph, table
from ..errors import DataError, DependencyError
from ..options import SplitOptions, merged
from .conversion.image_folder import LIST_FILE, Image, convert, is_converted
from .findings import Finding
from .layout import read_layout
from .pixels import load_each
from .public_sets import PUBLIC_SETS
from .splits import divide
from .table import read_table
from .tree import IMAGE_SUFFIXES, SUFFIXES_BEFORE, left_out, read_tree

SPLITS = ("train", "val", "test")
# Persian, Hindi and other scripts use them.
_JOINERS = "\u200c\u200d"


@dataclass(frozen=True, slots=True)
class Sample:
    """One labeled image file.

    group: images of one group stay in one split; "" if there is none.  Of ELPV, whose split is stratified, the cell type.
    """

    path: Path
    label: str
    split: str = ""
    group: str = ""


@dataclass(frozen=True, repr=False)
class Dataset:
    """Labeled images, each in one split."""

    name: str
    root: Path
    labels: tuple[str, ...]
    samples: tuple[Sample, ...]
    empty: tuple[Path, ...] = ()
    """Class folders without images."""
    unlabeled: tuple[Path, ...] = ()
    """Images next to the class folders, which have no class."""
    divided_by: SplitOptions | None = None
    """Options of the split, or None if the data came with its own."""
    findings: tuple[Finding, ...] = ()
    """Findings about folders, files, paths and groups."""
    stratified: bool = False
    """True if its groups refine the strata of an exact split; False if each group stays together."""
    _hashes: dict[Path, str] = field(default_factory=dict, compare=False, repr=False)

    @classmethod
    def from_folder(cls, folder: str | Path, **options: object) -> Dataset:
        """Read a folder of class folders, or one with train/, val/ and test/; options: fields of SplitOptions."""
        if not Path(folder).is_dir():
            raise DataError(f"{folder} is not a folder; a folder of class folders was expected")
        chosen = merged(SplitOptions, None, options)
        return divide(_read_folder(Path(folder), chosen.method == "exact"), chosen)

    @classmethod
    def from_csv(cls, file: str | Path, **options: object) -> Dataset:
        """Read a CSV file with the columns path, label and optionally split and group; options: fields of SplitOptions."""
        if not Path(file).is_file():
            raise DataError(f"{file} is not a file; a CSV file with the columns path and label was expected")
        return divide(_from_csv(Path(file)), merged(SplitOptions, None, options))

    @classmethod
    def from_torch(
        cls,
        source: object,
        folder: str | Path | None = None,
        labels: Sequence[str] | Mapping[int, str] | None = None,
        overwrite: bool = False,
        **options: object,
    ) -> Dataset:
        """Write the images of a torch data set to a folder as PNG files, once, and return the Dataset of these.

        source: a data set of pairs of image and label, or several by split, {"train": ..., "test": ...}.  An image is a Pillow
        image, a tensor of uint8 [3, height, width] or [1, height, width], or one of floats that are exactly k/255, as ToTensor
        gives them.  An ImageFolder, or a Subset of one, needs no folder: its own files are used, without its transforms.
        labels: the names in the order of the targets, or by target; by default the data set's ``classes``.  options: fields of
        SplitOptions, for data without parts.  Raises DataError if an image cannot be written without loss or has no label, and
        OutputError if the folder has other images.
        """
        from .conversion.torch_dataset import file_samples, torch_images

        chosen = merged(SplitOptions, None, options)
        if folder is None:
            return _from_files(file_samples(source, labels), chosen)
        return _converted(*torch_images(source, labels), Path(folder), overwrite, chosen)

    @classmethod
    def from_huggingface(
        cls,
        source: object,
        folder: str | Path,
        image: str | None = None,
        label: str | None = None,
        labels: Sequence[str] | Mapping[int, str] | None = None,
        overwrite: bool = False,
        **options: object,
    ) -> Dataset:
        """Write the images of a Hugging Face data set to a folder, once, and return the Dataset of these.

        source: a Dataset, or a DatasetDict whose parts are train, validation and test.  JPEG, PNG, BMP, WebP and TIFF files are
        written as they are, others as PNG.  image, label: the columns; by default the only one of type Image and the only one
        of type ClassLabel.  labels: the names in the order of the label's numbers; by default those of ClassLabel.  options:
        fields of SplitOptions, for data without parts.  Raises DataError if the columns are not clear or an image has no label,
        OutputError if the folder has other images, and DependencyError if the library ``datasets`` is missing.
        """
        from .conversion.huggingface import huggingface_images

        chosen = merged(SplitOptions, None, options)
        return _converted(*huggingface_images(source, image, label, labels), Path(folder), overwrite, chosen)

    def __repr__(self) -> str:
        counts = ", ".join(f"{count} {split}" for split, count in self.counts().items())
        return f"Dataset({self.name!r}, {len(self.labels)} labels, {counts})"

    def _repr_html_(self) -> str:
        counts = Counter((sample.label, sample.split) for sample in self.samples)
        rows = ((label, *(counts[label, split] for split in SPLITS)) for label in self.labels)
        return page([paragraph(f"{self.name}: {len(self.samples)} images"), table(("label", *SPLITS), rows)])

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
        self._hashes.update(zip(missing, load_each(missing, _hash), strict=True))
        return [self._hashes[sample.path] for sample in samples]

    def without(self, paths: set[Path]) -> Dataset:
        """Return the data set without the given files."""
        return replace(self, samples=tuple(sample for sample in self.samples if sample.path not in paths))


def load_dataset(data: str | Path | Dataset, options: SplitOptions | None = None, download: bool = False) -> Dataset:
    """Read a data set, and split it if it has no split yet.

    data: a folder of class folders, a folder with train/, val/ and test/, a CSV file with the
    columns path, label and optionally split and group, or one of NAMED_SETS.  download: fetch a named set whose files
    are not on this machine.  Raises DataError if it is none of these or has no images.
    """
    if isinstance(data, Dataset):
        return data
    options = options or SplitOptions()
    dataset = read_images(data, download, as_before=options.method == "exact")
    if dataset.stratified:
        # Its published figures are of this split.
        options = replace(options, method="exact")
    return divide(dataset, options)


def read_images(data: str | Path | Dataset, download: bool = False, as_before: bool = False) -> Dataset:
    """Return the labeled images of what load_dataset() takes, in the splits that they come with, "" for none.

    as_before: with the suffixes and names of splits that there were when runs with an exact split were made.
    """
    if isinstance(data, Dataset):
        return data
    name = str(data)
    if not name.strip():
        # The empty path is the present folder.
        raise DataError("the name of the data is empty: a folder, a .csv file, or the name of a data set was expected")
    if name in NAMED_SETS:
        return _public(name, download) if name in PUBLIC_SETS else _elpv()
    if Path(data).is_dir():
        return _read_folder(Path(data), as_before)
    if Path(data).is_file() and name.lower().endswith(".csv"):
        return _from_csv(Path(data))
    what = "is a file, but not a .csv" if Path(data).exists() else "does not exist"
    raise DataError(
        f"{data} {what}: a folder of class folders, a .csv file, or one of {', '.join(NAMED_SETS)} was expected"
    )


def _read_folder(root: Path, as_before: bool = False) -> Dataset:
    """Read a folder; as_before: as read_images() has it."""
    if is_converted(root):
        return replace(_from_csv(root / LIST_FILE), name=str(root))
    tree = read_tree(root, SUFFIXES_BEFORE if as_before else IMAGE_SUFFIXES)
    layout = read_layout(tree, only_usual=as_before)
    if not layout.classes and layout.unlabeled:
        raise DataError(
            f"{layout.unlabeled[0].parent} holds images but no class folders: move the images of each class into a folder with the class's name"
        )
    samples, empty, labels = [], [], set(layout.labels)
    for (split, folder), label in zip(layout.classes, layout.labels, strict=True):
        paths = folder.all_images()
        samples += [Sample(path, label, split) for path in paths]
        if not paths:
            empty.append(folder.path)
    if not samples:
        raise DataError(
            f"{root} holds no images: put the images of each class (JPEG, PNG, BMP, WebP or TIFF) into a folder with its name there"
            + "".join(f"; {finding.message}" for finding in left_out(tree))
        )
    findings = (*layout.findings, *left_out(tree))
    return replace(
        _dataset(str(root), root, samples, labels),
        empty=tuple(empty),
        unlabeled=tuple(layout.unlabeled),
        findings=findings,
    )


def _from_csv(file: Path) -> Dataset:
    table = read_table(file)
    samples = [Sample(row.path, row.label, row.split, row.group) for row in table.rows]
    return replace(_dataset(str(file), file.parent, samples), findings=tuple(table.findings))


def _from_files(files: Sequence[tuple[Path, str, str]] | None, options: SplitOptions) -> Dataset:
    """Return the data set of image files: path, label and split of each."""
    if files is None:
        raise DataError(
            "the images of this data set are not files: pass folder=..., to which they are written as PNG files"
        )
    if not files:
        raise DataError("the data set has no images; one with images was expected")
    samples = [Sample(path.absolute(), label, split) for path, label, split in files]
    root = Path(os.path.commonpath([sample.path.parent for sample in samples]))
    return divide(_dataset(str(root), root, samples), options)


def _converted(images: Iterator[Image], count: int, folder: Path, overwrite: bool, options: SplitOptions) -> Dataset:
    convert(images, count, folder, overwrite)
    return divide(_read_folder(folder), options)


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
    return replace(_dataset("elpv", root, samples), stratified=True)


def _public(name: str, download: bool) -> Dataset:
    """Load a set of PUBLIC_SETS, in its own split, from its images on this machine."""
    return replace(_read_folder(PUBLIC_SETS[name].folder(download)), name=name)


NAMED_SETS = ("elpv", *PUBLIC_SETS)


def _dataset(name: str, root: Path, samples: list[Sample], labels: Iterable[str] = ()) -> Dataset:
    for sample in samples:
        try:
            str(sample.path).encode()
        except UnicodeEncodeError:
            raise DataError(f"the name {os.fsencode(sample.path)!r} is not in UTF-8; rename it") from None
    labels = {sample.label for sample in samples}.union(labels)
    check_labels(name, labels)
    return Dataset(name, root, tuple(sorted(labels)), tuple(samples))


def check_labels(name: str, labels: set[str]) -> None:
    """Refuse labels that control a terminal, break lines or look like others; every bundle would contain them."""
    for label in sorted(labels):
        if any(is_invisible(letter) and letter not in _JOINERS for letter in label):
            raise DataError(
                f"{name} has the label '{printable(label)}', with a control or other invisible character (shown escaped): "
                "rename the class folder, or retype the label in the CSV file"
            )


def _hash(path: Path) -> str:
    try:
        return sha256_file(path)
    except OSError:
        return ""
