"""Fashion-MNIST: 28 x 28 pixels, gray, ten kinds of clothes (Xiao et al. 2017, arXiv 1708.07747), from its IDX files."""

from __future__ import annotations

import gzip
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.read import read_bytes

from ...errors import DataError
from ..conversion.image_folder import Image
from .public_set import PublicSet, fetch_file, png_image

# Where Debian's package dataset-fashion-mnist puts them.
_DEBIAN = Path("/usr/share/datasets/fashion-mnist")
_TORCHVISION = Path("FashionMNIST", "raw")
_PREFIXES = {"train": "train", "test": "t10k"}
_IMAGES, _LABELS = "images-idx3-ubyte", "labels-idx1-ubyte"
_NAMES = [f"{prefix}-{kind}" for prefix in _PREFIXES.values() for kind in (_IMAGES, _LABELS)]
# 60,000 images are 47 MB.
_MOST_BYTES = 64 << 20
# The first three bytes of an IDX file of bytes; the fourth is the number of dimensions.
_MAGIC = b"\x00\x00\x08"


def _images(home: Path) -> Iterator[Image] | None:
    for folder in (home / _TORCHVISION, _DEBIAN):
        files = [_file(folder, name) for name in _NAMES]
        if all(file is not None for file in files):
            return _read(folder)
    return None


def _file(folder: Path, name: str) -> Path | None:
    return next((file for file in (folder / name, folder / f"{name}.gz") if file.is_file()), None)


def _read(folder: Path) -> Iterator[Image]:
    from torchvision.datasets import FashionMNIST

    for split, prefix in _PREFIXES.items():
        pictures = read_idx(folder, f"{prefix}-{_IMAGES}", 3)
        targets = read_idx(folder, f"{prefix}-{_LABELS}", 1)
        if len(pictures) != len(targets) or (len(targets) and targets.max() >= len(FashionMNIST.classes)):
            raise DataError(
                f"{folder} has {len(pictures)} images of {prefix} and {len(targets)} labels from 0 to "
                f"{targets.max(initial=0)}; as many of each, and labels from 0 to 9, were expected: fetch the files again"
            )
        for picture, target in zip(pictures, targets, strict=True):
            yield png_image(picture, FashionMNIST.classes[target], split)


def read_idx(folder: Path, name: str, dimensions: int) -> np.ndarray:
    """Return an IDX file of bytes, also a gzipped one, as uint8 of so many dimensions; DataError if it is damaged."""
    file = _file(folder, name) or folder / name
    try:
        data = read_bytes(file, _MOST_BYTES)
        if file.suffix == ".gz":
            unpacker = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
            data = unpacker.decompress(data, _MOST_BYTES)
            if not unpacker.eof:
                raise ValueError("it ends early, or holds too much")
        start = 4 + 4 * dimensions
        shape = tuple(int(size) for size in np.frombuffer(data[4:start], ">u4"))
        if data[:4] != _MAGIC + bytes([dimensions]) or len(data) - start != np.prod(shape, dtype=object):
            raise ValueError(
                f"{len(data)} bytes, beginning with {data[:start].hex()}, are not an IDX file of this kind"
            )
        return np.frombuffer(data, np.uint8, offset=start).reshape(shape)
    except (OSError, ValueError, EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{file} is damaged ({error}): fetch it again") from None


def _fetch(home: Path) -> None:
    from torchvision.datasets import FashionMNIST

    for name, md5 in FashionMNIST.resources:
        fetch_file(FashionMNIST.mirrors[0] + name, home / _TORCHVISION / name, md5)


FASHION_MNIST = PublicSet(
    name="fashion-mnist",
    title="Fashion-MNIST",
    description="clothes, gray, 28 x 28, 10 labels",
    count=70_000,
    files=f"the four files of {_TORCHVISION}/, as torchvision has them, such as train-images-idx3-ubyte.gz (Debian's package "
    "dataset-fashion-mnist is found, too),",
    images=_images,
    fetch=_fetch,
)
