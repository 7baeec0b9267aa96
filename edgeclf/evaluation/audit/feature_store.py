"""Keeps what a network and the near-duplicate check need of each image, so that a second audit decodes nothing.

Files in the user's cache folder, by network and preprocessing, hold up to 2,048 images each, by the hash of their content:
features, a thumbnail and the size.  An interrupted audit keeps the files that it wrote.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.outputs import OTHER_CACHE, new_file
from edgeclf_runtime.files.read import sha256_bytes
from edgeclf_runtime.files.user_folders import cache_folder
from edgeclf_runtime.images.preprocess import Preprocessing, preprocess

from ...data.checks.thumbnails import COLOR_SIDE, NEUTRAL, SIDE, Thumbnail, thumbnail_of
from ...data.npz import reading_npz, write_npz
from ...data.pixels import in_batches, load_each, preprocessing_sha256, read_photo
from ...data.schemas import FEATURES
from ...display.progress import say, track
from ...errors import DependencyError, EdgeclfError, ImageError
from ...graph.onnx_file import graph_sha256
from ...options import TrainOptions
from ...training.features import device_of, images_at_once, run_backbone

if TYPE_CHECKING:
    from ...training.features import Backbone

FOLDER = "features"
MOST_BYTES = 2 << 30
"""Of all files together; those that were not used for the longest time are removed."""
_IMAGES_OF_A_FILE = 2048


@dataclass(frozen=True)
class ImageFacts:
    """The stored facts of an image."""

    features: np.ndarray
    """float32 [features]."""
    thumbnail: Thumbnail
    width: int
    height: int


@dataclass(frozen=True)
class _Decoded:
    thumbnail: Thumbnail | None = None
    width: int = 0
    height: int = 0
    pixels: np.ndarray | None = None
    problem: str = ""


class FeatureStore:
    """The facts of images by the hash of their files; whatever it computes, it writes to the cache folder.

    folder: of all networks' files; None keeps nothing.
    """

    def __init__(self, network: Backbone, spec: Preprocessing, folder: Path | None, most: int = MOST_BYTES) -> None:
        self._network, self._spec, self._most = network, spec, most
        self._all = folder
        self._device = device_of(TrainOptions())
        key = f"{_network_sha256(network)} {preprocessing_sha256(spec)} {self._device.type}"
        self._own = folder / sha256_bytes(key.encode())[:16] if folder else None

    @classmethod
    def of_user(cls, network: Backbone, spec: Preprocessing) -> FeatureStore:
        """Return the store in the user's cache folder."""
        cache = cache_folder()
        return cls(network, spec, Path(cache, FOLDER) if cache else None)

    def recall(self, paths: Mapping[str, Path]) -> tuple[dict[str, ImageFacts], dict[str, str]]:
        """Return the facts of images by hash, and the problem of each that cannot be decoded.

        paths: a file by the hash of its content.
        """
        found = self._read(set(paths))
        missing = {digest: path for digest, path in paths.items() if digest not in found}
        problems: dict[str, str] = {}
        computed = self._compute(missing, problems) if missing else iter(())
        while part := dict(islice(computed, _IMAGES_OF_A_FILE)):
            self._write(part)
            found.update(part)
        return found, problems

    def _decode(self, path: Path) -> _Decoded:
        try:
            image = read_photo(path)
        except (ImageError, DependencyError) as error:
            return _Decoded(problem=str(error))
        height, width = image.shape[:2]
        return _Decoded(thumbnail_of(image), width, height, preprocess(image, self._spec))

    def _compute(self, paths: Mapping[str, Path], problems: dict[str, str]) -> Iterator[tuple[str, ImageFacts]]:
        """Yield the hash and facts of each image that can be decoded; ``problems`` receives those of the others."""
        read: deque[tuple[str, Thumbnail, int, int]] = deque()

        def pixels() -> Iterator[np.ndarray]:
            decoded = track(load_each(paths.values(), self._decode), "features", len(paths))
            for digest, one in zip(paths, decoded, strict=True):
                if one.pixels is None or one.thumbnail is None:
                    problems[digest] = one.problem
                else:
                    read.append((digest, one.thumbnail, one.width, one.height))
                    yield one.pixels

        batches = in_batches(pixels(), images_at_once(self._network, self._device))
        for rows in run_backbone(self._network, batches, self._spec, self._device):
            for row in rows:
                digest, thumbnail, width, height = read.popleft()
                yield digest, ImageFacts(row, thumbnail, width, height)

    def _read(self, wanted: set[str]) -> dict[str, ImageFacts]:
        found: dict[str, ImageFacts] = {}
        for file in sorted(self._own.glob("*.npz")) if self._own and self._own.is_dir() else ():
            try:
                with reading_npz(file, FEATURES) as (header, arrays):
                    chosen = [(at, digest) for at, digest in enumerate(header["images"]) if digest in wanted]
                    if chosen:
                        found.update(_unpacked(chosen, arrays))
                        os.utime(file)
            except (ValueError, OSError) as error:
                say(f"{file} is ignored ({error}); its features are computed again")
        return found

    def _write(self, facts: Mapping[str, ImageFacts]) -> None:
        if self._all is None or self._own is None or not facts:
            return
        try:
            self._all.mkdir(mode=0o700, parents=True, exist_ok=True)  # it has small copies of the images
            self._own.mkdir(exist_ok=True)
            name = sha256_bytes("".join(facts).encode())[:32]
            with new_file(self._own / f"{name}.npz", overwrite=True, elsewhere=OTHER_CACHE) as work:
                write_npz(work, {"images": list(facts)}, _packed(list(facts.values())))
            trim(self._all, self._most)
        except (EdgeclfError, OSError) as error:
            say(f"warning: the features are not kept ({error})")
            self._all = None


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


def _packed(facts: Sequence[ImageFacts]) -> dict[str, np.ndarray]:
    neutral = np.full((COLOR_SIDE, COLOR_SIDE, 2), NEUTRAL, np.uint8)
    colors = [one.thumbnail.color for one in facts]
    return {
        "features": np.stack([one.features for one in facts]),
        "gray": np.stack([one.thumbnail.gray for one in facts]),
        "colors": np.stack([neutral if color is None else color for color in colors]),
        "is_color": np.array([color is not None for color in colors]),
        "sizes": np.array([(one.width, one.height) for one in facts], np.int32),
    }


def _unpacked(chosen: Sequence[tuple[int, str]], arrays: Mapping[str, np.ndarray]) -> dict[str, ImageFacts]:
    """Return the facts of some rows; ValueError for arrays of another shape or type."""
    names = ("features", "gray", "colors", "is_color", "sizes")
    features, gray, colors, is_color, sizes = (arrays[name] for name in names)
    count = len(features)
    expected = ((count, SIDE, SIDE), (count, COLOR_SIDE, COLOR_SIDE, 2), (count,), (count, 2))
    kinds = [one.dtype.kind for one in (features, gray, colors, is_color, sizes)]
    if tuple(one.shape for one in (gray, colors, is_color, sizes)) != expected or kinds != list("fuubi"):
        raise ValueError("the arrays have another shape or type")
    if features.ndim != 2 or max(at for at, _ in chosen) >= count or not np.isfinite(features).all():
        raise ValueError("the features are not those of its images")
    return {
        digest: ImageFacts(features[at], Thumbnail(gray[at], colors[at] if is_color[at] else None), *sizes[at].tolist())
        for at, digest in chosen
    }


def _network_sha256(network: Backbone) -> str:
    """Return a hash of the architecture and of all weights but the head's."""
    import hashlib

    from ...training.architecture import ImageClassifier

    if not isinstance(network, ImageClassifier):
        return graph_sha256(network)
    digest = hashlib.sha256(str(network.backbone.pretrained_cfg.get("architecture")).encode())
    if network.norm_eps is not None:
        digest.update(f"{network.norm_eps}".encode())
    head = {id(tensor) for tensor in network.head.parameters()}
    for name, tensor in sorted(network.state_dict(keep_vars=True).items()):
        if id(tensor) not in head:
            digest.update(f"{name} {tuple(tensor.shape)} ".encode() + tensor.detach().cpu().numpy().tobytes())
    return digest.hexdigest()
