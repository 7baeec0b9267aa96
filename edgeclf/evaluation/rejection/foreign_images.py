"""Measures how well a model tells foreign images, which are of none of its labels, from known ones."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclf_runtime.classify.rejection import CONFIDENCE, DISTANCE
from edgeclf_runtime.files.read import sha256_file

from ...data.findings import counted, listed
from ...data.pixels import about_unreadable, load_each, unreadable
from ...data.tree import left_out, read_tree
from ...display.progress import say
from ...errors import DataError, ModelError
from ...training.results.metrics import Share, share_of
from ..evaluation_set import EvaluationSet
from ..open_model import OpenModel
from .answers import Answers

KEPT = 0.95
"""Share of the known images that is kept where scores are compared."""


@dataclass(frozen=True)
class ForeignImages:
    """The image files of a folder, in any structure."""

    folder: str
    paths: tuple[Path, ...]
    unreadable: int
    """Images that were left out because they cannot be decoded."""


@dataclass(frozen=True)
class Separation:
    """One score's figures as a test for foreign images among known ones."""

    auroc: float
    """Probability that a foreign image has a higher score than a known one."""
    accepted: Share
    """Foreign images that are accepted if KEPT of the known ones are."""


@dataclass(frozen=True)
class MeasuredForeign:
    """Foreign images, and how a model answers them."""

    folder: str
    images: int
    unreadable: int
    accepted: Share | None
    """Those that get a label at the model's thresholds; None if it has none."""
    accepted_by_confidence: Share | None
    """Those whose confidence is high enough; None without a threshold of confidence."""
    accepted_by_distance: Share | None
    """Those whose distance is small enough; None without a threshold of distance."""
    confidence: Separation
    """By the highest probability."""
    distance: Separation | None
    """By the distance; None if the model has none."""
    advice: str
    """A sentence about what the model lacks and how to get it, or ""."""


def find_foreign(folder: str | Path, known: EvaluationSet, skip_unreadable: bool = False) -> ForeignImages:
    """Return the images in a folder and all below it; known: the labeled images, none of which may be among them.

    Warns if its folders have the names of labels.  Raises DataError if there is no folder, no image, or a known one.
    """
    root = Path(folder)
    if not root.is_dir():
        what = "is a file" if root.exists() else "does not exist"
        raise DataError(f"--unknown: {folder} {what}; a folder of images that are of none of the labels was expected")
    tree = read_tree(root)
    paths = tree.all_images()
    findings = left_out(tree)
    if not paths:
        raise DataError(
            f"--unknown: {folder} holds no images; images that are of none of the labels were expected (JPEG, PNG, BMP, "
            f"WebP or TIFF){''.join(f'; {one.message}' for one in findings)}"
        )
    for finding in findings:
        say(f"warning: --unknown: {finding.message}")
    _check_foreign(folder, paths, known)
    bad = unreadable(paths) if skip_unreadable else {}
    if bad:
        say(f"warning: --unknown: {about_unreadable(bad).message}")
    if len(bad) == len(paths):
        raise DataError(
            f"--unknown: none of the {counted(len(paths), 'image')} in {folder} can be decoded: replace them"
        )
    return ForeignImages(str(folder), tuple(path for path in paths if path not in bad), len(bad))


def _check_foreign(folder: str | Path, paths: list[Path], known: EvaluationSet) -> None:
    hashes = set(known.sha256)
    same = [path for path, one in zip(paths, load_each(paths, sha256_file), strict=True) if one in hashes]
    if same:
        raise DataError(
            f"--unknown: {len(same)} of the {counted(len(paths), 'image')} in {folder} are among the evaluated images, the first: "
            f"{same[0]}; images that are of none of the labels were expected: give another folder"
        )
    named = sorted({part for path in paths for part in _folders(path, Path(folder))} & set(known.labels))
    if named:
        say(
            f"warning: --unknown: {folder} has folders with the names of labels ({listed(named)}); if their images are of these "
            "labels, they are not foreign, and the figures look worse than they are"
        )


def _folders(path: Path, root: Path) -> tuple[str, ...]:
    return (os.path.basename(os.path.abspath(root)), *path.relative_to(root).parts[:-1])


def measure_foreign(images: ForeignImages, known: Answers, foreign: Answers, opened: OpenModel) -> MeasuredForeign:
    """Compare an open model's answers to foreign images with those to known ones.

    Raises ModelError if a logit is not finite.
    """
    for what, answers in (("known", known), ("foreign", foreign)):
        if not answers.finite:
            raise ModelError(
                f"the logits of {opened.name} are not finite for some {what} images, so they cannot be compared: train again, with a "
                "lower learning rate"
            )
    by_confidence, by_distance = foreign.rejects_confidences, foreign.rejects_distances
    return MeasuredForeign(
        folder=images.folder,
        images=len(images.paths),
        unreadable=images.unreadable,
        accepted=share_of(foreign.kept(CONFIDENCE, DISTANCE)) if by_confidence or by_distance else None,
        accepted_by_confidence=share_of(foreign.kept(CONFIDENCE)) if by_confidence else None,
        accepted_by_distance=share_of(foreign.kept(DISTANCE)) if by_distance else None,
        confidence=separation(known.doubts, foreign.doubts),
        distance=None
        if known.distances is None or foreign.distances is None
        else separation(known.distances, foreign.distances),
        advice=_advice(opened, known),
    )


def separation(known: np.ndarray, foreign: np.ndarray) -> Separation:
    """Return how well a score separates images, float [known images] and [foreign images], at least one each; foreign ones should be higher."""
    from sklearn.metrics import roc_auc_score

    threshold = np.sort(known)[int(np.ceil(KEPT * len(known) - 1e-9)) - 1]
    accepted = share_of(foreign <= threshold)
    assert accepted is not None
    return Separation(float(roc_auc_score(*labeled_scores(known, foreign))), accepted)


def labeled_scores(known: np.ndarray, foreign: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return which images are foreign, bool [images], and their scores, known ones first; infinite ones become the highest number."""
    which = np.repeat([False, True], [len(known), len(foreign)])
    return which, np.minimum(np.concatenate((known, foreign)), np.finfo(np.float32).max)


def _advice(opened: OpenModel, known: Answers) -> str:
    run = "RUN" if opened.run is None else opened.run.path
    command = f"edgeclf bundle {run} --output NAME.edge --keep 0.95"
    if known.distances is None:
        return (
            f"{opened.name} has no distance from the training images, so only the confidence was measured; a bundle that was made "
            f"from a run has it: {command}"
        )
    if not known.rejects_distances:
        return f"No distance is too large for {opened.name}; a bundle with a threshold is made with: {command}"
    return ""
