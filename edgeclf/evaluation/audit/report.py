"""The report of an audit: what was found, by kind, each image with its split."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.text.terminal import printable

from ...data.findings import counted, listed
from ...display.report import Report, paragraph, table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_SHOWN = 10
_COLUMNS = 80


@dataclass(frozen=True)
class AuditedImage:
    """An image of a finding."""

    path: str
    """Relative to the data set's folder."""
    split: str
    label: str
    suggested_label: str = ""
    """The likeliest label, if it is another."""
    probability: float | None = None
    """Of its label, out of sample; None if it was not checked."""
    distance: float | None = None
    """To its nearest neighbors, in robust standard deviations from the median."""


@dataclass(frozen=True)
class AuditedFile:
    """A file that cannot be decoded, or that is small."""

    path: str
    split: str
    label: str
    problem: str
    """The reason why it cannot be decoded, or its size."""


@dataclass(frozen=True)
class ConfusedLabels:
    """Images of one label that look like another, from the confident joint of train and val."""

    label: str
    taken_for: str
    images: int
    share: float
    """Of the images of the label."""


@dataclass(frozen=True)
class AuditReport(Report):
    """The findings of an audit."""

    output: str
    data: str
    images: dict[str, int]
    """Number of images by split."""
    labels: tuple[str, ...]
    network: str
    wrong_labels: tuple[AuditedImage, ...]
    """The most suspicious first."""
    conflicts: tuple[tuple[AuditedImage, ...], ...]
    """Groups of near-duplicates or copies with several labels."""
    duplicates: tuple[tuple[AuditedImage, ...], ...]
    """The other groups of near-duplicates."""
    outliers: tuple[AuditedImage, ...]
    """The farthest first."""
    confused: tuple[ConfusedLabels, ...]
    """The most frequent first."""
    small: tuple[AuditedFile, ...]
    """Images smaller than the model's input."""
    image_size: int
    unreadable: tuple[AuditedFile, ...]
    """Files that cannot be decoded."""
    not_judged: dict[str, int]
    """Labels with too few images in train and val, and the number of images whose label was not checked."""
    excluded: int = 0
    """Lines of exclude.csv."""
    notes: tuple[str, ...] = ()
    """Limits of the findings."""

    def to_dict(self) -> JsonObject:
        """The report as a JSON-compatible dict."""
        return asdict(self)

    def plot(self) -> Figure:
        """Return the number of findings of each kind by split, and the labels that are taken for others as a matplotlib figure.

        Raises DependencyError if matplotlib is missing.
        """
        from ..plots import draw_audit

        return draw_audit(self)

    def html_parts(self) -> Iterator[str]:
        """Yield the summary and a table of the images whose labels are likely wrong."""
        yield from map(paragraph, self._summary())
        if self.wrong_labels:
            rows = [(one.path, one.split, one.label, one.suggested_label) for one in self.wrong_labels[:_SHOWN]]
            yield table(("image", "split", "label", "looks like"), rows, name="facts")

    def __str__(self) -> str:
        lines = []
        if self.wrong_labels:
            lines += ["labels that are likely wrong, the most suspicious first:"]
            lines += [f"  {_line(one)}" for one in self.wrong_labels[:_SHOWN]]
            if len(self.wrong_labels) > _SHOWN:
                lines.append(f"  ... and {len(self.wrong_labels) - _SHOWN} more")
            lines.append("")
        for pair in self.confused[:3]:
            what = f"{counted(pair.images, 'image')} of {pair.label} ({pair.share:.1%})"
            lines.append(printable(f"{what} look like {pair.taken_for}"))
        return "\n".join([*lines, *map(printable, self._summary())])

    def _summary(self) -> list[str]:
        by_split = ", ".join(f"{count} {split}" for split, count in self.images.items())
        lines = [
            f"{self.data}: {len(self.labels)} labels, {by_split}",
            f"likely wrong labels: {_with_splits(self.wrong_labels)}",
            f"near-duplicates: {counted(len(self.conflicts), 'group')} with several labels, {len(self.duplicates)} others",
            f"outliers: {_with_splits(self.outliers)}",
        ]
        total = sum(self.images.values())
        if self.small:
            lines.append(
                f"smaller than {self.image_size} x {self.image_size}: {len(self.small)} of {counted(total, 'image')}"
            )
        if self.unreadable:
            lines.append(f"not decoded: {counted(len(self.unreadable), 'image')}")
        if self.not_judged:
            lines.append(f"labels not checked, with too few images: {listed(self.not_judged)}")
        lines += self.notes
        return [*lines, f"{self.output}/audit.html shows them; exclude.csv lists {counted(self.excluded, 'image')}"]


def _with_splits(images: tuple[AuditedImage, ...]) -> str:
    counts: dict[str, int] = {}
    for one in images:
        counts[one.split] = counts.get(one.split, 0) + 1
    splits = ", ".join(f"{count} {split}" for split, count in counts.items())
    return f"{len(images)} ({splits})" if images else "0"


def _line(one: AuditedImage) -> str:
    text = printable(f"{one.label} -> {one.suggested_label}, {one.split}: ")
    path = printable(one.path)
    room = max(20, _COLUMNS - 2 - len(text))
    return text + (path if len(path) <= room else "..." + path[3 - room :])
