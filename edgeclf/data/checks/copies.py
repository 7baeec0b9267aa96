"""Findings about images that are in a data set several times, exactly or nearly."""

from __future__ import annotations

from collections.abc import Sequence

from ...options import SplitOptions
from ..datasets import Sample
from ..findings import SHOWN_FILES, Finding, counted, warning

_SHOWN_GROUPS = 3


def about_copies(copies: Sequence[Sample]) -> Finding:
    """Return the finding about samples whose decoded pixels are equal."""
    files = [sample.path for sample in copies]
    shown = ", ".join(f"{sample.path} ({sample.split}, {sample.label})" for sample in copies[:SHOWN_FILES])
    if len({sample.label for sample in copies}) > 1:
        message = f"the same picture under several labels: {shown}: keep the correct one"
        return warning("conflicting-labels", message, files)
    if len({sample.split for sample in copies}) > 1:
        message = f"the same picture in several splits, which makes results look too good: {shown}: keep one"
        return warning("leaked", message, files)
    return warning("duplicate", f"the same picture several times: {shown}: keep one", files)


def about_near_duplicates(groups: Sequence[Sequence[Sample]], divided_by: SplitOptions | None) -> list[Finding]:
    """Return the findings about groups of near-duplicates: several labels, several splits, and the others.

    divided_by: options of the split, None if the data set came with its own.
    """
    labels, splits, others = [], [], []
    for group in groups:
        several_labels = len({sample.label for sample in group}) > 1
        several_splits = len({sample.split for sample in group}) > 1
        labels += [group] * several_labels
        splits += [group] * several_splits
        others += [group] * (not several_labels and not several_splits)
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
    return [_about_groups(kind, those, what, advice) for kind, those, what, advice in found if those]


def _about_groups(kind: str, groups: Sequence[Sequence[Sample]], what: str, advice: str) -> Finding:
    files = [sample.path for group in groups for sample in group]
    shown = "; ".join(
        ", ".join(f"{sample.path} ({sample.split}, {sample.label})" for sample in _varied(group))
        + (f" and {len(group) - 2} more" if len(group) > 2 else "")
        for group in groups[:_SHOWN_GROUPS]
    )
    message = (
        f"{len(files)} images in {counted(len(groups), 'group')} are nearly the same picture {what} ({shown}"
        f"{'; ...' if len(groups) > _SHOWN_GROUPS else ''}): {advice}"
    )
    return warning(kind, message, files)


def _varied(group: Sequence[Sample]) -> tuple[Sample, Sample]:
    """Return the first sample, and the first of another label, or else of another split, or else the second."""
    first = group[0]
    others = sorted(group[1:], key=lambda sample: (sample.label == first.label, sample.split == first.split))
    return first, others[0]
