"""HEIC and AVIF photographs, which a device does not read: on the host, optional libraries decode them."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.files.read import read_bytes
from edgeclf_runtime.images.read import MAX_BYTES, MAX_PIXELS

from ...errors import DependencyError, ImageError

_AVIF_BRANDS = frozenset((b"avif", b"avis"))
_HEIC_BRANDS = frozenset((b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"mif1", b"msf1"))
_HEADER_BYTES = 256
_INSTALL_HEIF = 'install it: python3 -m pip install "edgeclf[heif]", or convert the images to JPEG'


def heif_kind(path: Path) -> str:
    """Return "HEIC" or "AVIF" by a file's content, "" for any other file (ISO/IEC 23008-12, the brands of the box ftyp)."""
    try:
        # Opening a pipe would wait for its writer.
        if not path.is_file():
            return ""
        with path.open("rb") as stream:
            head = stream.read(_HEADER_BYTES)
    except OSError:
        return ""
    if head[4:8] != b"ftyp":
        return ""
    head = head[: int.from_bytes(head[:4], "big")]
    brands = {head[8:12], *(head[at : at + 4] for at in range(16, len(head), 4))}
    return "AVIF" if brands & _AVIF_BRANDS else "HEIC" if brands & _HEIC_BRANDS else ""


def read_heif(path: Path, kind: str) -> np.ndarray:
    """Return the pixels of a file of this kind: uint8 [height, width, 3], upright, BGR.

    Raises ImageError, and DependencyError if the library that reads the kind is missing.
    """
    from PIL import ImageOps

    try:
        image = _open_heic(path) if kind == "HEIC" else _open_avif(path)
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise ImageError(
                f"{path}: {width} x {height} is {width * height / 1e6:.1f} megapixels, more than the {MAX_PIXELS / 1e6:.0f} "
                "allowed; shrink the image"
            )
        # Of HEIC, libheif has already turned the pixels, and Exif's orientation must not be applied again.
        upright = image.to_pillow() if kind == "HEIC" else ImageOps.exif_transpose(image)
        return np.ascontiguousarray(np.asarray(upright.convert("RGB"))[:, :, ::-1])
    except (OSError, ValueError, RuntimeError, EOFError, SyntaxError) as error:
        reason = " ".join(str(error).split())
        raise ImageError(f"{path}: the {kind} cannot be decoded ({reason}); replace or remove it") from None


def _open_heic(path: Path) -> Any:
    try:
        import pillow_heif
    except ImportError:
        raise DependencyError(f"{path}: reading HEIC needs pillow-heif; {_INSTALL_HEIF}") from None
    return pillow_heif.open_heif(io.BytesIO(read_bytes(path, MAX_BYTES)), convert_hdr_to_8bit=True)


def _open_avif(path: Path) -> Any:
    from PIL import Image, features

    if "avif" not in features.get_supported():
        raise DependencyError(f"{path}: reading AVIF needs Pillow 11.3 or later; {_INSTALL_HEIF}")
    try:
        return Image.open(io.BytesIO(read_bytes(path, MAX_BYTES)), formats=("AVIF",))
    except Image.DecompressionBombError as error:
        raise ImageError(f"{path}: {error}; shrink the image") from None
