"""Metadata of a run's ONNX files: edgeclf's own, and what ultralytics and OpenVINO's Model API read from such files."""

from __future__ import annotations

from edgeclf_runtime.files.read import sha256_file
from edgeclf_runtime.images.preprocess import Preprocessing

from ..display.json_file import json_text
from ..training.runs import WEIGHTS_FILE, Run

METADATA_KEY = "edgeclf"
SPLIT_SHA256 = "split_sha256"
"""Field of the metadata: hash of the list of the run's images."""
KEPT_SPLIT = "kept_split"
"""Field of the metadata: whether images kept the split that another run gave them."""
WEIGHTS = "weights_sha256"
"""Field of the metadata: hash of the run's weights from which the file was exported."""
MODEL_INFO = "model_info"
"""First word of each key that Model API reads."""
_MODEL_API_RESIZE = {"crop": "crop", "stretch": "standard", "letterbox": "fit_to_window_letterbox"}


def model_metadata(run: Run, model: str) -> dict[str, str]:
    """Return the metadata of an ONNX file of a run."""
    for_others = {**_for_ultralytics(run.labels, run.preprocessing), **_for_model_api(run.labels, run.preprocessing)}
    facts = {
        "model": model,
        "data": run.name,
        "labels": list(run.labels),
        "preprocessing": run.preprocessing._asdict(),
        "split": None if run.split_options is None else run.facts["data"]["split"],
        KEPT_SPLIT: run.kept_split,
        SPLIT_SHA256: (run.facts["data"] or {}).get("split_sha256", ""),
        WEIGHTS: weights_sha256(run),
    }
    return {METADATA_KEY: json_text(facts), **for_others}


def weights_sha256(run: Run) -> str | None:
    """Return the hash of a run's weights; an imported run has none."""
    path = run.path / WEIGHTS_FILE
    return sha256_file(path) if path.is_file() else None


def _for_ultralytics(labels: tuple[str, ...], spec: Preprocessing) -> dict[str, str]:
    """Return what ``ultralytics.nn.autobackend`` reads, each value a Python literal.

    Its predictor gives every model NCHW with values 0 to 1, and no key changes that: the shape makes it fail on our
    NHWC with values 0 to 255, instead of a wrong answer.
    """
    facts = {
        "task": "classify",
        "names": dict(enumerate(labels)),
        "imgsz": [spec.height, spec.width],
        "stride": 1,
        "batch": 1,
        "channels": 3,
    }
    return {key: str(value) for key, value in facts.items()}


def _for_model_api(labels: tuple[str, ...], spec: Preprocessing) -> dict[str, str]:
    """Return what ``model_api.models.ClassificationModel`` reads; it takes images as cv2.imread gives them.

    The graph normalizes, so nothing is subtracted or divided outside.  Model API separates labels by spaces, so those in
    a label become underscores; it has no share of the crop, and keeps the whole square.
    """
    facts = {
        "model_type": "Classification",
        "task_type": "classification",
        "labels": " ".join("_".join(label.split()) or "_" for label in labels),
        "mean_values": "0.0 0.0 0.0",
        "scale_values": "1.0 1.0 1.0",
        "reverse_input_channels": str(spec.color == "RGB"),
        "resize_type": _MODEL_API_RESIZE[spec.resize],
        "interpolation_mode": "LINEAR",
        "pad_value": "0",
    }
    return {f"{MODEL_INFO} {key}": value for key, value in facts.items()}
