"""The histograms of a run's activations, kept beside its models and used again while nothing that they come from changed.

The key names what they come from: the model, the images, the preprocessing and how values are counted.
"""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from edgeclf_runtime.files.outputs import new_file
from edgeclf_runtime.files.read import sha256_bytes, sha256_file
from edgeclf_runtime.files.schema import parse_json

from ..calibration.sets import CalibrationSet
from ..data.schemas import HISTOGRAMS
from ..progress import say
from ..training.runs import Run
from .activations import collect_histograms
from .histograms import BINS, SAMPLE, Histogram

HISTOGRAM_FILE = "histograms.npz"
_MOST_BYTES = 1 << 28
_KEY = "key"


def recall_histograms(
    run: Run, calibration: CalibrationSet, model: Any, batches: Sequence[np.ndarray], keep: bool = True
) -> dict[str, Histogram]:
    """Return the histograms of the run's FP32 file over the calibration set: the kept ones where they are of the same
    things, else new ones, which are kept; what differs is told.

    model: the prepared onnx.ModelProto of that file.
    keep: whether new ones are written into the run now; else the caller does so with keep_histograms().
    """
    path = run.path / HISTOGRAM_FILE
    key = _key(run, calibration)
    if path.is_file():
        differs, histograms = _read(path, key)
        if not differs:
            return histograms
        say(f"{path} is not used, for it is of {differs}: the activations are looked at anew")
    histograms = collect_histograms(model, batches)
    if keep:
        with new_file(path, overwrite=True) as work:
            keep_histograms(work, run, calibration, histograms)
    return histograms


def _key(run: Run, calibration: CalibrationSet) -> dict[str, str]:
    """Return what the histograms come from."""
    return {
        "model": sha256_file(run.file("model.fp32.onnx")),
        "calibration set": calibration.sha256,
        "preprocessing": sha256_bytes(json.dumps(run.preprocessing._asdict(), sort_keys=True).encode()),
        "settings": f"{BINS} bins, {SAMPLE} values",
    }


def _read(path: Path, key: dict[str, str]) -> tuple[str, dict[str, Histogram]]:
    """Return what differs, "" for nothing, and the histograms."""
    try:
        if path.stat().st_size > _MOST_BYTES:
            raise ValueError(f"more than {_MOST_BYTES} bytes")
        with zipfile.ZipFile(path) as archive:
            if sum(entry.file_size for entry in archive.infolist()) > _MOST_BYTES:
                raise ValueError(f"more than {_MOST_BYTES} bytes when unpacked")
        with np.load(path, allow_pickle=False) as stored:
            known = parse_json(str(stored[_KEY]).encode())
            HISTOGRAMS(known, "")
            counts = stored["counts"]
            if counts.shape != (len(known["names"]), 2 * BINS) or counts.dtype.kind != "i" or counts.min() < 0:
                raise ValueError("its counts have another shape or kind")
            wrong = [f"another {name}" for name in key if known["from"].get(name) != key[name]]
            if wrong:
                return " and ".join(wrong), {}
            histograms = {}
            for place, names in enumerate(known["names"]):
                one = Histogram()
                one.low, one.high = (float(value) for value in stored["bounds"][place])
                one.exponent, one.counts = int(stored["exponents"][place]), counts[place]
                histograms.update(dict.fromkeys(names, one))
            return "", histograms
    except (OSError, EOFError, ValueError, LookupError, TypeError, zipfile.BadZipFile, zlib.error) as error:
        return f"nothing that can be read ({error})", {}


def keep_histograms(path: str | Path, run: Run, calibration: CalibrationSet, histograms: dict[str, Histogram]) -> None:
    """Write a run's histograms into a file, with what they come from."""
    # A layer and its activation function share one.
    names: dict[int, list[str]] = {}
    for name, one in histograms.items():
        names.setdefault(id(one), []).append(name)
    ones = [histograms[group[0]] for group in names.values()]
    with open(path, "wb") as stream:
        np.savez_compressed(
            stream,
            key=np.array(json.dumps({"from": _key(run, calibration), "names": list(names.values())})),
            bounds=np.array([(one.low, one.high) for one in ones]),
            exponents=np.array([one.exponent for one in ones]),
            counts=np.array([one.counts for one in ones]),
        )
