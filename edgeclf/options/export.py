"""Formats to write of a run's network."""

from __future__ import annotations

from dataclasses import dataclass

from ..errors import OptionError
from .declaration import MOVED, SKIP_UNREADABLE, check_fields, option

EXPORT_FORMATS = ("onnx", "torchscript", "torch-export", "openvino", "litert", "coreml", "executorch", "timm")
"""Formats of a file, implemented in ``deployment/formats``."""


@dataclass(frozen=True, kw_only=True)
class ExportOptions:
    """Formats to write of a run's network."""

    formats: tuple[str, ...] = option(
        (), "A format to write; may be repeated.", name="--format", shown="onnx", choices=EXPORT_FORMATS
    )
    golden: str | None = option(
        None, "Folder for images, their input tensors and logits, to test other programs with.", path=True
    )
    data: str | None = option(None, MOVED, metavar="DATA", path=True, shown="where they were")
    skip_unreadable: bool = option(False, SKIP_UNREADABLE)

    def __post_init__(self) -> None:
        check_fields(self)
        if len(set(self.formats)) < len(self.formats):
            raise OptionError(f"formats is {', '.join(self.formats)}; each was expected once")
