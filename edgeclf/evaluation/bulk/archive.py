"""The images in a tar archive, such as a shard of WebDataset: found by its headers, read by their offset, never unpacked."""

from __future__ import annotations

import os
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from edgeclf_runtime.files.read import open_regular
from edgeclf_runtime.images.read import MAX_BYTES, SYSTEM_FILES, is_image_name

from ...data.tree import IMAGE_SUFFIXES
from ...errors import DataError, ImageError

_BLOCK = 512
# Of the headers before one member: a long name, and attributes.  tarfile would read as much as they say.
_MOST_HEADER_BYTES = 1 << 20
_COMPRESSED = {
    b"\x1f\x8b": ("gzip", "gunzip"),
    b"BZh": ("bzip2", "bunzip2"),
    b"\xfd7zXZ\0": ("xz", "unxz"),
    b"\x28\xb5\x2f\xfd": ("zstd", "unzstd"),
}


class Member(NamedTuple):
    """An image file in an archive: its name there, and where its bytes are."""

    name: str
    offset: int
    size: int


def archived_images(path: Path) -> Iterator[Member | ImageError]:
    """Yield the image files in a tar archive, in its order; after the last before damage, an ImageError that says where that is.

    Links, sparse files and other kinds of members are left out.  Raises DataError for a file that is not a tar archive, or a
    compressed one.
    """
    try:
        with open_regular(path) as stream:
            _check_beginning(path, stream)
            yield from _images(path, stream)
    except OSError as error:
        raise DataError(
            f"{path} cannot be read ({error.strerror or error}); a tar archive of images was expected"
        ) from None


def read_member(path: str, member: Member, name: str) -> bytes:
    """Return the bytes of an image; ImageError, which begins with ``name``, if they are too many or not there."""
    if member.size > MAX_BYTES:
        raise ImageError(f"{name}: larger than the {MAX_BYTES >> 20} MB allowed; shrink the image")
    try:
        with open_regular(path) as stream:
            stream.seek(member.offset)
            data = stream.read(member.size)
    except OSError as error:
        raise ImageError(f"{name}: cannot be read ({error.strerror}); an image file was expected") from None
    if len(data) < member.size:
        raise ImageError(f"{name}: the archive is cut off; copy it again")
    return data


def _check_beginning(path: Path, stream: BinaryIO) -> None:
    head = stream.read(_BLOCK)
    for magic, (kind, program) in _COMPRESSED.items():
        if head.startswith(magic):
            raise DataError(
                f"{path} is compressed by {kind}, so that its images cannot be read from several places at once; a tar archive "
                f"as it is was expected: decompress it with {program}"
            )
    try:
        if any(head):
            tarfile.TarInfo.frombuf(head, "utf-8", "surrogateescape")
    except (tarfile.TarError, ValueError):
        raise DataError(f"{path} is not a tar archive, which was expected: choose another file") from None
    stream.seek(0)


def _images(path: Path, stream: BinaryIO) -> Iterator[Member | ImageError]:
    size, end = os.fstat(stream.fileno()).st_size, 0
    headers = _Headers(stream, size)
    try:
        with tarfile.open(fileobj=headers, mode="r:", errorlevel=0) as archive:  # type: ignore[call-overload]
            for member in iter(archive.next, None):
                # An offset that does not grow, by a negative size, would never end.
                if not end < archive.offset < size + _BLOCK or member.offset_data + max(0, member.size) > size:
                    break
                end, headers.left = archive.offset, _MOST_HEADER_BYTES
                archive.members.clear()
                if _is_image(member):
                    yield Member(member.name.removeprefix("./"), member.offset_data, member.size)
    # tarfile raises these for one damage or another.
    except (tarfile.TarError, ValueError, ArithmeticError, LookupError, RecursionError):
        pass
    stream.seek(end)
    block = stream.read(_BLOCK)
    # An archive ends with blocks of zeros.
    if len(block) < _BLOCK or any(block):
        yield ImageError(
            f"{path}: the archive is damaged or cut off at byte {min(end, size)} of {size}, so that the images behind it are missing; "
            "copy it again"
        )


def _is_image(member: tarfile.TarInfo) -> bool:
    name = os.path.basename(member.name)
    usual = member.isreg() and not member.issparse() and not name.startswith(".") and name.lower() not in SYSTEM_FILES
    return usual and is_image_name(name, IMAGE_SUFFIXES)


class _Headers:
    """A file of which tarfile may read only so much for each member, and nothing behind its end."""

    def __init__(self, stream: BinaryIO, size: int) -> None:
        self._stream, self._size, self.left = stream, size, _MOST_HEADER_BYTES
        self.tell = stream.tell

    def seek(self, position: int) -> None:
        """Go to a byte; ReadError if the file has no such byte."""
        if not 0 <= position <= self._size:
            raise tarfile.ReadError("a header leads out of the file")
        self._stream.seek(position)

    def read(self, size: int) -> bytes:
        """Return so many bytes; ReadError if a header claims more than any has."""
        self.left -= size
        if size < 0 or self.left < 0:
            raise tarfile.ReadError("a header is too large")
        return self._stream.read(size)
