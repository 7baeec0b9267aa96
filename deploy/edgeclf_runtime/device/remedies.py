"""Commands that install what is missing, as they work on this system.

Debian 12, Raspberry Pi OS and Ubuntu 23.04 and later refuse pip outside of a virtual environment (PEP 668), and apt
installs packages only for the distribution's own Python.  Nothing is installed here.
"""

import glob
import grp
import importlib.util
import os
import pwd
import re
import shlex
import subprocess
import sys
import sysconfig
from typing import List, NamedTuple, Optional, Tuple

from ..files.user_folders import home_folder
from .child_process import find_program
from .machine import is_jetson
from .systemd import is_service

# Library: its Debian package ("" for none) and its PyPI package.
PACKAGES = {
    "numpy": ("python3-numpy", "numpy"),
    "opencv": ("python3-opencv", "opencv-python-headless"),
    "onnxruntime": ("python3-onnxruntime", "onnxruntime"),
    "openvino": ("python3-openvino", "openvino"),
    "paho-mqtt": ("python3-paho-mqtt", "paho-mqtt"),
    "tensorrt": ("", "tensorrt"),
}
# JetPack's own OpenCV; on JetPack 4, Ubuntu's is 3.2, which is too old and would replace it.
_JETPACK_OPENCV = "libopencv-python"
# Available in every Debian and Ubuntu whose Python the runtime supports.
_EVERYWHERE = ("python3-numpy", "python3-opencv", "python3-paho-mqtt", _JETPACK_OPENCV)
# The last version with an aarch64 CPU wheel for each Python that a JetPack ships.
ONNXRUNTIME_VERSIONS = {(3, 6): "==1.10.0", (3, 8): "==1.19.2", (3, 10): "==1.23.2"}
# numpy issue 18131: the last version for Python 3.6, 1.19.5, mistakes a Jetson Nano's processor for another one.
_NUMPY_36 = "numpy==1.19.4"
_OLDEST_PIP = (19, 3)  # supports the wheels of onnxruntime and OpenCV
_APT_TIMEOUT_S = 20.0


class System(NamedTuple):
    """The facts that the right command depends on.

    python      the interpreter
    version     its version, (3, 11)
    machine     as platform.machine() gives it
    virtual     whether it belongs to a virtual environment
    managed     whether the system refuses pip (PEP 668)
    debian      whether there is apt-get: Debian, Raspberry Pi OS, Ubuntu, Jetson Linux
    own         whether the interpreter is the distribution's, for which apt installs packages
    pip         pip's version, or None without pip
    venv        whether it can create virtual environments
    admin       whether this user is root
    home        folder for a new virtual environment
    lists       whether apt has package lists; in a new container it has none.  None: check when needed
    jetson      whether it is a Jetson, which uses NVIDIA's OpenCV
    service     whether this is a systemd service: root installs for it, outside of its own folders
    """

    python: str
    version: Tuple[int, int]
    machine: str
    virtual: bool
    managed: bool
    debian: bool
    own: bool
    pip: Optional[Tuple[int, ...]]
    venv: bool
    admin: bool
    home: str
    lists: Optional[bool] = None
    jetson: bool = False
    service: bool = False


def this_system(root: str = "/") -> System:
    """Return the facts of this system."""
    pip = importlib.util.find_spec("pip")
    debian = os.path.exists(os.path.join(root, "etc/debian_version")) and find_program("apt-get") is not None
    service = is_service()
    return System(
        python=sys.executable,
        version=(sys.version_info[0], sys.version_info[1]),
        machine=os.uname().machine,
        virtual=sys.prefix != sys.base_prefix,
        managed=os.path.exists(os.path.join(sysconfig.get_path("stdlib"), "EXTERNALLY-MANAGED")),
        debian=debian,
        own=debian and os.path.realpath(sys.executable) == os.path.realpath("/usr/bin/python3"),
        pip=_pip_version(pip.origin) if pip and pip.origin else None,
        venv=importlib.util.find_spec("ensurepip") is not None,
        admin=os.geteuid() == 0,
        home="/opt" if service else home_folder() or "/opt",
        jetson=is_jetson(root),
        service=service,
    )


def _has_lists(system: System) -> bool:
    return bool(glob.glob("/var/lib/apt/lists/*_Packages*")) if system.lists is None else system.lists


def _pip_version(origin: str) -> Tuple[int, ...]:
    """Return the version of the pip with this ``__init__.py``, without importing it."""
    folder = glob.escape(os.path.dirname(os.path.dirname(origin)))
    for path in glob.glob(folder + "/pip-*.*-info"):
        found = re.match(r"pip-(\d+)\.(\d+)", os.path.basename(path))
        if found:
            return int(found.group(1)), int(found.group(2))
    return _OLDEST_PIP


def install(library: str, system: Optional[System] = None, ask: bool = False) -> str:
    """Return the command that installs one of PACKAGES for this Python.

    ask     whether to ask apt, which takes seconds, about a package that some Debian releases lack
    """
    system = system or this_system()
    package, named = PACKAGES[library]
    if library == "opencv" and system.jetson:
        package = _JETPACK_OPENCV
    if (
        system.own
        and not system.virtual
        and (package in _EVERYWHERE or (ask and package and _has_package(package, system)))
    ):
        return apt(package, system=system)
    return pip(_with_version(named, system), system)


def _has_package(package: str, system: System) -> bool:
    program = find_program("apt-cache")
    if program is None or not _has_lists(system):
        return False
    try:
        # Without these options, root's apt-cache would write its caches.
        command = [program, "-o", "Dir::Cache::pkgcache=", "-o", "Dir::Cache::srcpkgcache=", "policy", package]
        found = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, timeout=_APT_TIMEOUT_S)
    except (OSError, subprocess.SubprocessError):
        return False
    return re.search(rb"^  Candidate: \d", found.stdout, re.MULTILINE) is not None


def _with_version(named: str, system: System) -> str:
    if system.machine != "aarch64" or named not in ("numpy", "onnxruntime"):
        return named
    numpy = [_NUMPY_36] if system.version == (3, 6) else []
    if named == "numpy":
        return " ".join(numpy or [named])
    return " ".join([named + ONNXRUNTIME_VERSIONS.get(system.version, "")] + numpy)


def apt(*packages: str, system: Optional[System] = None) -> str:
    """Return the command that installs Debian packages."""
    system = system or this_system()
    command = "apt-get install -y {}".format(" ".join(packages))
    steps = ([] if _has_lists(system) else ["apt-get update"]) + [command]
    return " && ".join(as_root(step, system) for step in steps)


def pip(requirement: str, system: Optional[System] = None) -> str:
    """Return the command that installs PyPI packages: in a new virtual environment if the system refuses pip."""
    system = system or this_system()
    # Without root, pip would install into a home, which a service cannot see.
    python = as_root(shlex.quote(system.python), system) if system.service else shlex.quote(system.python)
    if system.managed and not system.virtual:
        return _in_new_environment(requirement, system)
    steps: List[str] = []
    if system.pip is None:
        by_apt = system.debian and not system.virtual
        steps.append(apt("python3-pip", system=system) if by_apt else "{} -m ensurepip".format(python))
    if system.pip is None or system.pip < _OLDEST_PIP:
        steps.append("{} -m pip install --upgrade pip".format(python))
    return " && ".join(steps + ["{} -m pip install {}".format(python, requirement)])


def _in_new_environment(requirement: str, system: System) -> str:
    folder = os.path.join(system.home, "edgeclf-venv")
    own = shlex.quote(os.path.join(folder, "bin", "python"))
    steps = [] if system.venv or not system.debian else [apt("python3-venv", system=system)]
    made = [
        "{} -m venv --system-site-packages {}".format(shlex.quote(system.python), shlex.quote(folder)),
        "{} -m pip install {}".format(own, requirement),
    ]
    steps += [as_root(step, system) for step in made] if system.home == "/opt" else made
    then = "run install-service again by {}" if system.service else "start the bundle by {}"
    return "{}; then {}".format(" && ".join(steps), then.format(own))


def uninstall(packages: str, system: Optional[System] = None) -> str:
    """Return the command that removes packages that pip installed."""
    system = system or this_system()
    refused = " --break-system-packages" if system.managed and not system.virtual else ""
    return "{} -m pip uninstall -y{} {}".format(shlex.quote(system.python), refused, packages)


def allow(path: str, node: str) -> str:
    """Return the command that lets this user open a device.  Its group's name differs, and a container may not know it.

    path        where the device's status is read
    node        the device's name in the command, such as "/dev/video0"
    """
    facts = os.stat(path)
    shared = facts.st_gid != 0 and facts.st_mode & 0o060 == 0o060
    try:
        user = pwd.getpwuid(os.getuid()).pw_name
        group = grp.getgrgid(facts.st_gid).gr_name if shared else "video"
    except KeyError:
        return "start the container with docker run --group-add {}".format(facts.st_gid)
    join = "sudo usermod -aG {} {}".format(group, user)
    if shared:
        return join + ", then log in again"
    return "{0} && sudo chgrp {1} {2} && sudo chmod g+rw {2}, then log in again".format(join, group, node)


def as_root(command: str, system: Optional[System] = None) -> str:
    """Return a command with sudo if this user is not root; a container's root may have no sudo."""
    admin = os.geteuid() == 0 if system is None else system.admin
    return command if admin else "sudo " + command
