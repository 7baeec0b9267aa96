"""Near-duplicates: images that differ only in size, quality, brightness, or slightly in shift and crop, as a video's frames."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby
from pathlib import Path

from ...display.progress import track
from ...errors import DependencyError, ImageError
from ..pixels import read_photo
from .alignment import ALIKE, Aligner, likeness
from .neighbors import neighbors
from .thumbnails import Thumbnail, thumbnail_of

_MANY = 4000
"""Pairs that take about two seconds to compare; from here on, progress is shown."""


def near_duplicates(thumbnails: Sequence[Thumbnail]) -> list[list[int]]:
    """Return groups of two or more near-duplicates, as indices in order.

    Two images are in one group if a chain of near-duplicates leads from one to the other.  Flat images, such as those of a
    covered lens, have nothing to compare, and are in none.  A gray image joins the color images that it is most alike, so that
    it does not connect two that differ in color only.
    """
    textured = [index for index, thumbnail in enumerate(thumbnails) if not thumbnail.is_flat]
    pairs = neighbors([thumbnails[index] for index in textured])
    leaders = list(range(len(textured)))
    mixed: list[tuple[float, int, int]] = []

    def compared(tasks: tuple[int, list[int]]) -> list[tuple[float, int, int]]:
        first, others = tasks
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

    tasks = [(first, [other for _, other in group]) for first, group in groupby(pairs, key=lambda pair: pair[0])]
    # Steps this small spend more time on Python's lock than several threads save.
    for found in (
        track(map(compared, tasks), "comparing images", len(tasks)) if len(pairs) > _MANY else map(compared, tasks)
    ):
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
    with ThreadPoolExecutor() as pool:
        found = track(pool.map(_thumbnail, readable.values()), "reading images", len(readable))
        thumbnails = {index: one for index, one in zip(readable, found, strict=True) if one}
    indices = list(thumbnails)
    names = sorted(set(keys), key=lambda key: (not key.startswith("group:"), key))
    numbers = {key: number for number, key in enumerate(names)}
    leaders = list(range(len(names)))
    for group in near_duplicates(list(thumbnails.values())):
        roots = [leader(leaders, numbers[keys[indices[member]]]) for member in group]
        for root in roots:
            leaders[root] = min(roots)
    return [names[leader(leaders, numbers[key])] for key in keys]


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
