"""Every error that the host raises on purpose, beside those of the runtime.

EdgeclfError            the root (``edgeclf_runtime.errors`` draws its other children)
├── OptionError         an option has a value that cannot be meant
├── DataError           images or labels that cannot be trained or evaluated on
├── WeightsError        weights that are missing, or do not fit the backbone
├── ModelError          a run, an ONNX file or a bundle that cannot be used as asked
└── DependencyError     an optional library is not installed
"""

from edgeclf_runtime.errors import (
    BackendError,
    BundleError,
    CameraError,
    EdgeclfError,
    GateError,
    ImageError,
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


class OptionError(EdgeclfError):
    """An option has a value that cannot be meant."""


class DataError(EdgeclfError):
    """Images or labels cannot be trained or evaluated on."""


class WeightsError(EdgeclfError):
    """Weights are missing, or do not fit the backbone."""


class ModelError(EdgeclfError):
    """A run, an ONNX file or a bundle cannot be used as asked."""


class DependencyError(EdgeclfError):
    """An optional library is not installed."""
