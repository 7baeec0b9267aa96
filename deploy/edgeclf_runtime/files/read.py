"""Reads and hashes files.

A file is opened without waiting, and read only if it is a regular file: a pipe without a writer would block forever,
and a device has no end.
"""

import errno
import hashlib
import os
import stat
from typing import Any, BinaryIO, Union

from .schema import parse_json

AnyPath = Union[str, "os.PathLike[str]"]
_CHUNK = 1 << 20
_KINDS = (
    (stat.S_ISDIR, "a folder"),
    (stat.S_ISFIFO, "a pipe"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISSOCK, "a socket"),
)


def open_regular(path: AnyPath, follow: bool = True) -> BinaryIO:
    """Open a regular file for reading bytes, without waiting.

    follow      whether the path may be a link to the file

    Raises OSError if the file is missing, unreadable or not a regular file; its ``strerror`` names the kind.
    """
    path = str(path)
    # O_NONBLOCK: without it, opening a pipe without a writer would wait.
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
            kind = next((name for test, name in _KINDS if test(mode)), "not a file")
            raise OSError(errno.EINVAL, "it is {}, a regular file was expected".format(kind), path)
        return os.fdopen(descriptor, "rb")
    except BaseException:
        os.close(descriptor)
        raise


def read_bytes(path: AnyPath, max_bytes: int, follow: bool = True) -> bytes:
    """Return a regular file's bytes; OSError as in open_regular, ValueError if there are more than ``max_bytes``."""
    with open_regular(path, follow) as stream:
        data = stream.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise ValueError("larger than {} bytes".format(max_bytes))
    return data


def read_json(path: AnyPath, max_bytes: int) -> Any:
    """Parse a JSON file of at most ``max_bytes``; raises OSError, or ValueError as schema.parse_json does."""
    return parse_json(read_bytes(path, max_bytes))


def sha256_file(path: AnyPath) -> str:
    """Return the SHA-256 of a regular file as 64 hexadecimal digits; OSError as in open_regular."""
    with open_regular(path) as stream:
        return sha256_stream(stream)


def sha256_stream(stream: BinaryIO) -> str:
    """Return the SHA-256 of the rest of an open file as 64 hexadecimal digits."""
    digest = hashlib.sha256()
    for chunk in iter(lambda: stream.read(_CHUNK), b""):
        digest.update(chunk)
    return digest.hexdigest()


def sha256_bytes(data: bytes) -> str:
    """Return the SHA-256 of bytes as 64 hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def native_path(path: AnyPath) -> str:
    """Return a path as UTF-8 for a native library; without a locale, Python 3.6 holds other letters escaped."""
    return os.fsencode(str(path)).decode("utf-8", "surrogateescape")
