"""Options of the audit of a data set."""

from __future__ import annotations

from dataclasses import dataclass

from edgeclf_runtime.images.preprocess import RESIZE_MODES

from ..errors import OptionError
from .data import GROUP_BY, GROUP_SIMILAR, SPLIT_OF, SplitOptions
from .declaration import DOWNLOAD, ENGINE, ENGINES, IMAGE_SIZE, INPUT_SIZES, SEED, SEEDS, check_fields, option


@dataclass(frozen=True, kw_only=True)
class AuditOptions:
    """The network whose features are compared, and how the images are split."""

    model: str | None = option(
        None,
        "Run whose network, input and split are used.",
        metavar="RUN",
        path=True,
        shown="the backbone, with its pretrained weights",
    )
    backbone: str = option("tf_efficientnet_lite0", "Name of a timm model, without --model.")
    weights: str = option(
        "imagenet",
        "imagenet (from an installed package or the Hugging Face cache), or a file with a state dict.",
        path=True,
    )
    download: bool = option(False, DOWNLOAD)
    image_size: int | None = option(None, IMAGE_SIZE, shown="the size of the backbone", between=INPUT_SIZES)
    resize: str = option("crop", "As for train.", choices=RESIZE_MODES)
    folds: int = 5
    """Parts of the images; each part's labels are predicted from the other parts."""
    seed: int = option(0, SEED, between=SEEDS)
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    split_of: str | None = option(
        None, SPLIT_OF, metavar="RUN", path=True, shown="that of --model, or by each image's hash"
    )
    engine: str = option("local", ENGINE, choices=ENGINES)

    def __post_init__(self) -> None:
        if self.weights == "none":
            raise OptionError(
                "weights is none, but random features say nothing about labels: imagenet or a file was expected"
            )
        check_fields(self)
        if not 2 <= self.folds <= 20:
            raise OptionError(f"folds is {self.folds}; 2 to 20 was expected")
        self.split  # noqa: B018 - refuses a wrong group

    @property
    def split(self) -> SplitOptions:
        """Division of images if the data set has no split of its own."""
        return SplitOptions(
            seed=self.seed, group_by=self.group_by, group_similar=self.group_similar, split_of=self.split_of
        )
