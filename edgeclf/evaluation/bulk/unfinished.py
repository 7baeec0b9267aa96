"""The folder of bulk work that is not finished: OUTPUT.unfinished, beside the output.

bulk.json       model, options and list of images, which must be the same to go on
images.jsonl    every image, in the output's order
000012.jsonl    the rows of a part of the images, there once all of them are classified
model.*         a run's network, if it was exported for this work only
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

from edgeclf_runtime.bundle.manifest import SHA256
from edgeclf_runtime.files.filesystem import Lock, lock
from edgeclf_runtime.files.outputs import new_file, new_folder
from edgeclf_runtime.files.read import read_json
from edgeclf_runtime.files.schema import JsonObject, constant, integer, list_of, nullable, number, record, text

from ...data.schemas import MAX_JSON_BYTES
from ...data.temporary import discard_work
from ...display.json_file import json_line, write_json
from ...errors import OutputError
from .listing import Item

IMAGES_OF_A_PART = 64
"""Images whose rows appear together: a second of work, or some, which is all that a killed process loses."""
_FORMAT = "edgeclf-bulk"
_FACTS_FILE, _IMAGES_FILE = "bulk.json", "images.jsonl"
_FACTS = record(
    {
        "format": constant(_FORMAT),
        "format_version": integer(1, 1),
        "model": text(most=10_000),
        "name": nullable(text()),
        "model_sha256": SHA256,
        "threshold": nullable(number(0, 1)),
        "versions": record({"edgeclf": text(), "backend": text()}),
        "images": integer(1),
        "images_of_a_part": integer(1),
        "images_sha256": SHA256,
        "offsets": list_of(integer(0), 1, 1_000_000_000),
    }
)
_CHANGES = {
    "model_sha256": "the model has changed",
    "name": "another of its models was asked for",
    "threshold": "the threshold is another",
    "images_sha256": "the images are others",
    "versions": "another version or another backend is in use",
}


class Row(NamedTuple):
    """An image's row: as in display.prediction_file; confidence is None, and error says why, if it cannot be decoded."""

    path: str
    label: str
    predicted: str = ""
    confidence: float | None = None
    reason: str = ""
    distance: float | None = None
    error: str = ""


class Listing(NamedTuple):
    """A list of images: their number, a hash, and the offsets in the file at which the parts begin."""

    images: int
    sha256: str
    offsets: list[int]


def write_listing(items: Iterable[Item], path: str | Path) -> Listing:
    """Write the lines of a list of images."""
    digest, offsets, images, end = hashlib.sha256(), [], 0, 0
    with open(path, "wb") as stream:
        for item in items:
            if images % IMAGES_OF_A_PART == 0:
                offsets.append(end)
            line = json_line(item)
            stream.write(line)
            digest.update(line)
            images, end = images + 1, end + len(line)
    return Listing(images, digest.hexdigest(), offsets)


class Unfinished:
    """The folder of one output's bulk work."""

    def __init__(self, path: str | Path) -> None:
        self.path = Path(os.path.abspath(path))

    @classmethod
    def of(cls, output: str | Path) -> Unfinished:
        """Return the folder beside an output."""
        return cls(os.path.abspath(output) + ".unfinished")

    @property
    def made(self) -> tuple[int, int]:
        """Numbers that other work in the same folder, before or after this, does not have."""
        found = os.stat(self.file(_FACTS_FILE))
        return found.st_ino, found.st_mtime_ns

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.path / name

    @cached_property
    def facts(self) -> JsonObject:
        """The content of bulk.json; OSError or ValueError if it is damaged."""
        facts: JsonObject = read_json(self.file(_FACTS_FILE), MAX_JSON_BYTES)
        _FACTS(facts, "")
        return facts

    @property
    def parts(self) -> range:
        """The numbers of the parts."""
        return range(len(self.facts["offsets"]))

    def size(self, part: int) -> int:
        """Return the number of images of a part."""
        most: int = self.facts["images_of_a_part"]
        return min(most, self.facts["images"] - part * most)

    def done(self) -> list[int]:
        """Return the numbers of the parts whose rows are there."""
        return [part for part in self.parts if self.has(part)]

    def has(self, part: int) -> bool:
        """Return whether the rows of a part are there."""
        return self._rows_file(part).is_file()

    def claim(self, resume: bool, overwrite: bool) -> None:
        """Raise OutputError before any work is done, if it can be resumed and nothing says what to do with it."""
        if self._started and not resume and not overwrite:
            raise OutputError(
                f"{self.path} holds the finished part of an earlier predict: continue it with --resume, or start again with "
                "--overwrite"
            )

    def open(self, facts: JsonObject, items: Iterable[Item], model: Path | None, resume: bool, overwrite: bool) -> bool:
        """Resume from the folder, or make it; return whether it was there.

        facts: all but the list of images that decides the rows.  model: a file to keep in it, in place of the facts' model.
        Raises OutputError if it holds other work, unless ``overwrite`` is given, which removes that.
        """
        if self.path.is_dir():
            with closing(self.locked()):
                if resume and self._is_same({**facts, **_identity(write_listing(items, os.devnull))}, overwrite):
                    return True
                self.discard()
        with new_folder(self.path) as work:
            listing = write_listing(items, Path(work, _IMAGES_FILE))
            if model is not None:
                shutil.copyfile(model, Path(work, model.name))
                facts = {**facts, "model": str(self.file(model.name)), "name": None}
            parts = {"images_of_a_part": IMAGES_OF_A_PART, "offsets": listing.offsets}
            written = {"format": _FORMAT, "format_version": 1, **facts, **_identity(listing), **parts}
            write_json(Path(work, _FACTS_FILE), written)
        self.__dict__.pop("facts", None)
        return False

    def locked(self) -> Lock:
        """Keep other processes from this work until the lock is closed; OutputError if one is at it."""
        try:
            return lock(str(self.path))
        except BlockingIOError:
            raise OutputError(
                f"{self.path} is in use by another process: wait for it, or choose another --output"
            ) from None

    def items(self, part: int) -> Iterator[Item]:
        """Yield the images of a part."""
        with self.file(_IMAGES_FILE).open("rb") as stream:
            stream.seek(self.facts["offsets"][part])
            for _ in range(self.size(part)):
                yield Item(*json.loads(stream.readline()))

    def write(self, part: int, rows: Sequence[Row]) -> None:
        """Write the rows of a part, whole or not at all."""
        with new_file(self._rows_file(part), overwrite=True) as work:
            Path(work).write_bytes(b"".join(map(json_line, rows)))

    def rows(self) -> Iterator[Row]:
        """Yield the rows of all parts, in order, one part in memory at a time."""
        for part in self.parts:
            with self._rows_file(part).open("rb") as stream:
                for line in stream:
                    yield Row(*json.loads(line))

    def discard(self) -> None:
        """Remove the folder, if there is one."""
        discard_work(self.path, _FACTS_FILE)

    @property
    def _started(self) -> bool:
        return any(self.path.glob("[0-9]*.jsonl"))

    def _rows_file(self, part: int) -> Path:
        return self.file(f"{part:06d}.jsonl")

    def _is_same(self, facts: JsonObject, overwrite: bool) -> bool:
        """Return whether the folder holds this work; OutputError for finished parts of another, unless they may be removed."""
        try:
            changes = [text for name, text in _CHANGES.items() if self.facts[name] != facts[name]]
        except (OSError, ValueError) as error:
            changes = [f"{_FACTS_FILE} is damaged: {error}"]
        if changes and self._started and not overwrite:
            raise OutputError(
                f"{self.path} holds the finished part of another predict ({'; '.join(changes)}): repeat the command as it was, "
                "or start again with --overwrite"
            )
        return not changes


def _identity(listing: Listing) -> JsonObject:
    return {"images": listing.images, "images_sha256": listing.sha256}
