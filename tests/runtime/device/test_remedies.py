"""The commands that doctor prints work on the system they are printed on."""

import os
import subprocess
import sys

import pytest

from edgeclf_runtime.device import remedies
from edgeclf_runtime.device.remedies import System, allow, apt, as_root, install, pip, this_system, uninstall

BOOKWORM = System(
    "/usr/bin/python3", (3, 11), "x86_64", False, True, True, True, (23, 0), True, False, "/home/me", True
)
VENV = BOOKWORM._replace(python="/home/me/my env/bin/python", virtual=True, own=False)
NANO = System("/usr/bin/python3", (3, 6), "aarch64", False, False, True, True, None, False, False, "/home/me", True)
NEW_ENVIRONMENT = (
    "/usr/bin/python3 -m venv --system-site-packages /home/me/edgeclf-venv && /home/me/edgeclf-venv/bin/python -m pip "
    "install onnxruntime; then start the bundle by /home/me/edgeclf-venv/bin/python"
)


@pytest.mark.parametrize(
    ("system", "library", "command"),
    [
        (BOOKWORM, "numpy", "sudo apt-get install -y python3-numpy"),
        (BOOKWORM, "opencv", "sudo apt-get install -y python3-opencv"),
        (BOOKWORM, "paho-mqtt", "sudo apt-get install -y python3-paho-mqtt"),
        (BOOKWORM, "onnxruntime", NEW_ENVIRONMENT),
        (BOOKWORM._replace(venv=False), "onnxruntime", "sudo apt-get install -y python3-venv && " + NEW_ENVIRONMENT),
        (BOOKWORM._replace(admin=True), "numpy", "apt-get install -y python3-numpy"),
        (
            BOOKWORM._replace(lists=False),
            "numpy",
            "sudo apt-get update && sudo apt-get install -y python3-numpy",
        ),
        (VENV, "numpy", "'/home/me/my env/bin/python' -m pip install numpy"),
        (VENV, "onnxruntime", "'/home/me/my env/bin/python' -m pip install onnxruntime"),
        (
            VENV._replace(pip=None, python="/v/python"),
            "onnxruntime",
            "/v/python -m ensurepip && /v/python -m pip install --upgrade pip && /v/python -m pip install onnxruntime",
        ),
        (
            BOOKWORM._replace(python="/opt/python", own=False, managed=False),
            "opencv",
            "/opt/python -m pip install opencv-python-headless",
        ),
        (
            NANO,
            "onnxruntime",
            "sudo apt-get install -y python3-pip && /usr/bin/python3 -m pip install --upgrade pip && "
            "/usr/bin/python3 -m pip install onnxruntime==1.10.0 numpy==1.19.4",
        ),
        (NANO._replace(jetson=True), "opencv", "sudo apt-get install -y libopencv-python"),
        (NANO._replace(virtual=True, own=False, pip=(21, 3)), "numpy", "/usr/bin/python3 -m pip install numpy==1.19.4"),
        (
            NANO._replace(version=(3, 8), pip=(20, 0)),
            "onnxruntime",
            "/usr/bin/python3 -m pip install onnxruntime==1.19.2",
        ),
    ],
)
def test_the_command_is_that_of_the_system(system, library, command):
    assert install(library, system) == command


@pytest.mark.parametrize(
    ("system", "command"),
    [
        (
            BOOKWORM._replace(service=True, home="/opt"),
            "sudo /usr/bin/python3 -m venv --system-site-packages /opt/edgeclf-venv && sudo /opt/edgeclf-venv/bin/python -m "
            "pip install onnxruntime; then run install-service again by /opt/edgeclf-venv/bin/python",
        ),
        (
            NANO._replace(service=True, pip=(21, 3)),
            "sudo /usr/bin/python3 -m pip install onnxruntime==1.10.0 numpy==1.19.4",
        ),
        (VENV._replace(service=True, python="/opt/v/python"), "sudo /opt/v/python -m pip install onnxruntime"),
    ],
)
def test_what_a_service_lacks_is_installed_by_root_where_the_service_sees_it(system, command):
    assert install("onnxruntime", system) == command


def test_a_user_without_a_home_gets_an_environment_that_root_creates():
    command = install("onnxruntime", BOOKWORM._replace(home="/opt"))
    assert command.startswith("sudo /usr/bin/python3 -m venv --system-site-packages /opt/edgeclf-venv && sudo /opt/")
    assert command.endswith("; then start the bundle by /opt/edgeclf-venv/bin/python")


def test_a_new_environment_for_a_service_is_not_in_its_own_folders(monkeypatch):
    monkeypatch.setenv("HOME", "/var/lib/edgeclf/pets")
    monkeypatch.setenv("NOTIFY_SOCKET", "/run/systemd/notify")
    assert (this_system().home, this_system().service) == ("/opt", True)
    monkeypatch.delenv("NOTIFY_SOCKET")
    monkeypatch.delenv("INVOCATION_ID", raising=False)
    assert (this_system().home, this_system().service) == ("/var/lib/edgeclf/pets", False)


@pytest.mark.parametrize("library", sorted(remedies.PACKAGES))
def test_no_command_has_a_pip_that_the_system_refuses(library):
    for system in (BOOKWORM, BOOKWORM._replace(own=False, python="/usr/bin/python3.11")):
        command = install(library, system)
        assert "apt-get install" in command or "/home/me/edgeclf-venv/bin/python -m pip install" in command
        assert system.python + " -m pip" not in command


def test_uninstalling_overrides_pip_if_the_system_refuses():
    assert uninstall("a b", BOOKWORM) == "/usr/bin/python3 -m pip uninstall -y --break-system-packages a b"
    assert "--break" not in uninstall("a b", VENV)
    assert pip("'numpy<2'", VENV._replace(python="/v/python")) == "/v/python -m pip install 'numpy<2'"


def test_a_package_that_debian_has_is_taken_from_there(monkeypatch):
    monkeypatch.setattr(remedies, "_has_package", lambda package, system: True)
    assert install("onnxruntime", BOOKWORM, ask=True) == "sudo apt-get install -y python3-onnxruntime"
    assert install("onnxruntime", BOOKWORM) == NEW_ENVIRONMENT
    assert "pip install" in install("tensorrt", VENV)


def test_this_system_is_the_one_that_runs():
    system = this_system()
    assert (system.python, system.version) == (sys.executable, sys.version_info[:2])
    assert system.virtual == (sys.prefix != sys.base_prefix)
    assert system.admin == (os.geteuid() == 0)
    assert as_root("x").endswith("x")
    assert apt("x").endswith("apt-get install -y x")


@pytest.mark.skipif(not os.path.exists("/usr/lib/python3.11/EXTERNALLY-MANAGED"), reason="this is not Debian 12")
def test_debians_own_python_is_known_to_refuse_pip():
    home = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(remedies.__file__))))
    code = (
        "import sys; sys.path.insert(0, sys.argv[1]); from edgeclf_runtime.device.remedies import *; "
        "system = this_system(); print(system.managed, system.own, system.virtual); print(pip('x'))"
    )
    out = subprocess.check_output(["/usr/bin/python3", "-I", "-B", "-c", code, home]).decode("utf-8").splitlines()
    assert out[0] == "True True False"
    assert "-m venv --system-site-packages" in out[1]


def test_a_group_that_is_not_known_here_is_added_from_outside(tmp_path):
    node = tmp_path / "video0"
    node.write_text("")
    if os.getuid() != 0:
        pytest.skip("another group needs root")
    os.chown(str(node), 0, 64123)
    node.chmod(0o660)
    assert allow(str(node), "/dev/video0") == "start the container with docker run --group-add 64123"
    os.chown(str(node), 0, 0)
    node.chmod(0o600)
    command = allow(str(node), "/dev/video0")
    assert "sudo chgrp video /dev/video0 && sudo chmod g+rw /dev/video0" in command
    assert "-aG root" not in command
