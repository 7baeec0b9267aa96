"""Settles how images are made for an imported model: from the options, from the model's own metadata, or not at all.

Reads edgeclf's own metadata, that of ultralytics and of OpenVINO's Model API (``model_info``), and timm's configuration.  One error lists
everything that is stated nowhere: a wrong guess would cost accuracy without a message.
"""

from __future__ import annotations

import ast
import math
import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict, cast

from edgeclf_runtime.bundle.manifest import LABEL
from edgeclf_runtime.files.read import read_bytes, read_json
from edgeclf_runtime.files.schema import JsonObject, SchemaError, parse_json
from edgeclf_runtime.images.preprocess import Preprocessing

from ...data.datasets import check_labels
from ...data.schemas import MAX_JSON_BYTES, METADATA, MOST_LABELS
from ...data.table import decoded
from ...errors import EdgeclfError, ModelError, OptionError, reason
from ...evaluation.metadata import METADATA_KEY
from ...graph.contract import Normalization
from ...graph.foreign_model import ImageShape, layout_of
from ...options import ImportOptions

USUAL = "--color RGB --range 0-1 --mean imagenet --std imagenet --resize crop"
"""Options of most models of torchvision and timm."""
_MOST_METADATA = 4 << 20
_NAME = re.compile(r"(\d{1,6})\s*:\s*('(?:[^'\\\n]|\\.)*'|\"(?:[^\"\\\n]|\\.)*\")")
_MODEL_API_RESIZE = {"standard": "stretch", "crop": "crop", "fit_to_window_letterbox": "letterbox"}
_HOW = {
    "labels": "--labels FILE, a text file with one label per line, in the order of the model's outputs",
    "layout": "--layout NCHW or NHWC",
    "size": "--size SIDE or HEIGHTxWIDTH, in pixels",
    "color": "--color RGB (PIL, torchvision, timm, Keras) or BGR (OpenCV, Caffe)",
    "range": "--range 0-1, 0-255 or -1..1, the values of a pixel before mean and std",
    "mean": "--mean M, M,M,M or imagenet; 0 if nothing is subtracted",
    "std": "--std S, S,S,S or imagenet; 1 if nothing is divided",
    "resize": "--resize crop (the centered square), stretch or letterbox",
}
_LEAST_STD = 1e-6
"""A smaller standard deviation in a file's metadata is not used; the user is asked for it."""


Three = tuple[float, float, float]
"""A value for each channel."""


class Stated(TypedDict, total=False):
    """The preparation of a model's images as one source states it; None for what it does not state."""

    labels: tuple[str, ...] | None
    size: tuple[int, int] | None
    """Height and width."""
    layout: str | None
    color: str | None
    range: str | None
    mean: Three | None
    std: Three | None
    resize: str | None
    crop: float | None


class Known(TypedDict, total=False):
    """The preparation of a model's images, as far as it is known."""

    labels: tuple[str, ...]
    size: tuple[int, int]
    layout: str
    color: str
    range: str
    mean: Three
    std: Three
    resize: str
    crop: float


@dataclass(frozen=True)
class Settings:
    """The preparation of a model's images."""

    labels: tuple[str, ...]
    shape: ImageShape
    color: str
    normalization: Normalization
    resize: str
    crop: float
    sources: dict[str, str]
    """The source of each one: "given", or the file or shape that stated it."""

    @property
    def preprocessing(self) -> Preprocessing:
        """The preprocessing from an image to the input of the wrapped model."""
        size = self.shape.height, self.shape.width
        return Preprocessing(*size, resize=self.resize, crop=self.crop, color=self.color).check()

    def to_dict(self) -> JsonObject:
        """The settings as JSON can hold them, without the labels."""
        return {
            "layout": self.shape.layout,
            "size": [self.shape.height, self.shape.width],
            "color": self.color,
            "range": self.normalization.range,
            "mean": list(self.normalization.mean),
            "std": list(self.normalization.std),
            "resize": self.resize,
            "crop": self.crop,
            "sources": self.sources,
        }


def settle(
    options: ImportOptions, declared: Mapping[str, Stated], dims: list[int | None], name: str
) -> tuple[Known, dict[str, str]]:
    """Return what is known, by field, and where each is from.

    declared: by source, what the model says of itself.  dims: its input's shape, None for a dynamic dimension.
    """
    values: JsonObject = {}
    sources: dict[str, str] = {}
    shaped = _from_shape(options, dims, name)
    for source, found in (("given", _given(options)), ("the input's shape", shaped), *declared.items()):
        for field, value in cast("JsonObject", found).items():
            if value is not None and field not in values and not (field == "std" and min(value) < _LEAST_STD):
                values[field], sources[field] = value, source
    return cast("Known", values), sources


def missing(values: Known) -> list[str]:
    """Return the fields that nobody stated."""
    return [field for field in _HOW if field not in values]


def refusal(name: str, fields: list[str], hint: str = "") -> OptionError:
    """Return the error that lists what is missing, and how to give it."""
    lines = [
        f"{name} does not say how to prepare its images; add what is missing:",
        *(f"  {_HOW[one]}" for one in fields),
    ]
    if set(fields) & {"color", "range", "mean", "std", "resize"}:
        lines.append(f"most models of torchvision and timm: {USUAL}")
    return OptionError("\n".join([*lines, *filter(None, [hint])]))


def make_settings(values: Known, sources: dict[str, str]) -> Settings:
    """Return the settings of values that are complete."""
    height, width = values["size"]
    return Settings(
        labels=tuple(values["labels"]),
        shape=ImageShape(values["layout"], height, width),
        color=values["color"],
        normalization=Normalization(values["range"], values["mean"], values["std"]),
        resize=values["resize"],
        crop=values.get("crop", 1.0),
        sources=sources,
    )


def _given(options: ImportOptions) -> Stated:
    return {
        "labels": options.label_names or (read_labels(Path(options.labels)) if options.labels else None),
        "size": options.height_width,
        "mean": options.channels("mean"),
        "std": options.channels("std"),
        "layout": options.layout,
        "color": options.color,
        "range": options.range,
        "resize": options.resize,
        "crop": options.crop,
    }


def _from_shape(options: ImportOptions, dims: list[int | None], name: str) -> Stated:
    """Return the layout and size that an input's shape fixes; OptionError if the options contradict it."""
    layout = layout_of(dims)
    if layout and options.layout not in (None, layout):
        shown = " x ".join("?" if dim is None else str(dim) for dim in dims)
        raise OptionError(f"{name} takes {shown}, which is {layout}, but layout is {options.layout}: leave it out")
    sides = dims[1:3] if (layout or options.layout) == "NHWC" else dims[2:4]
    size = options.height_width
    if size and any(side not in (None, wanted) for side, wanted in zip(sides, size, strict=True)):
        fixed = " x ".join("?" if side is None else str(side) for side in sides)
        raise OptionError(f"{name} takes images of {fixed}, but size is {options.size}: leave it out, or export again")
    return {"layout": layout or None, "size": None if None in sides else cast("tuple[int, int]", tuple(sides))}


def read_labels(path: Path) -> tuple[str, ...]:
    """Return the lines of a text file as labels."""
    try:
        lines = decoded(read_bytes(path, MAX_JSON_BYTES)).splitlines()
    except (OSError, ValueError) as error:
        raise OptionError(
            f"the labels {path} cannot be read ({reason(error)}); a text file in UTF-8 was expected"
        ) from None
    labels = tuple(line.strip() for line in lines)
    while labels and not labels[-1]:
        labels = labels[:-1]
    if not labels or not all(labels):
        problem = f"an empty line (line {labels.index('') + 1})" if labels else "no labels"
        raise OptionError(f"{path} has {problem}; a label on each line was expected")
    return labels


def checked_labels(labels: tuple[str, ...], name: str) -> tuple[str, ...]:
    """Return labels that a bundle may hold; DataError or OptionError names the first that it may not."""
    if len(labels) > MOST_LABELS:
        raise OptionError(f"{name} has {len(labels)} labels; at most {MOST_LABELS} are possible")
    twice = next((label for label, count in Counter(labels).items() if count > 1), None)
    if twice is not None:
        raise OptionError(
            f"the label {twice!r} of {name} occurs twice; give each output its own, such as {twice!r} and {twice + '-2'!r}"
        )
    check_labels(name, set(labels))
    try:
        for label in labels:
            LABEL(label, "a label")
    except SchemaError as error:
        raise OptionError(f"{name}: {error}") from None
    return labels


def from_metadata(metadata: Mapping[str, str], name: str) -> dict[str, Stated]:
    """Return what a file's metadata states, by source; ModelError if it states that the model is not a classifier."""
    if sum(map(len, metadata.values())) > _MOST_METADATA:
        return {}
    if METADATA_KEY in metadata:
        # Only ours: what our files say to other tools leaves out the values and the layout of the input.
        return {"edgeclf's metadata": _edgeclf(metadata[METADATA_KEY])}
    found: dict[str, Stated] = {}
    if "names" in metadata and "imgsz" in metadata:
        found["ultralytics' metadata"] = _ultralytics(metadata, name)
    info = {key.split()[-1]: value for key, value in metadata.items() if key.split()[:1] == ["model_info"]}
    if info:
        found["Model API's metadata"] = _model_api(info, name)
    return found


def _edgeclf(text: str) -> Stated:
    """Return what a file of our own export states; nothing if its metadata is damaged."""
    try:
        facts = parse_json(text.encode())
        METADATA(facts, "")
        spec = Preprocessing(**facts["preprocessing"]).check()
    except (ValueError, EdgeclfError):
        return {}
    return {
        "labels": tuple(facts["labels"]),
        "size": (spec.height, spec.width),
        "layout": "NHWC",
        "color": spec.color,
        "range": "0-255",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "resize": spec.resize,
        "crop": spec.crop,
    }


def _ultralytics(metadata: Mapping[str, str], name: str) -> Stated:
    """As ultralytics' classify_transforms makes images: the centered square, RGB, 0 to 1, nothing subtracted."""
    task = metadata.get("task", "classify")
    if task != "classify":
        raise ModelError(f"{name} was made for the task {task!r:.40}; a classifier (task classify) was expected")
    names = {int(index): ast.literal_eval(text) for index, text in _NAME.findall(metadata["names"])}
    sides = [int(side) for side in re.findall(r"\d{1,4}", metadata["imgsz"])][:2]
    return {
        "labels": tuple(names[index] for index in sorted(names)) if sorted(names) == list(range(len(names))) else None,
        "size": (sides[0], sides[-1]) if sides else None,
        "layout": "NCHW",
        "color": "RGB",
        "range": "0-1",
        "mean": (0.0, 0.0, 0.0),
        "std": (1.0, 1.0, 1.0),
        "resize": "crop",
        "crop": 1.0,
    }


def _model_api(info: Mapping[str, str], name: str) -> Stated:
    """Return what Model API states; not the color, since its versions differ in the order that is reversed."""
    kind = info.get("model_type", "Classification")
    if kind.lower() != "classification":
        raise ModelError(f"{name} has the model type {kind!r:.40}; Classification was expected")
    labels = tuple(info.get("labels", "").split())
    return {
        "labels": labels or None,
        "range": "0-255",
        "mean": _numbers(info.get("mean_values", "0")),
        "std": _numbers(info.get("scale_values", "1")),
        "resize": _MODEL_API_RESIZE.get(info.get("resize_type", "standard")),
    }


def from_timm(config: object) -> Stated:
    """Return what timm's configuration of a model states: a ``pretrained_cfg``, or a config.json that holds one."""
    if not isinstance(config, Mapping):
        return {}
    labels = config.get("label_names") or config.get("labels")
    inner = config.get("pretrained_cfg", config)
    if not isinstance(inner, Mapping) or "mean" not in inner or "std" not in inner:
        return {}
    labels = labels or inner.get("label_names")
    size = inner.get("input_size")
    crop = inner.get("crop_pct")
    named = isinstance(labels, (list, tuple)) and all(isinstance(label, str) for label in labels)
    return {
        "labels": tuple(labels) if named and labels else None,
        "size": (int(size[1]), int(size[2])) if isinstance(size, (list, tuple)) and len(size) == 3 else None,
        "color": "RGB",
        "range": "0-1",
        "mean": _numbers(" ".join(map(str, inner["mean"]))),
        "std": _numbers(" ".join(map(str, inner["std"]))),
        "resize": {"squash": "stretch", "border": "letterbox"}.get(str(inner.get("crop_mode")), "crop"),
        "crop": float(crop) if isinstance(crop, (int, float)) and 0.1 <= crop <= 1 else None,
    }


def read_config(path: Path) -> Stated:
    """Return what a timm model's config.json states; OptionError if it states no mean and std."""
    try:
        found = from_timm(read_json(path, MAX_JSON_BYTES))
    except (OSError, ValueError) as error:
        raise OptionError(f"{path} cannot be read ({reason(error)}); a timm model's config.json was expected") from None
    if not found:
        raise OptionError(f"{path} has no mean and std; a timm model's config.json was expected")
    return found


def _numbers(text: str) -> Three | None:
    """Return the three numbers of a text, or one three times; None for anything else."""
    try:
        numbers = tuple(float(part) for part in re.split(r"[\s,]+", text.strip()))
    except ValueError:
        return None
    numbers = numbers * 3 if len(numbers) == 1 else numbers
    return numbers if len(numbers) == 3 and all(map(math.isfinite, numbers)) else None
