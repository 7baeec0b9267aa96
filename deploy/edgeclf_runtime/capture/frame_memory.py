"""Memory that the capture process fills with pictures and its parent reads.

A memfd that is sealed once it has its size: a file that the other process can shorten would end
its reader by SIGBUS.  Where the kernel or the C library has none it is a file without a name, in /dev/shm or in the
temporary folder.  It is reserved as a whole before it is used: a file of that length alone promises nothing, and a full
/dev/shm, which a container of Docker's has 64 MB of, would end whoever writes to it by SIGBUS.
"""

import contextlib
import ctypes
import errno
import fcntl
import logging
import mmap
import os
import platform
import tempfile
from typing import Any, List

from ..device.cgroups import memory_limit
from ..errors import CameraError
from ..files.user_folders import temporary_folder

SHARED = "/dev/shm"
_CLOEXEC, _ALLOW_SEALING, _NOEXEC_SEAL = 1, 2, 8
_ADD_SEALS = 1033
_SEAL, _SHRINK, _GROW = 1, 2, 4
# For C libraries without memfd_create (glibc before 2.27): arch/*/syscall*.tbl of the kernel.
_SYSCALLS = {"x86_64": 319, "aarch64": 279, "armv7l": 385, "armv8l": 385}
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


class FrameMemory:
    """Shared memory, empty at first; ``sealable`` if its size can be fixed.

    handles     of the files that it may lie in: the other process reserves it in one of them, see :func:`reserve`

    Raises CameraError if there is neither a memfd nor a folder for a file.
    """

    def __init__(self):
        descriptor = _memfd()
        self.sealable = descriptor >= 0
        self._files: List[Any] = [os.fdopen(descriptor, "w+b", 0)] if self.sealable else list(_nameless_files())
        if not self._files:
            raise CameraError(
                "there is no memory for a camera's pictures: the kernel has no memfd, and neither {} nor the temporary "
                "folder can be written; in a container mount a tmpfs there (docker run --shm-size=512m), or set "
                "TMPDIR".format(SHARED)
            )
        self.handles = [file.fileno() for file in self._files]

    def fileno(self):
        """The first handle."""
        return self.handles[0]

    def open(self, size):
        """Fix the size and map ``size`` bytes of it; raises ValueError where it holds fewer."""
        file = max(self._files, key=lambda file: os.fstat(file.fileno()).st_size)
        if self.sealable:
            try:
                fcntl.fcntl(file.fileno(), _ADD_SEALS, _SHRINK | _GROW | _SEAL)
            except OSError:
                raise ValueError("the frames' memory was sealed by somebody else")
        found = os.fstat(file.fileno()).st_size
        if found < size:
            raise ValueError("the frames' memory holds {} bytes, {} were expected".format(found, size))
        if not self.sealable and _place(file.fileno()) != SHARED:
            _log.warning(
                "%d MB of pictures are kept in %s, which may be slow, since %s has no room: in a container "
                "docker run --shm-size=%s",
                size / 1e6,
                _place(file.fileno()),
                SHARED,
                _shm_size(size),
            )
        return mmap.mmap(file.fileno(), size)

    def close(self):
        """Close the handles; what is mapped stays."""
        for file in self._files:
            file.close()


def reserve(handles, size, name):
    """Reserve ``size`` bytes for the pictures of a source in the first of the files that has room; returns its handle.

    Raises CameraError, which names what each place has, if none has room.
    """
    limit = memory_limit()
    if limit is not None and size > limit:
        raise CameraError(
            "the pictures of {} need {:.0f} MB of memory, and this container may use {:.0f} MB: start it with more "
            "(docker run --memory), or set --width and --height".format(name, size / 1e6, limit / 1e6)
        )
    found = []
    for handle in handles:
        try:
            _allocate(handle, size)
            return handle
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(handle, 0)
            found.append(_room(handle, error))
    raise CameraError(
        "the pictures of {} need {:.0f} MB of shared memory: {}; in a container docker run --shm-size={}, else set TMPDIR to "
        "a folder with room, or set --width and --height".format(name, size / 1e6, ", ".join(found), _shm_size(size))
    )


def _allocate(handle, size):
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        # musl leaves it to us if the file system cannot.
        for start in range(0, size, _CHUNK):
            os.pwrite(handle, bytes(min(_CHUNK, size - start)), start)


def _room(handle, error):
    try:
        found = os.fstatvfs(handle)
        sizes = tuple(blocks * found.f_frsize / 1e6 for blocks in (found.f_bavail, found.f_blocks))
    except OSError:
        sizes = (0.0, 0.0)
    shown = " has {:.0f} MB free of {:.0f} MB".format(*sizes) if sizes[1] else ""
    return "{}{} ({})".format(_place(handle), shown, error.strerror)


def _place(handle):
    """Return the folder of a file without a name."""
    try:
        folder = os.path.dirname(os.readlink("/proc/self/fd/{}".format(handle)))
    except OSError:
        folder = ""
    return folder if folder.strip("/") else "the kernel's memory"


def _shm_size(size):
    """Return a size for --shm-size that has room for two such cameras."""
    megabytes = 128
    while megabytes << 20 < 2 * size:
        megabytes *= 2
    return "{}m".format(megabytes)


def anonymous_file():
    """Return a new file without a name, unbuffered, open for reading and writing; OSError if there can be none."""
    descriptor = _memfd()
    if descriptor >= 0:
        return os.fdopen(descriptor, "w+b", 0)
    for file in _nameless_files():
        return file
    raise OSError(errno.ENOSPC, "neither {} nor the temporary folder can be written".format(SHARED))


def _nameless_files():
    for folder in dict.fromkeys([SHARED, temporary_folder()]):
        if folder is not None:
            with contextlib.suppress(OSError):
                yield tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - whoever takes it closes it


def has_memfd():
    """Whether the kernel gives memfds here."""
    descriptor = _memfd()
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


def _memfd():
    """Return a new memfd, or -1."""
    sealed = _CLOEXEC | _ALLOW_SEALING
    # Linux before 6.3 does not know the first; a kernel that demands it (vm.memfd_noexec) takes no other.
    descriptor = _create(sealed | _NOEXEC_SEAL)
    return descriptor if descriptor >= 0 else _create(sealed)


def _create(flags):
    """Call memfd_create(2), which Python has from 3.8 on and glibc from 2.27 on; the kernel has it from 3.17 on."""
    name, library = b"edgeclf frames", ctypes.CDLL(None)
    create = getattr(library, "memfd_create", None)
    if create is not None:
        return create(name, flags)
    number = _SYSCALLS.get(platform.machine())
    return -1 if number is None else library.syscall(number, name, flags)
