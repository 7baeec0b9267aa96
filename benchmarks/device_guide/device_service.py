"""The service of deploy/README.md under a real systemd: installed as the page says, stopped, started and removed.

Runs inside the place that device_place.py makes, whose hosts it shares.  systemd has Debian's Python only.
"""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2]))

from tests.support.systemd import Systemd

WAIT_S, STOP_S = 60, 2.0
ALIVE = r"classifying with|waiting for the camera"


def walk_service(folder: Path, page: str) -> Iterator[dict[str, Any]]:
    """Yield a row for each command of the page's section on services, and for what it says of them."""
    copy, install = re.findall(r"^sudo .*$", page, re.MULTILINE)
    (folder / "srv").mkdir()
    subprocess.check_call(["cp", "-r", "pets.edge", "srv"], cwd=folder)
    paho = importlib.util.find_spec("paho")
    if paho is not None and paho.submodule_search_locations:
        subprocess.check_call(["cp", "-r", *paho.submodule_search_locations, str(folder / "srv" / "paho")])
    with Systemd(walk=folder / "srv") as systemd:
        hosts = Path("/etc/hosts").read_text(encoding="utf-8")
        _shell(systemd, "printf '#!/bin/sh\\nexec \"$@\"\\n' > /usr/bin/sudo; chmod 755 /usr/bin/sudo")
        _shell(systemd, f"printf '%s' '{hosts}' > /etc/hosts")
        yield _row(systemd, copy, 0, "")
        yield _row(systemd, install, 1, "python3-paho-mqtt")
        # What that message recommends, without a network: paho-mqtt is pure Python.
        yield _row(systemd, "cp -r paho /usr/lib/python3/dist-packages/", 0, "")
        yield _row(systemd, install, 0, "is installed")
        yield _status(systemd, "pets", "nvarguscamerasrc")
        yield _row(systemd, "sudo python3 /opt/pets.edge uninstall-service --name pets", 0, "stay")
        real = install.replace("csi://0", "test://").replace("mqtt://broker/pets", "it.jsonl")
        yield _row(systemd, real, 0, "is installed")
        yield _status(systemd, "pets", "classifying with")
        yield _row(systemd, "ls -l /var/lib/edgeclf/pets/it.jsonl", 0, "edgeclf")
        yield _stop(systemd, "pets")
        yield _row(systemd, "systemctl start pets", 0, "")
        yield _row(systemd, "sudo python3 /opt/pets.edge uninstall-service --name pets", 0, "/var/lib/edgeclf/pets")
        yield _row(systemd, "systemctl cat pets", 1, "No files found")


def _shell(systemd: Systemd, line: str) -> tuple[int, str]:
    done = subprocess.run(
        systemd._command(["bash", "-c", "cd /srv/walk; " + line]), stdout=subprocess.PIPE, stderr=subprocess.STDOUT
    )
    return done.returncode, done.stdout.decode("utf-8", "replace")


def _row(systemd: Systemd, line: str, code: int, shows: str) -> dict[str, Any]:
    status, said = _shell(systemd, line)
    right = status == code and re.search(shows, said)
    why = "" if right else f"expected exit code {code} and {shows!r}"
    return _made(line, status, why, said)


def _status(systemd: Systemd, name: str, wanted: str) -> dict[str, Any]:
    """Wait for what the service says of itself."""
    deadline, status = time.monotonic() + WAIT_S, ""
    while wanted not in status and time.monotonic() < deadline:
        time.sleep(0.2)
        status = systemd.show(name, "StatusText")
    said = _shell(systemd, f"systemctl status {name}; journalctl -u {name} --no-pager | tail -30")[1]
    why = "" if wanted in status else f"its status is {status!r}, not {wanted!r}"
    return _made(f"systemctl status {name}", 0, why, said)


def _stop(systemd: Systemd, name: str) -> dict[str, Any]:
    began = time.monotonic()
    _shell(systemd, f"systemctl stop {name}")
    stop_s = time.monotonic() - began
    code, result = int(systemd.show(name, "ExecMainStatus")), systemd.show(name, "Result")
    right = (code, result) == (143, "success") and stop_s < STOP_S
    return _made(f"systemctl stop {name}", code, "" if right else f"{result} after {stop_s:.1f} s", f"{stop_s:.2f} s\n")


def _made(line: str, status: int, why: str, said: str) -> dict[str, Any]:
    row = {"command": line, "exit": status, "status": "FAILED" if why else "ok", "why": why}
    return {**row, "stop_s": 0.0, "output": said, "beside": ""}
