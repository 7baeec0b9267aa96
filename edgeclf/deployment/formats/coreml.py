"""Core ML (.mlpackage) for Apple's devices, as an ML program in float32.

Only macOS runs Core ML: elsewhere the file's specification is checked, and no logits are compared.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ...data.folder_update import copy_folder
from ...data.temporary import temporary_folder
from ...errors import GateError
from ...graph.onnx_file import INPUT, OUTPUT
from .base import Source


def write(source: Source, path: Path) -> None:
    """Write the package into a folder, with labels and preprocessing in its user-defined metadata."""
    import coremltools
    import torch

    with torch.no_grad():
        traced = torch.jit.trace(source.network, source.example, check_trace=False)
    model = coremltools.convert(
        traced,
        inputs=[coremltools.TensorType(INPUT, shape=tuple(source.example.shape))],
        outputs=[coremltools.TensorType(OUTPUT)],
        convert_to="mlprogram",
        compute_precision=coremltools.precision.FLOAT32,
        minimum_deployment_target=coremltools.target.iOS15,
    )
    model.user_defined_metadata["edgeclf"] = source.text
    with temporary_folder() as folder:
        # The library insists on the suffix, and on making the folder itself.
        package = Path(folder, "model.mlpackage")
        model.save(str(package))
        check(package, source)
        copy_folder(package, path)


def load(path: Path, threads: int) -> str:
    """Return why it was not run; :func:`write` has checked it."""
    return "specification checked; not run, Core ML needs macOS"


def check(package: Path, source: Source) -> None:
    """Raise GateError if the specification's input or output is not that of the contract."""
    import coremltools

    specification = coremltools.utils.load_spec(str(package)).description
    found = {one.name: _type(one) for one in (*specification.input, *specification.output)}
    spec = source.run.preprocessing
    expected = {INPUT: [1, spec.height, spec.width, 3], OUTPUT: [1, len(source.run.labels)]}
    if found != {name: ("FLOAT32", shape) for name, shape in expected.items()}:
        raise GateError(f"the Core ML file's specification says {found}; {expected} in FLOAT32 was expected")


def _type(feature: Any) -> tuple[str, list[int]]:
    array = feature.type.multiArrayType
    return array.ArrayDataType.Name(array.dataType), list(array.shape)
