"""Passwords of cameras and brokers, from the environment or from a file.

They never travel to a child process: neither in its arguments, which every user of the machine can
read (``ps``), nor in its environment, which the process's own user can.
"""

import logging
import os
import re
import stat
from typing import Dict

from ..errors import OptionError
from ..files.read import open_regular
from ..text.redaction import learn, protect

_log = logging.getLogger(__name__)
CAMERA, MQTT, LIVE = "EDGECLF_CAMERA_PASSWORD", "EDGECLF_MQTT_PASSWORD", "EDGECLF_LIVE_TOKEN"
_VARIABLES = (CAMERA, MQTT, LIVE)
# The live page's token is one, too.
_SECRET_VARIABLE = re.compile("EDGECLF_.*(?:PASSWORD|TOKEN)")
_MAX_BYTES = 4096
_taken: Dict[str, bytes] = {}


def secret_bytes(variable):
    """Return what a variable of the environment holds, or held before take_environment(), as bytes; None without it."""
    return os.environb.get(os.fsencode(variable), _taken.get(variable))


def password_from(variable, user=None):
    """Return the password that a variable of the environment holds, or None; OptionError where it cannot be one."""
    data = secret_bytes(variable)
    return _checked(data, "the environment's {}".format(variable), user) if data else None


def read_password(path):
    """Return the password in a file of one line, without its line end.

    Warns where others may read the file.  Raises OptionError where it is no regular file, or holds no password.
    """
    try:
        with open_regular(path) as stream:
            mode = os.fstat(stream.fileno()).st_mode
            data = stream.read(_MAX_BYTES + 1)
    except OSError as error:
        raise OptionError(
            "the password file {} cannot be read ({}); name a file with the password as its one line".format(
                path, error.strerror
            )
        )
    warn_of_readers(_log, mode, "the password file", path)
    return _checked(data, "the password file {}".format(path))


def warn_of_readers(log, mode, what, path):
    """Warn if every user may read a secret's file; ``mode`` is of its status."""
    if mode & stat.S_IROTH:
        log.warning("every user of this machine can read %s %s: chmod 600 %s", what, path, path)


def _checked(data, where, user=None):
    for end in (b"\n", b"\r"):
        data = data[: -len(end)] if data.endswith(end) else data
    if len(data) > _MAX_BYTES:
        raise OptionError("{} is larger than {} bytes; the password alone was expected".format(where, _MAX_BYTES))
    try:
        password = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise OptionError("{} is not in UTF-8; save it as UTF-8".format(where))
    check_password(password, where)
    protect(password, user)
    return password


def check_password(password, where):
    """Raise OptionError where a text cannot be a password; ``where`` it came from begins the message."""
    if not password:
        raise OptionError("{} is empty; a password was expected".format(where))
    if any(ord(letter) < 32 or ord(letter) == 127 for letter in password):
        raise OptionError("{} has several lines or a control character; one line was expected".format(where))


def child_environment(defaults=()):
    """Return this process's environment for a child: without passwords; ``defaults`` stand where it has no value."""
    environment = dict(defaults)
    environment.update((name, value) for name, value in os.environ.items() if not _SECRET_VARIABLE.match(name))
    return environment


def take_environment():
    """Take the passwords out of the environment of this process, so that no child inherits them.

    They are known to :func:`password_from` afterwards.  For programs, not for libraries.
    """
    for variable in _VARIABLES:
        value = os.environb.pop(os.fsencode(variable), None)
        if value is not None:
            _taken[variable] = value
            protect(os.fsdecode(value).strip())
            # Whoever may read /proc/PID/environ sees what it was at the start.
            entry = os.fsencode(variable) + b"="
            _overwrite(47, b"\0" + entry + value + b"\0", b"\0" + entry + b"*" * len(value) + b"\0")


def hide_arguments(arguments):
    """Keep what looks like a password in these arguments of the program out of its messages and of ``ps``."""
    for argument in arguments:
        starred = learn(argument)
        if starred != argument:
            data, stars = os.fsencode(argument), b"*" * len(os.fsencode(argument))
            if len(starred) == len(data):
                stars = starred.encode("ascii", "replace")
            _overwrite(45, b"\0" + data + b"\0", b"\0" + stars + b"\0")


def _overwrite(field, old, new):
    """Replace bytes in the memory that /proc/self/cmdline or environ shows; where that cannot be done, nothing happens.

    field       of /proc/self/stat, counted behind the program's name: where that memory begins, the next where it ends
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
