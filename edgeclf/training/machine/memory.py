"""Keeps memory that a training step frees for the next step, instead of handing it back to the kernel."""

from __future__ import annotations

import contextlib
import ctypes
import platform
from collections.abc import Iterator

# Of malloc.h in glibc.
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3
_NEVER = 2**31 - 1
_USUAL = 32 * 2**20
"""The thresholds that glibc itself sets once a program has freed large blocks."""


@contextlib.contextmanager
def freed_memory_kept() -> Iterator[None]:
    """In the block, let this process keep the memory that it frees; nothing happens if the C library is not glibc.

    By default, glibc returns each block above a threshold, at most 32 MB, to the kernel, and the kernel fills the next one with
    zeros page by page.  A training step on a CPU frees and allocates hundreds of such blocks: about half of the time of an
    EfficientNet.
    """
    if platform.libc_ver()[0] != "glibc":
        yield
        return
    library = ctypes.CDLL(None)
    _limit(library, _NEVER)
    try:
        yield
    finally:
        _limit(library, _USUAL)
        library.malloc_trim(0)


def _limit(library: ctypes.CDLL, size: int) -> None:
    library.mallopt(_MMAP_THRESHOLD, size)
    library.mallopt(_TRIM_THRESHOLD, size)
