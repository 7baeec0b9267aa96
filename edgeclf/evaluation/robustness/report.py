"""A RobustnessReport: accuracy by corruption and severity, as text, table and picture."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.schema import JsonObject

from ...data.findings import left_out_lines
from ...display.report import Report, new_figure, paragraph, shaded_table, table
from ..evaluation_text import wrapped

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Damage:
    """Accuracy under one corruption."""

    unit: str
    """The meaning and unit of the values."""
    values: tuple[float, ...]
    """By severity, 1 to 5."""
    accuracy: tuple[float, ...]
    mean_accuracy: float
    lower_from: int | None
    """First severity from which on the 95 % interval of the drop, the images being paired, is above 0; None if there is none."""


@dataclass(frozen=True)
class Attacks:
    """Accuracy on images that were changed on purpose."""

    images: int
    """The number of images that were attacked."""
    accuracy: float
    """Accuracy on these images before the attack."""
    eps: tuple[float, ...]
    """Largest changes of a pixel, in levels of 0 to 255."""
    steps: int
    """Steps of PGD."""
    fgsm: tuple[float, ...]
    """Accuracy after one step, by eps."""
    pgd: tuple[float, ...]
    """Accuracy after all steps, by eps."""


@dataclass(frozen=True)
class RobustnessReport(Report):
    """A model's accuracy on corrupted images."""

    model: str
    data: str
    split: str
    images: int
    available: int
    """Images in the split; of more than the options allow, a fixed choice was used."""
    accuracy: float
    """Accuracy on the images as they are."""
    accuracy_interval: tuple[float, float]
    baseline_accuracy: float
    """Accuracy of always answering the most frequent label of these images."""
    corruptions: dict[str, Damage]
    attacks: Attacks | None = None
    trained_on: int = 0
    """Images that were left out because the model was trained on them."""
    near_trained: int = 0
    """Images that were left out because they are near-duplicates of some that a model was trained on."""
    unreadable: int = 0
    """Images that were left out because they cannot be decoded."""

    @property
    def mean_accuracy(self) -> float:
        """Mean over all corruptions and severities."""
        return float(np.mean([damage.mean_accuracy for damage in self.corruptions.values()]))

    @property
    def worst(self) -> str:
        """The corruption with the lowest mean accuracy."""
        return min(self.corruptions, key=lambda name: self.corruptions[name].mean_accuracy)

    @property
    def verdict(self) -> str:
        """One sentence about the corruption that hurts most."""
        damage = self.corruptions[self.worst]
        if damage.lower_from is None:
            return (
                f"no corruption lowers the accuracy by more than chance could on {self.images} images; {self.worst} comes "
                f"closest, with {damage.mean_accuracy:.4f}"
            )
        reach = "from the first severity on" if damage.lower_from == 1 else f"from severity {damage.lower_from} on"
        return (
            f"{self.worst} hurts most: the accuracy of {self.accuracy:.4f} falls to {damage.mean_accuracy:.4f} on average and to "
            f"{damage.accuracy[-1]:.4f} at severity {len(damage.accuracy)}, and is lower {reach}"
        )

    def to_dict(self) -> JsonObject:
        """The report as JSON can hold it, with the verdict."""
        return {
            **super().to_dict(),
            "mean_accuracy": self.mean_accuracy,
            "worst": self.worst,
            "verdict": self.verdict,
        }

    def plot(self) -> Figure:
        """Return the accuracy by corruption and severity as a matplotlib figure.

        Raises DependencyError if matplotlib is missing.
        """
        names = list(self.corruptions)
        figure, (axis,) = new_figure(1, width=6.5, height=1.6 + 0.35 * len(names))
        cells = np.array([damage.accuracy for damage in self.corruptions.values()])
        axis.imshow(cells, cmap="Blues", vmin=0, vmax=1, aspect="auto")
        axis.set_xticks(range(cells.shape[1]), [str(severity + 1) for severity in range(cells.shape[1])])
        axis.set_yticks(range(len(names)), names)
        axis.set(xlabel="severity", title=f"{self.model}: accuracy {self.accuracy:.2%}, {self.images} images")
        for row, column in np.ndindex(cells.shape):
            color = "white" if cells[row, column] > 0.5 else "black"
            axis.text(column, row, f"{cells[row, column]:.1%}", ha="center", va="center", color=color)
        return figure

    def html_parts(self) -> Iterator[str]:
        """Yield the summary and the verdict, and the accuracies as a shaded table."""
        yield from map(paragraph, (*self._summary(), self.verdict))
        head = ("corruption", *map(str, range(1, 6)), "mean")
        rows = (
            (name, [(f"{value:.4f}", value) for value in (*damage.accuracy, damage.mean_accuracy)])
            for name, damage in self.corruptions.items()
        )
        yield shaded_table(head, rows)
        if self.attacks:
            yield table(("attack", *(f"{eps:g} levels" for eps in self.attacks.eps)), self._attack_rows())

    def _summary(self) -> list[str]:
        low, high = self.accuracy_interval
        of = f" of {self.available}" if self.available > self.images else ""
        return [
            f"{self.model} on {self.data} ({self.split}), {self.images}{of} images",
            f"accuracy {self.accuracy:.4f} (95 % interval {low:.4f} to {high:.4f}), corrupted {self.mean_accuracy:.4f}; "
            f"always the most frequent label {self.baseline_accuracy:.4f}",
            *left_out_lines(self.unreadable, self.trained_on, self.near_trained),
        ]

    def _attack_rows(self) -> list[tuple[str, ...]]:
        assert self.attacks
        kinds = (("FGSM", self.attacks.fgsm), (f"PGD, {self.attacks.steps} steps", self.attacks.pgd))
        return [(name, *(f"{value:.4f}" for value in values)) for name, values in kinds]

    def __str__(self) -> str:
        width = max(map(len, (*self.corruptions, "corruption")))
        lines = [
            f"{'corruption':<{width}}"
            + "".join(f"  {severity:>6}" for severity in range(1, 6))
            + "    mean  lower from"
        ]
        for name, damage in self.corruptions.items():
            cells = "".join(f"  {value:6.4f}" for value in (*damage.accuracy, damage.mean_accuracy))
            lines.append(f"{name:<{width}}{cells}  {damage.lower_from or '-':>10}")
        if self.attacks:
            head = f"attack, {self.attacks.images} images"
            lines += ["", f"{head:<18}" + "".join(f"  {eps:>6g}" for eps in (0.0, *self.attacks.eps)) + "  levels"]
            for name, *cells_of in self._attack_rows():
                values = (f"{self.attacks.accuracy:.4f}", *cells_of)
                lines.append(f"{name:<18}" + "".join(f"  {value:>6}" for value in values))
        return "\n".join([*lines, "", *wrapped([*self._summary(), self.verdict])])
