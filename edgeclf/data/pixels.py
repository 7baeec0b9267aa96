"""Loads image files as preprocessed pixels, decoded ahead in threads.

All images that the host feeds to a model come through here, and so through the runtime's decoder
and preprocessing.  Only HEIC and AVIF, which a device does not read, are decoded by optional libraries.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.images.bit_depths import Note
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess
from edgeclf_runtime.images.read import read_image

from ..display.progress import say, track
from ..errors import DataError, DependencyError, ImageError
from .conversion.heif import heif_kind, read_heif
from .findings import Finding, counted, listed, warning

if TYPE_CHECKING:
    from .datasets import Dataset, Sample

S = TypeVar("S")
T = TypeVar("T")
_AHEAD = 32


def preprocessing_sha256(spec: Preprocessing) -> str:
    """Return the SHA-256 that stands for a preprocessing where its results are kept."""
    return sha256_bytes(json.dumps(spec._asdict(), sort_keys=True).encode())


def load_pixels(path: Path, spec: Preprocessing) -> np.ndarray:
    """Return one image as the model sees it: uint8 [height, width, 3]; ImageError names the file."""
    return preprocess(read_photo(path), spec)


def read_photo(path: Path, noted: Note | None = None) -> np.ndarray:
    """Return a photograph's pixels, by its content whatever its suffix: uint8 [height, width, 3], upright, BGR.

    noted: see edgeclf_runtime.images.read.read_image.  Raises ImageError, and DependencyError for HEIC and AVIF if the library
    that reads them is missing.
    """
    kind = heif_kind(path)
    return read_heif(path, kind) if kind else read_image(path, noted=noted)


def without_unreadable(data: Dataset, splits: Sequence[str] = ()) -> Dataset:
    """Return a data set without the images that cannot be decoded, which a finding counts.

    splits: those to look at; by default all.
    """
    bad = unreadable(sample.path for sample in data.samples if not splits or sample.split in splits)
    if bad:
        say(f"warning: {about_unreadable(bad).message}")
    return leave_out(data, bad)


def unreadable(paths: Iterable[Path]) -> dict[Path, str]:
    """Return the images that cannot be decoded, with the reason for each."""
    paths = list(paths)
    problems = track(load_each(paths, _problem), "checking images", len(paths))
    return {path: problem for path, problem in zip(paths, problems, strict=True) if problem}


def leave_out(data: Dataset, bad: Mapping[Path, str]) -> Dataset:
    """Return a data set without the images that are known not to be readable; bad: the reason for each."""
    if not bad:
        return data
    return replace(data.without(set(bad)), findings=(*data.findings, about_unreadable(bad)))


def about_unreadable(bad: Mapping[Path, str]) -> Finding:
    """Return the finding about images that were left out; bad: the reason for each, which names the file."""
    paths = list(map(str, bad))
    message = f"{counted(len(bad), 'image')} left out (cannot be decoded), first {bad[Path(paths[0])]}"
    if len(paths) > 1:
        message += f"; also {listed(paths[1:])}: edgeclf check gives the reason for each"
    return warning("unreadable", message, paths)


def first_readable(samples: Iterable[Sample], count: int) -> list[Sample]:
    """Return the first images that can be decoded, ``count`` at most; a warning counts the others before them.

    Raises DataError if there are none.
    """
    chosen: list[Sample] = []
    bad = {}
    for sample in samples:
        if len(chosen) == count:
            break
        if problem := _problem(sample.path):
            bad[sample.path] = problem
        else:
            chosen.append(sample)
    if bad and not chosen:
        raise DataError(f"{about_unreadable(bad).message}; images that can be were expected: replace them")
    if bad:
        say(f"warning: {about_unreadable(bad).message}")
    return chosen


def _problem(path: Path) -> str:
    """Return why an image cannot be decoded, "" if it can."""
    try:
        read_photo(path)
    except (ImageError, DependencyError) as error:
        return str(error)
    return ""


def load_all(paths: Iterable[Path], spec: Preprocessing) -> Iterator[np.ndarray]:
    """Yield :func:`load_pixels` of each path, in order; only a few images are in memory at a time."""
    return load_each(paths, lambda path: load_pixels(path, spec))


def load_each(files: Iterable[S], load: Callable[[S], T], ahead: int = _AHEAD) -> Iterator[T]:
    """Yield what a function makes of each file, in order, computed in threads; at most ``ahead`` wait in memory."""
    with ThreadPoolExecutor(max_workers=max(4, min(16, cores()))) as pool:
        waiting: deque[Future[T]] = deque()
        try:
            for file in files:
                waiting.append(pool.submit(load, file))
                if len(waiting) > ahead:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        except ImageError as error:
            raise ImageError(f"{error}, or leave such images out with --skip-unreadable") from None
        finally:
            for future in waiting:
                future.cancel()


def load_batches(paths: Sequence[Path], spec: Preprocessing, size: int, what: str) -> Iterator[np.ndarray]:
    """Yield the images in batches of at most ``size``: float32 [N, height, width, 3], values 0 to 255.

    what: names the work in the progress display.
    """
    return in_batches(track(load_all(paths, spec), what, len(paths)), size)


def in_batches(images: Iterable[np.ndarray], size: int) -> Iterator[np.ndarray]:
    """Yield preprocessed images, uint8 [height, width, 3] each, as float32 [N, height, width, 3], at most ``size`` at once."""
    left = iter(images)
    while batch := list(islice(left, size)):
        yield as_batch(batch)
