import io
import os
import socket
import sys
import threading

import pytest

from edgeclf_runtime.device import systemd as notify
from edgeclf_runtime.device.systemd import Notifier, is_service
from tests.support.waiting import wait_until


@pytest.fixture
def systemd(tmp_path):
    """A socket like systemd's: its address, and the datagrams received."""
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
def test_a_name_cannot_command_systemd(systemd, name):
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


def test_long_work_is_reported_as_work_until_it_ends(systemd):
    address, heard = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
    notifier.status("classifying")
    with notifier.busy(60, "opening fp32"):
        said = [heard() for _ in range(10)]
    assert said[:3] == ["STATUS=classifying", "STATUS=opening fp32", "WATCHDOG=1"]
    extended = [int(line.partition("=")[2]) for line in said if line.startswith("EXTEND_TIMEOUT_USEC=")]
    assert len(extended) > 2
    assert all(60e6 < left < 80e6 for left in extended)
    assert said.count("WATCHDOG=1") > 2
    notifier.stopping()
    rest = list(iter(heard, "STOPPING=1"))
    # The watchdog's time was extended, and starts over.
    assert rest[-2:] == ["WATCHDOG=1", "STATUS=classifying"]


def test_work_past_its_limit_is_no_longer_reported(systemd, monkeypatch):
    address, heard = systemd
    monkeypatch.setattr(notify, "_AFTERWARDS_S", 0.0)
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
    with notifier.busy(0.05, "opening fp32"):
        while not heard().startswith("EXTEND"):
            pass
        wait_until(lambda: not any(thread.name == "busy" for thread in threading.enumerate()))


def test_work_may_take_longer_while_it_progresses(systemd, monkeypatch):
    address, heard = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
    with notify.speaking(notifier), notify.busy(1, "building an engine"):
        notify.progress(300)
        assert any(int(heard().partition("EXTEND_TIMEOUT_USEC=")[2] or 0) > 250e6 for _ in range(10))


def test_progress_without_work_and_work_without_a_service_are_not_reported(systemd):
    address, heard = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address, "WATCHDOG_USEC": "20000"})
    with notify.busy(60, "in somebody else's program"), notify.speaking(notifier):
        notify.progress(60)
    with Notifier({"WATCHDOG_USEC": "20000"}).busy(60, "without systemd"):
        assert not any(thread.name == "busy" for thread in threading.enumerate())
    notifier.status("done")
    assert heard() == "STATUS=done"


@pytest.mark.parametrize(
    ("environment", "expected"),
    [
        ({}, False),
        ({"NOTIFY_SOCKET": "/run/x"}, True),
        ({"INVOCATION_ID": "ab" * 16}, True),
        ({"INVOCATION_ID": "ab" * 16, "SYSTEMD_EXEC_PID": str(os.getpid())}, True),
        ({"INVOCATION_ID": "ab" * 16, "SYSTEMD_EXEC_PID": "999999999"}, False),
        ({"SYSTEMD_EXEC_PID": str(os.getpid())}, False),
    ],
)
def test_a_service_knows_that_it_is_one(environment, expected, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    assert is_service(environment) is expected


def test_a_terminal_that_a_service_started_is_not_a_service(monkeypatch):
    monkeypatch.setattr("sys.stdin", io.StringIO())
    monkeypatch.setattr(sys.stdin, "isatty", lambda: True)
    assert not is_service({"INVOCATION_ID": "ab" * 16})


def test_a_status_that_arrives_during_work_outlives_it(systemd):
    address, heard = systemd
    notifier = Notifier({"NOTIFY_SOCKET": address})
    notifier.status("classifying")
    with notifier.busy(60, "opening fp32"):
        notifier.status("camera lost")
    notifier.stopping()
    said = [line for line in iter(heard, "STOPPING=1") if line.startswith("STATUS")]
    assert said == ["STATUS=classifying", "STATUS=opening fp32", "STATUS=camera lost"]
