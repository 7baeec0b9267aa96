"""Preprocessing of a model that another program trained."""

from __future__ import annotations

from dataclasses import dataclass

from edgeclf_runtime.images.preprocess import COLORS, RESIZE_MODES

from ..errors import OptionError
from .channels import IMAGENET, Three, channel_values
from .data import GROUP_BY, GROUP_SIMILAR, SPLIT_OF, SplitOptions
from .declaration import SKIP_UNREADABLE, check_fields, option

LAYOUTS = ("NCHW", "NHWC")
"""Orders of an input's dimensions: batch, channels, height and width."""
PIXEL_RANGES = ("0-1", "0-255", "-1..1")
"""Ranges of a pixel's values before mean and standard deviation, implemented in ``graph/contract.py``."""


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """Preprocessing of a model that another program trained, and labeled images for it.

    An option that is not given is read from the file, if it says so; otherwise the import fails and lists what is missing.
    """

    labels: str | None = option(
        None,
        "Text file with one label per line, in the order of the model's outputs.",
        shown="from the file",
        path=True,
    )
    label_names: tuple[str, ...] = ()
    """The labels themselves, instead of a file."""
    layout: str | None = option(
        None, "Order of the input's dimensions.", shown="from the input's shape", choices=LAYOUTS
    )
    size: str | None = option(
        None, "Size of the input in pixels, as SIDE or HEIGHTxWIDTH.", shown="from the input's shape"
    )
    color: str | None = option(
        None,
        "Channel order: RGB (PIL, torchvision, timm, Keras) or BGR (OpenCV, Caffe).",
        shown="from the file",
        choices=COLORS,
    )
    range: str | None = option(
        None, "Values of a pixel before --mean and --std.", shown="from the file", choices=PIXEL_RANGES
    )
    mean: str | None = option(
        None,
        "Mean to subtract: one number, three (R,G,B or B,G,R as --color), or imagenet.",
        shown="from the file",
    )
    std: str | None = option(
        None, "Standard deviation to divide by after that, in the same form.", shown="from the file"
    )
    resize: str | None = option(
        None,
        "crop: the centered square; stretch: the whole image; letterbox: with bars.",
        shown="from the file",
        choices=RESIZE_MODES,
    )
    crop: float | None = option(
        None,
        "Share of that square's side that is kept, 0.1 to 1 (224 of 256: 0.875).",
        shown="from the file, or 1",
        between=(0.1, 1),
    )
    config: str | None = option(None, "A timm model's config.json, to read what is not given.", path=True)
    tensor: str | None = option(None, "Output with a score for each label, if the file has several outputs.")
    data: str | None = option(
        None,
        "Labeled images: accuracy is measured on them, and quantize and bundle need them.",
        metavar="DATA",
        path=True,
    )
    seed: int = option(0, "Seed of the split of --data.")
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    split_of: str | None = option(None, SPLIT_OF, metavar="RUN", path=True, shown="by each image's hash")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)
    force: bool = option(False, "Keep the options even if --data shows that others are right.")

    def __post_init__(self) -> None:
        if isinstance(self.labels, (list, tuple)):  # what Python's users write first
            object.__setattr__(self, "label_names", tuple(self.labels))
            object.__setattr__(self, "labels", None)
        check_fields(self)
        if self.labels and self.label_names:
            raise OptionError("labels and label_names were both given; give one of them")
        self.height_width, self.channels("mean"), self.channels("std"), self.split

    @property
    def split(self) -> SplitOptions:
        """Division of the labeled images if they have no split of their own."""
        return SplitOptions(
            seed=self.seed, group_by=self.group_by, group_similar=self.group_similar, split_of=self.split_of
        )

    @property
    def height_width(self) -> tuple[int, int] | None:
        """The height and width that ``size`` names."""
        if self.size is None:
            return None
        sides = str(self.size).lower().split("x")
        if len(sides) > 2 or not all(side.isdecimal() and 8 <= int(side) <= 4096 for side in sides):
            raise OptionError(f"size is {self.size!r}; SIDE or HEIGHTxWIDTH, each 8 to 4096 pixels, was expected")
        return int(sides[0]), int(sides[-1])

    def channels(self, name: str) -> Three | None:
        """Return the three values of ``mean`` or ``std``, in the order of ``color``."""
        value = getattr(self, name)
        if value is None:
            return None
        if value == "imagenet":
            if self.range not in (None, "0-1"):
                raise OptionError(f"{name} is imagenet, whose values are for --range 0-1, but range is {self.range}")
            return IMAGENET[name] if self.color != "BGR" else IMAGENET[name][::-1]
        return channel_values(name, value)
