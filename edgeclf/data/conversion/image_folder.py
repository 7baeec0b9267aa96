"""A folder of images that came from another library's data set: the files, and dataset.csv, which lists them.

It is written once.  Another call with the same images finds it; with other images it is an error.
"""

from __future__ import annotations

import csv
import hashlib
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgeclf_runtime.files.outputs import claim_output, new_folder
from edgeclf_runtime.files.read import read_json
from edgeclf_runtime.files.schema import JsonObject

from ...display.json_file import write_json
from ...display.progress import track
from ...errors import DataError, OutputError
from ..layout import split_names
from ..schemas import MAX_JSON_BYTES, SOURCE, SOURCE_FORMAT

LIST_FILE = "dataset.csv"
SOURCE_FILE = "dataset.json"
_UNSAFE = re.compile(r"[^\w .-]|^[. ]+|[. ]+$")


Labels = Mapping[int, object] | Iterable[object] | None
"""Names by number, or in the order of the numbers; a name may be a tuple of synonyms."""


@dataclass(frozen=True)
class Image:
    """One image of another library's data set.

    split: train, val or test, or "" to be split later.  identity: bytes that are equal for equal images.  encode: returns
    the bytes of a file.  suffix: of that file.
    """

    label: str
    split: str
    identity: bytes
    suffix: str
    encode: Callable[[], bytes]


def is_converted(folder: Path) -> bool:
    """Return whether a folder was written here."""
    return (folder / SOURCE_FILE).is_file() and (folder / LIST_FILE).is_file()


def convert(images: Iterator[Image], count: int, folder: Path, overwrite: bool, durable: bool = True) -> None:
    """Write images into a new folder, unless it already has the same ones.

    durable: whether to wait until they are on the disk.
    Raises OutputError if the folder exists with other images, or if it was not written here.
    """
    if is_converted(folder) and not overwrite:
        digest = hashlib.sha256()
        for image in track(images, f"comparing with {folder.name}", count):
            _add(digest, image)
        if _source(folder)["sha256"] != digest.hexdigest():
            raise OutputError(
                f"{folder} was made from other images: choose another folder, or pass overwrite=True to write it again"
            )
        return
    claim_output(folder, overwrite, SOURCE_FILE)
    with new_folder(folder, overwrite, SOURCE_FILE, durable) as work:
        _write(Path(work), track(images, f"writing {folder.name}", count))


def _write(work: Path, images: Iterator[Image]) -> None:
    digest, folders, number = hashlib.sha256(), dict[tuple[str, str], str](), 0
    with (work / LIST_FILE).open("w", newline="", encoding="utf-8") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(("path", "label", "split"))
        for number, image in enumerate(images, 1):
            _add(digest, image)
            key = (image.split, image.label)
            if key not in folders:
                folders[key] = _folder_of(image, set(folders.values()))
                (work / folders[key]).mkdir(parents=True)
            name = f"{folders[key]}/{number:06d}{image.suffix}"
            (work / name).write_bytes(image.encode())
            writer.writerow((name, image.label, image.split))
    if not number:
        raise DataError("the data set has no images; one with images was expected")
    facts = {"format": SOURCE_FORMAT, "format_version": 1, "images": number, "sha256": digest.hexdigest()}
    write_json(work / SOURCE_FILE, facts)


def _folder_of(image: Image, taken: set[str]) -> str:
    """Return a folder's name that every file system has and that tells the label; dataset.csv has the label itself."""
    name = "/".join(filter(None, (image.split, _UNSAFE.sub("_", image.label)[:80] or "_")))
    if name.casefold() in {one.casefold() for one in taken}:
        name = f"{name}-{len(taken)}"
    return name


def _add(digest: hashlib._Hash, image: Image) -> None:
    digest.update(json.dumps([image.label, image.split]).encode())
    digest.update(hashlib.sha256(image.identity).digest())


def _source(folder: Path) -> JsonObject:
    try:
        facts: JsonObject = read_json(folder / SOURCE_FILE, MAX_JSON_BYTES)
        SOURCE(facts, "")
    except (OSError, ValueError) as error:
        raise DataError(
            f"{folder / SOURCE_FILE} is damaged ({error}): remove {folder}, or pass overwrite=True to write it again"
        ) from None
    return facts


def parts_of(source: object) -> dict[str, Any]:
    """Return a data set's parts by split; of a single part, or of train only, by "", which is split later.

    source: a data set, or a mapping of data sets by the usual names of splits.
    """
    if not isinstance(source, Mapping):
        return {"": source}
    splits = split_names([str(name) for name in source])
    parts = {splits[str(name)]: part for name, part in source.items() if splits[str(name)]}
    if not all(splits.values()) or not parts or len(parts) < len(source):
        raise DataError(
            f"the data set has the parts {', '.join(map(str, source)) or '(none)'}; one for each of train, validation and test was "
            'expected: pass those that you want as {"train": ..., "test": ...}'
        )
    return {"": parts["train"]} if list(parts) == ["train"] else parts


def label_of(target: Any, names: Mapping[int, str] | None, what: str) -> str:
    """Return the label of a target: its name, or the target itself if it is a text; DataError if it has none."""
    if isinstance(target, str):
        return target
    try:
        index = target.__index__()
    except (AttributeError, TypeError):
        raise DataError(
            f"{what} has the target {str(target)[:60]} ({type(target).__name__}); the number of one label was expected"
        ) from None
    if names is None:
        raise DataError(
            f"{what} has the target {index}, but the data set does not name its labels: pass labels=[...], the names in the order "
            "of the numbers"
        )
    if index not in names:
        unlabeled = "; -1 usually means that there is no label: leave this part out" if index == -1 else ""
        raise DataError(f"{what} has the target {index}; {min(names)} to {max(names)} were expected{unlabeled}")
    return names[index]


def named(labels: Labels, what: str) -> dict[int, str] | None:
    """Return label names by number, from a list, from names by number, or None; DataError if two labels share a name."""
    if labels is None:
        return None
    given: dict[int, object] = dict(labels) if isinstance(labels, Mapping) else dict(enumerate(labels))
    # ImageNet's classes have synonyms.
    names = {key: ", ".join(name) if isinstance(name, (tuple, list)) else str(name) for key, name in given.items()}
    twice = [name for name in names.values() if list(names.values()).count(name) > 1]
    if twice or not names:
        raise DataError(
            f"{what} has {'two labels called ' + repr(twice[0]) if twice else 'no names'}; a name for each label was expected"
        )
    return names
