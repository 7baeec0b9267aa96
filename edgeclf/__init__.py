"""edgeclf: from a folder of photographs to a classifier that runs on a Jetson's camera, proved at every step.

Every subcommand of ``edgeclf`` is a function of the same name here.  Each is imported when it
is first used, so that ``import edgeclf`` costs nothing.  It reports to nobody, and downloads
nothing: see SECURITY.md.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING, Any

from edgeclf_runtime import __version__

if TYPE_CHECKING:
    from .building import BuildOptions, build
    from .bundling import BundleOptions, bundle
    from .calibrating import CalibrateOptions, calibrate
    from .calibration import CalibrationSet
    from .datasets import Dataset, Sample, load_dataset
    from .demonstration import demo
    from .errors import EdgeclfError
    from .evaluation import evaluate
    from .exporting import export
    from .integrity import check
    from .prediction import predict
    from .quantization import QuantizeOptions, quantize
    from .splitting import SplitOptions
    from .training import TrainOptions, train

__all__ = [
    "BuildOptions",
    "BundleOptions",
    "CalibrateOptions",
    "CalibrationSet",
    "Dataset",
    "EdgeclfError",
    "QuantizeOptions",
    "Sample",
    "SplitOptions",
    "TrainOptions",
    "__version__",
    "build",
    "bundle",
    "calibrate",
    "check",
    "demo",
    "evaluate",
    "export",
    "load_dataset",
    "predict",
    "quantize",
    "train",
]

_HOMES = {
    "BuildOptions": "building",
    "BundleOptions": "bundling",
    "CalibrateOptions": "calibrating",
    "CalibrationSet": "calibration",
    "Dataset": "datasets",
    "EdgeclfError": "errors",
    "QuantizeOptions": "quantization",
    "Sample": "datasets",
    "SplitOptions": "splitting",
    "TrainOptions": "training",
    "build": "building",
    "bundle": "bundling",
    "calibrate": "calibrating",
    "check": "integrity",
    "demo": "demonstration",
    "evaluate": "evaluation",
    "export": "exporting",
    "load_dataset": "datasets",
    "predict": "prediction",
    "quantize": "quantization",
    "train": "training",
}

# timm loads huggingface_hub, which adds to its requests who asks, and says it to its maker's telemetry too.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
