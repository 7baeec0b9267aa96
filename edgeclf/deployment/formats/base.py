"""The interface of every format: what is written, and by which runtime it is loaded back."""

from __future__ import annotations

import contextlib
import os
import sys
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from edgeclf_runtime.files.schema import JsonObject
from edgeclf_runtime.runners.base import Runner

from ...data.temporary import temporary_folder
from ...display.json_file import json_text
from ...errors import DependencyError
from ...evaluation.metadata import model_metadata
from ...graph.features import with_features
from ...graph.onnx_file import write_onnx
from ...targets import model_file
from ...training.runs import Run

if TYPE_CHECKING:
    import torch

    from ...training.architecture import ImageClassifier


TORCH = "2.14.1"
"""The version of torch that the converters were tried with."""


@dataclass(frozen=True)
class Source:
    """The source of a format's file."""

    run: Run

    @cached_property
    def network(self) -> ImageClassifier:
        """The torch network; ModelError for an imported run, which has none."""
        return self.run.network()

    @property
    def example(self) -> torch.Tensor:
        """One black image: float32 [1, height, width, 3]."""
        import torch

        return torch.zeros(1, self.run.preprocessing.height, self.run.preprocessing.width, 3)

    @property
    def facts(self) -> JsonObject:
        """Labels and preprocessing, as JSON can hold them, for formats with room for metadata."""
        return {"labels": list(self.run.labels), "preprocessing": self.run.preprocessing._asdict()}

    @property
    def text(self) -> str:
        """The facts as JSON."""
        return json_text(self.facts)

    @property
    def metadata(self) -> dict[str, str]:
        """The metadata of the run's ONNX file."""
        return model_metadata(self.run, "fp32")

    @cached_property
    def fixed(self) -> bool:
        """True if the file of an imported run takes one image at a time; other networks take any number."""
        if not self.run.imported:
            return False
        import onnx

        (image,) = onnx.load(self.run.file(model_file("fp32"))).graph.input
        return bool(image.type.tensor_type.shape.dim[0].dim_value)

    @contextlib.contextmanager
    def onnx_file(self) -> Iterator[Path]:
        """Yield the FP32 ONNX file: an imported run's own, else a new one of the network."""
        if self.run.imported:
            yield self.run.file(model_file("fp32"))
            return
        with temporary_folder() as folder:
            path = Path(folder, model_file("fp32"))
            write_onnx(self.network, self.run.preprocessing, path, self.metadata, with_features)
            yield path


class FormatModule(Protocol):
    """The interface of a format's module."""

    def write(self, source: Source, path: Path) -> None:
        """Write the file, or into the empty folder; may raise anything that the library does."""

    def load(self, path: Path, threads: int) -> Runner | str:
        """Return the file on its own runtime, or, where that cannot run, what was checked instead."""


@dataclass(frozen=True)
class Format:
    """One format of a model file."""

    name: str
    module: str
    """The module of this package that writes and loads it."""
    file: str
    """Its name in a run."""
    runtime: str
    """The package on PyPI that loads it back, whose version the report states."""
    needs: tuple[tuple[str, str], ...] = ()
    """Each package on PyPI that it needs besides edgeclf's own, and the versions that were tried."""
    extra: str = ""
    """The extra of setup.py that installs them."""
    marker: str = ""
    """A file that only such a folder has; "": the format is a single file."""
    batch: str = "any"
    """Number of images that the file takes at once."""

    def check(self) -> None:
        """Raise DependencyError if a package that it needs is missing, without importing any."""
        missing = [package for package, _ in self.needs if not _installed(package)]
        if missing:
            raise DependencyError(
                f"the format {self.name} needs {' and '.join(missing)}, which {'is' if len(missing) == 1 else 'are'} not "
                f"installed; install it: python3 -m pip install 'edgeclf[{self.extra}]'"
            )

    @property
    def version(self) -> str:
        """The version of its runtime."""
        return _installed(self.runtime)

    def versions(self) -> str:
        """Return what is installed and what was tried, for errors of a converter."""
        tried = {"torch": TORCH, **dict(self.needs)}
        found = ", ".join(f"{package} {_installed(package)}" for package in tried)
        expected = ", ".join(f"{package} {tested}" for package, tested in tried.items())
        return f"found {found}; it was tried with {expected}"


def _installed(package: str) -> str:
    """Return the version of a package, "" if it is not installed."""
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Discard what a converter prints and warns, also from C++: results go to stdout, and progress is ours."""
    sys.stdout.flush()
    sys.stderr.flush()
    kept = {}
    for number in (1, 2):
        with contextlib.suppress(OSError):  # the stream is closed
            kept[number] = os.dup(number)
    try:
        with open(os.devnull, "wb") as nothing, warnings.catch_warnings():
            warnings.simplefilter("ignore")
            for number in kept:
                os.dup2(nothing.fileno(), number)
            with open(os.devnull, "w") as text, contextlib.redirect_stdout(text), contextlib.redirect_stderr(text):
                yield
    finally:
        for number, copy in kept.items():
            os.dup2(copy, number)
            os.close(copy)
