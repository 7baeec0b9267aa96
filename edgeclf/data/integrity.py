"""Checks whether a data set is fit for training; each finding names its files and the fix.

Errors stop training: files that cannot be decoded, a class without images, a single class, no
images in train or val, a label missing from train, too few groups.  Warnings do not: duplicate
pictures, also across splits or labels; files that were left out; folders whose role was guessed;
a label missing from val or test; heavy imbalance; labels that look alike; images that are dark,
bright, small or long.  Pictures are duplicates if their decoded pixels are equal, whatever the
file name or lossless format.
"""

from __future__ import annotations

import hashlib
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeclf_runtime.results import UNKNOWN
from edgeclf_runtime.text.terminal import printable

from ..display.progress import track
from ..display.report import Report, listed, paragraph, table
from ..errors import DataError, DependencyError, ImageError
from ..options import SplitOptions
from .appearance import Appearance, about_appearance, appearance_of
from .datasets import SPLITS, Dataset, Sample, load_dataset
from .findings import SHOWN_FILES, Finding, counted, error, warning
from .layout import same_label
from .pixels import read_photo, without_unreadable

IMBALANCE = 10
"""A class is reported if the largest class has at least this many times as many images."""
_USUAL_SIZE = 224


@dataclass(frozen=True)
class CheckReport(Report):
    """The problems found in a data set."""

    data: str
    images: int
    labels: dict[str, dict[str, int]]
    """Number of images by label and split."""
    findings: tuple[Finding, ...]

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop training."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def unreadable(self) -> set[Path]:
        """The files that cannot be decoded."""
        return {Path(file) for finding in self.findings if finding.kind == "unreadable" for file in finding.files}

    def to_dict(self) -> dict[str, Any]:
        """The report as a JSON-compatible dict."""
        findings = [dict(vars(finding), files=list(finding.files)) for finding in self.findings]
        return {
            "data": self.data,
            "images": self.images,
            "labels": self.labels,
            "errors": len(self.errors),
            "findings": findings,
        }

    def html_parts(self) -> Iterator[str]:
        """Yield the numbers, a table of the images by label and split, and one of the findings."""
        yield paragraph(self._summary())
        yield table(
            ("label", *SPLITS), ((label, *(counts[split] for split in SPLITS)) for label, counts in self.labels.items())
        )
        if self.findings:
            rows = [
                (one.severity, one.kind, one.message, listed(list(one.files), SHOWN_FILES))
                for one in sorted(self.findings, key=lambda finding: finding.severity)
            ]
            yield table(("", "finding", "what to do", "files"), rows, name="facts")

    def _summary(self) -> str:
        warnings = len(self.findings) - len(self.errors)
        return f"{self.images} images, {len(self.labels)} labels, {len(self.errors)} errors, {warnings} warnings"

    def __str__(self) -> str:
        width = max([len(label) for label in self.labels] + [5])
        lines = [f"{'label':<{width}}  " + "  ".join(f"{split:>6}" for split in SPLITS)]
        lines += [
            f"{label:<{width}}  " + "  ".join(f"{counts[split]:>6}" for split in SPLITS)
            for label, counts in self.labels.items()
        ]
        # Errors last, so that they stay visible after a long list.
        lines += [str(finding) for finding in sorted(self.findings, key=lambda finding: finding.severity == "error")]
        lines.append(self._summary())
        return "\n".join(lines)


def check(
    data: str | Path | Dataset,
    split: SplitOptions | None = None,
    image_size: int | None = None,
    resize: str = "crop",
    skip_unreadable: bool = False,
) -> CheckReport:
    """Decode every image of a data set and report its problems; see the docstring of the module.

    image_size, resize: the input of the model that the images are for, by default that of most backbones.
    skip_unreadable: leave out images that cannot be decoded, as one warning, instead of an error for each.  Raises DataError only if there is no data set to
    check.
    """
    dataset = load_dataset(data, split)
    if skip_unreadable:
        dataset = without_unreadable(dataset)
    with ThreadPoolExecutor() as pool:
        looks = list(track(pool.map(_look, dataset.samples), "checking images", len(dataset.samples)))
    pictures = defaultdict(list)
    for sample, look in zip(dataset.samples, looks, strict=True):
        if look.digest:
            pictures[look.digest].append(sample)
    findings = _about_unreadable(looks)
    findings += about_appearance(
        [look.appearance for look in looks if look.appearance], image_size or _USUAL_SIZE, resize
    )
    findings += _about_labels(dataset) + list(dataset.findings) + _about_strays(dataset)
    findings += [_about_copies(copies) for copies in pictures.values() if len(copies) > 1]
    return CheckReport(dataset.name, len(dataset.samples), _counts(dataset), tuple(findings))


def check_for_training(
    data: Dataset, skip_unreadable: bool = False, image_size: int | None = None, resize: str = "crop"
) -> tuple[Dataset, CheckReport]:
    """Return the data set to train on, and the report; DataError if there are errors.

    skip_unreadable: leave out files that cannot be decoded, instead of treating them as errors.  image_size, resize: the
    input of the model to train.
    """
    report = check(data, image_size=image_size, resize=resize)
    errors = report.errors
    if skip_unreadable:
        errors = [finding for finding in errors if finding.kind != "unreadable"]
        data = data.without(report.unreadable)
        errors += [finding for finding in _about_labels(data) if finding.severity == "error" and finding not in errors]
    if errors:
        more = (
            f"\n... and {len(errors) - SHOWN_FILES} more; see them all with: edgeclf check {shlex.quote(data.name)}"
            if len(errors) > SHOWN_FILES
            else ""
        )
        hint = (
            "\nor train without the unreadable files: --skip-unreadable"
            if any(e.kind == "unreadable" for e in errors)
            else ""
        )
        raise DataError("\n".join(printable(finding.message) for finding in errors[:SHOWN_FILES]) + more + hint)
    return data, report


@dataclass(frozen=True)
class _Look:
    """The result of decoding one file."""

    path: str
    digest: str = ""
    """Hash of the decoded pixels; "" if they cannot be decoded."""
    problem: str = ""
    lacks_library: bool = False
    appearance: Appearance | None = None


def _look(sample: Sample) -> _Look:
    path = str(sample.path)
    if not sample.path.exists():
        return _Look(path, problem=f"{path}: the file does not exist; add it, or remove it from the list")
    dark: list[int] = []
    try:
        image = read_photo(sample.path, noted=lambda name, largest: dark.append(largest))
    except ImageError as error:
        return _Look(path, problem=str(error))
    except DependencyError as error:
        return _Look(path, problem=str(error), lacks_library=True)
    digest = hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()
    return _Look(path, digest, appearance=appearance_of(path, sample.label, image, max(dark, default=0)))


def _about_unreadable(looks: list[_Look]) -> list[Finding]:
    """Return a finding for each file that cannot be decoded; files for want of a library share one."""
    findings = [
        error("unreadable", look.problem, [look.path]) for look in looks if look.problem and not look.lacks_library
    ]
    lacking = [look for look in looks if look.lacks_library]
    if lacking:
        message = f"{counted(len(lacking), 'image')} cannot be read yet; {lacking[0].problem}"
        findings.append(error("unreadable", message, [look.path for look in lacking]))
    return findings


def _counts(dataset: Dataset) -> dict[str, dict[str, int]]:
    found = Counter((sample.label, sample.split) for sample in dataset.samples)
    return {label: {split: found[label, split] for split in SPLITS} for label in dataset.labels}


def _about_labels(dataset: Dataset) -> list[Finding]:
    findings = [
        Finding("empty-class", "error", f"{folder} holds no images: add some, or remove the folder", (str(folder),))
        for folder in dataset.empty
    ]
    if len(dataset.labels) == 1:
        message = (
            f"{dataset.name} has only one class, {dataset.labels[0]!r}: a classifier needs two or more class folders"
        )
        message += "".join(f"; {finding.message}" for finding in dataset.findings if finding.kind == "nested")
        findings.append(Finding("single-class", "error", message))
    totals, counts = dataset.counts(), _counts(dataset)
    for split, verb in (("train", "train"), ("val", "validate")):
        if not totals[split]:
            message = f"{dataset.name} has no images to {verb} on: add some, three or more of each class"
            findings.append(Finding("empty-split", "error", message))
    empty = {folder.name for folder in dataset.empty}
    absence = _Absence(dataset)
    findings += [
        absence.finding(label, split)
        for label in dataset.labels
        for split in SPLITS
        if label not in empty and totals[split] and not counts[label][split]
    ]
    for label in dataset.labels:
        if label.casefold() == UNKNOWN:
            message = (
                f"the label {label!r} is also the label of predictions below the threshold; only the field "
                f'"rejected" of a result tells them apart: name the class by what its images show'
            )
            findings.append(Finding("ambiguous-label", "warning", message))
    findings += _about_similar_labels(dataset)
    most = max(row["train"] for row in counts.values())
    for label, row in counts.items():
        if 0 < row["train"] * IMBALANCE <= most:
            message = f"the label {label!r} has {row['train']} images in train, the largest class {most}: collect more"
            findings.append(Finding("imbalanced", "warning", message))
    return findings


def _about_similar_labels(dataset: Dataset) -> list[Finding]:
    """Return a finding for labels that differ only in what people write differently."""
    found: dict[str, list[str]] = defaultdict(list)
    for label in dataset.labels:
        found[same_label(label)].append(label)
    return [
        warning(
            "similar-labels",
            f"the labels {', '.join(map(ascii, labels))} differ only in case, accents' encoding or spaces, and are "
            "separate classes: if they mean the same, give them one name",
        )
        for labels in found.values()
        if len(labels) > 1
    ]


class _Absence:
    """Findings about labels without images in a split."""

    def __init__(self, dataset: Dataset) -> None:
        self._trained = {
            same_label(sample.label): sample.label for sample in dataset.samples if sample.split == "train"
        }
        self._files: dict[str, list[str]] = defaultdict(list)
        for sample in dataset.samples:
            self._files[sample.label].append(str(sample.path))

    def finding(self, label: str, split: str) -> Finding:
        """Return the finding about a label without images in a split."""
        if split != "train":
            message = f"the label {label!r} has no images in {split}, so it is not measured there: add some"
            return Finding(f"missing-from-{split}", "warning", message)
        files = tuple(self._files.get(label, ()))
        if not files:
            message = f"the label {label!r} has no readable images: add some, or remove it"
            return Finding("missing-from-train", "error", message)
        trained = self._trained.get(same_label(label))
        meant = f" (is it {trained!r}?)" if trained else ""
        message = f"the label {label!r} is in val or test ({files[0]}), but not in train{meant}: add it to train, or remove it"
        return Finding("missing-from-train", "error", message, files)


def _about_strays(dataset: Dataset) -> list[Finding]:
    if not dataset.unlabeled:
        return []
    files = tuple(map(str, dataset.unlabeled))
    message = (
        f"images next to the class folders have no label and are left out: {', '.join(files[:SHOWN_FILES])}: "
        "move each into its class folder, or remove it"
    )
    return [Finding("unlabeled", "warning", message, files)]


def _about_copies(copies: list[Sample]) -> Finding:
    files = tuple(str(sample.path) for sample in copies)
    shown = ", ".join(f"{sample.path} ({sample.split}, {sample.label})" for sample in copies[:SHOWN_FILES])
    if len({sample.label for sample in copies}) > 1:
        return Finding(
            "conflicting-labels",
            "warning",
            f"the same picture under several labels: {shown}: keep the correct one",
            files,
        )
    if len({sample.split for sample in copies}) > 1:
        return Finding(
            "leaked",
            "warning",
            f"the same picture in several splits, which makes results look too good: {shown}: keep one",
            files,
        )
    return Finding("duplicate", "warning", f"the same picture several times: {shown}: keep one", files)
