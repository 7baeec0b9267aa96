"""Keeps what a network and the near-duplicate check need of each image, so that a second audit decodes nothing.

The user's cache folder has features, a thumbnail and the size of each image, by network and preprocessing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.images.preprocess import Preprocessing, preprocess

from ...data.checks.thumbnails import COLOR_SIDE, NEUTRAL, SIDE, Thumbnail, thumbnail_of
from ...data.pixels import in_batches, load_each, preprocessing_sha256, read_photo
from ...display.progress import track
from ...errors import DependencyError, ImageError
from ...graph.host_form import HostRunner
from ...graph.inference import infer_each
from ...graph.onnx_file import graph_sha256
from ...options import TrainOptions
from ...training.features import device_of, features_file, images_at_once, run_backbone
from ..bulk.image_cache import Arrays, Chosen, ImageCache, user_folder
from ..bulk.ray_engine import each_on_ray

if TYPE_CHECKING:
    from ...training.features import Backbone

FOLDER = "features"
_WHAT = "features"


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

    folder: of all networks' files; None keeps nothing.  engine: as in AuditOptions.
    """

    def __init__(self, network: Backbone, spec: Preprocessing, folder: Path | None, engine: str = "local") -> None:
        self._network, self._spec, self._engine = network, spec, engine
        self._device = device_of(TrainOptions(device="cpu" if engine == "ray" else "auto"))
        key = f"{_network_sha256(network)} {preprocessing_sha256(spec)} {self._device.type}"
        self._cache = ImageCache(folder, key, _packed, _unpacked)

    @classmethod
    def of_user(cls, network: Backbone, spec: Preprocessing, engine: str = "local") -> FeatureStore:
        """Return the store in the user's cache folder."""
        return cls(network, spec, user_folder(FOLDER), engine)

    def recall(self, paths: Mapping[str, Path]) -> tuple[dict[str, ImageFacts], dict[str, str]]:
        """Return the facts of images by hash, and the problem of each that cannot be decoded.

        paths: a file by the hash of its content.
        """
        problems: dict[str, str] = {}
        compute = self._on_ray if self._engine == "ray" else self._here
        return self._cache.recall(paths, lambda missing: compute(missing, problems)), problems

    def _here(self, paths: Mapping[str, Path], problems: dict[str, str]) -> Iterator[tuple[str, ImageFacts]]:
        def run(pixels: Iterator[np.ndarray]) -> Iterator[np.ndarray]:
            batches = in_batches(pixels, images_at_once(self._network, self._device))
            return run_backbone(self._network, batches, self._spec, self._device)

        decoded = track(load_each(paths.values(), partial(_decode, self._spec)), _WHAT, len(paths))
        return _facts(paths, decoded, run, problems)

    def _on_ray(self, paths: Mapping[str, Path], problems: dict[str, str]) -> Iterator[tuple[str, ImageFacts]]:
        with features_file(self._network, self._spec) as file:
            for digest, found in each_on_ray(_Features(file, self._spec), paths, _WHAT):
                if isinstance(found, str):
                    problems[digest] = found
                else:
                    yield digest, found


@dataclass(frozen=True)
class _Features:
    """The facts of images, or the problems of those that cannot be decoded, as a process of Ray computes them."""

    file: Path
    spec: Preprocessing

    def __call__(self, paths: list[str]) -> list[ImageFacts | str]:
        problems: dict[str, str] = {}
        decoded = load_each(map(Path, paths), partial(_decode, self.spec))
        runner = _open(self.file)
        found = dict(_facts(paths, decoded, lambda pixels: infer_each(runner, in_batches(pixels, 1)), problems))
        return [problems.get(path) or found[path] for path in paths]


@lru_cache(maxsize=1)
def _open(file: Path) -> HostRunner:
    """Open a file, whose name no other has, once in a process; every inference has one thread, as those of a command have."""
    import cv2

    cv2.setNumThreads(1)
    return HostRunner(file, threads=1)


def _decode(spec: Preprocessing, path: Path) -> _Decoded:
    try:
        image = read_photo(path)
    except (ImageError, DependencyError) as error:
        return _Decoded(problem=str(error))
    height, width = image.shape[:2]
    return _Decoded(thumbnail_of(image), width, height, preprocess(image, spec))


def _facts(
    names: Iterable[str],
    decoded: Iterable[_Decoded],
    run: Callable[[Iterator[np.ndarray]], Iterator[np.ndarray]],
    problems: dict[str, str],
) -> Iterator[tuple[str, ImageFacts]]:
    """Yield the name and facts of each image that can be decoded; ``problems`` receives those of the others.

    run: yields the features of pixels, some images at a time.
    """
    read: deque[tuple[str, Thumbnail, int, int]] = deque()

    def pixels() -> Iterator[np.ndarray]:
        for name, one in zip(names, decoded, strict=True):
            if one.pixels is None or one.thumbnail is None:
                problems[name] = one.problem
            else:
                read.append((name, one.thumbnail, one.width, one.height))
                yield one.pixels

    for rows in run(pixels()):
        for row in rows:
            name, thumbnail, width, height = read.popleft()
            yield name, ImageFacts(row, thumbnail, width, height)


def _packed(facts: Sequence[ImageFacts]) -> Arrays:
    neutral = np.full((COLOR_SIDE, COLOR_SIDE, 2), NEUTRAL, np.uint8)
    colors = [one.thumbnail.color for one in facts]
    return {
        "features": np.stack([one.features for one in facts]),
        "gray": np.stack([one.thumbnail.gray for one in facts]),
        "colors": np.stack([neutral if color is None else color for color in colors]),
        "is_color": np.array([color is not None for color in colors]),
        "sizes": np.array([(one.width, one.height) for one in facts], np.int32),
    }


def _unpacked(chosen: Chosen, arrays: Arrays) -> dict[str, ImageFacts]:
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
