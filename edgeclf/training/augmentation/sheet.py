"""Draws a contact sheet of augmented training images, to look at before training."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.outputs import claim_output, new_file
from edgeclf_runtime.images.preprocess import Preprocessing
from edgeclf_runtime.images.read import read_image

from ...data.datasets import Dataset, Sample, load_dataset
from ...data.pixels import first_readable, load_all
from ...display.contact_sheet import Row, draw_sheet
from ...display.progress import track
from ...display.report import Report, new_figure
from ...errors import OptionError
from ...options import AugmentOptions, SplitOptions, merged

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_PIXELS_PER_INCH = 100


@dataclass(frozen=True)
class AugmentReport(Report):
    """A contact sheet that was written."""

    output: str
    images: tuple[dict[str, str], ...]
    """Path and label of each row."""
    views: int
    image_size: int
    augment: str
    """The preset."""
    steps: dict[str, float | str]
    """The steps that change something, by option."""

    def plot(self) -> Figure:
        """Return the contact sheet, read from its file, as a matplotlib figure; DependencyError if matplotlib is missing."""
        pixels = read_image(self.output)
        figure, (axis,) = new_figure(1, pixels.shape[1] / _PIXELS_PER_INCH, pixels.shape[0] / _PIXELS_PER_INCH)
        axis.imshow(pixels[..., ::-1])
        axis.set_axis_off()
        return figure

    def __str__(self) -> str:
        return "\n".join(
            [
                f"{self.output}: {len(self.images)} images with {self.views} views each, {self.image_size} x {self.image_size} pixels",
                f"{self.augment}: {steps_text(self.steps)}",
            ]
        )


def augment(
    data: str | Path | Dataset,
    output: str | Path,
    options: AugmentOptions | None = None,
    overwrite: bool = False,
    **keywords: object,
) -> AugmentReport:
    """Write a PNG with training images as the model sees them, each followed by augmented views of it.

    Images are decoded, resized and changed exactly as ``train`` with ``finetune="full"`` does.  Raises OptionError,
    DataError, ImageError, and OutputError if ``output`` exists.
    """
    options = merged(AugmentOptions, options, keywords)
    if Path(output).suffix.lower() != ".png":
        raise OptionError(f"output is {output}; a name that ends with .png was expected")
    claim_output(output, overwrite)
    dataset = load_dataset(data, SplitOptions(seed=options.seed), options.download)
    chosen = _chosen(dataset, options)
    title = f"{dataset.name}, --augment {options.augment}"
    with new_file(output, overwrite) as work:
        rows = [
            Row(f"{sample.label}   {dataset.relative(sample)}", pictures)
            for sample, pictures in zip(chosen, _views(chosen, options), strict=True)
        ]
        steps = options.steps.active()
        draw_sheet(title, steps_text(steps), ("model input", "augmented"), rows).save(work, "PNG")
    images = tuple({"path": str(sample.path), "label": sample.label} for sample in chosen)
    return AugmentReport(str(output), images, options.views, options.image_size, options.augment, steps)


def steps_text(steps: Mapping[str, object]) -> str:
    """Return steps as a command line has them, or that there are none."""
    given = (f"--{name.replace('_', '-')} {value}" for name, value in steps.items())
    return " ".join(given) or "no changes"


def _chosen(dataset: Dataset, options: AugmentOptions) -> list[Sample]:
    """Return training images of every label in turn, at random."""
    generator = np.random.default_rng(options.seed)
    parts = [[part[at] for at in generator.permutation(len(part))] for part in dataset.by_label("train").values()]
    turns = max(map(len, parts))
    found = (part[turn] for turn in range(turns) for part in parts if turn < len(part))
    if not options.skip_unreadable:
        return list(islice(found, options.images))
    return first_readable(found, options.images)


def _views(samples: Sequence[Sample], options: AugmentOptions) -> Iterator[list[np.ndarray]]:
    """Yield each image as the model sees it, and its augmented views."""
    import torch

    from .transform import augmentation

    spec = Preprocessing(options.image_size, options.image_size, resize=options.resize)
    change = augmentation(options, options.image_size)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(options.seed)
        for pixels in track(load_all([sample.path for sample in samples], spec), "augmenting", len(samples)):
            image = torch.from_numpy(pixels).permute(2, 0, 1)
            yield [pixels, *(change(image).permute(1, 2, 0).numpy() for _ in range(options.views))]
