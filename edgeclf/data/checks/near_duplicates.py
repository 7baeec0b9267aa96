"""Near-duplicates: images that differ only in size, quality, brightness, or slightly in shift and crop, as a video's frames."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from ...display.progress import track
from ...errors import DependencyError, ImageError
from ..pixels import load_each, read_photo
from .alignment import ALIKE, Aligner, likeness
from .neighbors import Thumbnails, neighbors
from .thumbnails import Thumbnail, ThumbnailFile, thumbnail_of

_MANY = 4000
"""Pairs that take about two seconds to compare; from here on, progress is shown."""


def near_duplicates(thumbnails: Thumbnails, among: Collection[int] | None = None) -> list[list[int]]:
    """Return groups of two or more near-duplicates, as indices in order; among: only those with at least one of these.

    Two images are in one group if a chain of near-duplicates leads from one to the other.  Flat images, such as those of a
    covered lens, have nothing to compare, and are in none.  A gray image joins the color images that it is most alike, so that
    it does not connect two that differ in color only.
    """
    textured = [index for index in range(len(thumbnails)) if not thumbnails[index].is_flat]
    pairs = neighbors(thumbnails, textured)
    if among is not None:
        chosen = np.isin(textured, list(among))
        pairs = pairs[chosen[pairs].any(1)]
    leaders = list(range(len(textured)))
    mixed: list[tuple[float, int, int]] = []

    def compared(task: tuple[int, list[int]]) -> list[tuple[float, int, int]]:
        first, others = task
        aligner, found = None, []
        for other in others:
            if leader(leaders, first) == leader(leaders, other):
                continue
            aligner = aligner or Aligner(thumbnails[textured[first]])
            alike = likeness(aligner, Aligner(thumbnails[textured[other]]))
            if alike >= ALIKE:
                found.append((alike, first, other))
        return found

    def is_gray(index: int) -> bool:
        return thumbnails[textured[index]].color is None

    firsts, starts = np.unique(pairs[:, 0], return_index=True)
    others = (part.tolist() for part in np.split(pairs[:, 1], starts[1:]))
    # Steps this small spend more time on Python's lock than several threads save.  The lengths differ where there are no pairs:
    # np.split returns one empty part then.
    steps = map(compared, zip(firsts.tolist(), others, strict=False))
    for found in track(steps, "comparing images", len(firsts)) if len(pairs) > _MANY else steps:
        for alike, first, other in found:
            if is_gray(first) == is_gray(other):
                leaders[leader(leaders, other)] = leader(leaders, first)
            else:
                mixed.append((alike, first, other) if is_gray(other) else (alike, other, first))
    _join_gray(leaders, mixed)
    groups: dict[int, list[int]] = {}
    for index in range(len(textured)):
        groups.setdefault(leader(leaders, index), []).append(textured[index])
    return [group for group in groups.values() if len(group) > 1]


def _join_gray(leaders: list[int], mixed: list[tuple[float, int, int]]) -> None:
    """Join each group of gray images to one of color images; mixed: likeness and indices of a color and a gray image."""
    roots = [leader(leaders, index) for index in range(len(leaders))]
    joined = set()
    for _, color, gray in sorted(mixed, key=lambda pair: -pair[0]):
        if roots[gray] not in joined:
            joined.add(roots[gray])
            leaders[leader(leaders, roots[gray])] = leader(leaders, color)


def joined_keys(paths: Sequence[Path], digests: Sequence[str], keys: Sequence[str]) -> list[str]:
    """Return the key of each image's split so that near-duplicates share one: the first of theirs, a group's if there is one.

    digests: hash of each file's content; keys: what would decide its split otherwise.  A file that cannot be read keeps its key.
    """
    first = {digest: index for index, digest in reversed(list(enumerate(digests)))}
    readable = {index: path for index, path in enumerate(paths) if first[digests[index]] == index}
    thumbnails, indices = ThumbnailFile(), []
    found = track(load_each(readable.values(), _thumbnail), "reading images", len(readable))
    for index, thumbnail in zip(readable, found, strict=True):
        if thumbnail:
            thumbnails.append(thumbnail)
            indices.append(index)
    names = sorted(set(keys), key=lambda key: (not key.startswith("group:"), key))
    numbers = {key: number for number, key in enumerate(names)}
    leaders = list(range(len(names)))
    for group in near_duplicates(thumbnails):
        roots = [leader(leaders, numbers[keys[indices[member]]]) for member in group]
        for root in roots:
            leaders[root] = min(roots)
    return [names[leader(leaders, numbers[key])] for key in keys]


def twins(paths: Sequence[Path], others: Sequence[Path]) -> dict[Path, Path]:
    """Return the images that are near-duplicates of others, each with the first of these; files that cannot be read have none.

    Only pairs with one of ``paths`` are compared, so that few images among many cost little more than reading all.
    """
    thumbnails, read = ThumbnailFile(), []
    every = [*paths, *others]
    for path, thumbnail in zip(every, track(load_each(every, _thumbnail), "reading images", len(every)), strict=True):
        if thumbnail:
            thumbnails.append(thumbnail)
            read.append(path)
    asked = set(paths)
    groups = near_duplicates(thumbnails, [index for index, path in enumerate(read) if path in asked])
    found = {}
    for group in ([read[index] for index in one] for one in groups):
        twin = next((path for path in group if path not in asked), None)
        if twin is not None:
            found.update(dict.fromkeys((path for path in group if path in asked), twin))
    return found


def _thumbnail(path: Path) -> Thumbnail | None:
    try:
        return thumbnail_of(read_photo(path))
    except (ImageError, DependencyError):
        # The check reports it later.
        return None


def leader(leaders: list[int], index: int) -> int:
    """Return the index that stands for the group of an index; leaders: of each index, another one of its group or itself."""
    while leaders[index] != index:
        # Halves the path.
        leaders[index] = leaders[leaders[index]]
        index = leaders[index]
    return index
