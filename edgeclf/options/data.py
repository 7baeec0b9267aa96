"""Options that split, group and check images."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from edgeclf_runtime.images.preprocess import RESIZE_MODES

from ..errors import OptionError
from .declaration import DOWNLOAD_DATA, IMAGE_SIZE, SEED, SEEDS, check_fields, option

EVALUATED = ("test", "val", "train", "all")
"""Splits to evaluate on; all: every image, for data that was not trained on."""
SPLIT_METHODS = ("stable", "exact")
"""Methods that split images, implemented in ``data/splits.py``."""
GROUP_BY = (
    "Keep similar images in one split: a number of folders below the class folder, or a regular expression for the "
    "part of the path that they share."
)
"""Help of every option group-by."""
GROUP_SIMILAR = "Keep near-duplicates in one split; every image is read once more to find them."
"""Help of every option group-similar."""
SPLIT_OF = "Run whose images keep their split, by their content; new images of their groups go to the same side."
"""Help of every option split-of."""


@dataclass(frozen=True, kw_only=True)
class SplitOptions:
    """Division of images if the data set has no split of its own."""

    seed: int = option(0, SEED, between=SEEDS)
    test: float = 0.25
    """Share of all images held out for the test split."""
    val: float = 0.1
    """Share of the remaining images used for validation."""
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    split_of: str | None = option(None, SPLIT_OF, metavar="RUN", path=True, shown="by each image's hash")
    method: str = "stable"
    """stable: an image keeps its split when the data grows, and the shares are met on average; exact: the shares are met
    exactly for each label, as in runs made before there was a choice, but images change sides when the data grows."""

    def __post_init__(self) -> None:
        check_fields(self)
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


def with_split_of(split: SplitOptions | None, run: str | None) -> SplitOptions | None:
    """Return options by which images keep the split that they had in a run; the same options if there is no run."""
    return split if run is None else replace(split or SplitOptions(), split_of=run)


@dataclass(frozen=True, kw_only=True)
class CheckOptions:
    """Options of check(): the split, and the model's input that images are compared with."""

    seed: int = option(0, SEED)
    group_by: str | None = option(None, GROUP_BY, metavar="FOLDERS|REGEX", shown="each image by itself")
    group_similar: bool = option(False, GROUP_SIMILAR)
    split_of: str | None = option(None, SPLIT_OF, metavar="RUN", path=True, shown="by each image's hash")
    image_size: int = option(224, IMAGE_SIZE, between=(1, 4096))
    resize: str = option("crop", "As for train.", choices=RESIZE_MODES)
    skip_unreadable: bool = option(False, "Leave out images that cannot be decoded, and check the others.")
    download: bool = option(False, DOWNLOAD_DATA)

    def __post_init__(self) -> None:
        check_fields(self)
        self.split  # noqa: B018 - refuses a wrong group

    @property
    def split(self) -> SplitOptions:
        """Division of images if the data set has no split of its own."""
        return SplitOptions(
            seed=self.seed, group_by=self.group_by, group_similar=self.group_similar, split_of=self.split_of
        )
