"""Options of the commands, each stated once for Python and for the command line.

A field made by :func:`option` is also an option on the command line; the other fields are for
Python only.  An invalid value raises OptionError.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Any, TypeVar

from edgeclf_runtime.images.preprocess import COLORS, RESIZE_MODES

from .errors import OptionError
from .targets import FLAVORS, TARGETS

if TYPE_CHECKING:
    from edgeclf_runtime.trt.engine_spec import EngineOptions

T = TypeVar("T")
Three = tuple[float, float, float]
"""A value for each of three channels."""
FINETUNE = ("head", "full")
EPOCHS = {"head": 12, "full": 8}
"""Passes over the training images if none are given; full begins with those of the head."""
FLIPS = ("none", "horizontal", "all")
PRECISIONS = ("best", "fp32", "fp16", "int8")
"""Precisions of an engine, as a bundle's own ``build`` has them."""
EVALUATED = ("test", "val", "train", "all")
"""Splits to evaluate on; all: every image, for data that was not trained on."""
RULES = ("stratified", "random", "diverse", "uncertain")
"""Rules that choose a calibration set's images, implemented in ``calibration/rules.py``."""
METHODS = ("minmax", "percentile", "entropy", "mse")
"""Methods that choose the range of an activation, implemented in ``quantization/ranges.py``."""

SPLIT_METHODS = ("stable", "exact")
"""Methods that split images, implemented in ``data/splits.py``."""
LAYOUTS = ("NCHW", "NHWC")
"""Orders of an input's dimensions: batch, channels, height and width."""
PIXEL_RANGES = ("0-1", "0-255", "-1..1")
"""Ranges of a pixel's values before mean and standard deviation, implemented in ``graph/contract.py``."""
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}
"""Of ImageNet's training images, RGB, values 0 to 1: the usual values of torchvision and timm."""

SKIP_UNREADABLE = "Leave out images that cannot be decoded, instead of stopping."
"""Help of every option skip-unreadable."""
MOVED = "The run's images, if they are not where they were; they are recognized by their content."
"""Help of every option data that finds a run's images."""
SEED = "The same seed, data and versions give the same result."
"""Help of every option seed."""


def option(
    default: Any,
    help: str,
    *,
    name: str = "",
    shown: str = "",
    metavar: str = "",
    path: bool = False,
    at_least: int | None = None,
    choices: tuple[str, ...] = (),
) -> Any:
    """Declare a field of a dataclass that is also an option on the command line.

    name: on the command line, if it is not the field's.  shown: the default in words, if its
    value says too little.  metavar: placeholder of the value in the help.  path: the value names
    a file or folder, and a leading ~ is the home folder.  at_least: smallest value that the
    command line accepts.  choices: the values that exist, which the help lists.
    """
    facts = {"help": help, "name": name, "shown": shown, "metavar": metavar, "path": path, "at_least": at_least}
    return field(default=default, metadata={**facts, "choices": choices})


GROUP_BY = (
    "Keep similar images in one split: a number of folders below the class folder, or a regular expression for the "
    "part of the path that they share."
)
"""Help of every option group-by."""
GROUP_SIMILAR = "Keep near-duplicates in one split; every image is read once more to find them."
"""Help of every option group-similar."""


def merged(kind: type[T], options: T | None, given: Mapping[str, Any]) -> T:
    """Return options with single ones given as keywords, as in edgeclf.train(data, run, epochs=3).

    kind: the options class.  Raises OptionError for an option that it does not have.
    """
    names = [one.name for one in fields(kind)]  # type: ignore[arg-type]
    for name in given:
        if name not in names:
            near = difflib.get_close_matches(name, names, 1)
            hint = f"did you mean {near[0]}?" if near else f"help(edgeclf.{kind.__name__}) lists them"
            raise OptionError(f"there is no option {name!r}; {hint}")
    return replace(options or kind(), **given)  # type: ignore[type-var]


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """How images are split if the data set has no split of its own."""

    seed: int = option(0, SEED)
    test: float = 0.25
    """Share of all images held out for the test split."""
    val: float = 0.1
    """Share of the remaining images used for validation."""
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    method: str = "stable"
    """stable: an image keeps its split when the data grows, and the shares are met on average; exact: the shares are met
    exactly for each label, as in runs made before there was a choice, but images change sides when the data grows."""

    def __post_init__(self) -> None:
        for name in ("test", "val"):
            if not 0 < getattr(self, name) < 0.9:
                raise OptionError(
                    f"the share for {name} is {getattr(self, name)}; more than 0 and less than 0.9 was expected"
                )
        if self.method not in SPLIT_METHODS:
            raise OptionError(f"method is {self.method!r}; {' or '.join(SPLIT_METHODS)} was expected")
        for name in ("group_by", "group_similar"):
            if self.method == "exact" and getattr(self, name):
                raise OptionError(
                    f"{name.replace('_', '-')} needs the split method 'stable'; 'exact' does not keep groups together"
                )
        if self.group_by is not None:
            self._check_group_by(self.group_by)

    def _check_group_by(self, text: str) -> None:
        if len(text) > 200 or (text.isdecimal() and not 1 <= int(text) <= 32):
            raise OptionError(
                f"group-by is {text[:80]}; a number of folders from 1 to 32, or a regular expression of at most 200 letters, was expected"
            )
        try:
            empty = re.compile(text).fullmatch("") is not None
        except (re.error, RecursionError, OverflowError) as error:
            raise OptionError(f"group-by is {text!r}, which is not a regular expression ({error})") from None
        if empty:
            raise OptionError(
                f"group-by is {text!r}, which also matches an empty text; an expression for a part of the path was expected"
            )


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """How a data set is split, and the model's input that its images are compared with."""

    seed: int = option(0, SEED)
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    image_size: int = option(224, "Side of the model's square input, in pixels.", at_least=1)
    resize: str = option("crop", "As for train.", choices=RESIZE_MODES)
    skip_unreadable: bool = option(False, "Leave out images that cannot be decoded, and check the others.")

    def __post_init__(self) -> None:
        if self.resize not in RESIZE_MODES:
            raise OptionError(f"resize is {self.resize!r}; {', '.join(RESIZE_MODES)} was expected")
        self.split  # noqa: B018 - refuses a wrong group

    @property
    def split(self) -> SplitOptions:
        """How images are split if the data set has no split of its own."""
        return SplitOptions(seed=self.seed, group_by=self.group_by, group_similar=self.group_similar)


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """What to train, and how."""

    backbone: str = option("efficientnet_lite0", "Name of a timm model.")
    weights: str = option(
        "imagenet",
        "imagenet (from an installed package or the Hugging Face cache), none (random), or a file with a state dict.",
        path=True,
    )
    download: bool = option(False, "Download ImageNet weights that are not on this machine from the Hugging Face hub.")
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
    flips: str = option(
        "horizontal",
        "Augmentation for full; all: both directions and right angles.",
        choices=FLIPS,
    )
    seed: int = option(0, SEED)
    test: float = 0.25
    """Share of all images held out for the test split, if the data set has no split of its own."""
    val: float = 0.1
    """Share of the remaining images used for validation, if the data set has no split of its own."""
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)

    def __post_init__(self) -> None:
        for name, allowed in (("finetune", FINETUNE), ("resize", RESIZE_MODES), ("flips", FLIPS)):
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
        return _unit_values("mean", self.mean), _unit_values("std", self.std)

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


@dataclass(frozen=True, kw_only=True)
class ImportOptions:
    """How the images were made for a model that another program trained.

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
    layout: str | None = option(None, "NCHW or NHWC.", shown="from the input's shape")
    size: str | None = option(
        None, "Size of the input in pixels, as SIDE or HEIGHTxWIDTH.", shown="from the input's shape"
    )
    color: str | None = option(
        None, "Channel order: RGB (PIL, torchvision, timm, Keras) or BGR (OpenCV, Caffe).", shown="from the file"
    )
    range: str | None = option(
        None, "Values of a pixel before --mean and --std: 0-1, 0-255 or -1..1.", shown="from the file"
    )
    mean: str | None = option(
        None,
        "What is subtracted: one number, three (R,G,B or B,G,R as --color), or imagenet.",
        shown="from the file",
    )
    std: str | None = option(None, "What it is divided by after that, in the same form.", shown="from the file")
    resize: str | None = option(
        None,
        "crop: the centered square; stretch: the whole image; letterbox: with bars.",
        shown="from the file",
    )
    crop: float | None = option(
        None, "Share of that square's side that is kept, 0.1 to 1 (224 of 256: 0.875).", shown="from the file, or 1"
    )
    config: str | None = option(None, "A timm model's config.json, to read what is not given.", path=True)
    tensor: str | None = option(None, "Output with a score for each label, if the file has several outputs.")
    seed: int = option(0, "Seed of the split of --data.")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)
    force: bool = option(False, "Keep the options even if --data shows that others are right.")

    def __post_init__(self) -> None:
        for name, allowed in (
            ("layout", LAYOUTS),
            ("color", COLORS),
            ("range", PIXEL_RANGES),
            ("resize", RESIZE_MODES),
        ):
            value = getattr(self, name)
            if value is not None and value not in allowed:
                raise OptionError(f"{name} is {value!r}; {', '.join(allowed)} was expected")
        if self.crop is not None and not 0.1 <= self.crop <= 1:
            raise OptionError(f"crop is {self.crop}; 0.1 to 1 was expected")
        if self.labels and self.label_names:
            raise OptionError("labels and label_names were both given; give one of them")
        self.height_width, self.channels("mean"), self.channels("std")

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


def channel_values(name: str, value: object) -> Three:
    """Return the three values that a mean or standard deviation in text stands for; OptionError for anything else."""
    parts = str(value).strip("()[]").split(",")
    try:
        numbers = [float(part) for part in parts]
    except ValueError:
        raise OptionError(
            f"{name} is {value!r}; a number, three with commas between them, or imagenet was expected"
        ) from None
    if len(numbers) not in (1, 3):
        raise OptionError(f"{name} is {value!r}, {len(numbers)} numbers; one, or three with commas, was expected")
    if not all(abs(number) < 1e6 for number in numbers):
        raise OptionError(f"{name} is {value!r}; finite numbers were expected")
    if name == "std" and min(numbers) <= 1e-6:
        raise OptionError(f"std is {value!r}; numbers above 0 were expected, since pixels are divided by them")
    first, second, third = numbers * (3 // len(numbers))
    return first, second, third


def _unit_values(name: str, value: object) -> Three:
    """Return channel_values() for pixels from 0 to 1."""
    values = IMAGENET[name] if value == "imagenet" else channel_values(name, value)
    if not 0 <= min(values) <= max(values) <= 1:
        divided = ",".join(f"{number / 255:.3g}" for number in values)
        hint = f"; if it is for pixels from 0 to 255, divide it by 255: {divided}" if min(values) >= 0 else ""
        raise OptionError(f"{name} is {value!r}; 0 to 1 was expected, since pixels are 0 to 1 here{hint}")
    return values


@dataclass(frozen=True, kw_only=True)
class CalibrateOptions:
    """Which images to choose for calibration."""

    size: int = option(300, "Images in the set.", at_least=1)
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
    seed: int | None = option(None, SEED, shown="the run's, or 0")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)
    force: bool = option(False, "Accept few images of a label, and images of a single color.")

    def __post_init__(self) -> None:
        if self.rule not in RULES:
            raise OptionError(f"there is no rule {self.rule!r}; choose from {', '.join(RULES)}")
        if self.size < 1:
            raise OptionError(f"size is {self.size}; 1 or more was expected (300 is usual)")


@dataclass(frozen=True, kw_only=True)
class QuantizeOptions:
    """How to quantize."""

    calibration: str | None = option(
        None, "Folder of a calibration set.", shown="images from the run's train split", path=True
    )
    size: int = option(300, "Calibration images to select if no set is given.", at_least=1)
    flavors: tuple[str, ...] = option(
        (),
        "A file to write; may be repeated.  Exit code 3 if it does not pass.",
        name="--flavor",
        shown="those of the targets",
        choices=tuple(FLAVORS),
    )
    targets: tuple[str, ...] = option(
        (), "A device whose files to write; may be repeated.", name="--target", shown="all", choices=tuple(TARGETS)
    )
    method: str = option(
        "best",
        "Range of activations; best: try all, per file, and of those without a significant loss keep the closest to FP32.",
        choices=("best", *METHODS),
    )
    max_drop: float = option(0.01, "Largest accuracy drop from FP32 that is accepted.")
    seed: int = option(0, SEED)
    baseline: bool = option(False, "Also measure torch's dynamic quantization, for comparison.")
    data: str | None = option(None, MOVED, metavar="DATA", path=True, shown="where they were")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)

    def __post_init__(self) -> None:
        unknown = sorted(set(self.flavors) - set(FLAVORS))
        if unknown:
            raise OptionError(f"there is no flavor {', '.join(unknown)}; choose from {', '.join(FLAVORS)}")
        _check_targets(self.targets)
        if self.method not in ("best", *METHODS):
            raise OptionError(f"there is no range method {self.method!r}; choose from best, {', '.join(METHODS)}")
        if not 0 <= self.max_drop <= 1:
            raise OptionError(f"max-drop is {self.max_drop}; 0 to 1 was expected (0.01 is one point of accuracy)")

    @property
    def wanted(self) -> tuple[str, ...]:
        """The flavors to write: those named and those that the named targets use; without either, all."""
        named = {*self.flavors, *(model for target in self.targets for model in TARGETS[target].models)}
        return tuple(name for name in FLAVORS if name in named or not named)

    @property
    def methods(self) -> tuple[str, ...]:
        """The range methods to try."""
        return METHODS if self.method == "best" else (self.method,)


@dataclass(frozen=True, kw_only=True)
class BundleOptions:
    """What to put into a bundle."""

    targets: tuple[str, ...] = option(
        tuple(TARGETS), "A device to support; may be repeated.", name="--target", shown="all", choices=tuple(TARGETS)
    )
    golden: int = 16
    """Real validation images that verify a device's results; the second half are tinted."""
    precision: float | None = option(
        None,
        'Label low-confidence images "unknown" so that the given share of the remaining predictions is correct.',
    )
    coverage: float | None = option(
        None, 'Label the least confident images "unknown" so that the given share of images keeps a label.'
    )
    data: str | None = option(None, MOVED, metavar="DATA", path=True, shown="where they were")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)

    def __post_init__(self) -> None:
        if not self.targets:
            raise OptionError(f"no target was given; choose from {', '.join(TARGETS)}")
        _check_targets(self.targets)
        if not 1 <= self.golden <= 64:
            raise OptionError(f"golden is {self.golden}; 1 to 64 images were expected")
        check_shares(self.precision, self.coverage)


@dataclass(frozen=True, kw_only=True)
class MakeOptions(BundleOptions, QuantizeOptions, TrainOptions):
    """How to make a bundle from images: the options of each step."""

    # The targets decide.
    flavors: tuple[str, ...] = ()
    baseline: bool = False
    # The data is given to train.
    data: str | None = None

    def __post_init__(self) -> None:
        for kind in (TrainOptions, QuantizeOptions, BundleOptions):
            self.part(kind)

    def part(self, kind: type[T]) -> T:
        """Return one step's own options, TrainOptions, QuantizeOptions or BundleOptions."""
        return kind(**{one.name: getattr(self, one.name) for one in fields(kind)})  # type: ignore[arg-type]


def _check_targets(targets: tuple[str, ...]) -> None:
    unknown = sorted(set(targets) - set(TARGETS))
    if unknown:
        raise OptionError(f"there is no target {', '.join(unknown)}; choose from {', '.join(TARGETS)}")


def check_shares(precision: float | None, coverage: float | None) -> None:
    """Raise OptionError if precision and coverage are both given, or are not in (0, 1]."""
    if precision is not None and coverage is not None:
        raise OptionError("precision and coverage were both given, but there is one threshold; give one of them")
    for name, value in (("precision", precision), ("coverage", coverage)):
        if value is not None and not 0 < value <= 1:
            raise OptionError(f"{name} is {value}; more than 0 and at most 1 was expected")


@dataclass(frozen=True, kw_only=True)
class BuildOptions:
    """Which engines to build, and how."""

    target: str | None = option(None, "The device.", shown="this machine", choices=tuple(TARGETS))
    model: str | None = option(None, "Build only this model of the bundle.")
    precision: str = option(
        "best", "best: build all, keep the fastest that passes the golden images.", choices=PRECISIONS
    )
    workspace: int | None = option(
        None, "Memory available to TensorRT during a build.", shown="based on GPU memory", metavar="MB"
    )
    level: int | None = option(None, "TensorRT's optimization level, 0 to 5.", shown="3")
    version_compatible: bool = option(False, "Also usable with later versions of TensorRT; slower.")
    hardware_compatible: bool = option(False, "Also usable on other Ampere or newer GPUs; slower.")
    retry: bool = option(False, "Rebuild engines that are cached or failed before.")

    def __post_init__(self) -> None:
        if self.target is not None and self.target not in TARGETS:
            raise OptionError(f"there is no target {self.target!r}; choose from {', '.join(TARGETS)}")
        if self.precision not in PRECISIONS:
            raise OptionError(f"there is no precision {self.precision!r}; choose from {', '.join(PRECISIONS)}")
        self.engine.check()

    @property
    def engine(self) -> EngineOptions:
        """The options of each engine: those fields that have the name of one."""
        # Not imported above, since each command imports this module.
        from edgeclf_runtime.trt.engine_spec import EngineOptions

        names = [name for name in EngineOptions._fields if hasattr(self, name)]
        return EngineOptions(**{name: getattr(self, name) for name in names})
