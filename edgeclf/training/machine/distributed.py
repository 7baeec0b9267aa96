"""The processes of one training, if torchrun started several; the first one writes, prints and decides."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import TypeVar

T = TypeVar("T")
_LONGEST = timedelta(days=2)
"""The first process may check images for hours, while the others wait."""


def share() -> tuple[int, int]:
    """Return this process's rank and the number of processes."""
    if "TORCHELASTIC_RUN_ID" not in os.environ:
        return 0, 1
    return int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])


def leads() -> bool:
    """Return whether this process is the first, or the only one."""
    return share()[0] == 0


@contextlib.contextmanager
def joined() -> Iterator[None]:
    """Connect the processes for the block."""
    if share()[1] == 1:
        yield
        return
    import torch
    from torch import distributed

    from ...display.progress import show_progress

    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ["LOCAL_RANK"]))
    if not leads():
        show_progress(False)
    distributed.init_process_group("cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo", timeout=_LONGEST)
    try:
        yield
    finally:
        if distributed.is_initialized():
            distributed.destroy_process_group()


def shared(make: Callable[[], T]) -> T:
    """Return what the first process makes, in all of them."""
    if share()[1] == 1:
        return make()
    import torch
    from torch import distributed

    box: list[T | None] = [make() if leads() else None]
    distributed.broadcast_object_list(box, device=torch.device("cpu"))
    return box[0]  # type: ignore[return-value]
