"""All errors that the host raises on purpose; those of the runtime can be imported from here too.

EdgeclfError            the root (``edgeclf_runtime.errors`` draws its other children)
├── DataError           images or labels cannot be trained or evaluated on
├── WeightsError        weights are missing or do not fit the backbone
└── ModelError          a run, an ONNX file or a bundle cannot be used as asked
"""

import re

from edgeclf_runtime.errors import (
    BackendError,
    BundleError,
    CameraError,
    DependencyError,
    EdgeclfError,
    GateError,
    ImageError,
    OptionError,
    OutputError,
)

__all__ = [
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
]


class DataError(EdgeclfError):
    """Images or labels cannot be trained or evaluated on."""


class WeightsError(EdgeclfError):
    """Weights are missing or do not fit the backbone."""


class ModelError(EdgeclfError):
    """A run, an ONNX file or a bundle cannot be used as asked."""


def reason(error: Exception) -> str:
    """Return why a file that the user named cannot be read, without Python's names and numbers of errors."""
    if isinstance(error, UnicodeError):
        return "it is not a text in UTF-8"
    return (error.strerror if isinstance(error, OSError) else "") or " ".join(str(error).split())


def first_sentence(error: Exception) -> str:
    """Return the first sentence of another library's error, without what it traces; its type if it says nothing."""
    lines = str(error).strip().splitlines()
    found = re.split(r"\.\s|\s+\[Caused by", lines[0])[0].rstrip(". ") if lines else ""
    return found or type(error).__name__
