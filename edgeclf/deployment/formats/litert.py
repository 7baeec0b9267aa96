"""LiteRT, formerly TensorFlow Lite (.tflite), by Google's litert-torch."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgeclf_runtime.runners.base import ModelPath, Outputs, Runner

from .base import Source

if TYPE_CHECKING:
    import numpy as np


def write(source: Source, path: Path) -> None:
    """Write one file; metadata.json and labels.txt are a ZIP archive at its end, as TensorFlow Lite's metadata is."""
    import litert_torch

    litert_torch.convert(source.network, (source.example,)).export(str(path))
    # The same bytes each time: no date.
    with zipfile.ZipFile(path, "a") as archive:
        for name, text in (
            ("labels.txt", "".join(f"{label}\n" for label in source.run.labels)),
            ("metadata.json", source.text),
        ):
            archive.writestr(zipfile.ZipInfo(name), text)


def load(path: Path, threads: int) -> Runner:
    """Load it with LiteRT."""
    return _LiteRtRunner(path, threads)


class _LiteRtRunner(Runner):
    """A file of our own, one image at a time."""

    backend = "litert"
    title = "LiteRT"

    def _load(self, model_path: ModelPath, threads: int | None) -> None:
        from ai_edge_litert.interpreter import Interpreter

        self._model: Any = Interpreter(str(model_path), num_threads=threads)
        self._model.allocate_tensors()
        (source,), (result,) = self._model.get_input_details(), self._model.get_output_details()
        self._source, self._result = source["index"], result["index"]

    def _infer(self, batch: np.ndarray) -> Outputs:
        self._model.set_tensor(self._source, batch)
        self._model.invoke()
        return Outputs(self._model.get_tensor(self._result))

    def _free(self) -> None:
        self._model = None
