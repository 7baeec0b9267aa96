"""Classifies the images of one part, in a process that has the model open; the same for every engine, and so are the rows."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any

from edgeclf_runtime.device.machine import cores
from edgeclf_runtime.images.read import decode_image

from ...errors import ImageError
from ..open_model import OpenModel, open_model
from ..predict import readable
from .archive import Member, read_member
from .listing import Item
from .unfinished import Row, Unfinished


def classify_part(folder: str | Path, part: int) -> Iterator[int]:
    """Classify the images of a part and write their rows; yield each image's index in it before that is read."""
    work, model = _open(folder, Unfinished(folder).made)
    rows = []
    for index, item in enumerate(work.items(part)):
        yield index
        rows.append(_row(model, item))
    work.write(part, rows)


@lru_cache(maxsize=1)
def _open(folder: str | Path, made: tuple[int, int]) -> tuple[Unfinished, OpenModel]:
    """Open the folder and the model, once in a process; made: see Unfinished.

    Every inference has one thread, since there are as many processes as processors; so sums are added in the same order.
    """
    import cv2

    cv2.setNumThreads(1)
    work = Unfinished(folder)
    facts = work.facts
    return work, open_model(facts["model"], facts["name"], 1, facts["threshold"], max(2, cores()))


def _row(model: OpenModel, item: Item) -> Row:
    try:
        found = model.classifier.classify(_image(item)).to_dict()
    except ImageError as error:
        # The row has the name already.
        reasons = str(error).removeprefix(f"{item.file}: ").removeprefix(f"{item.name}: ")
        return Row(item.name, item.label, error=reasons)
    more = found.get("reason", ""), found.get("distance")
    return Row(item.name, item.label, found["label"], found["confidence"], *more)


def _image(item: Item) -> Any:
    """Return what a classifier takes: the path of a file, or the pixels of an image in an archive."""
    if item.error:
        raise ImageError(item.error)
    if item.offset < 0:
        return readable(item.file)
    return decode_image(read_member(item.file, Member(item.name, item.offset, item.size), item.name), item.name)
