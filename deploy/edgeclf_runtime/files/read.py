"""Files on disk: reading and hashing them.

A file that somebody names is opened without waiting and read only if it is a regular file: a pipe
without a writer would block for ever, and a device has no end.  Knows nothing of what the files hold.
"""

import errno
import hashlib
import os
import stat

from .schema import parse_json

_CHUNK = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path, follow=True):
    """Open a regular file for reading bytes, without waiting.

    follow      whether a link at the path's end may lead to the file

    Raises OSError if the file is missing, unreadable, or anything but a regular file; its ``strerror`` names the kind.
    """
    path = str(path)
    # O_NONBLOCK: opening a pipe that nobody writes to would wait.
    flags = os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY | (0 if follow else os.O_NOFOLLOW)
    try:
        descriptor = os.open(path, flags)
    except OSError as error:
        if error.errno == errno.ELOOP and not follow:
            raise OSError(errno.ELOOP, "it is a link, a regular file was expected", path)
        if error.errno == errno.ENXIO:
            raise OSError(errno.ENXIO, "it is a socket or a device, a regular file was expected", path)
        raise
    try:
        mode = os.fstat(descriptor).st_mode
        if not stat.S_ISREG(mode):
            kind = next((name for test, name in _KINDS if test(mode)), "no file")
            raise OSError(errno.EINVAL, "it is {}, a regular file was expected".format(kind), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path, max_bytes, follow=True):
    """Return the bytes of a regular file; raises OSError as open_regular does, ValueError for more than ``max_bytes``."""
    with open_regular(path, follow) as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError("larger than {} bytes".format(max_bytes))
    return data


def read_json(path, max_bytes):
    """Return what a JSON file of at most ``max_bytes`` holds; raises OSError, or ValueError as schema.parse_json does."""
    return parse_json(read_bytes(path, max_bytes))


def sha256_file(path):
    """Return the SHA-256 of a regular file's bytes as 64 hexadecimal digits; raises OSError as open_regular does."""
    with open_regular(path) as stream:
        return sha256_stream(stream)


def sha256_stream(stream):
    """Return the SHA-256 of what is left of an open file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def sha256_bytes(data):
    """Return the SHA-256 of bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def native_path(path):
    """Return a path for a native library, which takes UTF-8: Python 3.6 without a locale holds other letters escaped."""
    return os.fsencode(str(path)).decode("utf-8", "surrogateescape")
