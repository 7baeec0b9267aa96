"""The image files below a folder, without what computers, NAS systems and edgeclf itself put there.

Each folder is listed once.  Links are followed, unless they lead to a folder above themselves.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from edgeclf_runtime.images.read import HEIF_SUFFIXES, SUFFIXES, SYSTEM_FILES

from ..errors import DataError
from .findings import Finding, counted, listed, warning

# Those of HEIF are read by optional libraries, see data/pixels.py.
IMAGE_SUFFIXES = (*SUFFIXES, *HEIF_SUFFIXES)
"""Suffixes of the files in a folder that are taken for images; they are decoded by their content."""
SUFFIXES_BEFORE = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
"""Those that there were when runs were made whose split is "exact"; they must find the same images again."""
# Recycle bins, snapshots, thumbnails and indexes of Windows, macOS, Android, Synology, QNAP and others, without case.
# A class may be called "#1" or "$5", so names are listed, not recognized by their first letter.
_SYSTEM_FOLDERS = frozenset(
    (
        *("@eadir", "@tmp", "@recycle", "@recently-snapshot", "@snapshots", "@sharebin", "@synoresource", "@transcode"),
        *("#recycle", "#snapshot", "~snapshot", "$recycle.bin", "$recycle", "recycler", "$av_asw"),
        *("system volume information", "lost+found", "lost.dir", "found.000", "network trash folder"),
        *("temporary items", "_thumbs", "@__thumb", "msocache", "__macosx", "__pycache__"),
        *(
            "@eadir@synoresource",
            "@appstore",
            "@appdata",
            "@apptemp",
            "@database",
            "@downloads",
            "@docker",
            "@quarantine",
        ),
        *("@s2s", "@sharesnap", "@synologydrive", "@upload_cache", "@qsyncclient", "@synoaiconsole", "@synoeastream"),
        *("$winreagent", "$sysreset", "config.msi", "onedrivetemp", "_gsdata_", "_sync_temp", "node_modules"),
    )
)
# Previews of Lightroom and Capture One, and other catalogs of photographs.
_SYSTEM_SUFFIXES = (".lrdata", ".lrlibrary", ".cocatalog", ".photoslibrary", ".aplibrary", ".migratedphotolibrary")


class _Output(NamedTuple):
    """The files by which a folder that edgeclf made is recognized."""

    file: str
    holds: bytes = b""
    """A text near the beginning of that file."""
    beside: tuple[str, ...] = ()
    """Other files that the folder has."""


_OUTPUTS = (
    _Output("run.json", b'"edgeclf-run"'),
    _Output("training.json", b'"edgeclf-training"'),
    _Output("manifest.json", b'"edgeclf-bundle"'),
    _Output("images.sha256", beside=("recipe.json",)),
    _Output("audit.json", b'"edgeclf-audit"'),
    _Output("report.json", b'"edgeclf-report"'),
    _Output("summary.json", b'"bundle_id"', ("run/run.json",)),
    _Output("golden.json", b'"edgeclf-golden-tensors"'),
    # Models for OpenVINO, timm and Core ML, and the logs beside a run.
    _Output("model.xml", b"<net", ("model.bin",)),
    _Output("config.json", b'"architecture"', ("model.safetensors",)),
    _Output("Manifest.json", b"com.apple.CoreML"),
    _Output("mlflow.db"),
)
_HEAD_BYTES = 1 << 16
# What a folder of several formats holds, and one of logs; no file marks them.
_MODELS = frozenset((".onnx", ".torchscript", ".pt2", ".pte", ".tflite", ".engine", ".plan"))
_LOGS = frozenset(("tensorboard", "wandb"))
# Classes are at most so many folders below the data set: split/class.
_CLASS_DEPTH = 2


@dataclass(eq=False)
class Folder:
    """A folder's image files, and its subfolders."""

    path: Path
    real: str
    images: list[Path] = field(default_factory=list)
    folders: list[Folder] = field(default_factory=list)
    others: list[Path] = field(default_factory=list)
    """Files that are not images by their suffix."""
    outputs: list[Path] = field(default_factory=list)
    """Folders that edgeclf made, such as runs and bundles."""

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.path.name

    def walk(self) -> Iterator[Folder]:
        """Yield this folder and all below it, each once, whatever links lead there."""
        pending, seen = [self], set()
        while pending:
            folder = pending.pop()
            if folder.real not in seen:
                seen.add(folder.real)
                yield folder
                pending += reversed(folder.folders)

    def all_images(self) -> list[Path]:
        """Return the images of this folder and of all below it, sorted."""
        return sorted(path for folder in self.walk() for path in folder.images)

    def holds_images(self) -> bool:
        """Return whether an image is in this folder or below it."""
        return any(folder.images for folder in self.walk())

    def is_only_clutter(self) -> bool:
        """Return whether there is nothing below but outputs of edgeclf, such as in a folder "runs"."""
        return any(folder.outputs for folder in self.walk()) and not self.holds_images()


def read_tree(root: Path, suffixes: tuple[str, ...] = IMAGE_SUFFIXES) -> Folder:
    """List a folder and all below it; DataError if a folder cannot be read, or is an output of edgeclf."""
    output = _output_of(root)
    if output:
        raise DataError(
            f"{root} is an output of edgeclf (it has {output}), not a data set: give the folder of the photographs"
        )
    return _read(root, os.path.realpath(root), frozenset(), None, suffixes)


def left_out(tree: Folder) -> list[Finding]:
    """Return the findings about files and folders that are passed over."""
    others = [path for folder in tree.walk() for path in folder.others]
    outputs = [path for folder in tree.walk() for path in folder.outputs]
    findings = []
    if others:
        suffixes = Counter(path.suffix.lower() or "(none)" for path in others)
        table = ", ".join(f"{suffix} ({count})" for suffix, count in suffixes.most_common())
        message = (
            f"{counted(len(others), 'file')} left out, by suffix: {table}; these are not image formats that edgeclf "
            "reads: convert the images among them to JPEG or PNG"
        )
        findings.append(warning("left-out", message, others))
    if outputs:
        message = (
            f"{counted(len(outputs), 'folder')} passed over, since edgeclf made {'it' if len(outputs) == 1 else 'them'}: "
            f"{listed(map(str, outputs))}; keep such folders outside of the data"
        )
        findings.append(warning("outputs", message, outputs))
    return findings


def _read(path: Path, real: str, above: frozenset[str], seen: set[str] | None, suffixes: tuple[str, ...]) -> Folder:
    """List a folder.

    above: the folders above it, which a link must not lead to again.  seen: the folders below the present class, each of which
    counts once, or links among many folders would never end; None above the classes, where two may be links to one folder.
    """
    folder = Folder(path, real)
    for entry in _entries(path):
        if entry.name.startswith("."):
            continue
        if _is_folder(entry):
            if not _is_system_folder(entry.name.casefold()):
                _add(folder, Path(entry.path), above | {real}, seen, suffixes)
        elif entry.name.lower() not in SYSTEM_FILES:
            kept = folder.images if entry.name.lower().endswith(suffixes) else folder.others
            kept.append(Path(entry.path))
    return folder


def _add(folder: Folder, path: Path, above: frozenset[str], seen: set[str] | None, suffixes: tuple[str, ...]) -> None:
    real = os.path.realpath(path)
    if real in above or real in (seen or ()):
        return
    if seen is None and len(above) == _CLASS_DEPTH:
        seen = set()
    if seen is not None:
        seen.add(real)
    below = None if _output_of(path) else _read(path, real, above, seen, suffixes)
    if below is None or _holds_no_photographs(below):
        folder.outputs.append(path)
    else:
        folder.folders.append(below)


def _entries(path: Path) -> Iterable[os.DirEntry[str]]:
    try:
        return sorted(os.scandir(path), key=lambda entry: entry.name)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): allow it, or move it out of the data") from None


def _is_system_folder(name: str) -> bool:
    return name in _SYSTEM_FOLDERS or name.endswith(_SYSTEM_SUFFIXES)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:
        return False


def _output_of(path: Path) -> str:
    """Return the file that makes a folder an output of edgeclf, "" if it is none."""
    for name, mark, beside in _OUTPUTS:
        # Opening a pipe would wait for its writer.
        if not all((path / file).is_file() for file in (name, *beside)):
            continue
        try:
            with open(path / name, "rb") as stream:
                if mark in stream.read(_HEAD_BYTES):
                    return name
        except OSError:
            continue
    return ""


def _holds_no_photographs(folder: Folder) -> bool:
    """Return whether a folder has models, or a training's logs, and nothing else."""
    logs = {below.name for below in folder.folders}
    return (
        not folder.images
        and bool(logs or folder.others)
        and logs <= _LOGS
        and all(path.suffix.lower() in _MODELS for path in folder.others)
    )
