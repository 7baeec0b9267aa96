"""Loads image files as preprocessed pixels, decoded ahead in threads.

All images that the host feeds to a model come through here, and so through the runtime's decoder
and preprocessing.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path

import numpy as np

from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.images.preprocess import Preprocessing, as_batch, preprocess
from edgeclf_runtime.images.read import read_image

from ..progress import track

_AHEAD = 32


def preprocessing_sha256(spec: Preprocessing) -> str:
    """Return the SHA-256 that stands for a preprocessing where its results are kept."""
    return sha256_bytes(json.dumps(spec._asdict(), sort_keys=True).encode())


def load_pixels(path: Path, spec: Preprocessing) -> np.ndarray:
    """Return one image as the model sees it: uint8 [height, width, 3]; ImageError names the file."""
    return preprocess(read_image(path), spec)


def load_all(paths: Iterable[Path], spec: Preprocessing) -> Iterator[np.ndarray]:
    """Yield :func:`load_pixels` of each path, in order; only a few images are in memory at a time."""
    with ThreadPoolExecutor(max_workers=4) as pool:
        waiting: deque[Future[np.ndarray]] = deque()
        try:
            for path in paths:
                waiting.append(pool.submit(load_pixels, path, spec))
                if len(waiting) > _AHEAD:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()


def load_batches(paths: Sequence[Path], spec: Preprocessing, size: int, what: str) -> Iterator[np.ndarray]:
    """Yield the images in batches of at most ``size``: float32 [N, height, width, 3], values 0 to 255.

    what: names the work in the progress display.
    """
    batch: list[np.ndarray] = []
    for pixels in track(load_all(paths, spec), what, len(paths)):
        batch.append(pixels)
        if len(batch) == size:
            yield as_batch(batch)
            batch = []
    if batch:
        yield as_batch(batch)
