"""A HistogramStore: a run's histograms on disk, used again as long as nothing that they are made from has changed."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgeclf_runtime.files.outputs import new_file

from ..data.npz import reading_npz, write_npz
from ..data.schemas import HISTOGRAMS
from ..display.progress import say
from ..graph.int8.activations import collect_histograms
from ..graph.int8.histograms import Histogram, distinct

if TYPE_CHECKING:
    import onnx

HISTOGRAM_FILE = "histograms.npz"


class HistogramStore:
    """A file of histograms, and the key of what they are made from: a text for each thing, by its name."""

    def __init__(self, path: Path, key: Mapping[str, str]) -> None:
        self._path, self._key = path, dict(key)

    def recall(self, model: onnx.ModelProto, batches: Sequence[np.ndarray]) -> dict[str, Histogram]:
        """Return the cached histograms if their key matches; otherwise collect them, and log what changed.

        model: the prepared FP32 file.  batches: the calibration set, as collect_histograms() takes it.
        """
        if self._path.is_file():
            try:
                return self._read()
            except ValueError as error:
                say(f"{self._path} is ignored ({error}); collecting activations again")
        return collect_histograms(model, batches)

    def keep(self, histograms: Mapping[str, Histogram]) -> None:
        """Write histograms into the store's own file."""
        with new_file(self._path, overwrite=True) as work:
            self.write(Path(work), histograms)

    def write(self, path: Path, histograms: Mapping[str, Histogram]) -> None:
        """Write histograms, with this store's key, into another file."""
        groups = distinct(histograms)
        arrays = {
            "bounds": np.array([(one.low, one.high) for _, one in groups]),
            "exponents": np.array([one.exponent for _, one in groups]),
            "counts": np.array([one.counts for _, one in groups]),
        }
        write_npz(path, {"from": self._key, "names": [names for names, _ in groups]}, arrays)

    def _read(self) -> dict[str, Histogram]:
        """Return what the file holds; ValueError says why it cannot be used."""
        try:
            with reading_npz(self._path, HISTOGRAMS) as (header, arrays):
                changed = [name for name, value in self._key.items() if header["from"].get(name) != value]
                if not changed:
                    ones = [
                        Histogram.restore(low, high, exponent, counts)
                        for (low, high), exponent, counts in zip(
                            arrays["bounds"], arrays["exponents"], arrays["counts"], strict=True
                        )
                    ]
                    pairs = zip(header["names"], ones, strict=True)
                    return {name: one for names, one in pairs for name in names}
        except ValueError as error:
            raise ValueError(f"it cannot be read: {error}") from None
        raise ValueError(f"made from another {' and another '.join(changed)}")
