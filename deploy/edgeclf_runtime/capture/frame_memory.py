"""Shared memory that the capture process fills with images and its parent reads.

A memfd, sealed once it has its size: if the other process could shorten the file, its reader would die of SIGBUS.
Without memfds in the kernel or the C library it is a nameless file in /dev/shm or in the temporary folder.  All of it is
reserved before it is used: a file's length by itself guarantees nothing, and writing to a full /dev/shm (64 MB in a Docker
container) would kill the writer with SIGBUS.
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
from typing import IO, Iterable, Iterator, List

from ..device.cgroups import memory_limit
from ..errors import CameraError
from ..files.user_folders import temporary_folder

SHARED = "/dev/shm"
_CLOEXEC, _ALLOW_SEALING, _NOEXEC_SEAL = 1, 2, 8
_ADD_SEALS = 1033
_SEAL, _SHRINK, _GROW = 1, 2, 4
# For C libraries without memfd_create (glibc before 2.27); from the kernel's arch/*/syscall*.tbl.
_SYSCALLS = {"x86_64": 319, "aarch64": 279, "armv7l": 385, "armv8l": 385}
_CHUNK = 1 << 20
_log = logging.getLogger(__name__)


class FrameMemory:
    """Shared memory, empty at first; ``sealable`` if its size can be fixed.

    handles     file descriptors of the candidates; the other process reserves the memory in one of them, see :func:`reserve`

    Raises CameraError if there is neither a memfd nor a writable folder.
    """

    def __init__(self) -> None:
        descriptor = _memfd()
        self.sealable = descriptor >= 0
        self._files: List[IO[bytes]] = [os.fdopen(descriptor, "w+b", 0)] if self.sealable else list(_nameless_files())
        if not self._files:
            raise CameraError(
                "there is no memory for a camera's frames: the kernel has no memfd, and neither {} nor the temporary "
                "folder is writable; in a container mount a tmpfs there (docker run --shm-size=512m), or set "
                "TMPDIR".format(SHARED)
            )
        self.handles = [file.fileno() for file in self._files]

    def fileno(self) -> int:
        """The first handle."""
        return self.handles[0]

    def open(self, size: int) -> mmap.mmap:
        """Fix the size, and map ``size`` bytes; raises ValueError if it holds fewer."""
        file = max(self._files, key=lambda file: os.fstat(file.fileno()).st_size)
        if self.sealable:
            try:
                fcntl.fcntl(file.fileno(), _ADD_SEALS, _SHRINK | _GROW | _SEAL)
            except OSError:
                raise ValueError("the frame memory was already sealed")
        found = os.fstat(file.fileno()).st_size
        if found < size:
            raise ValueError("the frame memory holds {} bytes, {} were expected".format(found, size))
        if not self.sealable and _folder_of(file.fileno()) != SHARED:
            _log.warning(
                "%d MB of frames are kept in %s, which may be slow, because %s has no room: in a container use "
                "docker run --shm-size=%s",
                size / 1e6,
                _folder_of(file.fileno()),
                SHARED,
                _shm_size(size),
            )
        return mmap.mmap(file.fileno(), size)

    def close(self) -> None:
        """Close the handles; what is mapped stays mapped."""
        for file in self._files:
            file.close()


def reserve(handles: Iterable[int], size: int, name: str) -> int:
    """Reserve ``size`` bytes for a source's images in the first file that has room; returns its handle.

    Raises CameraError, with the room found in each file, if none has enough.
    """
    limit = memory_limit()
    if limit is not None and size > limit:
        raise CameraError(
            "the frames of {} need {:.0f} MB of memory, but this container may use only {:.0f} MB: start it with more "
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
        "the frames of {} need {:.0f} MB of shared memory: {}; in a container use docker run --shm-size={}, elsewhere set "
        "TMPDIR to a folder with room, or set --width and --height".format(
            name, size / 1e6, ", ".join(found), _shm_size(size)
        )
    )


def _allocate(handle: int, size: int) -> None:
    try:
        os.posix_fallocate(handle, 0, size)
    except OSError as error:
        if error.errno not in (errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL):
            raise
        # musl, unlike glibc, has no fallback for file systems without fallocate.
        for start in range(0, size, _CHUNK):
            os.pwrite(handle, bytes(min(_CHUNK, size - start)), start)


def _room(handle: int, error: OSError) -> str:
    try:
        found = os.fstatvfs(handle)
        sizes = tuple(blocks * found.f_frsize / 1e6 for blocks in (found.f_bavail, found.f_blocks))
    except OSError:
        sizes = (0.0, 0.0)
    shown = " has {:.0f} MB free of {:.0f} MB".format(*sizes) if sizes[1] else ""
    return "{}{} ({})".format(_folder_of(handle), shown, error.strerror)


def _folder_of(handle: int) -> str:
    """Return the folder of a nameless file."""
    try:
        folder = os.path.dirname(os.readlink("/proc/self/fd/{}".format(handle)))
    except OSError:
        folder = ""
    return folder if folder.strip("/") else "kernel memory"


def _shm_size(size: int) -> str:
    """Return a value for --shm-size with room for two such cameras."""
    megabytes = 128
    while megabytes << 20 < 2 * size:
        megabytes *= 2
    return "{}m".format(megabytes)


def anonymous_file() -> IO[bytes]:
    """Return a new nameless file, unbuffered, open for reading and writing; raises OSError if there can be none."""
    descriptor = _memfd()
    if descriptor >= 0:
        return os.fdopen(descriptor, "w+b", 0)
    for file in _nameless_files():
        return file
    raise OSError(errno.ENOSPC, "neither {} nor the temporary folder is writable".format(SHARED))


def _nameless_files() -> Iterator[IO[bytes]]:
    for folder in dict.fromkeys([SHARED, temporary_folder()]):
        if folder is not None:
            with contextlib.suppress(OSError):
                yield tempfile.TemporaryFile(buffering=0, dir=folder)  # noqa: SIM115 - the caller closes it


def has_memfd() -> bool:
    """Return whether the kernel provides memfds here."""
    descriptor = _memfd()
    if descriptor >= 0:
        os.close(descriptor)
    return descriptor >= 0


def _memfd() -> int:
    """Return a new memfd, or -1."""
    sealed = _CLOEXEC | _ALLOW_SEALING
    # Linux before 6.3 does not know _NOEXEC_SEAL; a kernel with vm.memfd_noexec requires it.
    descriptor = _create(sealed | _NOEXEC_SEAL)
    return descriptor if descriptor >= 0 else _create(sealed)


def _create(flags: int) -> int:
    """Call memfd_create(2): in Python from 3.8, in glibc from 2.27, in the kernel from 3.17."""
    name, library = b"edgeclf frames", ctypes.CDLL(None)
    create = getattr(library, "memfd_create", None)
    if create is not None:
        return int(create(name, flags))
    number = _SYSCALLS.get(platform.machine())
    return -1 if number is None else int(library.syscall(number, name, flags))
