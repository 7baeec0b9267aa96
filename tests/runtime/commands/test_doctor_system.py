import os
import time

import pytest

from edgeclf_runtime.capture import frame_memory
from edgeclf_runtime.commands.doctor import system
from edgeclf_runtime.commands.doctor.system import (
    check_cache,
    check_cameras,
    check_clock,
    check_memory,
    check_power,
    check_processors,
    check_shared_memory,
)
from tests.support.boards import nano, orin, write


def test_a_camera_is_named_and_free(tmp_path):
    write(tmp_path, {"dev/video0": "", "dev/video10": "", "sys/class/video4linux/video0/name": "HD Webcam C525\n"})
    found = [check.found for check in check_cameras(str(tmp_path))]
    assert found[0].startswith("/dev/video0 (HD Webcam C525), free")
    assert found[1].startswith("/dev/video10, free")


def test_a_camera_that_another_process_has_open_is_in_use(tmp_path):
    write(tmp_path, {"dev/video0": "", "proc/4711/comm": "cheese\n", "proc/4711/fd/0": "", "proc/99999/comm": "gone\n"})
    (tmp_path / "proc/4711/fd/7").symlink_to("/dev/video0")
    [check] = check_cameras(str(tmp_path))
    assert (check.status, check.found) == ("warning", "/dev/video0 is in use by cheese (process 4711)")


def test_a_camera_that_this_user_may_not_open_names_the_group(tmp_path, monkeypatch):
    write(tmp_path, {"dev/video0": ""})
    monkeypatch.setattr(os, "access", lambda path, mode: False)  # root may open everything
    [check] = check_cameras(str(tmp_path))
    assert (check.status, check.found) == ("fail", "this user may not open /dev/video0")
    assert check.fix.startswith("sudo usermod -aG ")


def test_a_node_without_a_driver_is_not_a_free_camera(tmp_path):
    (tmp_path / "dev").mkdir()
    try:
        os.mknod(str(tmp_path / "dev/video0"), 0o600 | 0o020000, os.makedev(81, 255))
    except PermissionError:
        pytest.skip("making a device's node needs root")
    [check] = check_cameras(str(tmp_path))
    assert (check.status, check.found) == ("fail", "/dev/video0 cannot be opened (No such device or address)")
    assert check.fix.endswith("docker run --device /dev/video0")


def test_no_camera_is_a_warning(tmp_path):
    assert [check.status for check in check_cameras(str(tmp_path))] == ["warning"]


def test_a_cache_that_is_not_there_yet_is_looked_for_above(tmp_path):
    check = check_cache(str(tmp_path / "not" / "yet"))
    assert check.status in ("ok", "warning")
    assert " GB free" in check.found
    assert not (tmp_path / "not").exists()


def test_a_cache_that_cannot_be_written_fails():
    check = check_cache("/proc/edgeclf")
    assert check.status == "fail"
    assert check.found.startswith("/proc is not writable (")
    assert "XDG_CACHE_HOME" in check.fix


def test_a_clock_that_began_again_in_1970_fails(tmp_path):
    check = check_clock([], now=1000.0, root=str(tmp_path))
    assert (check.status, check.found[:32]) == ("fail", "1970-01-01 00:16 UTC is before 2")


def test_a_clock_before_the_making_of_the_bundle_fails(tmp_path):
    now = time.time()
    write(tmp_path, {"manifest.json": "{}"})
    os.utime(str(tmp_path / "manifest.json"), (now + 86400, now + 86400))
    assert check_clock([str(tmp_path / "manifest.json")], now).status == "fail"
    os.utime(str(tmp_path / "manifest.json"), (now + 60, now + 60))
    assert check_clock([str(tmp_path / "manifest.json"), str(tmp_path / "none")], now).status != "fail"


def test_a_clock_that_is_kept_right_is_ok(tmp_path):
    write(tmp_path, {"run/systemd/timesync/synchronized": ""})
    check = check_clock([], root=str(tmp_path))
    assert (check.status, check.found.endswith(" UTC, synchronized")) == ("ok", True)


def test_memory_and_swap_are_given(tmp_path):
    root = str(nano(tmp_path))
    check = check_memory(root)
    assert (check.status, check.found) == ("ok", "4.1 GB, 2.1 GB free, swap 2.1 GB")
    write(tmp_path, {"proc/meminfo": "MemTotal: 4051044 kB\nMemAvailable: 2051044 kB\nSwapTotal: 0 kB\n"})
    assert "nvzramconfig" in check_memory(root).fix
    write(tmp_path, {"proc/meminfo": "MemTotal: 4051044 kB\nMemAvailable: 51044 kB\nSwapTotal: 0 kB\n"})
    assert "multi-user.target" in check_memory(root).fix
    assert check_memory(str(tmp_path / "none")).status == "unknown"


def test_a_weak_power_supply_is_reported(tmp_path):
    mode, throttling = check_power(str(orin(tmp_path)))
    assert (mode.status, mode.found) == ("ok", "MAXN_SUPER (mode 2), governor schedutil")
    assert (throttling.status, throttling.found) == (
        "warning",
        "2 times instantaneous over-current; at most 48 degrees",
    )
    write(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": "0\n"})
    assert check_power(str(tmp_path))[1].found == "none since the start; at most 48 degrees"
    write(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "1\n"})
    assert check_power(str(tmp_path))[1].found == "now: gpu-throttle-alert; at most 48 degrees"


def test_what_a_machine_does_not_report_is_unknown(tmp_path):
    assert [check.status for check in check_power(str(tmp_path))] == ["unknown", "unknown"]
    assert check_power(str(nano(tmp_path)))[1].found == "unknown; at most 42 degrees"


@pytest.mark.slow
def test_nodes_of_codecs_are_not_listed(tmp_path):
    names = {"video0": "HD Webcam C525", "video10": "bcm2835-codec-decode", "video20": "pispbe-config"}
    for node, name in names.items():
        write(tmp_path, {f"dev/{node}": "", f"sys/class/video4linux/{node}/name": name + "\n"})
    [check] = check_cameras(str(tmp_path))
    assert check.found.startswith("/dev/video0 (HD Webcam C525)")
    (tmp_path / "dev/video0").unlink()
    [check] = check_cameras(str(tmp_path))
    assert (check.status, check.found) == (
        "warning",
        "there is no camera; /dev/video10: codec or image processor, /dev/video20: codec or image processor",
    )
    write(tmp_path, {"dev/video1": "", "sys/class/video4linux/video1/name": "rp1-cfe-csi2_ch0\n"})
    assert "gst://libcamerasrc ! " in check_cameras(str(tmp_path))[0].fix


@pytest.mark.slow
def test_drivers_that_hang_when_they_are_asked_are_survived(tmp_path, monkeypatch):
    write(
        tmp_path, {"dev/video0": "", "dev/video10": "", "sys/class/video4linux/video10/name": "bcm2835-isp-capture0\n"}
    )
    monkeypatch.setattr(system, "_QUERY", "import time; time.sleep(600)  # {paths}")
    monkeypatch.setattr(system, "ask", lambda code: checks_system_ask(code, 0.5))
    assert [check.found.split(",")[0] for check in check_cameras(str(tmp_path))] == ["/dev/video0"]


def checks_system_ask(code, timeout_s):
    from edgeclf_runtime.commands.doctor.checks import ask

    return ask(code, timeout_s)


PI = "sys/devices/platform/soc/soc:firmware/get_throttled"


@pytest.mark.parametrize(
    ("path", "text", "status", "found"),
    [
        (PI, "0\n", "ok", "none since the start; temperature unknown"),
        (PI, "50000\n", "warning", "since the start: under-voltage, throttled; temperature unknown"),
        (
            PI,
            "50005\n",
            "warning",
            "now: under-voltage, throttled; since the start: under-voltage, throttled; temperature unknown",
        ),
        (
            PI,
            "0x80002\n",
            "warning",
            "now: clock limited; since the start: soft temperature limit; temperature unknown",
        ),
        ("sys/devices/platform/soc@107c000000/soc@107c000000:firmware/get_throttled", "1\n", "warning", "now: under"),
        ("sys/class/hwmon/hwmon2/in0_lcrit_alarm", "1\n", "warning", "now: under-voltage; temperature unknown"),
        ("sys/class/hwmon/hwmon2/in0_lcrit_alarm", "0\n", "ok", "none since the start; temperature unknown"),
        (PI, "nonsense\n", "unknown", "unknown; temperature unknown"),
    ],
)
def test_a_raspberry_pi_tells_of_its_supply_now_and_since_the_start(tmp_path, path, text, status, found):
    write(tmp_path, {path: text, "sys/class/hwmon/hwmon2/name": "rpi_volt\n"})
    check = check_power(str(tmp_path))[1]
    assert (check.status, check.found[: len(found)]) == (status, found)
    assert ("5 V, 3 A" in check.fix) == (status == "warning")


def test_a_quota_and_a_limit_of_memory_are_shown(tmp_path, monkeypatch):
    root = str(nano(tmp_path))
    assert check_processors(root).status == "ok"
    write(tmp_path, {"sys/fs/cgroup/cpu.max": "50000 100000\n", "sys/fs/cgroup/memory.max": "268435456\n"})
    check = check_processors(root)
    assert (check.status, check.found) == ("warning", "limited to 0.5 by a quota: 1 thread")
    assert "--cpus=" in check.fix
    check = check_memory(root)
    assert check.found.endswith("; this container or unit may use 268 MB")
    assert (check.status, "docker run --memory" in check.fix) == ("warning", True)
    write(tmp_path, {"sys/fs/cgroup/memory.max": "2147483648\n"})
    assert check_memory(root).status == "ok"


def test_shared_memory_is_checked_if_there_is_no_memfd(small_disk, monkeypatch):
    check = check_shared_memory()
    assert check.status == "ok"
    monkeypatch.setattr(frame_memory, "_memfd", lambda: -1)
    monkeypatch.setattr(frame_memory, "SHARED", str(small_disk("64m")))
    check = check_shared_memory()
    assert (check.status, "needs 149 MB" in check.found, "--shm-size=512m" in check.fix) == ("warning", True, True)
    assert "(67 MB, 67 MB free)" in check.found
    monkeypatch.setattr(frame_memory, "SHARED", "/nonexistent")
    monkeypatch.setattr(system, "temporary_folder", lambda: None)
    check = check_shared_memory()
    assert (check.status, "No such file" in check.found) == ("fail", True)


def test_a_clock_is_kept_by_what_is_there(tmp_path):
    assert "the host" in check_clock([], root=str(tmp_path)).fix
    write(tmp_path, {"run/systemd/system/x": "", "lib/systemd/system/chrony.service": ""})
    assert "timedatectl set-ntp true; without a network: " in check_clock([], root=str(tmp_path)).fix
    (tmp_path / "lib/systemd/system/chrony.service").unlink()
    write(tmp_path, {"etc/debian_version": "12\n"})
    assert "timedatectl" not in check_clock([], root=str(tmp_path)).fix


def test_without_a_folder_the_cache_fails():
    check = check_cache(None)
    assert (check.status, "XDG_CACHE_HOME" in check.fix) == ("fail", True)
