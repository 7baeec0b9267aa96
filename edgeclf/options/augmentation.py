"""How the images of training are changed at random."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError
from .declaration import option

FLIPS = ("none", "horizontal", "all")


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """How the images of training are changed at random, after the preprocessing."""

    flips: str = option(
        "horizontal",
        "Augmentation for full; all: both directions and right angles.",
        choices=FLIPS,
    )

    def __post_init__(self) -> None:
        if self.flips not in FLIPS:
            raise OptionError(f"flips is {self.flips!r}; {', '.join(FLIPS)} was expected")
