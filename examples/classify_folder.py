"""Classifies every image of a folder, and writes a CSV file: image, label, confidence.

python3 examples/classify_folder.py pets.edge photos/ labels.csv
"""

import argparse
import csv
import pathlib

from edgeclf_runtime import Classifier, ImageError

SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", metavar="NAME.edge")
    parser.add_argument("folder", type=pathlib.Path)
    parser.add_argument("output", metavar="LABELS.csv")
    arguments = parser.parse_args()
    images = sorted(path for path in arguments.folder.rglob("*") if path.suffix.lower() in SUFFIXES)
    with Classifier.open(arguments.bundle) as classifier, open(arguments.output, "w", newline="") as stream:
        rows = csv.writer(stream)
        rows.writerow(["image", "label", "confidence"])
        for image in images:
            try:
                result = classifier.classify(image)
            except ImageError as error:  # damaged, or not an image
                print(error)
                continue
            rows.writerow([image, result.label, f"{result.confidence:.4f}"])
    print(f"{len(images)} images in {arguments.output}")


if __name__ == "__main__":
    main()
