"""Options of the robustness test."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError
from .declaration import check_known, option

CORRUPTIONS = ("noise", "defocus", "motion", "dark", "bright", "fog", "jpeg", "rotation", "color-cast", "resolution")
"""Corruptions of images by a camera, implemented in ``evaluation/robustness/corruptions.py``."""


@dataclass(frozen=True, kw_only=True)
class RobustnessOptions:
    """Options of robustness()."""

    corruptions: tuple[str, ...] = option(
        (), "A corruption to test; may be repeated.", name="--corruption", shown="all", choices=CORRUPTIONS
    )
    images: int = option(
        500, "Maximum number of images; of more, a fixed sample is taken by their content.", at_least=1
    )
    adversarial: bool = option(
        False, "Also attack up to 100 images by FGSM and PGD, with the gradient of the run's network."
    )
    eps: float = option(8.0, "Largest change of a pixel by an attack, in levels of 0 to 255.")
    steps: int = option(10, "Steps of PGD.", at_least=1)

    def __post_init__(self) -> None:
        check_known("corruption", self.corruptions, CORRUPTIONS)
        if self.images < 1:
            raise OptionError(f"images is {self.images}; 1 or more was expected")
        if not 0 < self.eps <= 255:
            raise OptionError(f"eps is {self.eps:g}; more than 0 and at most 255 levels was expected (8 is usual)")
        if self.steps < 1:
            raise OptionError(f"steps is {self.steps}; 1 or more was expected")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The corruptions to test, in the order of the table."""
        return tuple(name for name in CORRUPTIONS if name in self.corruptions or not self.corruptions)
