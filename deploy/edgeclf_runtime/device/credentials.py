"""Passwords of cameras and brokers, from the environment or from a file."""

import logging
import os
import stat
from typing import Optional

from ..errors import OptionError
from ..files.read import AnyPath, open_regular
from ..text.redaction import protect
from .process_secrets import secret_bytes

_log = logging.getLogger(__name__)
_MAX_BYTES = 4096


def password_from(variable: str, user: Optional[str] = None) -> Optional[str]:
    """Return the password in an environment variable, or None; OptionError if it cannot be a password."""
    data = secret_bytes(variable)
    return _checked(data, "the environment's {}".format(variable), user) if data else None


def read_password(path: AnyPath) -> str:
    """Return the password in a file of one line, without its line end.

    Warns if others can read the file.  Raises OptionError if it is not a regular file or holds no password.
    """
    try:
        with open_regular(path) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise OptionError(
            "the password file {} cannot be read ({}); name a file with the password as its only line".format(
                path, error.strerror
            )
        )
    warn_of_readers(_log, mode, "the password file", path)
    return _checked(data, "the password file {}".format(path))


def warn_of_readers(log: logging.Logger, mode: int, what: str, path: AnyPath) -> None:
    """Warn if every user can read a secret's file; ``mode`` is its st_mode."""
    if mode & stat.S_IROTH:
        log.warning("every user of this machine can read %s %s: chmod 600 %s", what, path, path)


def _checked(data: bytes, where: str, user: Optional[str] = None) -> str:
    for end in (b"\n", b"\r"):
        data = data[: -len(end)] if data.endswith(end) else data
    if len(data) > _MAX_BYTES:
        raise OptionError("{} is larger than {} bytes; only the password was expected".format(where, _MAX_BYTES))
    try:
        password = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OptionError("{} is not UTF-8; save it as UTF-8".format(where))
    check_password(password, where)
    protect(password, user)
    return password


def check_password(password: str, where: str) -> None:
    """Raise OptionError if a text cannot be a password; the message begins with ``where`` the text came from."""
    if not password:
        raise OptionError("{} is empty; a password was expected".format(where))
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in password):
        raise OptionError("{} has several lines or a control character; one line was expected".format(where))
