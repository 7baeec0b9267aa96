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
    from .calibration.calibrate import CalibrateOptions, calibrate
    from .calibration.sets import CalibrationSet
    from .data.datasets import Dataset, Sample, load_dataset
    from .data.integrity import check
    from .data.splits import SplitOptions
    from .demonstration import demo
    from .deployment.bundling import BundleOptions, bundle
    from .deployment.engines import BuildOptions, EngineOptions, build
    from .deployment.export import export
    from .errors import EdgeclfError
    from .evaluation.evaluate import evaluate
    from .evaluation.predict import predict
    from .quantization.quantize import QuantizeOptions, quantize
    from .training.train import TrainOptions, train

__all__ = [
    "BuildOptions",
    "BundleOptions",
    "CalibrateOptions",
    "CalibrationSet",
    "Dataset",
    "EdgeclfError",
    "EngineOptions",
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
    "BuildOptions": "deployment.engines",
    "BundleOptions": "deployment.bundling",
    "CalibrateOptions": "calibration.calibrate",
    "CalibrationSet": "calibration.sets",
    "Dataset": "data.datasets",
    "EdgeclfError": "errors",
    "EngineOptions": "deployment.engines",
    "QuantizeOptions": "quantization.quantize",
    "Sample": "data.datasets",
    "SplitOptions": "data.splits",
    "TrainOptions": "training.train",
    "build": "deployment.engines",
    "bundle": "deployment.bundling",
    "calibrate": "calibration.calibrate",
    "check": "data.integrity",
    "demo": "demonstration",
    "evaluate": "evaluation.evaluate",
    "export": "deployment.export",
    "load_dataset": "data.datasets",
    "predict": "evaluation.predict",
    "quantize": "quantization.quantize",
    "train": "training.train",
}

# timm loads huggingface_hub, which adds to its requests who asks, and says it to its maker's telemetry too.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
