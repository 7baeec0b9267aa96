"""Reads Pillow's own test images, and compares every pixel with Pillow's.

    python3 benchmarks/data/pillow_images.py [--archive pillow-VERSION.tar.gz] [--json]

Method: the source archive of the installed Pillow, with about 1,060 images of many formats, some damaged on purpose, is
fetched by pip unless it is given.  Each file is read as the host reads a photograph, and by Pillow (first frame, turned by
EXIF or XMP, converted to RGB).  Of 16-bit gray, Pillow's values are divided by 256, since its own conversion cuts them off
at 255.  A file passes if both results are equal within 1 level, or if it is refused by an error that names it.

Exit codes: 0 every file passes; 1 pip cannot fetch the archive; 3 some files differ, crash, or take over a second.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tarfile
import tempfile
import time
import warnings
from collections import Counter
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from edgeclf.data.pixels import read_photo
from edgeclf.errors import EdgeclfError

_FOLDER = ("Tests", "images")
LIMIT_S = 1.0


def fetch_archive(folder: Path) -> Path:
    """Return the source archive of the installed Pillow, fetched by pip into a folder; exits if it cannot be."""
    import PIL

    name = f"pillow=={PIL.__version__}"
    options = ["--no-deps", "--no-binary", "pillow", "--dest", str(folder)]
    run = subprocess.run([sys.executable, "-m", "pip", "download", *options, name], capture_output=True, text=True)
    if run.returncode:
        sys.exit(f"pip cannot fetch the archive of {name}: {run.stderr.strip()}")
    return next(folder.glob("pillow-*.tar.gz"))


def unpack_images(archive: Path, folder: Path) -> list[Path]:
    """Write an archive's test images into a folder; return their paths."""
    paths = []
    with tarfile.open(archive) as files:
        for member in files:
            parts = PurePosixPath(member.name).parts
            if not member.isfile() or parts[1:3] != _FOLDER or ".." in parts:
                continue
            path = folder.joinpath(*parts[3:])
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(files.extractfile(member).read())  # type: ignore[union-attr]
            paths.append(path)
    return paths


def compare(path: Path) -> dict[str, Any]:
    """Return what became of one file: "equal", "refused", "only we read it", "differs" or "crashed"."""
    start = time.monotonic()
    ours, refusal = _by_us(path)
    row: dict[str, Any] = {"file": path.name, "seconds": round(time.monotonic() - start, 3)}
    if ours is None:
        return {**row, "result": "refused" if f"{path}: " in refusal else "crashed", "reason": refusal}
    theirs = _by_pillow(path)
    if theirs is None:
        return {**row, "result": "only we read it"}
    if ours.shape != theirs.shape:
        return {**row, "result": "differs", "reason": f"{ours.shape} instead of {theirs.shape}"}
    levels = int(np.abs(ours.astype(int) - theirs).max(initial=0))
    return {**row, "result": "equal" if levels <= 1 else "differs", "levels": levels}


def _by_us(path: Path) -> tuple[np.ndarray | None, str]:
    try:
        return read_photo(path)[:, :, ::-1], ""
    except EdgeclfError as error:
        return None, str(error)
    except Exception as error:
        return None, repr(error)


def _by_pillow(path: Path) -> np.ndarray | None:
    from PIL import Image, ImageOps

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            with Image.open(path) as image:
                upright = ImageOps.exif_transpose(image)
                if image.mode.startswith("I"):
                    return np.repeat((np.asarray(upright).astype(int) >> 8)[..., None], 3, 2)
                return np.asarray(upright.convert("RGB"))
        # Many of the files are damaged on purpose; Pillow has no common error for them.
        except Exception:
            return None


def main() -> None:
    """Compare the images and print a table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--archive", type=Path, help="Pillow's source archive, if it is at hand")
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        archive = arguments.archive or fetch_archive(Path(folder))
        rows = [compare(path) for path in sorted(unpack_images(archive, Path(folder) / "images"))]
    bad = [row for row in rows if row["result"] in ("differs", "crashed") or row["seconds"] > LIMIT_S]
    counts = Counter(row["result"] for row in rows)
    slowest = max(rows, key=lambda row: row["seconds"])
    if arguments.json:
        print(json.dumps({"files": len(rows), "counts": counts, "slowest": slowest, "bad": bad}, indent=1))
    else:
        print(*(f"{count:5} {result}" for result, count in counts.most_common()), sep="\n")
        print(f"slowest: {slowest['file']}, {slowest['seconds']} s")
        print(*bad, sep="\n")
    sys.exit(3 if bad else 0)


if __name__ == "__main__":
    main()
