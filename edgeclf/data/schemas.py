"""Schemas of the JSON files that the host reads back, and of an ONNX file's metadata; see edgeclf_runtime.files.schema."""

from __future__ import annotations

from edgeclf_runtime.bundle.manifest import LABEL, MODEL_NAME, PREPROCESSING, SHA256
from edgeclf_runtime.files.schema import (
    Check,
    any_json,
    constant,
    flag,
    integer,
    list_of,
    mapping,
    nullable,
    number,
    record,
    text,
)

from ..options import SPLIT_METHODS

RUN_FORMAT = "edgeclf-run"
RUN_FORMAT_VERSION = 1
MAX_JSON_BYTES = 64 << 20

MOST_LABELS = 100_000
_LABELS = list_of(LABEL, 1, MOST_LABELS, unique=True)
IMPORTED = "imported"
"""The ``kind`` of a run whose model another program trained; a trained run has no ``kind``."""

_SHARE = number(above=0, high=0.9)
SPLIT = nullable(
    record(
        {
            "seed": integer(),
            "test": _SHARE,
            "val": _SHARE,
            "group_by": nullable(text()),
            "group_similar": flag,
            "method": constant(*SPLIT_METHODS),
        },
        # Runs made before there was a choice have none of them.
        optional=("group_by", "group_similar", "method"),
    )
)

_DATA = record(
    {
        "name": text(),
        "root": text(most=4096),
        "split": SPLIT,
        "split_sha256": SHA256,
        "images": mapping(text(), integer(0)),
    },
    others=True,
)
_EVERY_RUN: dict[str, Check] = {
    "format": constant(RUN_FORMAT),
    "format_version": integer(1, RUN_FORMAT_VERSION),
    "labels": _LABELS,
    "preprocessing": PREPROCESSING,
    "metrics": mapping(text(), any_json),
    "versions": mapping(text(), text()),
}
RUN = record(
    {
        **_EVERY_RUN,
        "options": record(
            {"backbone": text(), "image_size": nullable(integer(1)), "stem_stride": nullable(integer(1, 2))},
            optional=("image_size", "stem_stride"),
            others=True,
        ),
        "data": _DATA,
        "pooling": text(),
        "norm_eps": number(above=0, high=1),
    },
    optional=("pooling", "norm_eps"),
    others=True,
)

IMPORTED_RUN = record(
    {
        **_EVERY_RUN,
        "kind": constant(IMPORTED),
        "options": mapping(text(), any_json),
        "model": record({"name": text(), "sha256": nullable(SHA256)}, others=True),
        "data": nullable(_DATA),
    },
    others=True,
)

QUANTIZATION = record({"calibration_images": integer(0), "calibration_sha256": SHA256}, others=True)

RECIPE = record(
    {"source": text(most=4096), "split": SPLIT, "rule": text(), "size": integer(1), "seed": integer()}, others=True
)

METADATA = record({"model": MODEL_NAME, "labels": _LABELS, "preprocessing": PREPROCESSING, "split": SPLIT}, others=True)

PROVENANCE = record({"data": record({"split": SPLIT}, others=True)}, others=True)

SOURCE_FORMAT = "edgeclf-images"
SOURCE = record(
    {"format": constant(SOURCE_FORMAT), "format_version": integer(1, 1), "images": integer(1), "sha256": SHA256}
)
"""Of a folder that was written from another library's data set."""

HISTOGRAMS = record({"from": mapping(text(), text()), "names": list_of(list_of(text(), 1), 1)})

LOGITS = record(
    {"from": mapping(text(), text()), "images": list_of(SHA256, 1), "models": list_of(SHA256, 1, unique=True)}
)

TRAINING_FORMAT = "edgeclf-training"
TRAINING = record(
    {
        "format": constant(TRAINING_FORMAT),
        "format_version": integer(1, 1),
        "options": mapping(text(), any_json),
        "labels": _LABELS,
        "data": SHA256,
        "weights": any_json,
        "soft_targets": nullable(SHA256),
        "teacher": nullable(SHA256),
        "unlabeled": nullable(SHA256),
        "versions": mapping(text(), text()),
        "decisions": mapping(text(), any_json),
    },
    optional=("decisions", "teacher", "unlabeled"),
)
"""Of a training that is not finished."""
FEATURES = record({"images": list_of(SHA256, 1, unique=True)})
"""Of a file of features, in the user's cache."""
