"""Writes recipe.json and images.sha256 of this calibration set again; needs the package elpv-dataset.

python3 calibration/solar-cells/prepare.py
"""

from pathlib import Path

from edgeclf import CalibrationSet, SplitOptions, load_dataset


def main() -> None:
    """Select 300 training images, each label in proportion to its share."""
    dataset = load_dataset("elpv", SplitOptions(seed=0))
    calibration = CalibrationSet.select(dataset, size=300, seed=0)
    calibration.save(Path(__file__).parent, overwrite=True)
    print(f"{len(calibration)} images, list {calibration.sha256}")


if __name__ == "__main__":
    main()
