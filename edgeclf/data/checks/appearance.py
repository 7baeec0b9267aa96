"""Findings from the pixels of a data set: images that are dark, bright, or do not fit the model's input."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import TYPE_CHECKING

from edgeclf_runtime.images.bit_depths import question

from ..findings import Finding, counted, listed, warning

if TYPE_CHECKING:
    import numpy as np

DARK, BRIGHT = 16, 239
"""An image is nearly black (white) if 99 % of its pixels are below (above) these of 255."""
_SHARE_OF_A_LABEL = 0.2
DISCARDED = 0.2
"""Share of a typical image that the resize mode crop may discard without a finding."""
_SAMPLED = 32
_SIZE_STEP = 32


@dataclass(frozen=True, slots=True)
class Appearance:
    """The measurements of an image's pixels."""

    path: str
    label: str
    width: int
    height: int
    low: int
    """Below this are 1 % of the values of the pixels."""
    high: int
    """Above this are 1 % of them."""
    deep_largest: int = 0
    """Largest value of a 16-bit image that is nearly black, else 0."""


def appearance_of(path: str, label: str, image: np.ndarray, deep_largest: int = 0) -> Appearance:
    """Return the measurements of an image, uint8 [height, width, 3]; about 1,000 to 4,000 of its pixels are used."""
    import numpy as np

    height, width = image.shape[:2]
    pixels = image[:: max(1, height // _SAMPLED), :: max(1, width // _SAMPLED)]
    counts = np.bincount(pixels.reshape(-1), minlength=256).cumsum()
    low, high = np.searchsorted(counts, (0.01 * pixels.size, 0.99 * pixels.size))
    return Appearance(path, label, width, height, int(low), int(high), deep_largest)


def about_appearance(
    images: Sequence[Appearance], image_size: int, resize: str, imported: bool = False
) -> list[Finding]:
    """Return the findings about images as a model of this input would see them.

    imported: the model was trained by another program, so its input cannot be changed.
    """
    if not images:
        return []
    return [
        *_about_depth(images),
        *_about_brightness(images),
        *_about_size(images, image_size, imported),
        *(_about_crop(images, imported) if resize == "crop" else []),
    ]


def _about_depth(images: Sequence[Appearance]) -> list[Finding]:
    """Return the finding about 16-bit images whose data seem to have fewer bits."""
    dark = [image for image in images if image.deep_largest]
    if not dark:
        return []
    message = f"in {len(dark)} 16-bit images, {question(max(image.deep_largest for image in dark))}"
    return [warning("nearly-black", message, [image.path for image in dark])]


def _about_brightness(images: Sequence[Appearance]) -> list[Finding]:
    by_label: dict[str, list[Appearance]] = defaultdict(list)
    for image in images:
        by_label[image.label].append(image)
    findings = []
    for kind, shade, edge in (("dark", "black", f"below {DARK}"), ("bright", "white", f"above {BRIGHT}")):
        found = [image for image in images if not image.deep_largest and _is(image, kind)]
        per_label = {label: sum(image.label == label for image in found) / len(all) for label, all in by_label.items()}
        affected = [label for label, share in per_label.items() if share >= _SHARE_OF_A_LABEL]
        if affected:
            message = (
                f"{len(found)} of {counted(len(images), 'image')} are nearly {shade} (99 % of their values are {edge} of 255), most "
                f"under {listed(map(repr, affected))}: correct the exposure, or remove them"
            )
            findings.append(warning(kind, message, [image.path for image in found]))
    return findings


def _is(image: Appearance, kind: str) -> bool:
    return image.high < DARK if kind == "dark" else image.low > BRIGHT


def _about_size(images: Sequence[Appearance], image_size: int, imported: bool) -> list[Finding]:
    small = [image for image in images if min(image.width, image.height) < image_size]
    if not small:
        return []
    typical = int(median(min(image.width, image.height) for image in images))
    advice = "use larger images"
    smaller = max(_SIZE_STEP, typical // _SIZE_STEP * _SIZE_STEP)
    if smaller < image_size and not imported:
        advice += f", or train with --image-size {smaller}"
    message = (
        f"{len(small)} of {counted(len(images), 'image')} are smaller than the model's input of {image_size} x {image_size} pixels "
        f"(the first {small[0].width} x {small[0].height}), and are enlarged: {advice}"
    )
    return [warning("small", message, [image.path for image in small])]


def _about_crop(images: Sequence[Appearance], imported: bool) -> list[Finding]:
    """Return the finding about a square crop of long images, by the median of their long side relative to the short one."""
    ratio = median(max(image.width, image.height) / min(image.width, image.height) for image in images)
    discarded = 1 - 1 / ratio
    if discarded <= DISCARDED:
        return []
    advice = (
        "if the model was trained on whole images, import it with --resize stretch or --resize letterbox"
        if imported
        else "if something that matters lies there, train with --resize letterbox or --resize stretch"
    )
    message = (
        f"the resize mode crop discards {discarded:.0%} of a typical image here ({ratio:.2f} times as long as it is wide), half at each "
        f"end: {advice}"
    )
    return [warning("cropped", message)]
