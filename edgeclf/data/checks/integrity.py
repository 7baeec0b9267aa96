"""Checks whether a data set is fit for training; each finding names its files and the fix.

Errors stop training: files that cannot be decoded, a class without images, a single class, no
images in train or val, a label missing from train, too few groups.  Warnings do not: duplicates
and near-duplicates, also across splits or labels; files that were left out; folders whose role was guessed;
a label missing from val or test; heavy imbalance; labels that look alike; images that are dark,
bright, small or long.  Pictures are duplicates if their decoded pixels are equal, whatever the
file name or lossless format, and near-duplicates by checks/near_duplicates.py.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.text.terminal import printable

from ...display.columns import fitted, left, width
from ...display.page.charts import shortened
from ...display.progress import track
from ...display.report import Bars, Report, listed, paragraph, table
from ...errors import DataError, DependencyError, ImageError
from ...options import CheckOptions, merged
from ..datasets import SPLITS, Dataset, Sample, load_dataset
from ..findings import SHOWN_FILES, Finding, counted, error
from ..pixels import about_unreadable, leave_out, load_each, read_photo
from .appearance import Appearance, about_appearance, appearance_of
from .copies import about_copies, about_near_duplicates
from .labels import about_labels, counts_by_label
from .near_duplicates import near_duplicates
from .thumbnails import Thumbnail, ThumbnailFile, thumbnail_of

_COLUMNS = 80
_SHOWN_OF_A_KIND = 20
_COUNT = "  {:>6}"


@dataclass(frozen=True)
class CheckReport(Report):
    """The problems found in a data set."""

    data: str
    images: int
    labels: dict[str, dict[str, int]]
    """Number of images by label and split."""
    findings: tuple[Finding, ...]
    near_duplicates: tuple[tuple[str, ...], ...] = ()
    """Groups of files that are nearly the same picture."""
    copies: tuple[tuple[str, ...], ...] = ()
    """Groups of files that are the same picture."""

    @property
    def errors(self) -> list[Finding]:
        """The findings that stop training."""
        return [finding for finding in self.findings if finding.severity == "error"]

    @property
    def unreadable(self) -> set[Path]:
        """The files that cannot be decoded."""
        return {Path(file) for finding in self.findings if finding.kind == "unreadable" for file in finding.files}

    def to_dict(self) -> JsonObject:
        """The report as a JSON-compatible dict."""
        findings = [dict(vars(one), files=list(one.files), examples=list(one.examples)) for one in self.findings]
        return {
            "data": self.data,
            "images": self.images,
            "labels": self.labels,
            "errors": len(self.errors),
            "findings": findings,
            "near_duplicates": [list(group) for group in self.near_duplicates],
            "copies": [list(group) for group in self.copies],
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

    def bars(self) -> Iterator[Bars]:
        """Yield the number of images of each split, by label."""
        for split in SPLITS:
            yield Bars(f"images of {split}", {label: counts[split] for label, counts in self.labels.items()}, "{:.0f}")

    def _summary(self) -> str:
        warnings = len(self.findings) - len(self.errors)
        counts = (
            (self.images, "image"),
            (len(self.labels), "label"),
            (len(self.errors), "error"),
            (warnings, "warning"),
        )
        return ", ".join(counted(count, what) for count, what in counts)

    def __str__(self) -> str:
        most = _COLUMNS - len(SPLITS) * len(_COUNT.format(0))
        names = [fitted(shortened(printable(label), most), most) for label in self.labels]
        first = max(map(width, [*names, "label"]))
        lines = [left("label", first) + "".join(map(_COUNT.format, SPLITS))]
        for name, counts in zip(names, self.labels.values(), strict=True):
            lines.append(left(name, first) + "".join(_COUNT.format(counts[split]) for split in SPLITS))
        # Errors last, so that they stay visible after a long list.
        lines += _few_of_each_kind(sorted(self.findings, key=lambda finding: finding.severity == "error"))
        lines.append(self._summary())
        return "\n".join(lines)


def _few_of_each_kind(findings: Sequence[Finding]) -> Iterator[str]:
    """Yield findings as text, and the number of those of a kind after its first ones, such as thousands of missing files."""
    counts = Counter((finding.severity, finding.kind) for finding in findings)
    shown: Counter[tuple[str, str]] = Counter()
    for finding in findings:
        kind = finding.severity, finding.kind
        if shown[kind] < _SHOWN_OF_A_KIND:
            yield str(finding)
        elif shown[kind] == _SHOWN_OF_A_KIND:
            yield f"{finding.severity}: {finding.kind}: {counts[kind] - shown[kind]} more; --json lists them all"
        shown[kind] += 1


def check(data: str | Path | Dataset, options: CheckOptions | None = None, **keywords: object) -> CheckReport:
    """Decode every image of a data set and report its problems; see the docstring of the module.

    Raises DataError only if there is no data set to check, and OptionError.
    """
    options = merged(CheckOptions, options, keywords)
    return _checked(load_dataset(data, options.split, options.download), options)


def _checked(dataset: Dataset, options: CheckOptions, imported: bool = False) -> CheckReport:
    """Return the report of check(); imported: for a model that another program trained."""
    looks, thumbnails = _look_at(dataset.samples)
    if options.skip_unreadable:
        bad = {sample.path: look.problem for sample, look in zip(dataset.samples, looks, strict=True) if look.problem}
        dataset, looks = leave_out(dataset, bad), [look for look in looks if not look.problem]
    pictures = defaultdict(list)
    for sample, look in zip(dataset.samples, looks, strict=True):
        if look.digest:
            pictures[look.digest].append(sample)
    findings = _about_unreadable(looks)
    findings += about_appearance(
        [look.appearance for look in looks if look.appearance], options.image_size, options.resize, imported
    )
    findings += about_labels(dataset) + list(dataset.findings) + _about_strays(dataset)
    copies = [group for group in pictures.values() if len(group) > 1]
    findings += about_copies(copies, dataset.root)
    similar = _near_duplicates(looks, pictures, thumbnails)
    findings += about_near_duplicates(similar, dataset.divided_by, dataset.root)
    counts = counts_by_label(dataset)
    return CheckReport(dataset.name, len(dataset.samples), counts, tuple(findings), _names(similar), _names(copies))


def _names(groups: Sequence[Sequence[Sample]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(str(sample.path) for sample in group) for group in groups)


def _look_at(samples: Sequence[Sample]) -> tuple[list[_Look], ThumbnailFile]:
    """Decode files; returns what is remembered of each, and the thumbnails of those that are not a copy of an earlier one."""
    looks, thumbnails, known = [], ThumbnailFile(), set()
    for look, thumbnail in track(load_each(samples, _look), "checking images", len(samples)):
        looks.append(look)
        if thumbnail is not None and look.digest not in known:
            known.add(look.digest)
            thumbnails.append(thumbnail)
    return looks, thumbnails


def _near_duplicates(
    looks: list[_Look], pictures: Mapping[str, list[Sample]], thumbnails: ThumbnailFile
) -> list[list[Sample]]:
    """Return groups of near-duplicates, with all copies of each picture; pictures: samples by the hash of their pixels."""
    digests = list(dict.fromkeys(look.digest for look in looks if look.digest))
    groups = near_duplicates(thumbnails)
    return [[sample for index in group for sample in pictures[digests[index]]] for group in groups]


def check_for_training(
    data: Dataset,
    skip_unreadable: bool = False,
    image_size: int | None = None,
    resize: str = "crop",
    report: CheckReport | None = None,
    imported: bool = False,
) -> tuple[Dataset, CheckReport]:
    """Return the data set to train on, or to import a model with, and the report; DataError if there are errors.

    skip_unreadable: leave out files that cannot be decoded, instead of treating them as errors.  image_size, resize: the
    input of the model.  report: of check(), if it has just been called.
    """
    if report is None:
        options = CheckOptions(resize=resize, skip_unreadable=skip_unreadable)
        options = options if image_size is None else replace(options, image_size=image_size)
        report = _checked(data, options, imported)
    if skip_unreadable:
        report = _with_one_count(report)
    errors = report.errors
    if skip_unreadable:
        data = data.without(report.unreadable)
        errors += [finding for finding in about_labels(data) if finding.severity == "error" and finding not in errors]
    hint = (
        f"\nor {'import' if imported else 'train'} without the unreadable files: --skip-unreadable"
        if any(e.kind == "unreadable" for e in errors)
        else ""
    )
    _refuse(data, errors, hint)
    return data, report


def check_labels(data: Dataset) -> None:
    """Raise DataError if labels or splits are not fit for training, before any image is decoded."""
    _refuse(data, [finding for finding in about_labels(data) if finding.severity == "error"])


def _refuse(data: Dataset, errors: Sequence[Finding], hint: str = "") -> None:
    if errors:
        more = (
            f"\n... and {len(errors) - SHOWN_FILES} more; see them all with: edgeclf check {shlex.quote(data.name)}"
            if len(errors) > SHOWN_FILES
            else ""
        )
        raise DataError("\n".join(printable(finding.message) for finding in errors[:SHOWN_FILES]) + more + hint)


def _with_one_count(report: CheckReport) -> CheckReport:
    """Return a report in which one warning stands for the errors about images that cannot be decoded."""
    each = [finding for finding in report.errors if finding.kind == "unreadable"]
    if not each:
        return report
    bad = {Path(file): finding.message for finding in each for file in finding.files}
    others = (finding for finding in report.findings if finding not in each)
    return replace(report, findings=(*others, about_unreadable(bad)))


@dataclass(frozen=True, slots=True)
class _Look:
    """The result of decoding one file."""

    path: str
    digest: str = ""
    """Hash of the decoded pixels; "" if they cannot be decoded."""
    problem: str = ""
    lacks_library: bool = False
    appearance: Appearance | None = None


def _look(sample: Sample) -> tuple[_Look, Thumbnail | None]:
    path = str(sample.path)
    if sample.path.is_symlink() and not sample.path.exists():
        problem = f"{path}: a link to {os.readlink(path)}, which does not exist; put that file back, or remove the link"
        return _Look(path, problem=problem), None
    if not sample.path.exists():
        return _Look(path, problem=f"{path}: the file does not exist; add it, or remove it from the list"), None
    dark: list[int] = []
    try:
        image = read_photo(sample.path, noted=lambda name, largest: dark.append(largest))
    except ImageError as error:
        return _Look(path, problem=str(error)), None
    except DependencyError as error:
        return _Look(path, problem=str(error), lacks_library=True), None
    digest = hashlib.blake2b(str(image.shape).encode() + image.tobytes(), digest_size=16).hexdigest()
    appearance = appearance_of(path, sample.label, image, max(dark, default=0))
    return _Look(path, digest, appearance=appearance), thumbnail_of(image)


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


def _about_strays(dataset: Dataset) -> list[Finding]:
    if not dataset.unlabeled:
        return []
    files = tuple(map(str, dataset.unlabeled))
    message = (
        f"images next to the class folders have no label and are left out: {', '.join(files[:SHOWN_FILES])}: "
        "move each into its class folder, or remove it"
    )
    return [Finding("unlabeled", "warning", message, files)]
