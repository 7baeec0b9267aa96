"""A picture of a training: loss and accuracy by epoch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from ..display.report import new_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


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
