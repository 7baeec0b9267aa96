"""Options of calibration and quantization."""

from __future__ import annotations

import math
from dataclasses import dataclass

from ..targets import FLAVORS, TARGETS
from .declaration import MOVED, SEED, SEEDS, SKIP_UNREADABLE, check_fields, option

RULES = ("stratified", "random", "diverse", "uncertain")
"""Rules that choose a calibration set's images, implemented in ``calibration/rules.py``."""
METHODS = ("minmax", "percentile", "entropy", "mse")
"""Methods that choose the range of an activation, implemented in ``graph/int8/ranges.py``."""

FORMS = ("standard", "weighted", "ungated", "first-layers", "all-weighted", "all-ungated", "all-layers")
"""Choices of the operators that compute in 8 bits, implemented in ``graph/int8/forms.py``."""


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Options of calibrate()."""

    size: int = option(300, "Images in the set.", between=(1, math.inf))
    rule: str = option(
        "stratified",
        "stratified: in proportion to the labels; diverse: far from each other; uncertain: least certain.",
        choices=RULES,
    )
    model: str | None = option(
        None,
        "Run whose split is used, and whose features (diverse) or logits (uncertain) rank the images.",
        metavar="RUN",
        path=True,
        shown="DATA, if that is a run",
    )
    data: str | None = option(None, MOVED, metavar="DATA", path=True, shown="where they were")
    seed: int | None = option(None, SEED, shown="the run's, or 0", between=SEEDS)
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)
    force: bool = option(False, "Accept few images of a label, and images of a single color.")

    def __post_init__(self) -> None:
        check_fields(self)


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """Options of quantize()."""

    calibration: str | None = option(
        None, "Folder of a calibration set.", shown="images from the run's train split", path=True
    )
    size: int = option(300, "Calibration images to select if no set is given.", between=(1, math.inf))
    flavors: tuple[str, ...] = option(
        (),
        "A file to write; may be repeated.  Exit code 3 if it does not pass.",
        name="--flavor",
        shown="those of the targets",
        choices=tuple(FLAVORS),
    )
    targets: tuple[str, ...] = option(
        (),
        "A device whose files to write; may be repeated.  Exit code 3 if one does not pass.",
        name="--target",
        shown="all",
        choices=tuple(TARGETS),
    )
    method: str = option(
        "best",
        "How activation ranges are chosen; best: of the methods without a significant loss, the closest to FP32; int8-cpu, int8-openvino and int8-arm share one.",
        choices=("best", *METHODS),
    )
    form: str = option(
        "fastest",
        "Which operators compute in 8 bits on a CPU; fastest: time every form of each file here, and keep the fastest that clearly passes.",
        choices=("fastest", *FORMS),
    )
    max_drop: float = option(0.01, "Largest accuracy drop from FP32 that is accepted.", between=(0, 1))
    seed: int = option(0, SEED, between=SEEDS)
    finetune_int8: bool = option(
        False, "Fine-tune the weights of each file that needs layers in float, or does not pass, to INT8."
    )
    int8_epochs: int = option(10, "Passes of --finetune-int8 over the training images.", between=(1, math.inf))
    baseline: bool = option(False, "Also measure torch's dynamic quantization, for comparison.")
    data: str | None = option(None, MOVED, metavar="DATA", path=True, shown="where they were")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def named(self) -> tuple[str, ...]:
        """The flavors that were asked for, by their own names or as those that a named target uses."""
        named = {*self.flavors, *(model for target in self.targets for model in TARGETS[target].models)}
        return tuple(name for name in FLAVORS if name in named)

    @property
    def wanted(self) -> tuple[str, ...]:
        """The flavors to write: those that were asked for; without any, all."""
        return self.named or tuple(FLAVORS)

    @property
    def methods(self) -> tuple[str, ...]:
        """The range methods to try."""
        return METHODS if self.method == "best" else (self.method,)
