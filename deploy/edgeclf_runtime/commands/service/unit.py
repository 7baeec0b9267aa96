"""The text of a systemd unit: quoting, and the directives of a service that classifies.

Knows nothing of this machine and of what ``run`` takes.  Works with systemd 237 (Ubuntu 18.04, JetPack 4) and later;
what came after 237 is left out where the systemd at hand is older.
"""

import re
from typing import List, NamedTuple, Optional, Tuple

from ...errors import EdgeclfError
from ...files.read import native_path
from ...text.terminal import is_invisible

MARK = "# Made by install-service of edgeclf"
CACHE, STATE = "/var/cache/edgeclf", "/var/lib/edgeclf"
CREDENTIALS_SINCE = 247
_PLAIN = re.compile(r"[A-Za-z0-9_@+=:,./-]+\Z")
_NOT_IN_A_PROGRAM = re.compile("[\"'\\\\$%\x00-\x1f\x7f]")
# What a directive needs, in versions of systemd; those of 237 and before are not listed.
_SINCE = {"RestrictSUIDSGID": 242, "OOMPolicy": 243, "ProtectKernelLogs": 244, "LoadCredential": CREDENTIALS_SINCE}
_HARDENING = (
    *("NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectKernelModules=yes", "ProtectKernelTunables=yes"),
    *("ProtectKernelLogs=yes", "ProtectControlGroups=yes", "RestrictSUIDSGID=yes", "LockPersonality=yes"),
)


class Credential(NamedTuple):
    """A file that root can read, which systemd hands to the service under a name."""

    name: str
    path: str


class Unit(NamedTuple):
    """The contents of a unit.

    name        of the service, without ".service"
    command     words: the program, which is an absolute path, and its arguments; a Credential stands for its file
    user        the account that it runs as
    groups      of that account, in addition
    network     whether it is started after the network
    after       units that it is started after
    finite      whether it may end by itself, and is started again only if it failed
    private_tmp whether it has a /tmp of its own
    home        what ProtectHome= is
    writes      folders that it writes to, besides its own
    port        below 1024 that it listens on, or None
    prepare     words of a command that root runs before each start, or ()
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

    @property
    def cache(self):
        """The folder of its engines."""
        return "{}/{}".format(CACHE, self.name)

    @property
    def state(self):
        """The folder that it is started in, of its results and what a broker has not taken yet."""
        return "{}/{}".format(STATE, self.name)

    @property
    def credentials(self):
        """Those of its command, in their order."""
        return [word for word in self.command if isinstance(word, Credential)]


def unit_text(unit, version=None):
    """Return the text of a unit file for a version of systemd, None for the latest."""
    sections = ("Unit", _unit(unit)), ("Service", _service(unit)), ("Install", ["WantedBy=multi-user.target"])
    lines = ["{}, which overwrites it; to make lasting changes: systemctl edit {}".format(MARK, unit.name)]
    for name, directives in sections:
        lines += ["", "[{}]".format(name)]
        lines += [line for line in directives if version is None or _SINCE.get(line.partition("=")[0], 0) <= version]
    return "\n".join(lines[:1] + lines[2:]) + "\n"


def _unit(unit):
    after = (("network-online.target",) if unit.network else ()) + unit.after
    yield "Description=edgeclf: {}".format(unit.name)
    if unit.network:
        yield "Wants=network-online.target"
    if after:
        yield "After={}".format(" ".join(after))
    # However often it failed: somebody may connect the camera next week.
    yield "StartLimitIntervalSec=0"


def _service(unit):
    yield "Type=notify"
    if unit.prepare:
        yield "ExecStartPre=-+{}".format(" ".join(map(quote, unit.prepare)))
    yield "ExecStart={} {}".format(_program(unit.command[0]), " ".join(map(_word, unit.command[1:])))
    yield "WorkingDirectory={}".format(unit.state)
    # It asks for more time itself, while an engine is built or a slow backend opens.
    yield "TimeoutStartSec=120"
    yield "WatchdogSec=30"
    yield "TimeoutStopSec=20"
    yield "KillMode=mixed"
    yield "SuccessExitStatus=143"
    yield "Restart={}".format("on-failure" if unit.finite else "always")
    yield "RestartSec=5"
    # A usage error stays one.
    yield "RestartPreventExitStatus=2"
    # A decoder or a build that takes too much memory is another process, whose end is survived.
    yield "OOMPolicy=continue"
    yield from account(unit)
    yield from ("LoadCredential={}:{}".format(name, _percent(path)) for name, path in unit.credentials)
    yield from _HARDENING
    capability = "CAP_NET_BIND_SERVICE" if unit.port else ""
    yield "CapabilityBoundingSet={}".format(capability)
    if capability:
        yield "AmbientCapabilities={}".format(capability)


def account(unit):
    """Yield the directives that decide what a program of the service can see and write."""
    yield "User={}".format(unit.user)
    if unit.groups:
        yield "SupplementaryGroups={}".format(" ".join(unit.groups))
    yield "CacheDirectory=edgeclf/{}".format(unit.name)
    yield "StateDirectory=edgeclf/{}".format(unit.name)
    # So that the engines that build makes are those that run finds, and CUDA's kernels too, which are kept below HOME.
    yield "Environment=XDG_CACHE_HOME={} XDG_STATE_HOME={} HOME={}".format(unit.cache, unit.state, unit.state)
    # Without a locale, Python 3.6 takes no names but ASCII ones.
    yield "Environment=LANG=C.UTF-8"
    yield "ProtectHome={}".format(unit.home)
    yield "PrivateTmp={}".format("yes" if unit.private_tmp else "no")
    # One that is missing is no reason not to start: its disk may come later.
    for folder in unit.writes + (() if unit.private_tmp else ("/tmp",)):
        yield "ReadWritePaths={}".format(_path("-" + folder))


def quote(text):
    """Return a text as one word of a command in a unit file, which means the text itself to systemd."""
    text = _utf8(text)
    word = "".join(map(_escape, text)).replace("%", "%%").replace("$", "$$")
    return word if _PLAIN.match(text) else '"{}"'.format(word)


def _word(word):
    if isinstance(word, Credential):
        return '"${{CREDENTIALS_DIRECTORY}}/{}"'.format(word.name)
    return quote(word)


def _escape(letter):
    if letter in '"\\':
        return "\\" + letter
    if not is_invisible(letter):
        return letter
    number = ord(letter)
    return ("\\x{:02x}" if number < 0x80 else "\\u{:04x}" if number < 0x10000 else "\\U{:08x}").format(number)


def _program(path):
    path = _utf8(path)
    if not path.startswith("/") or _NOT_IN_A_PROGRAM.search(path):
        raise EdgeclfError(
            "systemd cannot start Python at {!r}: an absolute path without quotation marks, backslashes, $ and % was "
            "expected; use another Python".format(path)
        )
    return path if _PLAIN.match(path) else '"{}"'.format(path)


def _path(text):
    """Return a path, with a prefix or not, as one word of a directive that lists paths."""
    text = _plain(text)
    return '"{}"'.format(re.sub(r'(["\\])', r"\\\1", _percent(text)))


def _percent(path):
    return _plain(path).replace("%", "%%")


def _plain(text):
    text = _utf8(text)
    if any(map(is_invisible, text)) or text != text.strip():
        raise EdgeclfError("{!r} cannot stand in a unit file; rename it, without control characters".format(text))
    return text


def _utf8(text):
    text = native_path(text)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        raise EdgeclfError("{!r} is not in UTF-8, which a unit file is; rename it".format(text))
    return text


def systemd_version(said) -> Optional[int]:
    """Return the number in what ``systemctl --version`` says, or None."""
    match = re.match(r"systemd ([0-9]{1,6})\b", said)
    return int(match.group(1)) if match else None


def foreign(text) -> bool:
    """Return whether a unit file was made by somebody else."""
    return not text.startswith(MARK)


def words(command) -> List[str]:
    """Return a command's words as texts, a Credential as the path of its file."""
    return [word.path if isinstance(word, Credential) else str(word) for word in command]
