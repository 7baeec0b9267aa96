"""The record of fine-tuning one flavor: what it was before, and after."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """The best file of a flavor with the same weights."""

    in_float: int | None
    """Layers that went back to float so that the file passes; None: it does not pass with half of them."""
    drop: float
    """Accuracy drop from FP32 of that file; of the file with every layer in INT8 if none passes."""
    agreement: float
    drop_int8: float
    """Accuracy drop of the file without layers back in float."""
    agreement_int8: float

    def better_than(self, other: Outcome) -> bool:
        """Return whether it passes with fewer layers in float."""
        return self.in_float is not None and (other.in_float is None or self.in_float < other.in_float)

    def __str__(self) -> str:
        layers = "does not pass" if self.in_float is None else f"{self.in_float} layers back in float"
        more = "" if not self.in_float else f"; {self.drop_int8:+.4f} without them"
        return f"{layers}, drop {self.drop:+.4f}, agreement {self.agreement:.2%}{more}"


@dataclass(frozen=True, kw_only=True)
class Finetuning:
    """Fine-tuning of a flavor's weights."""

    kept: bool
    """True if the file has the tuned weights; if they are no better, it has FP32's."""
    images: int
    """Training images used; none of them is an evaluation image."""
    epochs: int
    seed: int
    loss_before: float
    """Mean squared difference of the logits from FP32's, as a share of their variance, in the first epoch."""
    loss_after: float
    time_s: float
    before: Outcome
    after: Outcome

    def __str__(self) -> str:
        verdict = "" if self.kept else "; it is no better, so the weights stay as they were"
        return f"fine-tuned on {self.images} images: before, {self.before}; after, {self.after}{verdict}"
