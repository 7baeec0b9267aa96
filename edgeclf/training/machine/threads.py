"""Limits torch's threads for a block: torch counts processors, and ignores a container's quota."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from edgeclf_runtime.device.machine import quota_cores


@contextlib.contextmanager
def torch_threads(most: int | None = None) -> Iterator[None]:
    """In the block, let torch use at most so many threads, by default as many as the container's quota allows."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(min(threads, most or quota_cores() or threads))
    try:
        yield
    finally:
        torch.set_num_threads(threads)
