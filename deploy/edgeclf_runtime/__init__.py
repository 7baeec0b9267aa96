"""The device runtime: opens a verified bundle and classifies images and camera frames.

    from edgeclf_runtime import Classifier, open_camera

    with Classifier.open("NAME.edge") as classifier, open_camera("/dev/video0") as camera:
        for item in classifier.stream(camera):
            print(item.result)

Runs on Python 3.6 to 3.13 with numpy, OpenCV and one inference backend.  Each public name is imported on first use,
so that ``--help`` is quick on a small machine.  Sends no telemetry: see SECURITY.md.
"""

import importlib
import os
import sys
from types import ModuleType

# The modules that every start imports do not import typing: on Python 3.6, that would take longer than importing all of
# them.  Type checkers take this name for true.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, List, MutableMapping

    from .bundle.open_bundle import open_bundle
    from .capture.camera import Camera
    from .capture.open_camera import open_camera
    from .classify.classifier import Classifier
    from .errors import (
        BackendError,
        BundleError,
        CameraError,
        CameraLost,
        DependencyError,
        EdgeclfError,
        EndOfStream,
        GateError,
        ImageError,
        IncompleteFilm,
        OptionError,
        OutputError,
        SourceError,
        Unavailable,
    )
    from .images.frame import Frame
    from .results import Result

__version__ = "0.1.0"
__all__ = [
    "BackendError",
    "BundleError",
    "Camera",
    "CameraError",
    "CameraLost",
    "Classifier",
    "DependencyError",
    "EdgeclfError",
    "EndOfStream",
    "Frame",
    "GateError",
    "ImageError",
    "IncompleteFilm",
    "OptionError",
    "OutputError",
    "Result",
    "SourceError",
    "Unavailable",
    "__version__",
    "open_bundle",
    "open_camera",
]

# Modules of the public names; all others are in ``errors``.
_HOMES = {
    "Camera": "capture.camera",
    "Classifier": "classify.classifier",
    "Frame": "images.frame",
    "Result": "results",
    "open_bundle": "bundle.open_bundle",
    "open_camera": "capture.open_camera",
}

# The limits of a decoded image; the limit of a side is OpenCV's own default.
MAX_IMAGE_PIXELS = 50 * 1000 * 1000
MAX_IMAGE_SIDE = 1 << 20


class _LazyModule(ModuleType):
    """Imports a public name on first use; a module's own ``__getattr__`` (PEP 562) needs Python 3.7."""

    def __getattr__(self, name: str) -> "Any":
        if name not in __all__:
            raise AttributeError("module {!r} has no attribute {!r}".format(__name__, name))
        value = getattr(importlib.import_module("." + _HOMES.get(name, "errors"), __name__), name)
        setattr(self, name, value)
        return value

    def __dir__(self) -> "List[str]":
        return sorted(set(super().__dir__()) | set(__all__))


def _limit_opencv_images(environment: "MutableMapping[str, str]") -> None:
    """Set the image size limits that OpenCV reads when it is loaded; a smaller limit that is already set is kept."""
    for name, limit in (("PIXELS", MAX_IMAGE_PIXELS), ("WIDTH", MAX_IMAGE_SIDE), ("HEIGHT", MAX_IMAGE_SIDE)):
        name = "OPENCV_IO_MAX_IMAGE_" + name
        if not 0 <= _opencv_size(environment.get(name, "")) <= limit:
            environment[name] = str(limit)


def _opencv_size(text: str) -> int:
    """Parse a size as OpenCV does; return -1 for an invalid one, with which OpenCV could not be loaded at all."""
    number = text.rstrip("MKBbkm")
    unit = {"": 1, "KB": 1 << 10, "Kb": 1 << 10, "kb": 1 << 10, "MB": 1 << 20, "Mb": 1 << 20, "mb": 1 << 20}.get(
        text[len(number) :]
    )
    # OpenCV overflows on more digits.
    if unit is None or not 0 < len(number) < 10 or not set(number) <= set("0123456789"):
        return -1
    return int(number) * unit


sys.modules[__name__].__class__ = _LazyModule
_limit_opencv_images(os.environ)
# Since version 1.29, ONNX Runtime keeps an id in ~/.cache and sends telemetry unless this is set when it is imported.
# It overrides the user's setting: that nothing is sent must not depend on the environment.
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
