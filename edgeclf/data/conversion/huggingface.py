"""Images of a Hugging Face data set (the library ``datasets``): its files as they are, or PNG files of what is not a file."""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

from ...errors import DataError, DependencyError
from .image_folder import Image, Labels, label_of, named, parts_of
from .pillow import pillow_identity, png_of

if TYPE_CHECKING:
    import datasets

_INSTALL = "install it: python3 -m pip install datasets"
# The formats that every target reads, by the first bytes of a file.
_SUFFIXES = {
    b"\xff\xd8\xff": ".jpg",
    b"\x89PNG\r\n\x1a\n": ".png",
    b"BM": ".bmp",
    b"II*\x00": ".tif",
    b"MM\x00*": ".tif",
}


class _File(TypedDict):
    """An image that is not decoded, in a row."""

    bytes: bytes | None
    path: str | None


def huggingface_images(
    source: object, image: str | None, label: str | None, labels: Labels
) -> tuple[Iterator[Image], int]:
    """Return the images of a Dataset or DatasetDict, and their number.

    image, label: the columns; by default the only one of type Image, and the only one of type ClassLabel.  labels: names in
    the order of the column's numbers; by default those of ClassLabel.  Raises DataError if the columns are not clear.
    """
    try:
        import datasets
    except ImportError:
        raise DependencyError(f"Hugging Face's data sets need the library datasets; {_INSTALL}") from None
    if isinstance(source, (datasets.IterableDataset, datasets.IterableDatasetDict)):
        raise DataError("the data set is a stream, whose length is not known; load it without streaming=True")
    parts = parts_of(source)
    for part in parts.values():
        if not isinstance(part, datasets.Dataset):
            raise DataError(
                f"found {type(part).__name__}; a Dataset or DatasetDict of the library datasets was expected, such as "
                "datasets.load_dataset(NAME) returns"
            )
    return _images(parts, image, label, labels), sum(map(len, parts.values()))


def _images(
    parts: dict[str, datasets.Dataset], image: str | None, label: str | None, labels: Labels
) -> Iterator[Image]:
    import datasets

    for split, part in parts.items():
        image_column = _column(part, image, datasets.Image, "image")
        label_column = _column(part, label, datasets.ClassLabel, "label")
        feature = part.features[label_column]
        names = named(labels if labels is not None else getattr(feature, "names", None), label_column)
        # A format or a transform would change what the rows hold; the files are wanted, not decoded.
        rows = part.with_format(None).select_columns([image_column, label_column])
        rows = rows.cast_column(image_column, datasets.Image(decode=False))
        for index, row in enumerate(rows):
            what = f"image {index}" + (f" of {split}" if split else "")
            text = label_of(row[label_column], names, what)
            yield _image(_content(row[image_column], what), text, split, what)


def _column(part: datasets.Dataset, name: str | None, kind: type, role: str) -> str:
    """Return the column that is named, or the only one of a type."""
    found = [column for column, feature in part.features.items() if isinstance(feature, kind)]
    if name is not None and (name in found or (role == "label" and name in part.features)):
        return name
    if name is None and len(found) == 1:
        return found[0]
    columns = ", ".join(f"{column} ({type(feature).__name__})" for column, feature in part.features.items())
    what = (
        f"{name!r} is not a column of type {kind.__name__}"
        if name is not None
        else f"{len(found)} are of type {kind.__name__}"
    )
    raise DataError(f"the data set has the columns {columns}; {what}: pass {role}=COLUMN")


def _content(value: _File | None, what: str) -> bytes:
    """Return the bytes of an image's file, which a row holds, or has the path of."""
    if value and value["bytes"] is not None:
        return bytes(value["bytes"])
    if not value or not value["path"]:
        raise DataError(f"{what} is empty; remove it from the data set: dataset.filter(...)")
    try:
        return Path(value["path"]).read_bytes()
    except OSError as error:
        raise DataError(f"{what}: {value['path']} cannot be read ({error.strerror}); load the data set again") from None


def _image(data: bytes, label: str, split: str, what: str) -> Image:
    suffix = next((suffix for magic, suffix in _SUFFIXES.items() if data.startswith(magic)), "")
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP":
        suffix = ".webp"
    if suffix:
        return Image(label, split, data, suffix, lambda: data)
    from PIL import Image as pillow  # noqa: N813 - a module

    try:
        opened = pillow.open(io.BytesIO(data))
    except (OSError, ValueError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        raise DataError(f"{what} is not an image that Pillow reads ({reason}); remove it from the data set") from None
    return Image(label, split, pillow_identity(opened, what), ".png", partial(png_of, opened, what))
