"""Images without labels, which only a teacher teaches."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from edgeclf_runtime.files.read import sha256_bytes, sha256_file

from ...data.datasets import Dataset
from ...data.findings import Finding, counted, warning
from ...data.pixels import load_each, unreadable
from ...data.tree import read_tree
from ...display.progress import track
from ...errors import DataError


@dataclass(frozen=True)
class Unlabeled:
    """The images of a folder that are used."""

    folder: Path
    paths: tuple[Path, ...]
    sha256: str
    """Over their hashes."""
    unreadable: int
    """Images that were left out because they cannot be decoded."""
    known: int
    """Images that were left out because the data has them, or the folder has them twice."""

    def facts(self) -> dict[str, str | int]:
        """Return what a run records of them, for JSON."""
        counts = {"images": len(self.paths), "unreadable": self.unreadable, "known": self.known}
        return {"folder": str(self.folder), "sha256": self.sha256, **counts}

    def findings(self) -> list[Finding]:
        """Return warnings about what was left out."""
        found = []
        if self.unreadable:
            what = counted(self.unreadable, "image")
            found.append(warning("unreadable", f"{what} of {self.folder} left out (cannot be decoded)"))
        if self.known:
            what = counted(self.known, "image")
            found.append(
                warning("known", f"{what} of {self.folder} left out: the data has the same file, or it is there twice")
            )
        return found


def find_unlabeled(folder: Path, dataset: Dataset) -> Unlabeled:
    """Return the images of a folder and all below it that can be decoded and that the data set does not have, by content.

    Raises DataError if there are none.
    """
    if not folder.is_dir():
        raise DataError(f"the images without labels, {folder}, are not a folder; a folder of images was expected")
    paths = read_tree(folder).all_images()
    hashes = list(track(load_each(paths, sha256_file), "reading images without labels", len(paths)))
    seen, new = set(dataset.sha256(dataset.samples)), {}
    for path, digest in zip(paths, hashes, strict=True):
        if digest not in seen:
            seen.add(digest)
            new[path] = digest
    bad = unreadable(new)
    used = {path: digest for path, digest in new.items() if path not in bad}
    if not used:
        raise DataError(
            f"{folder} has no image to learn from ({len(paths) - len(new)} are in the data already, {len(bad)} cannot be "
            "decoded); other images of the same kind were expected"
        )
    # The order decides the batches.
    digest = sha256_bytes("\n".join(used.values()).encode())
    return Unlabeled(folder, tuple(used), digest, len(bad), len(paths) - len(new))
