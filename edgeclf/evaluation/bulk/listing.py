"""Lists the images that paths stand for: folders with all below them, CSV files, tar archives, patterns, images."""

from __future__ import annotations

import glob
import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from edgeclf_runtime.images.read import image_paths, local_path

from ...data.table import read_table
from ...data.tree import IMAGE_SUFFIXES, left_out, read_tree
from ...display.progress import say
from ...errors import DataError, ImageError
from .archive import Member, archived_images

_TAR = ".tar"
_EXPECTED = "a folder of images, an image, a .csv that lists images in a column path, or a .tar was expected"


class Item(NamedTuple):
    """An image: its name in the output, its true label if that is known, and the file that it is in.

    offset, size: of its bytes if the file is an archive; offset is -1 if the file is the image.  error: why it is known not to
    be readable.
    """

    name: str
    label: str = ""
    file: str = ""
    offset: int = -1
    size: int = 0
    error: str = ""


def listed(data: Sequence[str]) -> Iterator[Item]:
    """Yield the images of several paths, in their order; those of a folder sorted by path, those of an archive as they lie there.

    Raises DataError for a path that has no image, and for an image that is there twice.
    """
    seen: set[bytes] = set()
    for name in data:
        for item in _listed(name):
            # Of millions of names, only hashes are kept.
            digest = hashlib.blake2b(os.fsencode(item.name), digest_size=12).digest()
            if digest in seen:
                raise DataError(f"{item.name} is given twice; each image was expected once: remove one of them")
            seen.add(digest)
            yield item


def _listed(name: str) -> Iterator[Item]:
    try:
        name = local_path(name)
        path = Path(name)
        if path.is_dir():
            yield from _in_files(_files_below(path))
        elif path.is_file() and path.suffix.lower() == ".csv":
            yield from _in_table(path)
        elif path.is_file() and ".tar" in path.name.lower():
            yield from _in_archive(path)
        else:
            yield from _in_files(map(Path, _matching(name)))
    except ImageError as error:
        raise DataError(str(error)) from None


def _matching(name: str) -> list[str]:
    """Return the files that a pattern or the path of an image stands for."""
    if not os.path.lexists(name) and name.lower().endswith(_TAR) and glob.has_magic(name):
        found: list[str] | None = sorted(glob.glob(name, recursive=True))
    else:
        found = image_paths(name, IMAGE_SUFFIXES)
    if not found:
        what = "is not one of images" if os.path.lexists(name) else "does not exist"
        raise DataError(f"{name} {what}; {_EXPECTED}")
    return found


def _files_below(folder: Path) -> list[Path]:
    """Return the images and archives of a folder and of all below it, sorted; a warning counts the other files."""
    tree = read_tree(folder)
    archives: list[Path] = []
    for below in tree.walk():
        archives += [path for path in below.others if path.suffix.lower() == _TAR]
        below.others = [path for path in below.others if path.suffix.lower() != _TAR]
    for finding in left_out(tree):
        say(f"warning: {finding.message}")
    found = sorted([*tree.all_images(), *archives]) if archives else tree.all_images()
    if not found:
        raise DataError(f"{folder} holds no image and no .tar: {_EXPECTED}")
    return found


def _in_files(paths: Iterable[Path]) -> Iterator[Item]:
    for path in paths:
        if path.suffix.lower() == _TAR:
            yield from _in_archive(path)
        else:
            yield Item(str(path), file=os.path.abspath(path))


def _in_table(file: Path) -> Iterator[Item]:
    table = read_table(file, labels=False)
    if not any(row.path.exists() for row in table.rows):
        raise DataError(
            f"{file}: none of its {len(table.rows)} images is there, the first is {table.rows[0].path}; write paths relative to "
            f"{file.parent}"
        )
    for finding in table.findings:
        say(f"warning: {finding.message}")
    for row in table.rows:
        yield Item(str(row.path), row.label, os.path.abspath(row.path))


def _in_archive(path: Path) -> Iterator[Item]:
    file, count = os.path.abspath(path), 0
    for count, found in enumerate(archived_images(path), 1):  # noqa: B007
        if isinstance(found, Member):
            yield Item(f"{path}/{found.name}", file=file, offset=found.offset, size=found.size)
        else:
            say(f"warning: {found}")
            yield Item(str(path), error=str(found))
    if not count:
        raise DataError(f"{path} holds no image (JPEG, PNG, BMP, WebP or TIFF was expected): choose another .tar")
