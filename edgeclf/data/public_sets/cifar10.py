"""CIFAR-10: 32 x 32 pixels, ten kinds of things (Krizhevsky 2009), from its Python or binary version, packed or unpacked."""

from __future__ import annotations

import io
import pickle
import tarfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import numpy as np

from edgeclf_runtime.files.read import read_bytes

from ...errors import DataError
from ..conversion.image_folder import Image
from .public_set import PublicSet, fetch_file, png_image

_CLASSES = ("airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck")
_PYTHON, _BINARY = "cifar-10-batches-py", "cifar-10-batches-bin"
_ARCHIVES = {_PYTHON: "cifar-10-python.tar.gz", _BINARY: "cifar-10-binary.tar.gz"}
_SPLITS = {**{f"data_batch_{number}": "train" for number in range(1, 6)}, "test_batch": "test"}
# A batch of 10,000 images is 31 MB.
_MOST_BYTES = 64 << 20
_SHAPE = (3, 32, 32)
_PIXELS = 3 * 32 * 32
_AGAIN = "fetch the files again"


def _images(home: Path) -> Iterator[Image] | None:
    for version, archive in _ARCHIVES.items():
        for source in (home / version, home / archive):
            if source.is_dir() if source.name == version else source.is_file():
                return _read(source, version)
    return None


def _read(source: Path, version: str) -> Iterator[Image]:
    read = _python_batch if version == _PYTHON else _binary_batch
    suffix = "" if version == _PYTHON else ".bin"
    files = _contents(source, version, [batch + suffix for batch in _SPLITS])
    for batch, split in _SPLITS.items():
        try:
            pixels, targets = read(batch, files[batch + suffix])
        except (ValueError, KeyError, IndexError, TypeError, AttributeError, EOFError, pickle.UnpicklingError) as error:
            raise DataError(f"{source}: {batch}{suffix} is damaged ({error}): {_AGAIN}") from None
        for picture, target in zip(pixels.reshape(-1, *_SHAPE), targets, strict=True):
            yield png_image(picture.transpose(1, 2, 0), _CLASSES[target], split)


def _contents(source: Path, version: str, names: list[str]) -> dict[str, bytes]:
    """Return the files by name from a folder, or from an archive, which is read and not extracted."""
    try:
        if source.is_dir():
            return {name: read_bytes(source / name, _MOST_BYTES) for name in names}
        found: dict[str, bytes] = {}
        with tarfile.open(source, "r:gz") as archive:
            for member in archive:
                if member.size > _MOST_BYTES:
                    raise ValueError(f"{member.name[:80]!r} has {member.size} bytes")
                folder, _, name = member.name.partition("/")
                wanted = folder == version and name in names and member.isfile()
                stream = archive.extractfile(member) if wanted else None
                if stream is not None:
                    found[name] = stream.read()
                if len(found) == len(names):
                    return found
        raise ValueError(f"it has no {', '.join(sorted(set(names) - set(found)))}")
    except (OSError, ValueError, EOFError, zlib.error, tarfile.TarError) as error:
        raise DataError(f"{source} is damaged ({error}): {_AGAIN}") from None


def _binary_batch(_: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels [images, 3072] and targets of records of a label and the pixels (the set's page, "Binary version")."""
    rows = np.frombuffer(data, np.uint8)
    if not len(rows) or len(rows) % (1 + _PIXELS):
        raise ValueError(f"{len(rows)} bytes; a multiple of {1 + _PIXELS} was expected")
    rows = rows.reshape(-1, 1 + _PIXELS)
    return _checked(rows[:, 1:], rows[:, 0])


def _python_batch(batch: str, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Return pixels [images, 3072] and targets of a pickle; only one with the MD5 that torchvision knows is opened at all."""
    from hashlib import md5

    from torchvision.datasets import CIFAR10 as KNOWN

    expected = dict(map(tuple, KNOWN.train_list + KNOWN.test_list))[batch]
    if md5(data, usedforsecurity=False).hexdigest() != expected:
        raise ValueError(f"its MD5 is not {expected}")
    # The pickle is Python 2's, whose texts are bytes.
    held = {_text(key): value for key, value in _Reader(io.BytesIO(data), encoding="bytes").load().items()}
    return _checked(np.frombuffer(held["data"].data, np.uint8).reshape(-1, _PIXELS), np.array(held["labels"]))


def _checked(pixels: np.ndarray, targets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    if len(pixels) != len(targets) or targets.min(initial=0) < 0 or targets.max(initial=0) >= len(_CLASSES):
        raise ValueError(
            f"{len(pixels)} images and {len(targets)} labels from {targets.min(initial=0)} to {targets.max(initial=0)}; as many "
            "of each, and labels from 0 to 9, were expected"
        )
    return pixels, targets


def _text(key: object) -> str:
    return key.decode() if isinstance(key, bytes) else str(key)


class _Array:
    """In the place of a numpy array of bytes: keeps the bytes, and makes nothing else of what the file says."""

    data = b""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: tuple[Any, ...]) -> None:
        data = state[-1]
        self.data = data.encode("latin-1") if isinstance(data, str) else bytes(data)


class _Type:
    """In the place of a numpy dtype."""

    def __init__(self, *_: object) -> None:
        pass

    def __setstate__(self, state: object) -> None:
        pass


def _encode(text: str, _: str = "latin1") -> bytes:
    return text.encode("latin-1")


class _Reader(pickle.Unpickler):
    """Reads dictionaries, lists, numbers, texts and arrays of bytes, and nothing that could run."""

    _KNOWN: ClassVar[dict[tuple[str, str], Callable[..., object]]] = {
        ("numpy.core.multiarray", "_reconstruct"): _Array,
        ("numpy._core.multiarray", "_reconstruct"): _Array,
        ("numpy", "ndarray"): _Array,
        ("numpy", "dtype"): _Type,
        ("_codecs", "encode"): _encode,
    }

    def find_class(self, module: str, name: str) -> Callable[..., object]:
        """Return the stand-in for a name of numpy; UnpicklingError for any other name."""
        if (module, name) not in self._KNOWN:
            raise pickle.UnpicklingError(f"it names {module}.{name}")
        return self._KNOWN[module, name]


def _fetch(home: Path) -> None:
    from torchvision.datasets import CIFAR10 as KNOWN

    fetch_file(KNOWN.url, home / _ARCHIVES[_PYTHON], KNOWN.tgz_md5)


CIFAR10 = PublicSet(
    name="cifar10",
    title="CIFAR-10",
    description="animals and vehicles, 32 x 32, 10 labels",
    count=60_000,
    files=f"{_ARCHIVES[_PYTHON]} or {_ARCHIVES[_BINARY]}, or the folder that it unpacks to,",
    images=_images,
    fetch=_fetch,
)
