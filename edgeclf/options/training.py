"""What to train, and how."""

from __future__ import annotations

from dataclasses import dataclass

from edgeclf_runtime.images.preprocess import RESIZE_MODES

from ..errors import OptionError
from .augmentation import AugmentationOptions
from .channels import Three, unit_values
from .data import GROUP_BY, GROUP_SIMILAR, SplitOptions
from .declaration import SEED, SKIP_UNREADABLE, option

FINETUNE = ("head", "full")
EPOCHS = {"head": 12, "full": 8}
"""Passes over the training images if none are given; full begins with those of the head."""


@dataclass(frozen=True, kw_only=True)
class TrainOptions(AugmentationOptions):
    """What to train, and how."""

    backbone: str = option("efficientnet_lite0", "Name of a timm model.")
    weights: str = option(
        "imagenet",
        "imagenet (from an installed package or the Hugging Face cache), none (random), or a file with a state dict.",
        path=True,
    )
    download: bool = option(
        False,
        "Download what is not on this machine: ImageNet weights, from the Hugging Face hub, and a named data set.",
    )
    mean: str | None = option(
        None,
        "Mean that the weights were trained with, for pixels from 0 to 1: one number, three (R,G,B), or imagenet.",
        shown="the backbone's, from timm",
    )
    std: str | None = option(
        None, "Standard deviation that belongs to --mean, in the same form.", shown="the backbone's, from timm"
    )
    keep_head: bool = option(
        False, "Start with the head of the file in --weights; it must have as many outputs as DATA has labels."
    )
    finetune: str = option(
        "head", "head: train on features of the frozen backbone; full: train every layer.", choices=FINETUNE
    )
    epochs: int | None = option(None, "Passes over the training images.", shown="12 for head, 8 for full")
    image_size: int | None = option(
        None, "Side of the model's square input, in pixels.", shown="the size of the backbone"
    )
    resize: str = option(
        "crop", "crop: the centered square; stretch: the whole image; letterbox: with bars.", choices=RESIZE_MODES
    )
    batch_size: int = option(32, "Images per training step.")
    learning_rate: float = option(1e-3, "Peak of AdamW's one-cycle schedule.")
    seed: int = option(0, SEED)
    test: float = 0.25
    """Share of all images held out for the test split, if the data set has no split of its own."""
    val: float = 0.1
    """Share of the remaining images used for validation, if the data set has no split of its own."""
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)

    def __post_init__(self) -> None:
        AugmentationOptions.__post_init__(self)
        for name, allowed in (("finetune", FINETUNE), ("resize", RESIZE_MODES)):
            if getattr(self, name) not in allowed:
                raise OptionError(f"{name} is {getattr(self, name)!r}; {', '.join(allowed)} was expected")
        for name, low, high in (
            ("epochs", 1, 10_000),
            ("image_size", 32, 1024),
            ("batch_size", 1, 4096),
            ("seed", 0, 2**31),
        ):
            value = getattr(self, name)
            if value is not None and not low <= value <= high:
                raise OptionError(f"{name.replace('_', '-')} is {value}; {low} to {high} was expected")
        if not 0 < self.learning_rate < 1:
            raise OptionError(f"learning-rate is {self.learning_rate}; more than 0 and less than 1 was expected")
        if self.finetune == "head" and self.changed:
            raise OptionError(
                f"{self.changed[0].replace('_', '-')} was given, but head trains on features that are computed once from unchanged "
                "images: add --finetune full"
            )
        if self.finetune == "full" and self.batch_size < 2:
            raise OptionError("batch-size is 1; full needs 2 or more, for its batch norm")
        if self.keep_head and self.weights == "none":
            raise OptionError("keep-head needs a file with a head, but weights is none: add --weights FILE")
        for name in ("mean", "std"):
            value = getattr(self, name)
            if value is not None:  # Python may give numbers; a run records text
                object.__setattr__(self, name, str(value).strip("()[]").replace(" ", ""))
        self.split, self.normalization  # noqa: B018 - refuse a wrong share, mean or std

    @property
    def normalization(self) -> tuple[Three, Three] | None:
        """The mean and standard deviation that the weights were trained with, R,G,B; None for the backbone's own."""
        if self.mean is None and self.std is None:
            return None
        for name, other in (("mean", "std"), ("std", "mean")):
            if getattr(self, name) is None:
                raise OptionError(f"{other} was given without {name}; give both, --mean and --std")
        return unit_values("mean", self.mean), unit_values("std", self.std)

    @property
    def passes(self) -> int:
        """The number of epochs that ``epochs`` stands for."""
        return self.epochs or EPOCHS[self.finetune]

    @property
    def split(self) -> SplitOptions:
        """How images are split if the data set has no split of its own."""
        return SplitOptions(
            seed=self.seed, test=self.test, val=self.val, group_by=self.group_by, group_similar=self.group_similar
        )
