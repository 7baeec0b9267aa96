"""Files with a fit's state after an epoch: written whole or not at all, and read without running code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import TYPE_CHECKING, TypedDict

import torch

from edgeclf_runtime.files.outputs import new_file

from ...errors import ModelError

if TYPE_CHECKING:
    from torch.optim.optimizer import StateDict

Tensors = dict[str, torch.Tensor]


class State(TypedDict):
    """Everything that is needed to resume after an epoch; see Fit."""

    rows: list[dict[str, float]]
    best: Tensors
    wrong: list[tuple[int, int]]
    taken: int
    network: Tensors
    average: Tensors | None
    optimizer: StateDict
    schedule: list[dict[str, object]]
    precision: dict[str, object]


def write_state(file: Path, state: State) -> None:
    """Replace a checkpoint; if that fails, as on a full disk, the last one stays, and OutputError is raised."""
    # torch reports a full disk as a defect of its own.
    stream = io.BytesIO()
    torch.save(state, stream)
    with new_file(file, overwrite=True) as work:
        Path(work).write_bytes(stream.getbuffer())


def read_state(file: Path) -> State | None:
    """Return a checkpoint's state; None if there is none.  Raises ModelError if it is damaged."""
    if not file.is_file():
        return None
    try:
        state: State = torch.load(file, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError):
        raise ModelError(
            f"the checkpoint {file} is damaged; start again with --overwrite (train without --resume)"
        ) from None
    return state
