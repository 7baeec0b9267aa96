"""Decides which folders of a data set are splits and which are classes.

Folders with the usual names of splits (``train``, ``Testing``, ``val_images``) are splits if they hold class folders, and
classes if they lie beside class folders and hold images themselves.  Whatever is in doubt becomes a finding.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import combinations
from pathlib import Path

from edgeclf_runtime.sinks.uncertain_frames import SAVED_FRAME

from ..errors import DataError
from .findings import Finding, counted, listed, warning
from .tree import Folder

SPLIT_NAMES = {"train": "train", "val": "val", "valid": "val", "validation": "val", "test": "test"}
"""The names of splits in old runs."""
_WORDS = {
    **SPLIT_NAMES,
    # What holds both is trained on; val is taken out of it.
    **dict.fromkeys(("training", "trn", "trainval"), "train"),
    **dict.fromkeys(("validate", "validating", "dev", "development"), "val"),
    **dict.fromkeys(("testing", "tst", "eval", "evaluation", "evaluate", "holdout"), "test"),
}
# Is whichever of val and test has no folder of its own.
_EITHER = frozenset(("eval", "evaluation", "evaluate", "holdout"))
# Words beside the split's name that say nothing: train_images, test set, val2017.
_FILLERS = frozenset(
    ("set", "sets", "data", "dataset", "split", "image", "images", "img", "imgs", "photo", "photos", "pictures", "pics")
)
# A data set is looked for in so many levels below the folder beside others.
_SET_DEPTH = 3
# Of the labels of two split folders this many must be the same.
_SAME = 0.5


@dataclass
class Layout:
    """The class folders of a data set."""

    classes: list[tuple[str, Folder]] = field(default_factory=list)
    """Split ("" if there is none) and folder of each; several folders may have the same label."""
    labels: list[str] = field(default_factory=list)
    unlabeled: list[Path] = field(default_factory=list)
    frames: list[Folder] = field(default_factory=list)
    """Folders of frames that a device saved, which have no label."""
    findings: list[Finding] = field(default_factory=list)

    def add(self, split: str, folder: Folder, label: str = "") -> None:
        """Add a class folder; its label is its name, unless another is given."""
        self.classes.append((split, folder))
        self.labels.append(label or folder.name)


def read_layout(tree: Folder, only_usual: bool = False) -> Layout:
    """Find the class folders below a folder; DataError if it holds splits and classes side by side.

    only_usual: accept only the split names of SPLIT_NAMES, each directly above class folders.
    """
    folders, frames = _without_frames(tree.folders, only_usual)
    splits = _splits_among(folders, only_usual)
    others = [folder for folder in folders if folder not in [split for split, _ in splits]]
    inner = [folder for folder, _ in splits if any(below.holds_images() for below in folder.folders)]
    layout = Layout(unlabeled=list(tree.images), frames=frames)
    if inner and any(folder.holds_images() for folder in others):
        raise DataError(
            f"{tree.path} holds {inner[0].name}/ with class folders in it and, next to it, {', '.join(f.name for f in others)}: "
            "either train/, val/ and test/ or class folders were expected, not both; rename those that are splits to train, val and "
            f"test, and move class folders into train/, or {inner[0].name}/ elsewhere"
        )
    if inner or (splits and not others):
        _add_splits(layout, splits, tree)
    else:
        _add_classes(layout, folders, splits, tree, only_usual)
    layout.findings += _about_frames(layout.frames)
    return layout


def _without_frames(folders: Sequence[Folder], keep: bool = False) -> tuple[list[Folder], list[Folder]]:
    """Return the folders that may be classes, and those of frames that a device saved; if there are no others, all may be.

    A class may consist of such frames, too: their names and JSON files do not tell.  keep: as if there were none.
    """
    folders = [folder for folder in folders if not folder.is_only_clutter()]
    frames = [folder for folder in folders if not keep and _holds_frames(folder)]
    others = [folder for folder in folders if folder not in frames]
    return (others, frames) if any(folder.holds_images() for folder in others) else (folders, [])


def _holds_frames(folder: Folder) -> bool:
    """Return whether a folder has nothing but frames that a device saved, each with its JSON file."""
    files = [*folder.images, *folder.others]
    about = {path.stem for path in folder.others}
    return (
        bool(files)
        and not folder.folders
        and all(SAVED_FRAME.match(path.name) for path in files)
        and all(path.stem in about for path in folder.images)
    )


def _about_frames(frames: Sequence[Folder]) -> list[Finding]:
    if not frames:
        return []
    count = sum(len(folder.images) for folder in frames)
    message = (
        f"{counted(count, 'frame')} that a device saved in {listed(str(folder.path) for folder in frames)} passed over, since "
        "they have no label yet: move the images into the class folders; if a folder is a class, move the JSON files out of it"
    )
    return [warning("device-frames", message, [folder.path for folder in frames])]


def _splits_among(folders: Sequence[Folder], only_usual: bool) -> list[tuple[Folder, str]]:
    """Return the folders that are called like a split, each with its split."""
    if only_usual:
        found = {folder.name: SPLIT_NAMES.get(folder.name.lower(), "") for folder in folders}
    else:
        found = split_names([folder.name for folder in folders])
        _add_alike(found, folders)
    return [(folder, found[folder.name]) for folder in folders if found[folder.name]]


def _add_alike(found: dict[str, str], folders: Sequence[Folder]) -> None:
    """Add the folders with the word of a split and others ("Train_Augmented") that have the labels of a split ("Test")."""
    labels = {folder.name: {below.name for below in _unwrapped(folder).folders} for folder in folders}
    certain = [labels[name] for name, split in found.items() if split and labels[name]]
    for name, split in found.items():
        word = _read_name(name)[0]
        if word and not split and labels[name] and any(_are_similar(labels[name], other) for other in certain):
            found[name] = _WORDS[word]


def split_names(names: Sequence[str]) -> dict[str, str]:
    """Return the split that each name of a folder, or in a CSV file, stands for; "" for a name of something else."""
    read = {name: _read_name(name) for name in names}
    splits = {_WORDS[word] for word, _ in read.values() if word and word not in _EITHER}
    # "pets_train" and "pets_test" share what is beside the word; "train" and "test tube" do not.
    rest = [beside for word, beside in read.values() if word]
    alike = len(rest) > 1 and len(set(rest)) == 1
    found = {}
    for name, (word, beside) in read.items():
        split = _WORDS.get(word, "")
        if word in _EITHER and split in splits:
            split = ({"val", "test"} - splits or {split}).pop()
        found[name] = split if alike or not beside else ""
    return found


def _read_name(name: str) -> tuple[str, str]:
    """Return the word of a split in a folder's name, "" if there is none, and the other words that mean something."""
    text = re.sub(r"([a-z])([A-Z])", r"\1 \2", unicodedata.normalize("NFKC", name))
    text = re.sub(r"(?i)\bh[oe]ld[\W_]*out", "holdout", text)
    words = [word for word in re.split(r"[\W_\d]+", text.casefold()) if word and word not in _FILLERS]
    # "trainset", "testdata"
    words = [
        next((word[: -len(f)] for f in _FILLERS if word.endswith(f) and word[: -len(f)] in _WORDS), word)
        for word in words
    ]
    named = [word for word in words if word in _WORDS]
    if [_WORDS[word] for word in named] == ["train", "val"]:
        words = [word for word in words if word not in named] + ["trainval"]
        named = ["trainval"]
    if len(named) != 1:
        return "", ""
    return named[0], " ".join(word for word in words if word != named[0])


def _add_splits(layout: Layout, splits: Sequence[tuple[Folder, str]], tree: Folder) -> None:
    doubtful = [folder for folder, split in splits if folder.name.lower() not in SPLIT_NAMES]
    labels = [{below.name for below in _unwrapped(folder).folders} for folder, _ in splits]
    agree = len(labels) > 1 and all(_are_similar(a, b) for a, b in combinations(labels, 2) if a and b)
    if doubtful and len(splits) > 1 and not agree and not _one_extends(labels):
        names = " and ".join(f"{folder.name}/" for folder, _ in splits)
        message = (
            f"{names} were taken for classes, since their subfolders have different names; "
            "if they are splits, rename them to train/, val/ and test/"
        )
        layout.findings.append(warning("split-or-class", message, [folder.path for folder, _ in splits]))
        for folder, _ in splits:
            layout.add("", folder)
        return
    if (doubtful and not agree) or _is_ambiguous(splits):
        table = ", ".join(f"{folder.name}/ for {split}" for folder, split in splits)
        message = f"in {tree.path}, these folders were taken for splits: {table}; if that is wrong, rename them to train/, val/ and test/"
        layout.findings.append(warning("split-names", message, [folder.path for folder, _ in splits]))
    for folder, split in splits:
        folder = _unwrapped(folder)
        layout.unlabeled += folder.images
        classes, frames = _without_frames(folder.folders)
        layout.frames += frames
        for below in classes:
            layout.add(split, below)


def _is_ambiguous(splits: Sequence[tuple[Folder, str]]) -> bool:
    """Return whether two folders are the same split, or one may be val as well as test."""
    taken = [split for _, split in splits]
    either = any(_read_name(folder.name)[0] in _EITHER for folder, _ in splits)
    return len(taken) > len(set(taken)) or (either and not {"val", "test"} <= set(taken))


def _unwrapped(folder: Folder) -> Folder:
    """Return the folder itself, or the only one in it if its name says nothing new: seg_train/seg_train/, train/images/."""
    while not folder.images:
        filled = [below for below in folder.folders if below.holds_images()]
        if len(filled) != 1 or filled[0].images or not (_read_name(filled[0].name)[0] or _is_filler(filled[0].name)):
            break
        folder = filled[0]
    return folder


def _is_filler(name: str) -> bool:
    return all(word in _FILLERS for word in re.split(r"[\W_\d]+", name.casefold()) if word)


def _are_similar(one: set[str], other: set[str]) -> bool:
    one, other = ({same_label(name) for name in names} for names in (one, other))
    return len(one & other) >= _SAME * len(one | other)


def _one_extends(labels: Sequence[set[str]]) -> bool:
    """Return whether some label is in every folder that has class folders."""
    filled = [{same_label(name) for name in names} for names in labels if names]
    return bool(filled) and bool(set.intersection(*filled))


def _add_classes(
    layout: Layout, folders: Sequence[Folder], splits: Sequence[tuple[Folder, str]], tree: Folder, only_usual: bool
) -> None:
    if not only_usual and _add_splits_in_classes(layout, folders):
        return
    if not only_usual:
        _refuse_data_sets(tree, folders)
    for folder, split in splits:
        message = (
            f"{folder.name}/ was taken for a class, since it lies beside class folders and holds images itself; "
            f"if it is the {split} split, move its images into {folder.name}/CLASS/ and the others into train/CLASS/"
        )
        layout.findings.append(warning("split-or-class", message, [folder.path]))
    for folder in folders:
        layout.add("", folder)
    layout.findings += _about_nesting(tree, folders)


def _add_splits_in_classes(layout: Layout, folders: Sequence[Folder]) -> bool:
    """Add cat/train, cat/test, dog/train, dog/test; False if the class folders do not hold splits."""
    found = []
    for folder in folders:
        splits = _splits_among(folder.folders, False)
        if folder.images or not splits or len(splits) < len(folder.folders):
            return False
        if not all(below.images for below, _ in splits):
            return False
        found += [(split, below, folder.name) for below, split in splits]
    if "train" not in {split for split, _, _ in found} or len({split for split, _, _ in found}) < 2:
        return False
    for split, below, label in found:
        layout.add(split, below, label)
    return True


def _refuse_data_sets(tree: Folder, folders: Sequence[Folder]) -> None:
    """Raise DataError for a folder above data sets, whose subfolders hold train/ with class folders in it."""
    sets = [found for folder in folders for found in _data_sets(folder)]
    if sets:
        names = listed(str(folder.path.relative_to(tree.path)) for folder in sets)
        raise DataError(
            f"{tree.path} holds data sets, not class folders: {names}; give one of them, such as {sets[0].path}"
        )


def _data_sets(folder: Folder, depth: int = 0) -> Iterator[Folder]:
    """Yield a folder that holds train/ with class folders in it, or those at most some levels below it.

    A class may have a folder "train", too, for what runs on rails; further below, a second split must be beside it.
    """
    splits = [
        split
        for below, split in _splits_among(folder.folders, False)
        if any(inner.holds_images() for inner in below.folders)
    ]
    if "train" in splits and (depth == 0 or len(splits) > 1):
        yield folder
    elif depth < _SET_DEPTH:
        for below in folder.folders:
            yield from _data_sets(below, depth + 1)


def _about_nesting(tree: Folder, folders: Sequence[Folder]) -> list[Finding]:
    """Return the finding about class folders whose images lie in subfolders, or nothing."""
    nested = [folder for folder in folders if _branches(folder) > 1]
    if not nested:
        return []
    first = nested[0]
    inside = listed(f"{first.name}/{below.name}" for below in first.folders if below.holds_images())
    if len(folders) == 1:
        advice = f"if the subfolders are the classes, give {first.path}"
    elif all(not folder.images for folder in folders) and len(nested) == len(folders):
        advice = f"if each of them is a data set, give one, such as {first.path}"
        names = [{below.name for below in folder.folders} for folder in folders]
        if all(_are_similar(one, other) for one, other in combinations(names, 2)):
            advice += "; if they are splits of one, rename them to train/, val/ and test/"
    else:
        advice = "if the subfolders are classes, move them up"
    message = (
        f"images in subfolders get the label of the class folder above them ({inside}: {first.name!r}); {advice}; "
        "if they are series of similar photographs, keep each in one split with --group-by 1"
    )
    return [warning("nested", message, [folder.path for folder in nested])]


def _branches(folder: Folder) -> int:
    """Return in how many places the images of a folder lie: its own, and its subfolders; a single subfolder is no other place."""
    filled = [below for below in folder.folders if below.holds_images()]
    if len(filled) == 1 and not folder.images:
        return _branches(filled[0])
    return len(filled) + bool(folder.images)


def same_label(label: str) -> str:
    """Return a label without what people write differently: case, the form of accents, spaces and underscores."""
    text = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", label).casefold())
    return " ".join(re.split(r"[\s_-]+", text.strip())) or label
