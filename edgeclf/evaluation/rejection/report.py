"""The rejection of an evaluation for people: rows of figures, and chapters of a report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.classify.rejection import CONFIDENCE, DISTANCE

from ...data.findings import counted
from ...display.page.charts import Chart, Line, Rule, shortened, xy_axes
from ...training.results.metrics import Share
from ...training.results.subject import Chapter
from .answers import Answers
from .foreign_images import KEPT, MeasuredForeign, Separation, labeled_scores
from .kept_images import KeptImages, MeasuredSets

if TYPE_CHECKING:
    from ..evaluate import Evaluation

Row = tuple[str, str, str]
"""Name, value and remark of a figure."""
_LONGEST_LABEL = 16
_REASONS = {DISTANCE: "unlike the training images", CONFIDENCE: "not confident enough"}
_POINTS, _BINS = 80, 40
_FARTHEST = 20
"""Times the threshold, to which the distances are drawn."""
_NONE = "-"


def rejection_rows(found: Evaluation) -> list[Row]:
    """Return the figures of kept images and of label sets; none if the model rejects nothing and gives no sets."""
    return [*(_kept_rows(found.kept) if found.kept else ()), *(_set_rows(found.label_sets) if found.label_sets else ())]


def foreign_rows(found: MeasuredForeign) -> list[Row]:
    """Return the figures of foreign images."""
    rows: list[Row] = [("foreign images", str(found.images), "")]
    for name, share in (
        ("foreign images that get a label", found.accepted),
        ("  by their confidence only", found.accepted_by_confidence),
        ("  by their distance only", found.accepted_by_distance),
    ):
        if share is not None:
            rows.append(_row(name, share))
    for name, score in (("distance", found.distance), ("confidence", found.confidence)):
        if score is not None:
            rows += _separation_rows(name, score)
    return rows


def foreign_notes(found: MeasuredForeign) -> Iterator[str]:
    """Yield sentences about the foreign images: where they are, what was left out, what the model lacks."""
    yield f"{counted(found.images, 'foreign image')} in {found.folder}"
    if found.unreadable:
        yield f"left out: {counted(found.unreadable, 'foreign image')} that cannot be decoded"
    if found.advice:
        yield found.advice


def rejection_chapters(found: Evaluation, known: Answers, foreign: Answers | None) -> Iterator[Chapter]:
    """Yield the chapters of a report; known, foreign: the answers that were measured."""
    if found.kept or found.label_sets:
        measured = {"kept": found.kept, "label_sets": found.label_sets}
        figures = {name: one and asdict(one) for name, one in measured.items()}
        yield Chapter(name="rejection", title="Unknown images", figures=figures, rows=rejection_rows(found))
    if found.unknown and foreign:
        yield Chapter(
            name="unknown",
            title="Foreign images",
            figures=asdict(found.unknown),
            rows=foreign_rows(found.unknown),
            charts=list(_charts(known, foreign)),
            notes=list(foreign_notes(found.unknown)),
        )


def _kept_rows(found: KeptImages) -> Iterator[Row]:
    yield _row("images that keep a label", found.coverage)
    yield _row("  accuracy of those", found.accuracy)
    for label, share in found.precision.items():
        yield _row(f"  precision of {shortened(label, _LONGEST_LABEL)}", share)
    for reason, count in found.rejected.items():
        yield f"unknown by {reason}", str(count), _REASONS[reason]


def _set_rows(found: MeasuredSets) -> Iterator[Row]:
    yield _row("label sets with the right label", found.right)
    yield "  labels in a set", f"{found.mean_size:.2f}", "mean"
    yield _row("  empty sets", found.empty)


def _separation_rows(name: str, found: Separation) -> Iterator[Row]:
    yield f"AUROC of the {name}", f"{found.auroc:.4f}", "foreign against known images"
    yield _row(f"  accepted if {100 * KEPT:.0f} % of known are kept", found.accepted)


def _row(name: str, share: Share | None) -> Row:
    if share is None:
        return name, _NONE, "no image"
    return name, f"{share.share:.4f}", "95 % interval {:.4f} to {:.4f}".format(*share.interval)


def _charts(known: Answers, foreign: Answers) -> Iterator[Chart]:
    scores = {"confidence": (known.doubts, foreign.doubts)}
    if known.distances is not None and foreign.distances is not None:
        scores = {"distance": (known.distances, foreign.distances), **scores}
        yield _histogram(*scores["distance"], known.rejection.most_distance)
    yield _curves(scores)


def _curves(scores: Mapping[str, tuple[np.ndarray, np.ndarray]]) -> Chart:
    """Return the share of known images that is kept by the share of foreign ones that is accepted, at each threshold."""
    from sklearn.metrics import roc_curve

    lines = []
    for series, pair in enumerate(scores.values()):
        which, values = labeled_scores(*pair)
        accepted, kept, _ = roc_curve(~which, -values.astype(np.float64))
        chosen = np.unique(np.linspace(0, len(kept) - 1, _POINTS).astype(int))
        lines.append(Line([(float(accepted[i]), float(kept[i])) for i in chosen], series))
    x, y = xy_axes((0.0, 1.0), (0.0, 1.0), ("foreign images accepted", "known images kept"), "xy")
    rule = Rule(y=KEPT, dashed=True)
    note = f"Dashed: {KEPT:.0%} of the known images."
    return Chart(
        "Known images kept by foreign images accepted",
        x,
        y,
        tuple(enumerate(scores)),
        tuple(lines),
        rules=(rule,),
        note=note,
    )


def _histogram(known: np.ndarray, foreign: np.ndarray, most: float | None) -> Chart:
    """Return the distances of known and foreign images; those of the farthest are all in the last bin."""
    finite = np.concatenate([one[np.isfinite(one)] for one in (known, foreign)] + [[0.0]])
    near = max(1.0, most or 0.0, float(np.median(np.minimum(known, finite.max()))))
    # Images of another kind may be so far that the others would share one bin.
    low, high = float(finite.min()), 1 + max(near, min(float(np.quantile(finite, 0.95)), _FARTHEST * near))
    edges = np.linspace(low, high, _BINS + 1)
    shares = [np.histogram(np.minimum(one, high), edges)[0] / len(one) for one in (known, foreign)]
    x, y = xy_axes((low, high), (0.0, 1.05 * float(np.max(shares))), ("distance", ""), "y")
    lines = tuple(Line(_steps(edges, share), series) for series, share in enumerate(shares))
    return Chart(
        "Images by their distance",
        x,
        y,
        ((0, "known images"), (1, "foreign images")),
        lines,
        rules=() if most is None else (Rule(x=most, dashed=True),),
        note=f"The last bin has all images beyond {high:.1f}." + ("" if most is None else " Dashed: the threshold."),
    )


def _steps(edges: np.ndarray, shares: np.ndarray) -> list[tuple[float, float]]:
    heights = np.repeat(shares, 2)
    return [(float(x), float(y)) for x, y in zip(np.repeat(edges, 2)[1:-1], heights, strict=True)]
