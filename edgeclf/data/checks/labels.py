"""Findings about a data set's labels, and how many images each has in each split."""

from __future__ import annotations

from collections import Counter, defaultdict

from edgeclf_runtime.results import UNKNOWN

from ..datasets import SPLITS, Dataset
from ..findings import Finding, warning
from ..layout import same_label

IMBALANCE = 10
"""A class is reported if the largest class has at least this many times as many images."""


def counts_by_label(dataset: Dataset) -> dict[str, dict[str, int]]:
    """Return the number of images by label and split."""
    found = Counter((sample.label, sample.split) for sample in dataset.samples)
    return {label: {split: found[label, split] for split in SPLITS} for label in dataset.labels}


def about_labels(dataset: Dataset) -> list[Finding]:
    """Return the findings about labels and splits with few images or none, and about labels that are alike or ambiguous."""
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
    totals, counts = dataset.counts(), counts_by_label(dataset)
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
