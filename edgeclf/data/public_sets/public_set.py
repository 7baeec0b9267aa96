"""A public data set: where its files are, how they are fetched, and its images as PNG files."""

from __future__ import annotations

import http.client
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.outputs import new_file
from edgeclf_runtime.files.user_folders import home_cache_folder

from ...display.progress import say
from ...errors import DataError
from ..conversion.image_folder import Image, convert

_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_GRAY, _RGB = 0, 2


@dataclass(frozen=True)
class PublicSet:
    """A data set that others publish.

    images: returns the images that the files in a folder hold, None if the files are not there.  fetch: downloads them into
    a folder.  files: what to put there, in words.
    """

    name: str
    title: str
    description: str
    count: int
    files: str
    images: Callable[[Path], Iterator[Image] | None]
    fetch: Callable[[Path], None]

    def folder(self, download: bool = False) -> Path:
        """Return the folder of its images, unpacked once.

        download: fetch the files if they are not here.  Raises DataError, which says where to put which files, if they are missing
        or damaged.
        """
        home = data_home()
        images = home / self.name
        if images.exists():
            return images
        found = self.images(home)
        if found is None and download:
            say(f"fetching {self.title}")
            self._fetch(home)
            found = self.images(home)
        if found is None:
            raise DataError(
                f"{self.title} is not on this machine: put {self.files} into {home} (to use another folder, set EDGECLF_DATA), or "
                f"download it: edgeclf check {self.name} --download"
            )
        # It can be made again, and flushing so many files takes minutes on some disks.
        convert(found, self.count, images, overwrite=False, durable=False)
        return images

    def is_here(self) -> bool:
        """Return whether its images, or the files that hold them, are on this machine."""
        try:
            home = data_home()
        except DataError:
            return False
        return (home / self.name).exists() or self.images(home) is not None

    def _fetch(self, home: Path) -> None:
        try:
            self.fetch(home)
        except (OSError, RuntimeError, ValueError, http.client.HTTPException) as error:
            raise DataError(
                f"{self.title} could not be downloaded ({' '.join(str(error).split())}): try again, or put {self.files} into {home}"
            ) from None


def data_home() -> Path:
    """Return the folder for public data sets; DataError if there is no home folder."""
    named = os.environ.get("EDGECLF_DATA") or home_cache_folder()
    home = Path(os.path.expanduser(named or "~"))
    if home.parts[0].startswith("~"):
        raise DataError("there is no home folder to look for data sets in: set HOME, or set EDGECLF_DATA to a folder")
    return home


def fetch_file(url: str, path: Path, md5: str) -> None:
    """Download a file by torchvision, whole or not at all; RuntimeError if its MD5 is another one."""
    from torchvision.datasets.utils import download_url

    path.parent.mkdir(parents=True, exist_ok=True)
    with new_file(path, overwrite=True) as work:
        download_url(url, os.path.dirname(work), os.path.basename(work), md5)


def png_image(pixels: np.ndarray, label: str, split: str) -> Image:
    """Return an image of a data set as a PNG file; pixels: uint8 [height, width] or [height, width, 3], RGB."""
    return Image(label, split, pixels.tobytes(), ".png", lambda: stored_png(pixels))


def stored_png(pixels: np.ndarray) -> bytes:
    """Return a PNG file that is not compressed, so that it has the same bytes, and the image the same split, everywhere.

    pixels: uint8 [height, width] or [height, width, 3], RGB, of at most 65,535 bytes with one for each row, what a block of
    deflate can hold (RFC 1951, 3.2.4).
    """
    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.tobytes() for row in pixels)
    block = b"\x01" + struct.pack("<HH", len(rows), 0xFFFF ^ len(rows)) + rows
    header = struct.pack(">IIBBBBB", width, height, 8, _GRAY if pixels.ndim == 2 else _RGB, 0, 0, 0)
    data = b"\x78\x01" + block + struct.pack(">I", zlib.adler32(rows))
    return _SIGNATURE + _chunk(b"IHDR", header) + _chunk(b"IDAT", data) + _chunk(b"IEND", b"")


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
