"""Pictures of a training: loss and accuracy by epoch, and accuracy by number of images."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..display.report import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from .results.learning_curve import LearningCurve


def draw_history(rows: Sequence[Mapping[str, float]]) -> Figure:
    """Draw each epoch's loss on train and val, and its accuracy and macro F1 on val."""
    figure, (left, right) = new_figure(2, height=3.5)
    epochs = [int(row["epoch"]) for row in rows]
    for axis, lines in (
        (left, {"loss": "train", "val_loss": "val"}),
        (right, {"val_accuracy": "val accuracy", "val_macro_f1": "val macro F1"}),
    ):
        for name, label in lines.items():
            axis.plot(epochs, [row[name] for row in rows], "o-", markersize=3, label=label)
        axis.set(xlabel="epoch")
        axis.xaxis.get_major_locator().set_params(integer=True)
        axis.legend(frameon=False)
    left.set(title="loss", ylim=(0, None))
    right.set(title="accuracy")
    return figure


def draw_learning_curve(curve: LearningCurve) -> Figure:
    """Draw the accuracy of each part of the training images, with the lowest and highest of the seeds, and the fitted curve."""
    figure, (axis,) = new_figure(1, height=3.5)
    images, accuracy = zip(*curve.fitted, strict=True)
    axis.plot(images, accuracy, "--", label="fitted")
    middle = [step.accuracy for step in curve.steps]
    lengths = (
        [step.accuracy - step.lowest for step in curve.steps],
        [step.highest - step.accuracy for step in curve.steps],
    )
    axis.errorbar([step.images for step in curve.steps], middle, lengths, fmt="o", capsize=3, label="measured")
    axis.set(
        xlabel="training images", ylabel="val accuracy", xscale="log", title=f"{curve.gain:+.1%} by twice the images"
    )
    axis.legend(frameon=False)
    return figure
