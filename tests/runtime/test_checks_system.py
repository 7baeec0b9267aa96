import os
import time

from edgeclf_runtime.checks_system import check_cache, check_cameras, check_clock, check_memory, check_power

from .boards import nano, orin, write


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
    assert (check.status, check.found) == ("fail", "/dev/video0 may not be opened by this user")
    assert check.fix.startswith("sudo usermod -aG ")


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
    assert check.found.startswith("/proc cannot be written (")
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
    assert (check.status, check.found.endswith(" UTC, synchronised")) == ("ok", True)


def test_memory_and_swap_are_given(tmp_path):
    root = str(nano(tmp_path))
    check = check_memory(root)
    assert (check.status, check.found) == ("ok", "4.1 GB, 2.1 GB free, swap 2.1 GB")
    write(tmp_path, {"proc/meminfo": "MemTotal: 4051044 kB\nMemAvailable: 2051044 kB\nSwapTotal: 0 kB\n"})
    assert "nvzramconfig" in check_memory(root).fix
    write(tmp_path, {"proc/meminfo": "MemTotal: 4051044 kB\nMemAvailable: 51044 kB\nSwapTotal: 0 kB\n"})
    assert "multi-user.target" in check_memory(root).fix
    assert check_memory(str(tmp_path / "none")).status == "unknown"


def test_a_supply_that_was_too_weak_is_told(tmp_path):
    mode, throttling = check_power(str(orin(tmp_path)))
    assert (mode.status, mode.found) == ("ok", "MAXN_SUPER (mode 2), governor schedutil")
    assert (throttling.status, throttling.found) == (
        "warning",
        "2 times instantaneous over-current; 48 degrees at most",
    )
    write(tmp_path, {"sys/class/hwmon/hwmon3/oc3_event_cnt": "0\n"})
    assert check_power(str(tmp_path))[1].found == "none since the start; 48 degrees at most"
    write(tmp_path, {"sys/class/thermal/cooling_device1/cur_state": "1\n"})
    assert check_power(str(tmp_path))[1].found == "now: gpu-throttle-alert; 48 degrees at most"


def test_what_a_machine_does_not_tell_is_unknown(tmp_path):
    assert [check.status for check in check_power(str(tmp_path))] == ["unknown", "unknown"]
    assert check_power(str(nano(tmp_path)))[1].found == "unknown; 42 degrees at most"
