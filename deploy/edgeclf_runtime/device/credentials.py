"""Passwords of cameras and brokers, from the environment or from a file.

They are never passed to a child process: its arguments can be read by every user of the machine (``ps``), its
environment by the process's own user.
"""

import logging
import os
import re
import stat
from typing import Dict, Mapping, Optional, Sequence, Tuple, Union

from ..errors import OptionError
from ..files.read import AnyPath, open_regular
from ..text.redaction import learn, protect

_log = logging.getLogger(__name__)
CAMERA, MQTT, LIVE = "EDGECLF_CAMERA_PASSWORD", "EDGECLF_MQTT_PASSWORD", "EDGECLF_LIVE_TOKEN"
_VARIABLES = (CAMERA, MQTT, LIVE)
# The live page's token is a secret, too.
_SECRET_VARIABLE = re.compile("EDGECLF_.*(?:PASSWORD|TOKEN)")
_MAX_BYTES = 4096
_taken: Dict[str, bytes] = {}


def secret_bytes(variable: str) -> Optional[bytes]:
    """Return the bytes of an environment variable, also after take_environment() removed it; None if it is not set."""
    return os.environb.get(os.fsencode(variable), _taken.get(variable))


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


def child_environment(defaults: Union[Mapping[str, str], Tuple[()]] = ()) -> Dict[str, str]:
    """Return this process's environment without passwords, for a child; ``defaults`` fill in variables that are not set."""
    environment = dict(defaults)
    environment.update((name, value) for name, value in os.environ.items() if not _SECRET_VARIABLE.match(name))
    return environment


def take_environment() -> None:
    """Remove the passwords from this process's environment, so that no child inherits them.

    :func:`password_from` still finds them.  For programs, not for libraries.
    """
    for variable in _VARIABLES:
        value = os.environb.pop(os.fsencode(variable), None)
        if value is not None:
            _taken[variable] = value
            protect(os.fsdecode(value).strip())
            # /proc/PID/environ shows the environment as it was at the start.
            entry = os.fsencode(variable) + b"="
            _overwrite(47, b"\0" + entry + value + b"\0", b"\0" + entry + b"*" * len(value) + b"\0")


def hide_arguments(arguments: Sequence[str]) -> None:
    """Hide what looks like a password in the program's arguments from its messages and from ``ps``."""
    for argument in arguments:
        starred = learn(argument)
        if starred != argument:
            data, stars = os.fsencode(argument), b"*" * len(os.fsencode(argument))
            if len(starred) == len(data):
                stars = starred.encode("ascii", "replace")
            _overwrite(45, b"\0" + data + b"\0", b"\0" + stars + b"\0")


def _overwrite(field: int, old: bytes, new: bytes) -> None:
    """Replace bytes in the memory that /proc/self/cmdline or environ shows; do nothing if that is impossible.

    field       of /proc/self/stat, counted after the program's name: the start of that memory; the next field is its end
    """
    try:
        with open("/proc/self/stat", "rb") as stream:
            numbers = stream.read().rpartition(b")")[2].split()
        start, end = int(numbers[field]), int(numbers[field + 1])
        memory = os.open("/proc/self/mem", os.O_RDWR)
    except (OSError, ValueError, IndexError):
        return
    try:
        data = b"\0" + os.pread(memory, end - start, start)
        if end > start and old in data and len(old) == len(new):
            os.pwrite(memory, data.replace(old, new)[1:], start)
    except (OSError, OverflowError, ValueError):
        pass
    finally:
        os.close(memory)
