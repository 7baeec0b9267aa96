"""Declarations of a bundle's JSON files: manifest.json and golden/expected.json."""

import re
from typing import Any, Sequence

from ..files.schema import (
    Check,
    SchemaError,
    any_json,
    constant,
    integer,
    list_of,
    mapping,
    nullable,
    number,
    record,
    text,
)

FORMAT = "edgeclf-bundle"
FORMAT_VERSION = 3
# The oldest that this runtime reads: without features.
OLDEST_FORMAT_VERSION = 2
# Numbers that stand for the features of a golden image; see project() of classify/golden.py.
PROJECTIONS = 16

# Names appear on command lines, in logs, in systemd units and in file names.
MODEL_NAME = text(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", "a name of letters, digits, '.', '_' and '-', at most 64")
LABEL = text(r".{1,1000}", "a label of 1 to 1000 characters")
_PATH = text(r"[^/\\:]([^\\:]{0,398}[^/\\:])?", "a file's path inside the bundle, such as golden/000.png,", most=400)


def file_name(value: object, where: str) -> None:
    """Declare a relative path with forward slashes, without empty, "." or ".." parts."""
    if isinstance(value, str) and (value.startswith("/") or ".." in re.split(r"[/\\]", value)):
        raise SchemaError("{} is {!a}, which is outside of the bundle".format(where, value[:100]))
    _PATH(value, where)
    if not all(part not in ("", ".") for part in str(value).split("/")):
        raise SchemaError("{} is {!a}; a path without empty parts was expected".format(where, str(value)[:100]))


SHA256 = text(r"[0-9a-f]{64}", "64 hexadecimal digits")

PREPROCESSING = record(
    {
        "height": integer(),
        "width": integer(),
        "resize": text(),
        "crop": number(),
        "interpolation": text(),
        "color": text(),
    }
)
_SHARE = number(0, 1)
METRICS = record(
    {
        "accuracy": nullable(_SHARE),
        "images": nullable(integer(0)),
        "confidence": record(
            {"coverage": _SHARE, "precision": _SHARE, "images": integer(0)},
            optional=("coverage", "precision", "images"),
            others=True,
        ),
        "distance": record({"kept": _SHARE}, optional=("kept",), others=True),
        "label_sets": record(
            {"coverage": _SHARE, "mean_size": number(0)}, optional=("coverage", "mean_size"), others=True
        ),
    },
    optional=("accuracy", "images", "confidence", "distance", "label_sets"),
    others=True,
)
_DIFFERENCE = number(0, 1e6)
_TOLERANCE = record(
    {"largest": _DIFFERENCE, "mean": _DIFFERENCE, "divergence": _DIFFERENCE, "features": number(0, 1e30)},
    optional=("features",),
)


def _with_default(names: Check) -> Check:
    """Declare an object that has the name ``default``, too."""

    def check(value: object, where: str) -> None:
        names(value, where)
        record({"default": any_json}, others=True)(value, where)

    return check


KNOWN_IMAGES = record(
    {
        "file": file_name,
        "scales": list_of(number(-1e30, 1e30), 6, 6),  # SCALES of classify/known_images.py
        "usual_distance": number(-1e6, 1e6),
        "most_distance": nullable(number(-1e6, 1e6)),
    }
)

MODEL = record(
    {
        "name": MODEL_NAME,
        "file": file_name,
        "precision": MODEL_NAME,
        "backends": list_of(MODEL_NAME, 1, 16),
        "temperature": number(above=0, high=1e6),
        "threshold": number(0, 1),
        "tolerances": _with_default(mapping(MODEL_NAME, _TOLERANCE, most=16)),  # by backend
        "metrics": METRICS,
        "features": integer(1, 1 << 20),
        "known_images": KNOWN_IMAGES,
        "label_thresholds": mapping(LABEL, number(0, 1)),
        "in_set": number(0, 1),
    },
    optional=("features", "known_images", "label_thresholds", "in_set"),
)
# The order in which to try the models, by machine.
_ORDER = _with_default(mapping(MODEL_NAME, list_of(MODEL_NAME, 1, 64), most=64))

MANIFEST_SCHEMA = record(
    {
        "format": constant(FORMAT),
        "format_version": integer(OLDEST_FORMAT_VERSION, FORMAT_VERSION),
        "name": text(r"[^/\\]{1,200}", "a name of at most 200 characters without slashes", most=200),
        "labels": list_of(LABEL, 1, 100000, unique=True),
        "preprocessing": PREPROCESSING,
        "models": list_of(MODEL, 1, 64),
        "order": _ORDER,
        "provenance": mapping(text(), any_json),
        "files": mapping(file_name, record({"size": integer(0, 1 << 40), "sha256": SHA256}), most=10000),
    }
)


def golden_schema(models: Sequence[str], labels: int, featured: Sequence[str] = ()) -> Check:
    """Declare golden/expected.json of a bundle with these model names and this number of labels.

    featured    names of the models that have features
    """

    def check(value: Any, where: str) -> None:
        outline(value, where)
        images = len(value["images"])
        row = list_of(number(), labels, labels)
        record({name: list_of(row, images, images) for name in models}, others=True)(value["logits"], "logits")
        row = list_of(number(), PROJECTIONS, PROJECTIONS)
        features = record({name: list_of(row, images, images) for name in featured}, others=True)
        features(value.get("features", {}), "features")

    outline = record(
        {
            "images": list_of(file_name, 1, 64),
            "labels": list_of(any_json, labels, labels),
            "logits": mapping(MODEL_NAME, list_of(any_json, 1, 64), most=64),
            "features": mapping(MODEL_NAME, list_of(any_json, 1, 64), most=64),
        },
        optional=("labels", "features"),
    )
    return check
