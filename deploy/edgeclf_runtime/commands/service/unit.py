"""Writes the text of a systemd unit: the directives of a service that classifies, and their quoting.

Works with systemd 237 (Ubuntu 18.04, JetPack 4) and later; directives that are newer than the given systemd are left out.
"""

import re
from typing import Iterable, Iterator, List, NamedTuple, Optional, Tuple

from ...errors import EdgeclfError
from ...files.read import native_path
from ...text.terminal import is_invisible

MARK = "# Made by install-service of edgeclf"
CACHE, STATE = "/var/cache/edgeclf", "/var/lib/edgeclf"
CREDENTIALS_SINCE = 247
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+\Z")
_NOT_IN_A_PROGRAM = re.compile("[\"'\\\\$%\x00-\x1f\x7f]")
# The systemd version that introduced a directive, if it is later than 237.
_SINCE = {"RestrictSUIDSGID": 242, "OOMPolicy": 243, "ProtectKernelLogs": 244, "LoadCredential": CREDENTIALS_SINCE}
_HARDENING = (
    *("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectKernelModules=yes", "ProtectKernelTunables=yes"),
    *("ProtectKernelLogs=yes", "ProtectControlGroups=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes"),
)


class Credential(NamedTuple):
    """A file that root can read, which systemd passes to the service under a name."""

    name: str
    path: str


class Unit(NamedTuple):
    """The contents of a unit.

    name        the service's name, without ".service"
    command     words: the program's absolute path, and its arguments; a Credential stands for its file
    user        account of the service
    groups      additional groups of the service
    network     whether it starts after the network
    after       units that it starts after
    finite      whether it may end by itself, and is restarted only if it failed
    private_tmp whether it has its own /tmp
    home        value of ProtectHome=
    writes      folders that it writes to, besides its own
    port        port below 1024 that it listens on, or None
    prepare     words of a command that root runs before each start, or ()
    reloads     whether SIGHUP makes it read its configuration file again
    """

    name: str
    command: Tuple[object, ...]
    user: str
    groups: Tuple[str, ...] = ()
    network: bool = False
    after: Tuple[str, ...] = ()
    finite: bool = False
    private_tmp: bool = True
    home: str = "yes"
    writes: Tuple[str, ...] = ()
    port: Optional[int] = None
    prepare: Tuple[str, ...] = ()
    reloads: bool = False

    @property
    def cache(self) -> str:
        """The folder of its engines."""
        return "{}/{}".format(CACHE, self.name)

    @property
    def state(self) -> str:
        """Its working folder, for results, and for messages that a broker has not taken yet."""
        return "{}/{}".format(STATE, self.name)

    @property
    def credentials(self) -> List[Credential]:
        """The Credentials in its command, in order."""
        return [word for word in self.command if isinstance(word, Credential)]


def unit_text(unit: Unit, version: Optional[int] = None) -> str:
    """Return the text of a unit file for a systemd version; None: the latest."""
    sections = ("Unit", _unit(unit)), ("Service", _service(unit)), ("Install", ["WantedBy=multi-user.target"])
    lines = ["{}, which overwrites it; to make lasting changes: systemctl edit {}".format(MARK, unit.name)]
    for name, directives in sections:
        lines += ["", "[{}]".format(name)]
        lines += [line for line in directives if version is None or _SINCE.get(line.partition("=")[0], 0) <= version]
    return "\n".join(lines[:1] + lines[2:]) + "\n"


def _unit(unit: Unit) -> Iterator[str]:
    after = (("network-online.target",) if unit.network else ()) + unit.after
    yield "Description=edgeclf: {}".format(unit.name)
    if unit.network:
        yield "Wants=network-online.target"
    if after:
        yield "After={}".format(" ".join(after))
    # No limit of restarts: the camera may be connected next week.
    yield "StartLimitIntervalSec=0"


def _service(unit: Unit) -> Iterator[str]:
    yield "Type=notify"
    if unit.prepare:
        yield "ExecStartPre=-+{}".format(" ".join(map(quote, unit.prepare)))
    yield "ExecStart={} {}".format(_program(unit.command[0]), " ".join(map(_word, unit.command[1:])))
    if unit.reloads:
        yield "ExecReload=/bin/kill -HUP $MAINPID"
    yield "WorkingDirectory={}".format(unit.state)
    # The service asks for more time itself, while an engine is built or a slow backend opens.
    yield "TimeoutStartSec=120"
    yield "WatchdogSec=30"
    yield "TimeoutStopSec=20"
    yield "KillMode=mixed"
    yield "SuccessExitStatus=143"
    yield "Restart={}".format("on-failure" if unit.finite else "always")
    yield "RestartSec=5"
    # A restart does not fix a usage error.
    yield "RestartPreventExitStatus=2"
    # A decoder or a build that needs too much memory is a separate process; the service survives its end.
    yield "OOMPolicy=continue"
    yield from account(unit)
    yield from ("LoadCredential={}:{}".format(name, _percent(path)) for name, path in unit.credentials)
    yield from _HARDENING
    capability = "CAP_NET_BIND_SERVICE" if unit.port else ""
    yield "CapabilityBoundingSet={}".format(capability)
    if capability:
        yield "AmbientCapabilities={}".format(capability)


def account(unit: Unit) -> Iterator[str]:
    """Yield the directives that decide what a program of the service can see and write."""
    yield "User={}".format(unit.user)
    if unit.groups:
        yield "SupplementaryGroups={}".format(" ".join(unit.groups))
    yield "CacheDirectory=edgeclf/{}".format(unit.name)
    yield "StateDirectory=edgeclf/{}".format(unit.name)
    # The same for build and run, so that run finds build's engines, and CUDA's kernels, which are cached below HOME.
    yield "Environment=XDG_CACHE_HOME={} XDG_STATE_HOME={} HOME={}".format(unit.cache, unit.state, unit.state)
    # Without a locale, Python 3.6 accepts only ASCII names.
    yield "Environment=LANG=C.UTF-8"
    yield "ProtectHome={}".format(unit.home)
    yield "PrivateTmp={}".format("yes" if unit.private_tmp else "no")
    # The dash: a missing folder does not prevent the start, because its disk may be mounted later.
    for folder in unit.writes + (() if unit.private_tmp else ("/tmp",)):
        yield "ReadWritePaths={}".format(_path("-" + folder))


def quote(text: str) -> str:
    """Return a text as one word of a command in a unit file, with nothing that systemd would expand."""
    text = _utf8(text)
    word = "".join(map(_escape, text)).replace("%", "%%").replace("$", "$$")
    return word if _PLAIN.match(text) else '"{}"'.format(word)


def _word(word: object) -> str:
    if isinstance(word, Credential):
        return '"${{CREDENTIALS_DIRECTORY}}/{}"'.format(word.name)
    return quote(str(word))


def _escape(letter: str) -> str:
    if letter in '"\\':
        return "\\" + letter
    if not is_invisible(letter):
        return letter
    number = ord(letter)
    return ("\\x{:02x}" if number < 0x80 else "\\u{:04x}" if number < 0x10000 else "\\U{:08x}").format(number)


def _program(path: object) -> str:
    path = _utf8(str(path))
    if not path.startswith("/") or _NOT_IN_A_PROGRAM.search(path):
        raise EdgeclfError(
            "systemd cannot start Python at {!r}: an absolute path without quotation marks, backslashes, $ and % was "
            "expected; use another Python".format(path)
        )
    return path if _PLAIN.match(path) else '"{}"'.format(path)


def _path(text: str) -> str:
    """Return a path, perhaps with a prefix, as one word of a directive that lists paths."""
    text = _plain(text)
    return '"{}"'.format(re.sub(r'(["\\])', r"\\\1", _percent(text)))


def _percent(path: str) -> str:
    return _plain(path).replace("%", "%%")


def _plain(text: str) -> str:
    text = _utf8(text)
    if any(map(is_invisible, text)) or text != text.strip():
        raise EdgeclfError("{!r} cannot be used in a unit file; rename it, without control characters".format(text))
    return text


def _utf8(text: str) -> str:
    text = native_path(text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise EdgeclfError("{!r} is not in UTF-8, but a unit file must be; rename it".format(text))
    return text


def systemd_version(output: str) -> Optional[int]:
    """Return the version in the output of ``systemctl --version``, or None."""
    match = re.match(r"systemd ([0-9]{1,6})\b", output)
    return int(match.group(1)) if match else None


def foreign(text: str) -> bool:
    """Return whether install-service did not make a unit file."""
    return not text.startswith(MARK)


def words(command: Iterable[object]) -> List[str]:
    """Return a command's words as text, a Credential as the path of its file."""
    return [word.path if isinstance(word, Credential) else str(word) for word in command]
