"""Installs ``run`` as a systemd service: its unit file, its account, its engines, its start.

Everything is checked and planned first, without root and without changes; then it is printed, or carried out.
``commands/service/unit.py`` writes the unit file, ``commands/service/run_command.py`` the command in it.
"""

import contextlib
import glob
import logging
import os
import pwd
import re
import shlex
import subprocess
import tempfile
from typing import TYPE_CHECKING, List, NamedTuple, Optional, Sequence, Tuple

from ...device.child_process import find_program
from ...errors import EdgeclfError, OptionError, OutputError
from ...files.outputs import new_file
from ...text.terminal import printable, show_message
from .run_command import ServiceCommand
from .unit import MARK, Unit, account, systemd_version, unit_text

if TYPE_CHECKING:
    from argparse import Namespace
    from subprocess import CompletedProcess

_log = logging.getLogger(__name__)
UNITS = "/etc/systemd/system"
_OTHER_UNITS = (
    "/run/systemd/system",
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_RUNNING = "/run/systemd/system"
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}\Z")
_USER = re.compile(r"[a-z_][a-z0-9_-]{0,30}\Z")
_MOST_OF_A_UNIT = 1 << 20


class Plan(NamedTuple):
    """The steps of an installation.

    before      commands before the unit file is written
    path, text  of the unit file
    after       commands after it is written; the first one makes systemd read it
    build       the command that builds engines as the service's user, after the first of those, or (): it may fail, because
                run then uses another backend
    notes       notes for the user
    """

    unit: Unit
    before: Tuple[Tuple[str, ...], ...]
    path: str
    text: str
    after: Tuple[Tuple[str, ...], ...]
    build: Tuple[str, ...]
    notes: Tuple[str, ...]

    def __str__(self) -> str:
        """Return the unit file, with the other steps as comments, so that the text can be used as a unit file."""
        lines = ["# {}".format(self.path), self.text, "# As root, before it is written:"]
        lines += ["#   " + _shown(command) for command in self.before] or ["#   nothing"]
        lines += ["# and then:"] + ["#   " + _shown(command) for command in self.after[:1]]
        lines += ["#   " + _shown(self.build) if self.build else "#   (no engine to build: TensorRT is not used here)"]
        lines += ["#   " + _shown(command) for command in self.after[1:]]
        return "\n".join(lines) + "\n"


def _shown(command: Sequence[str]) -> str:
    shown: str = printable(" ".join(map(shlex.quote, command)))
    return shown


def plan_service(arguments: "Namespace") -> Plan:
    """Return the Plan for the arguments of install-service; changes nothing.

    Raises OptionError for an invalid option, and EdgeclfError for what a service cannot do.
    """
    name, user = service_name(arguments.service_name, arguments.bundle), arguments.user
    if not _USER.match(user):
        raise OptionError("{!r} is not a valid user name; letters, digits, - and _ were expected".format(user))
    version = _systemd_version()
    command = ServiceCommand(arguments, name, user, version)
    unit = command.unit()
    path = os.path.join(UNITS, name + ".service")
    _check_free(path, arguments.overwrite)
    service = name + ".service"
    before: List[Tuple[str, ...]] = [] if _exists(user) else [_new_user(user)]
    before += [("install", "-d", "-o", user, folder) for folder in unit.writes if not os.path.isdir(folder)]
    after = [("systemctl", "daemon-reload"), ("systemctl", "enable", service)]
    after += [("systemctl", "restart", service)] if arguments.start else []
    build: Tuple[str, ...] = _as_service(unit, command.build_words()) if command.uses_tensorrt() else ()
    text = unit_text(unit, version)
    return Plan(unit, tuple(before), path, text, tuple(after), build, tuple(command.notes))


def service_name(name: Optional[str], bundle: object) -> str:
    """Return a service's name without ".service", by default made from the bundle's; raises OptionError if it is invalid."""
    if name is None:
        stem = os.path.splitext(os.path.basename(os.path.abspath(str(bundle))))[0]
        name = re.sub("[^A-Za-z0-9_.-]+", "-", stem).strip("-.")
    name = name[: -len(".service")] if name.endswith(".service") else name
    if not _NAME.match(name) or ".." in name:
        raise OptionError(
            "{!r} is not a valid service name; letters, digits, -, _ and . were expected, with a letter or digit first: "
            "choose a name with --name".format(name)
        )
    return name


def _systemd_version() -> Optional[int]:
    program = find_program("systemctl")
    if program is None:
        return None
    done: "CompletedProcess[bytes]" = subprocess.run(
        [program, "--version"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    return systemd_version(done.stdout.decode("utf-8", "replace"))


def _exists(user: str) -> bool:
    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True


def _new_user(user: str) -> Tuple[str, ...]:
    return (
        *("useradd", "--system", "--user-group", "--no-create-home", "--home-dir", "/nonexistent"),
        *("--shell", "/usr/sbin/nologin", user),
    )


def _as_service(unit: Unit, words: Sequence[str]) -> Tuple[str, ...]:
    """Return the command that runs another one like the service: with its user, its folders, its view of the machine."""
    properties = ["--property=" + directive for directive in account(unit)]
    return ("systemd-run", "--quiet", "--wait", "--pipe", "--collect", *properties, "--", *words)


def _check_free(path: str, overwrite: bool) -> None:
    """Raise OutputError if a unit of this name exists that install-service did not make."""
    if overwrite:
        return
    name = os.path.basename(path)
    for place in (path, *(os.path.join(folder, name) for folder in _OTHER_UNITS)):
        if os.path.lexists(place) and not is_ours(place):
            raise OutputError(
                "{} exists, and install-service did not make it: choose another --name, or pass --overwrite to replace "
                "it".format(place)
            )


def is_ours(path: str) -> bool:
    """Return whether install-service made a unit file."""
    try:
        with open(path, "rb") as stream:
            return stream.read(_MOST_OF_A_UNIT).startswith(MARK.encode("ascii"))
    except OSError:
        return False


def install(plan: Plan) -> None:
    """Carry out a Plan.  Raises EdgeclfError without root or systemd, and if a step fails."""
    _check_rights()
    _verify(plan)
    for command in plan.before:
        _do(command)
    _write(plan.path, plan.text)
    _do(plan.after[0])
    if plan.build:
        show_message("building engines as {}, into {}".format(plan.unit.user, plan.unit.cache))
        try:
            _do(plan.build)
        except EdgeclfError as error:
            _log.warning("%s; the service will use another backend", error)
    for command in plan.after[1:]:
        try:
            _do(command)
        except EdgeclfError as error:
            raise EdgeclfError("{}; see: journalctl -u {} -n 50".format(error, plan.unit.name))


def _check_rights() -> None:
    if not os.path.isdir(_RUNNING):
        raise EdgeclfError(
            "this machine does not run systemd ({} is missing); --dry-run prints the unit file, for another machine".format(
                _RUNNING
            )
        )
    if os.geteuid() != 0:
        raise EdgeclfError("only root can install a service: run this with sudo, or with --dry-run to see the steps")


def _verify(plan: Plan) -> None:
    """Log what systemd itself finds wrong with the unit."""
    program = find_program("systemd-analyze")
    if program is None:
        return
    with tempfile.TemporaryDirectory(prefix="edgeclf-unit-") as folder:
        path = os.path.join(folder, os.path.basename(plan.path))
        _write(path, plan.text)
        done: "CompletedProcess[bytes]" = subprocess.run(
            [program, "verify", path], stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
    for line in done.stdout.decode("utf-8", "replace").splitlines():
        if plan.unit.name + ".service" in line:
            _log.warning("systemd-analyze verify: %s", line)


def _write(path: str, text: str) -> None:
    with new_file(path, overwrite=True, elsewhere="check whether its disk is full or read-only") as work:
        with open(work, "wb") as stream:
            stream.write(text.encode("utf-8"))
        os.chmod(work, 0o644)


def _do(command: Sequence[str]) -> None:
    """Run a command, with its output on our stderr; raises EdgeclfError if it fails."""
    program = find_program(command[0])
    if program is None:
        raise EdgeclfError(
            "{} is not installed on this machine; install it, or run by hand: {}".format(command[0], _shown(command))
        )
    show_message("+ " + _shown(command))
    code = subprocess.call([program, *command[1:]], stdin=subprocess.DEVNULL, stdout=2)
    if code:
        raise EdgeclfError("{} failed with exit code {}".format(_shown(command[:3]), code))


def _installed() -> str:
    """Return a sentence with the names of the installed services."""
    units = sorted(glob.glob(os.path.join(glob.escape(UNITS), "*.service")))
    names = [os.path.basename(path)[: -len(".service")] for path in units if is_ours(path)]
    if not names:
        return "install-service has installed no service on this machine"
    return "name the service with --name: {}".format(", ".join(names))


def uninstall(name: str, dry_run: bool = False) -> List[str]:
    """Stop a service and remove its unit file; returns the commands.  With ``dry_run`` nothing is done.

    Raises OutputError if there is no such unit, or install-service did not make it.
    """
    path = os.path.join(UNITS, name + ".service")
    if not os.path.lexists(path):
        raise OutputError("there is no {}; {}".format(path, _installed()))
    if not is_ours(path):
        raise OutputError("{} was not made by install-service; remove it yourself".format(path))
    service = name + ".service"
    commands: List[Tuple[str, ...]] = [("systemctl", "disable", "--now", service)]
    last = ("systemctl", "daemon-reload")
    if not dry_run:
        _check_rights()
        for command in commands:
            _do(command)
        with contextlib.suppress(FileNotFoundError):
            os.remove(path)
        _do(last)
    return [*map(_shown, commands), _shown(("rm", path)), _shown(last)]
