"""Audits a data set: finds labels that are likely wrong, by a network's features of all images.

Each image's label is predicted from the other images, near-duplicates left out.  The test split's labels decide nothing:
neither the predictions, nor a threshold, nor what exclude.csv lists.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.outputs import claim_output, new_folder
from edgeclf_runtime.images.preprocess import Preprocessing

from ...data.datasets import Dataset, Sample, load_dataset
from ...data.exclusion import Exclusion, write_exclusions
from ...display.json_file import write_json
from ...display.progress import say
from ...errors import DataError
from ...options import AuditOptions, TrainOptions, merged, with_split_of
from ..bulk.ray_engine import check_engine
from .confident import LabelJudgment, judge
from .feature_store import FeatureStore, ImageFacts
from .label_model import folds_of, out_of_sample, reduced
from .outliers import FAR, distances
from .page import make_page
from .report import AuditedFile, AuditedImage, AuditReport, ConfusedLabels
from .similar import joined, similar_images

if TYPE_CHECKING:
    from ...training.features import Backbone

AUDIT_FILE, PAGE_FILE, EXCLUDE_FILE = "audit.json", "audit.html", "exclude.csv"
FORMAT, FORMAT_VERSION = "edgeclf-audit", 1
_FEWEST_CONFUSED, _LEAST_SHARE = 3, 0.01


def audit(
    data: str | Path | Dataset,
    output: str | Path,
    options: AuditOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> AuditReport:
    """Find likely wrong labels, conflicting near-duplicates and outliers, and write a folder.

    The folder has audit.html, audit.json, and exclude.csv, which train takes as ``exclude``.  Raises DataError if the data set
    has fewer than two labels or no image that can be decoded, WeightsError, ModelError for an imported run, and OutputError if
    ``output`` exists.
    """
    options = merged(AuditOptions, options, keywords)
    claim_output(output, overwrite, AUDIT_FILE)
    check_engine(options.engine)
    source = _source(data, options)
    images = _read(source, options.engine)
    report = _report(source, images, _find(source.dataset, images, options), str(output))
    exclusions = _exclusions(report)
    report = replace(report, excluded=len(exclusions))
    with new_folder(output, overwrite, AUDIT_FILE) as folder:
        facts = {"format": FORMAT, "format_version": FORMAT_VERSION, **report.to_dict()}
        write_json(Path(folder, AUDIT_FILE), facts)
        write_exclusions(Path(folder, EXCLUDE_FILE), exclusions)
        Path(folder, PAGE_FILE).write_text(make_page(report, source.dataset.root), encoding="utf-8")
    return report


@dataclass(frozen=True)
class _Source:
    """The images, and the network that looks at them."""

    dataset: Dataset
    network: Backbone
    spec: Preprocessing
    name: str
    notes: tuple[str, ...]


def _source(data: str | Path | Dataset, options: AuditOptions) -> _Source:
    from ...training.backbones import create
    from ...training.features import backbone_of
    from ...training.runs import read_run
    from ...training.start import preprocessing_of
    from ...training.weights.sources import find_weights

    notes: tuple[str, ...] = ()
    if options.model is None:
        dataset = load_dataset(data, options.split, options.download)
        weights = find_weights(options.backbone, options.weights, options.download)
        if weights is not None:
            say(str(weights))
        network = create(options.backbone, 2, weights)
        chosen = TrainOptions(backbone=options.backbone, image_size=options.image_size, resize=options.resize)
        spec, name = preprocessing_of(network, chosen), options.backbone
    else:
        run = read_run(options.model)
        split = with_split_of(run.split_options, options.split_of)
        dataset = run.recall(load_dataset(data, split, options.download))
        network, spec, name = backbone_of(run), run.preprocessing, options.model
        notes = _about_fitted(run.facts["options"].get("finetune"), name)
    if len(dataset.labels) < 2:
        raise DataError(f"{dataset.name} has one label, {dataset.labels[0]!r}; an audit needs two or more")
    for note in notes:
        say(f"warning: {note}")
    return _Source(dataset, network, spec, name, notes)


def _about_fitted(finetune: str | None, name: str) -> tuple[str, ...]:
    if finetune != "full":
        return ()
    return (
        f"all layers of {name} were trained on the labels of train, so it may have learned wrong ones: audit without --model "
        "too",
    )


@dataclass(frozen=True)
class _Images:
    """The images that could be decoded."""

    samples: list[Sample]
    digests: list[str]
    facts: list[ImageFacts]
    unreadable: tuple[AuditedFile, ...]

    @property
    def known(self) -> np.ndarray:
        """Return a mask of the images that may have an influence, all but those of the test split: bool [images]."""
        return np.array([sample.split != "test" for sample in self.samples])


def _read(source: _Source, engine: str) -> _Images:
    dataset = source.dataset
    hashes = dataset.sha256(dataset.samples)
    paths = {digest: sample.path for sample, digest in zip(dataset.samples, hashes, strict=True) if digest}
    facts, problems = FeatureStore.of_user(source.network, source.spec, engine).recall(paths)
    found, bad = [], []
    for sample, digest in zip(dataset.samples, hashes, strict=True):
        if digest in facts:
            found.append((sample, digest))
        else:
            problem = problems.get(digest, f"{sample.path}: the file cannot be read")
            bad.append(AuditedFile(dataset.relative(sample), sample.split, sample.label, problem))
    if not any(sample.split != "test" for sample, _ in found):
        raise DataError(f"{dataset.name} has no image in train or val that can be decoded; see: edgeclf check DATA")
    digests = [digest for _, digest in found]
    return _Images([one for one, _ in found], digests, [facts[digest] for digest in digests], tuple(bad))


@dataclass(frozen=True)
class _Findings:
    labels: LabelJudgment
    probabilities: np.ndarray
    judged: np.ndarray
    distances: np.ndarray
    similar: list[list[int]]
    """Groups of near-duplicates and copies, as indices."""


def _find(dataset: Dataset, images: _Images, options: AuditOptions) -> _Findings:
    targets = np.array([dataset.index(sample) for sample in images.samples])
    similar = similar_images(images.digests, [one.thumbnail for one in images.facts])
    keys = ["" if dataset.stratified else sample.group for sample in images.samples]
    groups = joined(len(keys), similar, keys)
    folds = folds_of(groups, targets.tolist(), images.known.tolist(), images.digests, options.folds, options.seed)
    features = np.stack([one.features for one in images.facts])
    values = reduced(features, np.flatnonzero(images.known))
    probabilities, judged = out_of_sample(values, targets, folds, images.known, len(dataset.labels))
    return _Findings(
        judge(probabilities, targets, images.known, judged),
        probabilities,
        judged,
        distances(features, np.array(groups), images.known),
        similar,
    )


def _report(source: _Source, images: _Images, findings: _Findings, output: str) -> AuditReport:
    dataset, spec = source.dataset, source.spec
    every = _audited(dataset, images, findings)
    groups = [tuple(every[index] for index in group) for group in findings.similar]
    far = np.flatnonzero(findings.distances > FAR)
    not_judged = Counter(one.label for one, judged in zip(every, findings.judged, strict=True) if not judged)
    return AuditReport(
        output=output,
        data=dataset.name,
        images=dataset.counts(),
        labels=dataset.labels,
        network=source.name,
        wrong_labels=tuple(every[index] for index in findings.labels.wrong),
        conflicts=tuple(group for group in groups if len({one.label for one in group}) > 1),
        duplicates=tuple(group for group in groups if len({one.label for one in group}) == 1),
        outliers=tuple(every[index] for index in far[np.argsort(-findings.distances[far], kind="stable")]),
        confused=tuple(_confused(dataset, findings.labels)),
        small=_small(every, images.facts, spec),
        image_size=min(spec.width, spec.height),
        unreadable=images.unreadable,
        not_judged=dict(sorted(not_judged.items())),
        notes=source.notes,
    )


def _audited(dataset: Dataset, images: _Images, findings: _Findings) -> list[AuditedImage]:
    found = []
    for index, sample in enumerate(images.samples):
        suggested = dataset.labels[findings.labels.suggested[index]]
        probability = float(findings.probabilities[index, dataset.index(sample)])
        found.append(
            AuditedImage(
                path=dataset.relative(sample),
                split=sample.split,
                label=sample.label,
                suggested_label="" if suggested == sample.label else suggested,
                probability=round(probability, 6) if findings.judged[index] else None,
                distance=round(float(findings.distances[index]), 3),
            )
        )
    return found


def _small(every: Sequence[AuditedImage], facts: Sequence[ImageFacts], spec: Preprocessing) -> tuple[AuditedFile, ...]:
    return tuple(
        AuditedFile(one.path, one.split, one.label, f"{size.width} x {size.height}")
        for one, size in zip(every, facts, strict=True)
        if min(size.width, size.height) < min(spec.width, spec.height)
    )


def _confused(dataset: Dataset, labels: LabelJudgment) -> list[ConfusedLabels]:
    """Return the pairs of labels that are confused, the most frequent first."""
    totals = labels.joint.sum(1)
    pairs = [
        ConfusedLabels(
            dataset.labels[i], dataset.labels[j], int(labels.joint[i, j]), float(labels.joint[i, j] / totals[i])
        )
        for i, j in zip(*np.nonzero(labels.joint), strict=True)
        if i != j
    ]
    kept = [pair for pair in pairs if pair.images >= _FEWEST_CONFUSED and pair.share >= _LEAST_SHARE]
    return sorted(kept, key=lambda pair: (-pair.images, pair.label, pair.taken_for))


def _exclusions(report: AuditReport) -> list[Exclusion]:
    """Return the lines of exclude.csv: by reason, the most certain first, each image once.

    Images of test are left out, unless they cannot be decoded: what a model finds hard must not vanish from the test.
    """
    rows = [Exclusion(one.path, "unreadable", one.label) for one in report.unreadable]
    rows += [_exclusion(one, "wrong label", one.probability) for one in report.wrong_labels if one.split != "test"]
    for group in report.conflicts:
        rows += [_exclusion(one, "conflicting label", one.probability) for one in _contradicted(group)]
    rows += [_exclusion(one, "outlier", one.distance) for one in report.outliers if one.split != "test"]
    once: dict[str, Exclusion] = {}
    for row in rows:
        once.setdefault(row.path, row)
    return list(once.values())


def _exclusion(image: AuditedImage, reason: str, score: float | None) -> Exclusion:
    return Exclusion(image.path, reason, image.label, image.suggested_label, score)


def _contradicted(group: Sequence[AuditedImage]) -> list[AuditedImage]:
    """Return the images of train and val in a group of near-duplicates whose label is not the group's likeliest one.

    None if a label was not checked, because then nothing shows which one is right.
    """
    by_label: dict[str, list[float]] = {}
    for one in group:
        if one.probability is None:
            return []
        by_label.setdefault(one.label, []).append(one.probability)
    right = max(by_label, key=lambda label: (sum(by_label[label]) / len(by_label[label]), label))
    return [one for one in group if one.label != right and one.split != "test"]
