"""The audit as a page: what was found, with small pictures of the first images of each kind."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ...data.pixels import read_photo
from ...display.page.pictures import picture
from ...display.page.render import render
from ...display.progress import track
from ...errors import DependencyError, ImageError
from .outliers import NEIGHBORS
from .report import AuditedImage, AuditReport

_WRONG, _OUTLIERS, _GROUPS, _OF_A_GROUP, _PAIRS, _FILES = 80, 40, 24, 3, 30, 20


@dataclass(frozen=True)
class _Shown:
    found: AuditedImage
    picture: str


@dataclass(frozen=True)
class _Group:
    images: list[_Shown]
    more: int


def make_page(report: AuditReport, root: Path) -> str:
    """Return the page as HTML; root: folder of the images' paths."""
    wrong, outliers = report.wrong_labels[:_WRONG], report.outliers[:_OUTLIERS]
    groups = [*report.conflicts[:_GROUPS], *report.duplicates[:_GROUPS]]
    paths = {one.path for one in (*wrong, *outliers, *(one for group in groups for one in _varied(group)))}
    pictures = {path: _picture(root / path) for path in track(sorted(paths), "drawing the page", len(paths))}
    return render(
        "audit.html",
        report=report,
        cards=_cards(report),
        wrong=_shown(wrong, pictures),
        outliers=_shown(outliers, pictures),
        conflicts=[_group(group, pictures) for group in report.conflicts[:_GROUPS]],
        duplicates=[_group(group, pictures) for group in report.duplicates[:_GROUPS]],
        confused=[(pair.label, pair.taken_for, pair.images, f"{pair.share:.1%}") for pair in report.confused[:_PAIRS]],
        unreadable=report.unreadable[:_FILES],
        neighbors=NEIGHBORS,
    )


def _cards(report: AuditReport) -> list[tuple[str, int, str]]:
    return [
        ("images", sum(report.images.values()), _counts(report.images)),
        ("likely wrong labels", len(report.wrong_labels), _splits(report.wrong_labels)),
        ("groups with several labels", len(report.conflicts), ""),
        ("outliers", len(report.outliers), _splits(report.outliers)),
        ("other groups of near-duplicates", len(report.duplicates), ""),
        ("lines of exclude.csv", report.excluded, ""),
    ]


def _splits(images: Iterable[AuditedImage]) -> str:
    return _counts(Counter(one.split for one in images))


def _counts(counts: dict[str, int]) -> str:
    return ", ".join(f"{count} {split}" for split, count in counts.items() if count)


def _shown(images: Sequence[AuditedImage], pictures: dict[str, str]) -> list[_Shown]:
    return [_Shown(one, pictures[one.path]) for one in images]


def _group(group: Sequence[AuditedImage], pictures: dict[str, str]) -> _Group:
    images = _varied(group)
    return _Group(_shown(images, pictures), len(group) - len(images))


def _varied(group: Sequence[AuditedImage]) -> list[AuditedImage]:
    """Return the first images of a group, one of each label before others."""
    seen: set[str] = set()
    firsts = [one for one in group if not (one.label in seen or seen.add(one.label))]  # type: ignore[func-returns-value]
    return [*firsts, *(one for one in group if one not in firsts)][:_OF_A_GROUP]


def _picture(path: Path) -> str:
    """Return a small picture of an image file, "" if it cannot be read any more."""
    try:
        return picture(read_photo(path)[:, :, ::-1])
    except (ImageError, DependencyError):
        return ""
