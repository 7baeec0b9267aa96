"""Removes from a report what says whose machine it is: names, addresses, serial numbers, secrets, paths of home folders."""

import glob
import ipaddress
import os
import platform
import re
from typing import Any, Iterable, Iterator, Match, Tuple

from ...device.machine import read_text
from ...text.redaction import HIDDEN, redact
from ...text.secret_patterns import is_secret_name

LONGEST_TEXT = 500
_LEAST_SECRET = 6
_NO_SECRETS = ("PWD", "OLDPWD")  # variables of a shell: paths, not passwords
_PEOPLE = range(1000, 60000)  # user ids of accounts that are not the system's
# Names that thousands of machines have, and that name boards and systems too.
_COMMON = frozenset(
    (
        *("admin", "board", "debian", "dev", "device", "edgeclf", "home", "host", "jetson", "linux", "localdomain"),
        *("localhost", "machine", "nano", "nobody", "nvidia", "orin", "pi", "python", "raspberrypi", "root", "tegra"),
        *("test", "thor", "ubuntu", "user", "xavier"),
    )
)
_SERIALS = (
    *("proc/device-tree/serial-number", "etc/machine-id", "sys/class/dmi/id/product_uuid"),
    *("sys/class/dmi/id/product_serial", "sys/class/dmi/id/board_serial", "sys/class/dmi/id/chassis_serial"),
)
# Folders whose paths are the system's own.
_SYSTEM = r"/(?:bin|boot|dev|etc|lib|lib64|opt|proc|run|sbin|sys|usr|var/lib|var/log)(?=[/\s,;:.')\"]|\Z)"
_PATH = re.compile(r"(?<![\w~.:/*-])(?!" + _SYSTEM + r")/(?:[^\s/:;,'\"()<>]+/)+(?=[^\s/:;,'\"()<>]|)")
_PATTERNS = (
    r"(?<=://)[^\s'\"<>,;)]+",  # the rest of an address
    r"[\w.+-]+@[\w-]+\.[\w.-]+",
    r"(?<![\w:-])(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}(?![\w:-])",  # MAC
    r"[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}",  # UUID
    r"(?<![A-Za-z0-9])(?=[A-Za-z]*[0-9])(?=[0-9]*[A-Za-z])[A-Za-z0-9]{20,}(?![A-Za-z0-9])",  # a key
    r"(?i)(?<=\bserial)(?:[ _-]?(?:number|no))?\.?\s*[:=]?\s+(?=\S*[0-9])\S+",
)
_HIDE = re.compile("|".join(_PATTERNS[:-1]))
_HIDE_SERIAL = re.compile(_PATTERNS[-1])
_ADDRESS = re.compile(
    r"(?<![\w.])(?:[0-9]{1,3}\.){3}[0-9]{1,3}(?!\w|\.[0-9])"  # IPv4
    r"|(?<![\w:.])[0-9A-Fa-f]*:[0-9A-Fa-f:]*:[0-9A-Fa-f.:]*(?![\w:])"  # IPv6, or a time
)


class Privacy:
    """Cleans texts of what identifies this machine and its users.

    keep    texts that look like addresses but are not: versions with four numbers
    root    folder that has /etc, /proc and /sys
    """

    def __init__(self, keep: Iterable[str] = (), root: str = "/") -> None:
        self._keep = frozenset(keep)
        homes = {os.path.normpath(home) for home in _homes(root)}
        homes |= {os.path.realpath(home) for home in homes}
        self._homes = [re.escape(home) for home in sorted(homes, key=len, reverse=True) if home.count("/") > 0]
        words = {word.strip() for word in (*_names(root), *_numbers(root), *_secrets())}
        words = {word for word in words if len(word) > 1 and word.lower() not in _COMMON}
        self._words = [re.escape(word) for word in sorted(words, key=len, reverse=True)]

    def clean(self, value: object) -> Any:
        """Return a copy of a value of JSON's types with every text in it cleaned, and cut to LONGEST_TEXT characters.

        Keys that could be a name in a program are the report's own, and stay.
        """
        if isinstance(value, str):
            return value if value in self._keep else self._clean(value)
        if isinstance(value, (list, tuple)):
            return [self.clean(one) for one in value]
        if isinstance(value, dict):
            return {
                key if key.isidentifier() else self._without_names(key): self.clean(one) for key, one in value.items()
            }
        return value

    def _clean(self, text: str) -> str:
        text = self._without_names(text)
        text = _PATH.sub(".../", text)
        return text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 3] + "..."

    def _without_names(self, text: str) -> str:
        text = redact(text)
        if self._homes:
            text = re.sub("(?<![\\w.~-])(?:{})(?![\\w-])".format("|".join(self._homes)), "~", text)
        text = _HIDE_SERIAL.sub(" " + HIDDEN, _HIDE.sub(HIDDEN, text))
        if self._words:
            text = re.sub("(?i)(?<![a-z0-9])(?:{})(?![a-z0-9])".format("|".join(self._words)), HIDDEN, text)
        return _ADDRESS.sub(self._without_address, text)

    def _without_address(self, match: "Match[str]") -> str:
        found = match.group()
        text = found.rstrip(".:")
        # TensorRT's version 10.13.3.9 could be an address.
        if text in self._keep or len(text) < 3:
            return found
        try:
            ipaddress.ip_address(text)
        except ValueError:
            return found
        return HIDDEN + found[len(text) :]


def _names(root: str) -> Iterator[str]:
    """Yield the names of the machine and of the people who use it."""
    for host in (platform.node(), read_text(os.path.join(root, "etc/hostname")) or ""):
        yield host
        yield host.split(".")[0]
    for variable in ("USER", "LOGNAME", "SUDO_USER", "USERNAME", "HOSTNAME"):
        yield os.environ.get(variable, "")
    for name, person, _ in _accounts(root):
        yield name
        yield person


def _homes(root: str) -> Iterator[str]:
    for home in (os.path.expanduser("~"), os.environ.get("HOME", ""), *(home for _, _, home in _accounts(root))):
        if os.path.isabs(home) and os.path.normpath(home) not in ("/", "/nonexistent", "/dev/null"):
            yield home


def _accounts(root: str) -> Iterator[Tuple[str, str, str]]:
    """Yield the name, the person's name and the home folder of each person's account."""
    for line in (read_text(os.path.join(root, "etc/passwd")) or "").splitlines():
        fields = line.split(":")
        if len(fields) == 7 and fields[2].isdigit() and int(fields[2]) in _PEOPLE:
            yield fields[0], fields[4].split(",")[0], fields[5]


def _numbers(root: str) -> Iterator[str]:
    """Yield the serial numbers of the machine, and the addresses of its network cards."""
    for path in _SERIALS:
        yield read_text(os.path.join(root, path)) or ""
    for path in glob.glob(os.path.join(glob.escape(root), "sys/class/net/*/address")):
        yield read_text(path) or ""
    found = re.search(r"^Serial\s*:\s*(\S+)$", read_text(os.path.join(root, "proc/cpuinfo")) or "", re.MULTILINE)
    yield found.group(1) if found else ""


def _secrets() -> Iterator[str]:
    """Yield the values of the environment's variables whose names say that they are secret."""
    for name, value in os.environ.items():
        if len(value) >= _LEAST_SECRET and name not in _NO_SECRETS and is_secret_name(name):
            yield value
