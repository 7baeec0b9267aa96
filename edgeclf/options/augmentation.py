"""Options of augmentation, the random changes of training images: a preset, and options that override its steps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields
from typing import Any, ClassVar, NamedTuple

from edgeclf_runtime.images.preprocess import RESIZE_MODES

from .declaration import DOWNLOAD_DATA, IMAGE_SIZE, INPUT_SIZES, SEED, SEEDS, SKIP_UNREADABLE, check_fields, option

FLIPS = ("none", "horizontal", "all")
POLICIES = ("none", "trivial", "randaugment")


class Steps(NamedTuple):
    """The strength of each step; the defaults do nothing.  AugmentationOptions describes them."""

    flips: str = "none"
    crop_padding: int = 0
    rotate: float = 0
    translate: float = 0
    zoom: float = 0
    perspective: float = 0
    brightness: float = 0
    contrast: float = 0
    color: float = 0
    blur: float = 0
    noise: float = 0
    jpeg: int = 100
    erase: float = 0
    policy: str = "none"

    def active(self) -> dict[str, float | str]:
        """Return the steps that do something, by name."""
        nothing = Steps()._asdict()
        return {name: value for name, value in self._asdict().items() if value != nothing[name]}


PRESETS = {
    "photo": Steps(flips="horizontal", translate=0.05, zoom=0.1, brightness=0.2, contrast=0.2),
    "inspection": Steps(flips="all", rotate=5, translate=0.05, brightness=0.3, contrast=0.3, blur=1),
    "document": Steps(
        rotate=5,
        translate=0.03,
        zoom=0.05,
        perspective=0.1,
        brightness=0.3,
        contrast=0.3,
        color=0.1,
        blur=1,
        jpeg=40,
    ),
    "none": Steps(),
}
_PRESET = "the preset's"


@dataclass(frozen=True, kw_only=True)
class AugmentationOptions:
    """Random changes of training images, after the preprocessing; None is the preset's value."""

    GROUP: ClassVar[str] = "Augmentation"

    augment: str = option(
        "photo", "Preset of the random changes of training images; for head only with --views.", choices=tuple(PRESETS)
    )
    flips: str | None = option(
        None, "Mirror at random; all: both directions and right angles.", choices=FLIPS, shown=_PRESET
    )
    crop_padding: int | None = option(
        None,
        "Random crop after padding each side with black, in pixels; CIFAR's is 4.",
        shown=_PRESET,
        between=(0, 256),
    )
    rotate: float | None = option(None, "Largest angle, in degrees.", shown=_PRESET, between=(0, 180))
    translate: float | None = option(None, "Largest shift, as a share of the side.", shown=_PRESET, between=(0, 0.5))
    zoom: float | None = option(None, "Largest change of scale; 0.1 is 0.9 to 1.1.", shown=_PRESET, between=(0, 0.9))
    perspective: float | None = option(
        None, "Largest shift of each corner by itself, as a share of half the side.", shown=_PRESET, between=(0, 0.5)
    )
    brightness: float | None = option(
        None, "Largest change of brightness; 0.2 is 0.8 to 1.2.", shown=_PRESET, between=(0, 1)
    )
    contrast: float | None = option(
        None, "Largest change of contrast, in the same form.", shown=_PRESET, between=(0, 1)
    )
    color: float | None = option(
        None, "Largest change of saturation and of each color channel, in the same form.", shown=_PRESET, between=(0, 1)
    )
    blur: float | None = option(
        None,
        "Largest sigma, in pixels of a 224-pixel image; half of the images are blurred.",
        shown=_PRESET,
        between=(0, 20),
    )
    noise: float | None = option(
        None, "Largest standard deviation of noise, in gray levels of 255.", shown=_PRESET, between=(0, 100)
    )
    jpeg: int | None = option(
        None, "Lowest quality of JPEG, for half of the images; 100: no compression.", shown=_PRESET, between=(1, 100)
    )
    erase: float | None = option(
        None, "Share of the images in which a rectangle is erased.", shown=_PRESET, between=(0, 1)
    )
    policy: str | None = option(
        None,
        "Published set of random changes: TrivialAugment (Wide) or RandAugment.",
        choices=POLICIES,
        shown=_PRESET,
    )

    def __post_init__(self) -> None:
        check_fields(self)

    @property
    def changed(self) -> tuple[str, ...]:
        """The names of the augmentation options that were given: another preset, or a step of one."""
        return (*(("augment",) if self.augment != "photo" else ()), *self._given())

    @property
    def steps(self) -> Steps:
        """The preset's steps, with those that were given in place of its own."""
        return PRESETS[self.augment]._replace(**self._given())

    def _given(self) -> dict[str, Any]:
        return {name: getattr(self, name) for name in Steps._fields if getattr(self, name) is not None}


def augmentation_steps(facts: Mapping[str, Any]) -> Steps:
    """Return the steps that recorded options stand for, also those of a run from before there were presets."""
    known = {one.name: facts[one.name] for one in fields(AugmentationOptions) if one.name in facts}
    return AugmentationOptions(**known).steps


@dataclass(frozen=True, kw_only=True)
class AugmentOptions(AugmentationOptions):
    """Random changes of images, and how many images to show."""

    GROUP: ClassVar[str] = "Options"

    images: int = option(6, "Training images to show, of every label in turn.", between=(1, 100))
    views: int = option(7, "Augmented views of each image.", between=(1, 50))
    image_size: int = option(224, IMAGE_SIZE, between=INPUT_SIZES)
    resize: str = option("crop", "As for train.", choices=RESIZE_MODES)
    seed: int = option(0, SEED, between=SEEDS)
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)
    download: bool = option(False, DOWNLOAD_DATA)
