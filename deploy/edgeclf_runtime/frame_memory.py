"""Memory that the capture process fills with pictures and its parent reads.

A memfd that is sealed once it has its size: a file that the other process can shorten would end
its reader by SIGBUS.  Where the kernel or the C library has none it is a file without a name.
"""

import ctypes
import fcntl
import mmap
import os
import tempfile
from typing import Any

_CLOEXEC, _ALLOW_SEALING, _NOEXEC_SEAL = 1, 2, 8
_ADD_SEALS = 1033
_SEAL, _SHRINK, _GROW = 1, 2, 4


class FrameMemory:
    """A file of shared memory, empty at first; ``sealable`` where its size can be fixed."""

    def __init__(self):
        descriptor = _memfd()
        self.sealable = descriptor >= 0
        self._file: Any = (
            os.fdopen(descriptor, "w+b", 0)
            if self.sealable
            else tempfile.TemporaryFile(buffering=0, dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None)  # noqa: SIM115
        )

    def fileno(self):
        """The handle, for the other process."""
        return self._file.fileno()

    def open(self, size):
        """Fix the size and map ``size`` bytes of it; raises ValueError where it holds fewer."""
        if self.sealable:
            try:
                fcntl.fcntl(self.fileno(), _ADD_SEALS, _SHRINK | _GROW | _SEAL)
            except OSError:
                raise ValueError("the frames' memory was sealed by somebody else")
        found = os.fstat(self.fileno()).st_size
        if found < size:
            raise ValueError("the frames' memory holds {} bytes, {} were expected".format(found, size))
        return mmap.mmap(self.fileno(), size)

    def close(self):
        """Close the handle; what is mapped stays."""
        self._file.close()


def _memfd():
    """Return a new memfd, or -1: os.memfd_create came with Python 3.8, the C library's with glibc 2.27."""
    create = getattr(ctypes.CDLL(None), "memfd_create", None)
    if create is None:
        return -1
    sealed = _CLOEXEC | _ALLOW_SEALING
    # Linux before 6.3 does not know the first; a kernel that demands it (vm.memfd_noexec) takes no other.
    descriptor = create(b"edgeclf frames", sealed | _NOEXEC_SEAL)
    return descriptor if descriptor >= 0 else create(b"edgeclf frames", sealed)
