"""System calls that Python lacks or that a file system may refuse: exchange, rename to a free name, lock, flush."""

import errno
import fcntl
import os
import stat
import sys
from typing import NamedTuple

_AT_FDCWD = -100
_NO_REPLACE, _EXCHANGE = 1, 2
# System call numbers: glibc before 2.28 (JetPack 4 has 2.27) has no wrapper.
_RENAMEAT2 = {"x86_64": 316, "aarch64": 276}
_NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EBADF)
_NO_FLUSH = (errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP, errno.EBADF, errno.EROFS)


class Lock(NamedTuple):
    """A lock on a file or a folder, held until it is closed or its process dies.

    sure    False if the file system does not support locks: another process may hold the file
    """

    descriptor: int
    sure: bool

    def close(self) -> None:
        os.close(self.descriptor)

    def holds(self, path: str) -> bool:
        """Return whether this path is still the file or folder that was locked."""
        try:
            return os.path.samestat(os.fstat(self.descriptor), os.lstat(path))
        except FileNotFoundError:
            return False


def lock(path: str) -> Lock:
    """Lock a file or a folder without waiting.

    Raises BlockingIOError if someone else has locked it, and OSError as open does; links are not followed.
    """
    while True:
        flags = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
        mode = os.lstat(path).st_mode
        if not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
            raise OSError(errno.EINVAL, "it is neither a file nor a folder", path)
        # NFS gives an exclusive lock only on a file that is open for writing.
        descriptor = os.open(path, flags | (os.O_RDWR if stat.S_ISREG(mode) else os.O_RDONLY))
        try:
            held = Lock(descriptor, _flock(descriptor))
        except BaseException:
            os.close(descriptor)
            raise
        # Its last holder may have renamed or removed it in the meantime.
        if held.holds(path):
            return held
        held.close()


def _flock(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        return False
    return True


def exchange(first: str, second: str) -> None:
    """Exchange two names in one step; OSError if the kernel or the file system cannot."""
    _renameat2(first, second, _EXCHANGE)


def rename_new(source: str, target: str) -> None:
    """Rename a file to a name that must be free; FileExistsError if it is taken."""
    try:
        _renameat2(source, target, _NO_REPLACE)
        return
    except FileExistsError:
        raise
    except OSError:
        pass
    try:
        os.link(source, target)
    except FileExistsError:
        raise
    except OSError:
        if os.path.lexists(target):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), target)
        os.rename(source, target)
    else:
        os.remove(source)


def _renameat2(source: str, target: str, flags: int) -> None:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    names = (_AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), ctypes.c_uint(flags))
    number = _RENAMEAT2.get(os.uname().machine)
    if hasattr(libc, "renameat2"):
        result = libc.renameat2(*names)
    elif number is not None and sys.maxsize > 2**32:
        result = libc.syscall(ctypes.c_long(number), *names)
    else:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS), source)
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), source, None, target)


def flush(path: str) -> None:
    """Wait until a file's bytes or a folder's names are on the disk; OSError if the disk fails or is full.

    File systems that do not support flushing are trusted.
    """
    folder = os.path.isdir(path)
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOFOLLOW)
    except PermissionError:
        # A folder can be writable and not readable.
        if folder:
            return
        raise
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _NO_FLUSH and not (folder and error.errno in (errno.EACCES, errno.EPERM)):
            error.filename = path
            raise
    finally:
        os.close(descriptor)


def flush_tree(top: str) -> None:
    """Flush a file, or a folder with everything in it; links and special files are skipped."""
    if os.path.islink(top):
        return
    if os.path.isdir(top):
        for name in os.listdir(top):
            flush_tree(os.path.join(top, name))
    elif not os.path.isfile(top):
        return
    flush(top)
