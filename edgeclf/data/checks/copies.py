"""Findings about images that are in a data set several times, exactly or nearly.

One finding counts all groups of a kind, and shows the first ones: a class folder that was copied has thousands.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path

from ...options import SplitOptions
from ..datasets import Sample
from ..findings import Finding, counted, warning

_SHOWN_GROUPS = 3
_COLUMNS = 76
"""Of a line below a message, which is indented by 4."""

Group = Sequence[Sample]


def about_copies(groups: Sequence[Group], root: Path) -> list[Finding]:
    """Return the findings about groups of samples whose decoded pixels are equal: one each for labels, splits, and the others.

    root: the data set's folder, relative to which files are shown.
    """
    labels, splits, others = _sorted(groups)
    # A picture under several labels is to be corrected in any split.
    splits = [group for group in splits if not _has_labels(group)]
    found = (
        ("conflicting-labels", labels, "the same picture under several labels", "keep the correct one"),
        ("leaked", splits, "the same picture in several splits, which makes results look too good", "keep one"),
        ("duplicate", others, "the same picture several times", "keep one"),
    )
    return [_about_pictures(kind, those, what, advice, root) for kind, those, what, advice in found if those]


def about_near_duplicates(groups: Sequence[Group], divided_by: SplitOptions | None, root: Path) -> list[Finding]:
    """Return the findings about groups of near-duplicates: several labels, several splits, and the others.

    divided_by: options of the split, None if the data set came with its own.  root: as for about_copies().
    """
    labels, splits, others = _sorted(groups)
    can_group = divided_by is not None and divided_by.method == "stable" and not divided_by.group_similar
    remedy = "keep each group in one split: --group-similar" if can_group else "move each group into one split"
    found = (
        (
            "near-conflicting",
            labels,
            "under several labels, perhaps by mistake",
            "compare them, and correct the labels",
        ),
        ("near-leaked", splits, "in several splits, which makes results look too good", remedy),
        ("near-duplicate", others, "in one split, which adds little to learn from", "keep the best of each"),
    )
    return [
        warning(
            kind,
            f"{_count(those)} images in {counted(len(those), 'group')} are nearly the same picture {what}: {advice}",
            _files(those),
            _examples(those, root),
        )
        for kind, those, what, advice in found
        if those
    ]


def _sorted(groups: Sequence[Group]) -> tuple[list[Group], list[Group], list[Group]]:
    """Return the groups with several labels, those with several splits, and those with one of each."""
    labels, splits, others = [], [], []
    for group in groups:
        labels += [group] * _has_labels(group)
        splits += [group] * _has_splits(group)
        others += [group] * (not _has_labels(group) and not _has_splits(group))
    return labels, splits, others


def _has_labels(group: Group) -> bool:
    return len({sample.label for sample in group}) > 1


def _has_splits(group: Group) -> bool:
    return len({sample.split for sample in group}) > 1


def _about_pictures(kind: str, groups: Sequence[Group], what: str, advice: str, root: Path) -> Finding:
    linked = sum(map(_is_linked, groups))
    count = f"{counted(len(groups), 'picture')} in {_count(groups)} files"
    if linked:
        count += f", {'' if linked == len(groups) else f'{linked} of them '}through symbolic links"
    return warning(kind, f"{what}, {count}: {advice}", _files(groups), _examples(groups, root))


def _is_linked(group: Group) -> bool:
    """Return whether links make several paths of one file."""
    return len({sample.path for sample in group}) > len({os.path.realpath(sample.path) for sample in group})


def _count(groups: Sequence[Group]) -> int:
    return sum(map(len, groups))


def _files(groups: Sequence[Group]) -> list[Path]:
    return [sample.path for group in groups for sample in group]


def _examples(groups: Sequence[Group], root: Path) -> Iterator[str]:
    """Yield lines about the first groups: two images of each, on one line if they fit."""
    for group in groups[:_SHOWN_GROUPS]:
        names = [f"{_relative(sample.path, root)} ({sample.split}, {sample.label})" for sample in _varied(group)]
        names += [f"and {len(group) - 2} more"] if len(group) > 2 else []
        line = ", ".join(names)
        yield from [line] if len(line) <= _COLUMNS else [names[0], *(f"  {name}" for name in names[1:])]
    if len(groups) > _SHOWN_GROUPS:
        yield "..."


def _relative(path: Path, root: Path) -> Path:
    return path.relative_to(root) if path.is_relative_to(root) else path


def _varied(group: Group) -> tuple[Sample, Sample]:
    """Return the first sample, and the first of another label, or else of another split, or else the second."""
    first = group[0]
    others = sorted(group[1:], key=lambda sample: (sample.label == first.label, sample.split == first.split))
    return first, others[0]
