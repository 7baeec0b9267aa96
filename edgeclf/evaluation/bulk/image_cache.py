"""Keeps what was computed of images in the user's cache folder, so that neither a second nor an interrupted call computes it again.

Files, by all that the results depend on, hold up to 2,048 images each, by the hash of their content.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Generic, TypeVar

import numpy as np

from edgeclf_runtime.files.outputs import OTHER_CACHE, new_file
from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.files.user_folders import cache_folder

from ...data.npz import reading_npz, write_npz
from ...data.schemas import FEATURES
from ...display.progress import say
from ...errors import EdgeclfError

T = TypeVar("T")
Arrays = Mapping[str, np.ndarray]
Chosen = Sequence[tuple[int, str]]
MOST_BYTES = 2 << 30
"""Of all files together; those that were not used for the longest time are removed."""
IMAGES_OF_A_FILE = 2048
"""Images whose results are written together; what a killed process loses."""


class ImageCache(Generic[T]):
    """Results of images by the hash of their files.

    folder      of all files; None keeps nothing
    key         all that the results depend on besides the image
    pack        makes arrays of results, of which each has a row
    unpack      makes results by hash of some rows, given as (row, hash), of arrays; ValueError for unexpected arrays
    """

    def __init__(
        self,
        folder: Path | None,
        key: str,
        pack: Callable[[Sequence[T]], Arrays],
        unpack: Callable[[Chosen, Arrays], dict[str, T]],
        most: int = MOST_BYTES,
    ) -> None:
        self._all, self._most, self._pack, self._unpack = folder, most, pack, unpack
        self._own = folder / sha256_bytes(key.encode())[:16] if folder else None

    def recall(
        self, paths: Mapping[str, Path], compute: Callable[[Mapping[str, Path]], Iterator[tuple[str, T]]]
    ) -> dict[str, T]:
        """Return the results of images by hash; those that are not kept are computed, and kept even if that is interrupted.

        paths: a file by the hash of its content.  compute: yields the hash and the result of each such image, but of those
        that have none.
        """
        found = self._read(set(paths))
        missing = {digest: path for digest, path in paths.items() if digest not in found}
        part: dict[str, T] = {}
        if found and missing:
            say(f"{len(found)} of {len(paths)} images were computed before")
        try:
            for digest, result in compute(missing) if missing else ():
                part[digest] = found[digest] = result
                if len(part) == IMAGES_OF_A_FILE:
                    self._write(part)
                    part = {}
        except BaseException:
            self._write(part)
            if found and self._all is not None:
                say(f"what was computed of {len(found)} of {len(paths)} images is kept for the next call")
            raise
        self._write(part)
        return found

    def _read(self, wanted: set[str]) -> dict[str, T]:
        found: dict[str, T] = {}
        for file in sorted(self._own.glob("*.npz")) if self._own and self._own.is_dir() else ():
            try:
                with reading_npz(file, FEATURES) as (header, arrays):
                    chosen = [(at, digest) for at, digest in enumerate(header["images"]) if digest in wanted]
                    if chosen:
                        found.update(self._unpack(chosen, arrays))
                        os.utime(file)
            except (ValueError, LookupError, OSError) as error:
                say(f"{file} is ignored ({error}); its images are computed again")
        return found

    def _write(self, results: Mapping[str, T]) -> None:
        if self._all is None or self._own is None or not results:
            return
        try:
            self._all.mkdir(mode=0o700, parents=True, exist_ok=True)  # it may have small copies of the images
            self._own.mkdir(exist_ok=True)
            name = sha256_bytes("".join(results).encode())[:32]
            with new_file(self._own / f"{name}.npz", overwrite=True, elsewhere=OTHER_CACHE) as work:
                write_npz(work, {"images": list(results)}, self._pack(list(results.values())))
            trim(self._all, self._most)
        except (EdgeclfError, OSError) as error:
            say(f"warning: what was computed is not kept ({error})")
            self._all = None


def user_folder(name: str) -> Path | None:
    """Return the folder of this name in the user's cache folder, or None if this user has none."""
    cache = cache_folder()
    return Path(cache, name) if cache else None


def trim(folder: Path, most: int) -> None:
    """Remove the files below a folder that were not used for the longest time, until at most ``most`` bytes are left."""
    files = []
    for path in folder.glob("*/*.npz"):
        # Another process may remove it meanwhile.
        try:
            facts = path.stat()
        except FileNotFoundError:
            continue
        files.append((facts.st_mtime, facts.st_size, path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= most:
            break
        path.unlink(missing_ok=True)
        total -= size
