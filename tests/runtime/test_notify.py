import os
import socket

import pytest

from edgeclf_runtime.notify import Notifier


@pytest.fixture
def systemd(tmp_path):
    """A socket like systemd's: its address, and what came."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(5)
        yield str(tmp_path / "notify"), lambda: listener.recv(4096).decode()


def test_systemd_hears_that_the_service_is_ready_and_when_it_stops(systemd):
    address, heard = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready("classifying")
    assert heard() == "READY=1\nSTATUS=classifying"
    notifier.status("camera lost")
    assert heard() == "STATUS=camera lost"
    notifier.stopping()
    assert heard() == "STOPPING=1"


@pytest.mark.parametrize("name", ["x\nMAINPID=1", "x\rMAINPID=1", "x\0MAINPID=1", "\u2028\x1b[0m\udcff", "y" * 10_000])
def test_a_name_is_no_command_to_systemd(systemd, name):
    address, heard = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.ready(name)
    ready, status = heard().split("\n")
    assert ready == "READY=1"
    assert status.startswith("STATUS=")
    assert status.isprintable()
    notifier.status(name)
    assert heard() == status


def test_an_abstract_socket_is_reached():
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(f"\0edgeclf-{os.getpid()}")
        listener.settimeout(5)
        Notifier({"NOTIFY_SOCKET": f"@edgeclf-{os.getpid()}"}).ready("here")
        assert b"READY=1" in listener.recv(4096)


def test_the_watchdog_is_fed_by_progress_twice_in_its_time(systemd):
    address, heard = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "60000000"})
    for _ in range(100):
        notifier.alive()
    notifier.status("done")
    assert [heard(), heard()] == ["WATCHDOG=1", "STATUS=done"]


def test_another_process_watchdog_is_not_fed(systemd):
    address, heard = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "1", "WATCHDOG_PID": str(os.getpid() + 1)})
    notifier.alive()
    notifier.status("done")
    assert heard() == "STATUS=done"


def test_without_systemd_nothing_happens(tmp_path):
    for environment in ({}, {"NOTIFY_SOCKET": str(tmp_path / "gone"), "WATCHDOG_USEC": "junk"}):
        notifier = Notifier(environment)
        notifier.ready("classifying")
        notifier.alive()
