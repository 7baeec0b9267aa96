"""Turns a folder of photographs into an image classifier that runs on a small device's camera.

Every subcommand of ``edgeclf`` is a function of the same name here (``import``, a word of Python's own, is ``import_model``).  Each name is imported on
first use, so that ``import edgeclf`` is fast.  Nothing is downloaded unless you ask for it, and nothing is
reported to anyone: see SECURITY.md.
"""

from __future__ import annotations

import importlib
import os
from typing import TYPE_CHECKING

from edgeclf_runtime import __version__

if TYPE_CHECKING:
    from .calibration.calibrate import CalibrateReport, calibrate
    from .calibration.sets import CalibrationSet
    from .data.checks.integrity import CheckReport, Finding, check
    from .data.datasets import Dataset, Sample, load_dataset
    from .deployment.bundling import BundleReport, bundle
    from .deployment.demonstration import DemoReport, demo
    from .deployment.engines import BuildReport, build
    from .deployment.foreign.import_model import ImportReport, import_model
    from .deployment.formats.export import FormatsError, FormatsReport, export_formats
    from .deployment.make import MakeReport, make
    from .deployment.serving.serve import serve
    from .display.progress import show_progress
    from .errors import (
        BackendError,
        BundleError,
        CameraError,
        DataError,
        DependencyError,
        EdgeclfError,
        GateError,
        ImageError,
        ModelError,
        OptionError,
        OutputError,
        WeightsError,
    )
    from .evaluation.audit.audit import audit
    from .evaluation.audit.report import AuditReport
    from .evaluation.bulk.bulk_predict import BulkReport, bulk_predict
    from .evaluation.evaluate import Evaluation, evaluate
    from .evaluation.export import ExportReport, export
    from .evaluation.predict import Prediction, predict
    from .evaluation.robustness.report import RobustnessReport
    from .evaluation.robustness.robustness import robustness
    from .evaluation.two_models.compare import compare
    from .evaluation.two_models.report import CompareReport
    from .options import (
        AuditOptions,
        AugmentOptions,
        BuildOptions,
        BulkOptions,
        BundleOptions,
        CalibrateOptions,
        CheckOptions,
        CompareOptions,
        DemoOptions,
        EvaluateOptions,
        ExportOptions,
        ImportOptions,
        MakeOptions,
        PredictOptions,
        QuantizeOptions,
        RobustnessOptions,
        ServeOptions,
        SplitOptions,
        TrainOptions,
    )
    from .quantization.quantize import quantize
    from .quantization.report import FlavorError, QuantizeReport
    from .training.augmentation.sheet import AugmentReport, augment
    from .training.runs import Run, read_run
    from .training.train import TrainReport, train

__all__ = [
    "AuditOptions",
    "AuditReport",
    "AugmentOptions",
    "AugmentReport",
    "BackendError",
    "BuildOptions",
    "BuildReport",
    "BulkOptions",
    "BulkReport",
    "BundleError",
    "BundleOptions",
    "BundleReport",
    "CalibrateOptions",
    "CalibrateReport",
    "CalibrationSet",
    "CameraError",
    "CheckOptions",
    "CheckReport",
    "CompareOptions",
    "CompareReport",
    "DataError",
    "Dataset",
    "DemoOptions",
    "DemoReport",
    "DependencyError",
    "EdgeclfError",
    "EvaluateOptions",
    "Evaluation",
    "ExportOptions",
    "ExportReport",
    "Finding",
    "FlavorError",
    "FormatsError",
    "FormatsReport",
    "GateError",
    "ImageError",
    "ImportOptions",
    "ImportReport",
    "MakeOptions",
    "MakeReport",
    "ModelError",
    "OptionError",
    "OutputError",
    "PredictOptions",
    "Prediction",
    "QuantizeOptions",
    "QuantizeReport",
    "RobustnessOptions",
    "RobustnessReport",
    "Run",
    "Sample",
    "ServeOptions",
    "SplitOptions",
    "TrainOptions",
    "TrainReport",
    "WeightsError",
    "__version__",
    "audit",
    "augment",
    "build",
    "bulk_predict",
    "bundle",
    "calibrate",
    "check",
    "compare",
    "demo",
    "evaluate",
    "export",
    "export_formats",
    "import_model",
    "load_dataset",
    "make",
    "predict",
    "quantize",
    "read_run",
    "robustness",
    "serve",
    "show_progress",
    "train",
]

# The names of each module.
_NAMES = {
    "calibration.calibrate": ("CalibrateReport", "calibrate"),
    "calibration.sets": ("CalibrationSet",),
    "data.datasets": ("Dataset", "Sample", "load_dataset"),
    "data.checks.integrity": ("CheckReport", "Finding", "check"),
    "deployment.bundling": ("BundleReport", "bundle"),
    "deployment.demonstration": ("DemoReport", "demo"),
    "deployment.engines": ("BuildReport", "build"),
    "deployment.formats.export": ("FormatsError", "FormatsReport", "export_formats"),
    "deployment.foreign.import_model": ("ImportReport", "import_model"),
    "deployment.make": ("MakeReport", "make"),
    "deployment.serving.serve": ("serve",),
    "errors": (
        "BackendError",
        "BundleError",
        "CameraError",
        "DataError",
        "DependencyError",
        "EdgeclfError",
        "GateError",
        "ImageError",
        "ModelError",
        "OptionError",
        "OutputError",
        "WeightsError",
    ),
    "evaluation.audit.audit": ("audit",),
    "evaluation.audit.report": ("AuditReport",),
    "evaluation.bulk.bulk_predict": ("BulkReport", "bulk_predict"),
    "evaluation.evaluate": ("Evaluation", "evaluate"),
    "evaluation.export": ("ExportReport", "export"),
    "evaluation.predict": ("Prediction", "predict"),
    "evaluation.robustness.report": ("RobustnessReport",),
    "evaluation.robustness.robustness": ("robustness",),
    "evaluation.two_models.compare": ("compare",),
    "evaluation.two_models.report": ("CompareReport",),
    "options": (
        "AuditOptions",
        "AugmentOptions",
        "BuildOptions",
        "BulkOptions",
        "BundleOptions",
        "CalibrateOptions",
        "CheckOptions",
        "CompareOptions",
        "DemoOptions",
        "EvaluateOptions",
        "ExportOptions",
        "ImportOptions",
        "MakeOptions",
        "PredictOptions",
        "QuantizeOptions",
        "RobustnessOptions",
        "ServeOptions",
        "SplitOptions",
        "TrainOptions",
    ),
    "display.progress": ("show_progress",),
    "quantization.quantize": ("quantize",),
    "quantization.report": ("FlavorError", "QuantizeReport"),
    "training.augmentation.sheet": ("AugmentReport", "augment"),
    "training.runs": ("Run", "read_run"),
    "training.train": ("TrainReport", "train"),
}
_HOMES = {name: module for module, names in _NAMES.items() for name in names}

# timm imports huggingface_hub, whose requests identify the user, also to its maker's telemetry.
os.environ["HF_HUB_DISABLE_TELEMETRY"] = "1"


def __getattr__(name: str) -> object:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f".{_HOMES[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
