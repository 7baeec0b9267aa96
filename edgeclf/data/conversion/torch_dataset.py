"""Images of a torch data set: Pillow images, or tensors whose values are exactly those of 8 bits."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ...errors import DataError
from .image_folder import Image, Labels, label_of, named, parts_of
from .pillow import is_pillow, pillow_identity, png_of

if TYPE_CHECKING:
    import PIL.Image
    import torch

# torchvision divides by 255 in one place and multiplies by 1/255 in another; both are float32.
_ROUNDING = 1e-4
_UNDO = "leave its transforms out; images are resized and normalized later"


def torch_images(source: object, labels: Labels) -> tuple[Iterator[Image], int]:
    """Return the images of a data set, or of several by split, and their number.

    labels: names in the order of the targets, or by target; by default the data set's ``classes``.  Raises DataError, when
    the image is taken, for one that cannot be written without loss.
    """
    parts = parts_of(source)
    for part in parts.values():
        if not hasattr(part, "__len__") or not hasattr(part, "__getitem__"):
            raise DataError(
                f"found {type(part).__name__}; a torch data set with a length and items by index was expected"
            )
    return _images(parts, labels), sum(map(len, parts.values()))


def _images(parts: dict[str, Any], labels: Labels) -> Iterator[Image]:
    for split, part in parts.items():
        names = named(
            labels if labels is not None else _base(part, "classes"), "labels" if labels is not None else "classes"
        )
        for index in range(len(part)):
            what = f"image {index}" + (f" of {split}" if split else "")
            pixels, target = _pair(part[index], what)
            image = pixels if is_pillow(pixels) else _from_tensor(pixels, what)
            text = label_of(target, names, what)
            yield Image(text, split, pillow_identity(image, what), ".png", partial(png_of, image, what))


def _pair(item: object, what: str) -> tuple[object, object]:
    if not isinstance(item, (tuple, list)) or len(item) != 2:
        found = f"{len(item)} values" if isinstance(item, (tuple, list)) else type(item).__name__
        raise DataError(f"{what} has {found}; a pair of image and label was expected")
    return item[0], item[1]


def _from_tensor(pixels: object, what: str) -> PIL.Image.Image:
    """Return a tensor as a Pillow image; DataError if that is not possible without loss."""
    import torch
    from PIL import Image as pillow  # noqa: N813 - a module

    if not isinstance(pixels, torch.Tensor):
        raise DataError(
            f"{what} is a {type(pixels).__name__}; a Pillow image or a tensor [3, height, width] in RGB was expected: "
            "convert it with PIL.Image.fromarray(array), whose channels are RGB"
        )
    shape = list(pixels.shape)
    if pixels.ndim == 2:
        pixels = pixels[None]
    if pixels.ndim != 3 or pixels.shape[0] not in (1, 3) or not pixels.numel():
        last = ": channels come first in torch: image.permute(2, 0, 1)" if shape[-1:] in ([1], [3]) else ""
        raise DataError(
            f"{what} is a tensor {shape}; [3, height, width] in RGB, or gray [1, height, width], was expected{last}"
        )
    array = _eight_bits(pixels, what).permute(1, 2, 0).cpu().numpy()
    return pillow.fromarray(np.ascontiguousarray(array[:, :, 0] if array.shape[2] == 1 else array))


def _eight_bits(pixels: torch.Tensor, what: str) -> torch.Tensor:
    """Return a tensor as uint8: one of uint8 itself, or of floats that are all k/255 but for rounding, as ToTensor's are."""
    import torch

    if pixels.dtype == torch.uint8:
        return pixels
    if pixels.dtype.is_floating_point:
        scaled = pixels.double() * 255
        whole = scaled.round().clamp(0, 255)
        if bool(((scaled - whole).abs() < _ROUNDING).all()):
            return whole.to(torch.uint8)
    values = f"{pixels.dtype} from {pixels.min().item():.4g} to {pixels.max().item():.4g}"
    raise DataError(
        f"{what} is a tensor of {values}; uint8, or floats that are k/255 with k from 0 to 255, was expected: {_UNDO}"
    )


def _base(part: object, attribute: str) -> Any:
    """Return an attribute of a data set, or of the one that a Subset is of; None if there is none."""
    while part is not None and not hasattr(part, attribute):
        part = getattr(part, "dataset", None)
    return getattr(part, attribute, None)


def file_samples(source: object, labels: Labels) -> list[tuple[Path, str, str]] | None:
    """Return path, label and split of each image if the data set is of files, as torchvision's ImageFolder; else None.

    Its transforms do not count, since edgeclf reads the files.
    """
    found = []
    for split, part in parts_of(source).items():
        files = _files(part)
        if files is None:
            return None
        names = named(
            labels if labels is not None else _base(part, "classes"), "labels" if labels is not None else "classes"
        )
        found += [(Path(path), label_of(target, names, path), split) for path, target in files]
    return found


def _files(part: object) -> list[tuple[str, object]] | None:
    """Return path and target of each image of an ImageFolder, or of a Subset of one; None for any other data set."""
    from torch.utils.data import Subset
    from torchvision.datasets import DatasetFolder

    if isinstance(part, Subset):
        files = _files(part.dataset)
        return None if files is None else [files[index] for index in part.indices]
    # A loader of its own may read files of another kind.
    if not isinstance(part, DatasetFolder) or not hasattr(part, "imgs"):
        return None
    change = part.target_transform or (lambda target: target)
    return [(path, change(target)) for path, target in part.samples]
