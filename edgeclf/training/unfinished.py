"""The folder of a training that is not finished: RUN.unfinished, beside the run.

training.json    options, data, labels, weights and versions, which must be the same to go on
split.csv        every image with its label, split and sha256
features-*.npy   features of the frozen backbone
teacher.npy      logits of the teacher
head.ckpt        the head after an epoch; network.ckpt: the whole network
"""

from __future__ import annotations

import csv
import json
import os
import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any, TypeVar

from edgeclf_runtime.files.outputs import new_file, new_folder
from edgeclf_runtime.files.read import read_json
from edgeclf_runtime.files.schema import JsonObject

from ..data.schemas import MAX_JSON_BYTES, TRAINING, TRAINING_FORMAT
from ..data.temporary import discard_work
from ..display.json_file import write_json
from ..display.progress import say
from ..errors import OutputError
from ..options import NO_EFFECT, AugmentationOptions, TrainOptions, augmentation_steps
from .runs import SPLIT_FILE

T = TypeVar("T")
_FACTS_FILE = "training.json"
_SUFFIX = ".unfinished"
_LOGS = ".logs"
_OTHERS = {
    "weights": "the weights have changed",
    "soft_targets": "the soft targets have changed",
    "teacher": "the teacher has changed",
    "unlabeled": "the images without labels have changed",
}


class Unfinished:
    """The folder of one training."""

    def __init__(self, output: str | Path) -> None:
        self.path = Path(os.path.abspath(output) + _SUFFIX)
        self.logs = Path(os.path.abspath(output) + _LOGS)
        self._start = time.monotonic()

    def file(self, name: str) -> Path:
        """Return the path of one of its files."""
        return self.path / name

    @property
    def started(self) -> bool:
        """True if it has a checkpoint to resume from."""
        return any(self.path.glob("*.ckpt"))

    def claim(self, resume: bool, overwrite: bool) -> None:
        """Raise OutputError before any work is done, if it can be resumed and nothing says what to do with it."""
        if self.started and not resume and not overwrite:
            raise OutputError(self._refusal([]))

    def open(self, facts: JsonObject, split: Path, resume: bool, overwrite: bool) -> None:
        """Resume from the folder, or make it.

        facts: all that decides the result, as JSON has it.  split: the split.csv of the data.  Raises OutputError if it holds
        another training, or this one and ``resume`` was not given; with ``overwrite``, that one is removed.
        """
        if self.path.exists():
            changes = self._changes(facts, split)
            if resume and not changes:
                say(f"resuming {self.path}")
                return
            if self.started and not overwrite:
                raise OutputError(self._refusal(changes))
            self.discard()
        elif resume:
            say("there is nothing to resume: training starts from the beginning")
        with new_folder(self.path) as work:
            shutil.copyfile(split, Path(work, SPLIT_FILE))
            _write(Path(work, _FACTS_FILE), {"format": TRAINING_FORMAT, "format_version": 1, **facts})

    def stop(self, resume: bool) -> None:
        """Say how an interrupted training goes on; remove it if it has no checkpoint.  resume: whether it was asked to resume."""
        if self.started:
            say(f"{self.path} keeps what is done; the same command{'' if resume else ' with --resume'} continues it")
        else:
            self.discard()

    @property
    def elapsed_s(self) -> float:
        """Time since this object was made."""
        return time.monotonic() - self._start

    def deadline(self, minutes: float | None) -> float | None:
        """Return the end of a time that began when this object was made, of time.monotonic()."""
        return None if minutes is None else self._start + minutes * 60

    def decide(self, name: str, make: Callable[[], T]) -> T:
        """Return a decision that was made before, or make and keep it."""
        value: T | None = self.noted(name)
        if value is None:
            value = make()
            self.note(name, value)
        return value

    def note(self, name: str, value: object) -> None:
        """Keep a decision, such as a learning rate that was found, so that a resumed training keeps it."""
        facts = self._facts()
        facts.setdefault("decisions", {})[name] = value
        with new_file(self.file(_FACTS_FILE), overwrite=True) as work:
            _write(Path(work), facts)

    @property
    def decisions(self) -> JsonObject:
        """All that was decided."""
        return dict(self._facts().get("decisions", {}))

    def noted(self, name: str) -> Any:
        """Return a decision; None if there is none yet."""
        return self._facts().get("decisions", {}).get(name)

    def discard(self) -> None:
        """Remove the folder, if there is one."""
        discard_work(self.path, _FACTS_FILE)

    def _facts(self) -> JsonObject:
        facts: JsonObject = read_json(self.file(_FACTS_FILE), MAX_JSON_BYTES)
        TRAINING(facts, "")
        return facts

    def _changes(self, facts: JsonObject, split: Path) -> list[str]:
        try:
            before = self._facts()
        except (OSError, ValueError) as error:
            return [f"{_FACTS_FILE} is damaged: {error}"]
        changes = option_changes(before["options"], facts["options"])
        for name, value in facts["versions"].items():
            if before["versions"].get(name) != value:
                changes.append(f"{name} was {before['versions'].get(name)}, now {value}")
        gone = sorted(set(before["labels"]) - set(facts["labels"]))
        if gone:
            changes.append(f"the data has no label {gone[0]!r} any more")
        if before["data"] != facts["data"]:
            changes.append(split_changes(self.file(SPLIT_FILE), split))
        changes += [text for name, text in _OTHERS.items() if before.get(name) != facts[name]]
        return changes

    def _refusal(self, changes: list[str]) -> str:
        if changes:
            return (
                f"{self.path} holds an unfinished training with other data or options ({'; '.join(changes)}): "
                "repeat the command as it was (train needs --resume), or start again with --overwrite"
            )
        return f"{self.path} holds an unfinished training: resume it with --resume, or start again with --overwrite"


def option_changes(before: Mapping[str, object], now: Mapping[str, object]) -> list[str]:
    """Return in words how options differ; options that are not in ``before`` had their defaults."""
    usual = json.loads(json.dumps(asdict(TrainOptions())))
    # A step may have been given by its preset, or by itself.
    alike = augmentation_steps(before) == augmentation_steps(now)
    passed = {*NO_EFFECT, *(one.name for one in fields(AugmentationOptions) if alike)}
    names = [name for name in now if name not in passed and before.get(name, usual[name]) != now[name]]
    return [f"{name.replace('_', '-')} was {before.get(name, usual[name])}, now {now[name]}" for name in names]


def split_changes(before: Path, now: Path) -> str:
    """Return in words how the images of one split.csv differ from another's."""
    old, new = _rows(before), _rows(now)
    if new == old:
        return "the images are the same, but split otherwise"
    return f"{len(new - old)} images are new and {len(old - new)} are gone"


def _rows(file: Path) -> set[tuple[str, ...]]:
    """Return path, label and hash of each image in a split.csv; one more image may change the split of others."""
    with file.open(newline="", encoding="utf-8") as stream:
        return {(row["path"], row["label"], row["sha256"]) for row in csv.DictReader(stream)}


def _write(path: Path, facts: Mapping[str, object]) -> None:
    write_json(path, facts)
