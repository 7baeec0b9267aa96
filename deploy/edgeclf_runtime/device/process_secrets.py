"""Hides this process's passwords from other users and from its child processes.

A process's arguments can be read by every user of the machine (``ps``), its environment by the process's own user.
"""

import os
import re

from ..text.redaction import learn, protect

TYPE_CHECKING = False  # see edgeclf_runtime/__init__.py
if TYPE_CHECKING:
    from typing import Dict, Mapping, Optional, Sequence, Tuple, Union

CAMERA, MQTT, LIVE = "EDGECLF_CAMERA_PASSWORD", "EDGECLF_MQTT_PASSWORD", "EDGECLF_LIVE_TOKEN"
WEBHOOK = "EDGECLF_WEBHOOK_SECRET"
_VARIABLES = (CAMERA, MQTT, LIVE, WEBHOOK)
# The live page's token is a secret, too.
_SECRET_VARIABLE = "EDGECLF_.*(?:PASSWORD|TOKEN|SECRET)"
_taken: "Dict[str, bytes]" = {}


def secret_bytes(variable: str) -> "Optional[bytes]":
    """Return the bytes of an environment variable, also after take_environment() removed it; None if it is not set."""
    return os.environb.get(os.fsencode(variable), _taken.get(variable))


def child_environment(defaults: "Union[Mapping[str, str], Tuple[()]]" = ()) -> "Dict[str, str]":
    """Return this process's environment without passwords, for a child; ``defaults`` fill in variables that are not set."""
    environment = dict(defaults)
    environment.update((name, value) for name, value in os.environ.items() if not re.match(_SECRET_VARIABLE, name))
    return environment


def take_environment() -> None:
    """Remove the passwords from this process's environment, so that no child inherits them.

    :func:`secret_bytes` still finds them.  For programs, not for libraries.
    """
    for variable in _VARIABLES:
        value = os.environb.pop(os.fsencode(variable), None)
        if value is not None:
            _taken[variable] = value
            protect(os.fsdecode(value).strip())
            # /proc/PID/environ shows the environment as it was at the start.
            entry = os.fsencode(variable) + b"="
            _overwrite(47, b"\0" + entry + value + b"\0", b"\0" + entry + b"*" * len(value) + b"\0")


def hide_arguments(arguments: "Sequence[str]") -> None:
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
