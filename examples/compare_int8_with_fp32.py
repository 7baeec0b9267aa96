"""Compares two models of a bundle on your own images: agreement of labels, differences of confidence, and time.

    python3 examples/compare_int8_with_fp32.py pets.edge photos/

The images need no labels.  Look at those on which the models disagree.
"""

import argparse
import pathlib
from typing import List

import numpy as np

from edgeclf_runtime import Classifier, Result

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("--models", nargs=2, default=["fp32", "int8-cpu"], metavar="NAME")
    arguments = parser.parse_args()
    images = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    if not images:
        parser.error(f"{arguments.folder} holds no images")
    # threshold=0: the label of each image, however uncertain.
    answers = [results(arguments.bundle, model, images) for model in arguments.models]
    pairs = list(zip(images, *answers))
    for image, one, other in pairs:
        if one.label != other.label:
            print(f"{image}: {one.label} {one.confidence:.3f}, {other.label} {other.confidence:.3f}")
    agree = sum(one.label == other.label for _, one, other in pairs)
    difference = max(np.abs(one.confidences - other.confidences).max() for _, one, other in pairs)
    print(f"labels agree on {agree} of {len(images)} images; confidences differ by {difference:.3f} at most")
    for model, found in zip(arguments.models, answers):
        print("{:10} {:6.1f} ms".format(model, np.median([result.timings_ms["inference"] for result in found])))


def results(bundle: str, model: str, images: List[pathlib.Path]) -> List[Result]:
    """Return a model's result for each image."""
    with Classifier.open(bundle, model=model, threshold=0) as classifier:
        return [classifier.classify(image) for image in images]


if __name__ == "__main__":
    main()
