"""Makes a bundle of a public data set by one command: Fashion-MNIST in its official split, and ELPV as class folders.

    python3 benchmarks/accuracy/public_sets.py fashion-mnist|elpv --work WORK [--json] [OPTION of edgeclf make ...]

Method: the images are written as PNG files into folders that an engineer would have: ``train/LABEL`` and ``test/LABEL`` for
Fashion-MNIST (Debian's package dataset-fashion-mnist: 60,000 and 10,000 of 28 x 28 pixels), ``LABEL`` for ELPV (2,624 of
300 x 300, from the package elpv-dataset).  ``edgeclf make`` does the rest; options that are not above are its own.  The bundle's
self-test ends it.  Given are the bundle's accuracies, and the seconds of each step.

Exit codes: 0 the bundle is made and passes its self-test; 1 not.
"""

from __future__ import annotations

import argparse
import gzip
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np

_FASHION = Path("/usr/share/datasets/fashion-mnist")
_LABELS = ["tshirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
_HEADERS = {"images": 16, "labels": 8}


def write_fashion_mnist(folder: Path) -> None:
    """Write the 70,000 images into ``train/LABEL`` and ``test/LABEL``."""
    import cv2

    if not _FASHION.is_dir():
        sys.exit("Fashion-MNIST was not found; install it: apt install dataset-fashion-mnist")
    for split, prefix in (("train", "train"), ("test", "t10k")):
        labels = _read_idx(f"{prefix}-labels-idx1-ubyte.gz", "labels")
        images = _read_idx(f"{prefix}-images-idx3-ubyte.gz", "images").reshape(-1, 28, 28)
        for label in _LABELS:
            (folder / split / label).mkdir(parents=True)
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            cv2.imwrite(str(folder / split / _LABELS[label] / f"{number:05}.png"), image)


def _read_idx(name: str, kind: str) -> np.ndarray:
    return np.frombuffer(gzip.decompress((_FASHION / name).read_bytes()), np.uint8, offset=_HEADERS[kind])


def write_elpv(folder: Path) -> None:
    """Write the solar cells into ``LABEL``."""
    from edgeclf import load_dataset

    for sample in load_dataset("elpv").samples:
        (folder / sample.label).mkdir(parents=True, exist_ok=True)
        (folder / sample.label / sample.path.name).write_bytes(sample.path.read_bytes())


def made(data: Path, work: Path, options: list[str]) -> dict[str, Any]:
    """Return the report of ``edgeclf make``, and each model's accuracy."""
    output = work / f"{data.name}.edge"
    command = [sys.executable, "-m", "edgeclf", "make", str(data), "--output", str(output), "--json", *options]
    report: dict[str, Any] = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)
    models = json.loads((output / "manifest.json").read_text())["models"]
    report["models"] = {model["name"]: model["metrics"].get("accuracy") for model in models}
    subprocess.run([sys.executable, str(output), "selftest"], check=True, stdout=subprocess.DEVNULL)
    return report


def main() -> None:
    """Write the images, make the bundle, and print what it has."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=("fashion-mnist", "elpv"))
    parser.add_argument("--work", required=True, type=Path, help="folder for the images and the bundle, which are kept")
    parser.add_argument("--json", action="store_true")
    arguments, options = parser.parse_known_args()
    data = arguments.work / arguments.set
    if not data.is_dir():
        (write_elpv if arguments.set == "elpv" else write_fashion_mnist)(data)
    try:
        report = made(data, arguments.work, options)
    except subprocess.CalledProcessError as error:
        sys.exit(f"{' '.join(map(str, error.cmd[2:]))} failed with exit code {error.returncode}")
    if arguments.json:
        print(json.dumps(report))
    else:
        print(f"{arguments.set}: {report['images']} images ({report['split']})")
        print(*(f"  {name:14} accuracy {accuracy:.4f}" for name, accuracy in report["models"].items()), sep="\n")
        print("  " + ", ".join(f"{step} {seconds:.0f} s" for step, seconds in report["seconds"].items()))


if __name__ == "__main__":
    main()
