"""Options of train()."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from edgeclf_runtime.images.preprocess import RESIZE_MODES

from ..errors import OptionError
from ..targets import TARGETS
from .augmentation import AugmentationOptions
from .channels import Three, unit_values
from .data import GROUP_BY, GROUP_SIMILAR, SPLIT_OF, SplitOptions
from .declaration import DOWNLOAD, IMAGE_SIZE, INPUT_SIZES, SEED, SEEDS, SKIP_UNREADABLE, check_fields, option
from .optimization import DistillationOptions, LossOptions, MachineOptions, OptimizerOptions

FINETUNE = ("head", "gradual", "full")
EPOCHS = {"head": 12, "gradual": 8, "full": 8}
"""Passes over the training images if none are given; gradual and full begin with those of the head."""
RATE_DECAY = {"head": 1.0, "gradual": 0.6, "full": 1.0}
NO_EFFECT = ("download", "workers", "checkpoint_every", "log", "targets")
"""Options that do not change the result."""


def batch_size(text: str) -> int | str:
    """Return a batch size as the command line has it: a number, or auto."""
    return int(text) if text.isdecimal() else text


@dataclass(frozen=True, kw_only=True)
class TrainOptions(MachineOptions, AugmentationOptions, DistillationOptions, LossOptions, OptimizerOptions):
    """Options of train()."""

    GROUP: ClassVar[str] = "Options"
    backbone: str = option("tf_efficientnet_lite0", "Name of a timm model.")
    weights: str = option(
        "imagenet",
        "imagenet (from an installed package or the Hugging Face cache), none (random), or a file with a state dict.",
        path=True,
    )
    download: bool = option(False, DOWNLOAD)
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
    stem_stride: int | None = option(
        None,
        "Shrink small images less in the first layers: 1 (not at all) or 2.",
        shown="the backbone's, usually 4 or 2",
        between=(1, 2),
    )
    targets: tuple[str, ...] = option(
        (),
        "A device that the network must fit; may be repeated.  Its export and quantization are tried before training.",
        name="--target",
        shown="all",
        choices=tuple(TARGETS),
    )
    finetune: str = option(
        "head",
        "head: train on features of the frozen backbone; gradual: unfreeze it from the end; full: train every layer.",
        choices=FINETUNE,
    )
    freeze: int = option(
        0,
        "Stages, counted from the input, that gradual and full leave as they are; the first cost the most time.",
        between=(0, 1000),
    )
    epochs: int | None = option(
        None, "Passes over the training images.", shown="12 for head, 8 for the others", between=(1, 10_000)
    )
    minutes: float | None = option(
        None,
        "Time to spend; as many epochs as fit, at most --epochs.",
        shown="as long as it takes",
        between=(0.01, 100_000),
    )
    patience: int | None = option(
        None,
        "Stop after this many epochs without a better one; the best is kept anyway.",
        shown="never",
        between=(1, 10_000),
    )
    views: int = option(
        0, "Augmented views of each image that head trains on too; each costs one more pass.", between=(0, 100)
    )
    curriculum: float | None = option(
        None,
        "Share of each label's images, the easiest, that gradual and full begin with; the others join in the first half.",
        metavar="SHARE",
        shown="all from the start",
        between=(0.01, 1),
    )
    image_size: int | None = option(None, IMAGE_SIZE, shown="the size of the backbone", between=INPUT_SIZES)
    resize: str = option(
        "crop", "crop: the centered square; stretch: the whole image; letterbox: with bars.", choices=RESIZE_MODES
    )
    batch_size: int | str = option(
        32, "Images per training step; auto: as many as fit, at most 256.", metavar="<N|auto>", parser=batch_size
    )
    seed: int = option(0, SEED, between=SEEDS)
    test: float = 0.25
    """Share of all images held out for the test split, if the data set has no split of its own."""
    val: float = 0.1
    """Share of the remaining images used for validation, if the data set has no split of its own."""
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    split_of: str | None = option(None, SPLIT_OF, metavar="RUN", path=True, shown="by each image's hash")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)
    exclude: str | None = option(
        None,
        "Leave out the images that a CSV file lists in its column path, such as audit's exclude.csv, or a text file with one path per line.",
        metavar="FILE",
        path=True,
        shown="none",
    )

    def __post_init__(self) -> None:
        for kind in (MachineOptions, AugmentationOptions, DistillationOptions, LossOptions, OptimizerOptions):
            kind.__post_init__(self)  # type: ignore[arg-type]
        object.__setattr__(self, "targets", tuple(self.targets))  # a run records a list
        check_fields(self)
        if self.batch_size != "auto" and not (isinstance(self.batch_size, int) and 1 <= self.batch_size <= 4096):
            raise OptionError(f"batch-size is {self.batch_size!r}; 1 to 4096, or auto, was expected")
        if self.finetune != "head" and self.batch_size == 1:
            raise OptionError(f"batch-size is 1; {self.finetune} needs 2 or more, for its batch norm")
        if self.finetune == "head" and self.changed and not self.views:
            raise OptionError(
                f"{self.changed[0].replace('_', '-')} was given, but head trains on features that are computed once from unchanged "
                "images: add --views 4, or --finetune full"
            )
        for name in ("cutmix", "adversarial", "curriculum"):
            if self.finetune == "head" and getattr(self, name):
                raise OptionError(f"{name} is for images, but head trains on features; add --finetune gradual or full")
        if self.freeze and self.finetune == "head":
            raise OptionError(
                "freeze was given, but head leaves every stage of the backbone as it is; leave it out, or add --finetune gradual or "
                "full"
            )
        if self.freeze and self.weights == "none":
            raise OptionError(
                "freeze keeps stages that have learned something, but weights is none; leave it out, or choose other --weights"
            )
        if self.curriculum is not None and self.weights == "none":
            raise OptionError(
                "curriculum ranks images by a head on the pretrained backbone, but weights is none; leave it out, or choose "
                "other --weights"
            )
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
    def passes_of_head(self) -> int:
        """The number of epochs in which only the head is trained, also those before the other layers."""
        return self.passes if self.finetune == "head" else EPOCHS["head"]

    @property
    def split(self) -> SplitOptions:
        """Division of images if the data set has no split of its own."""
        return SplitOptions(
            seed=self.seed,
            test=self.test,
            val=self.val,
            group_by=self.group_by,
            group_similar=self.group_similar,
            split_of=self.split_of,
        )
