"""The doctor's checks of the machine around the libraries: cameras, clock, disk, memory and power."""

import ctypes
import glob
import os
import platform
import re
import shutil
import tempfile
import time
from typing import Dict, Iterable, List, Optional, Tuple

from ...capture import frame_memory
from ...capture.v4l2.nodes import Capabilities, title, use
from ...device.cgroups import cpu_quota, memory_limit
from ...device.child_process import find_program
from ...device.machine import board, cores, governor, is_jetson, jetson_linux, power_mode, proc_bytes, read_text
from ...device.remedies import allow, apt, as_root, this_system
from ...device.telemetry import read_telemetry
from ...files.user_folders import temporary_folder
from .checks import Check, ask

# 2026-01-01: the runtime is younger, so an earlier time is wrong.
EARLIEST_TIME = 1767225600
CLOCK_SLACK_S = 120
LOW_DISK_MB, LEAST_DISK_MB = 1000, 100
LOW_MEMORY_MB = 500
SMALL_MEMORY_MB = 4500
OVER_CURRENT = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "instantaneous over-current"}
# The Raspberry Pi's firmware: bits for the present state; 16 bits higher, those for the time since the start (its
# documentation, "vcgencmd get_throttled").
PI_BITS = ("under-voltage", "clock limited", "throttled", "soft temperature limit")
# Six frames of 3840 x 2160.
_LARGEST_FRAMES_BYTES = 6 * 3840 * 2160 * 3
_TIME_ERROR = 5
_QUERY = """
from edgeclf_runtime.capture.v4l2.nodes import query, unanswered
return [(query(path), unanswered(path)) for path in {paths!a}]
"""
_CONFINE = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
import cv2
from edgeclf_runtime.capture.sandbox.confine import confine
from edgeclf_runtime.capture.source import Source
return confine(Source("test", "", "test://"), 1 << 20)
"""


def check_board(root: str = "/") -> Check:
    """Identify the machine."""
    parts = [board(root) or "no name in a device tree", jetson_linux(root), platform.machine(), platform.release()]
    return Check("board", "ok", ", ".join(part for part in parts if part))


def check_processors(root: str = "/") -> Check:
    """Count the processors that this process may use, within a container's or unit's quota."""
    quota, usable = cpu_quota(root), cores(root)
    if quota is None:
        return Check("processors", "ok", "{} usable".format(usable))
    found = "limited to {:g} by a quota: {} thread{}".format(round(quota, 2), usable, "s" * (usable > 1))
    if quota < 1:
        fix = "docker run --cpus=2, or CPUQuota=200% in the service's unit"
        return Check("processors", "warning", found, fix)
    return Check("processors", "ok", found)


def check_cameras(root: str = "/") -> List[Check]:
    """Check whether this user may open each camera device, and whether a program has it open; codecs are skipped."""
    pattern = os.path.join(glob.escape(root), "dev/video[0-9]*")
    devices = sorted(glob.glob(pattern), key=lambda path: int(re.sub(r"\D", "", os.path.basename(path)) or 0))
    if not devices:
        fix = "connect one and see dmesg; in a container: docker run --device /dev/video0; not needed for rtsp:// and http://"
        return [Check("camera", "warning", "there is no /dev/video*", fix)]
    uses, shut = _uses(devices, root)
    cameras = [path for path in devices if not uses[path]]
    if cameras:
        return [_check_camera(path, root, shut[path]) for path in cameras]
    found = ", ".join("/dev/{}: {}".format(os.path.basename(path), uses[path]) for path in devices)
    fix = "connect a USB camera and see dmesg; not needed for rtsp:// and http://"
    if any("libcamera" in use for use in uses.values()):
        needed = (
            apt("gstreamer1.0-libcamera", "python3-opencv")
            if find_program("apt-get")
            else "libcamera's GStreamer plug-in"
        )
        fix = "{}, then --source 'gst://libcamerasrc ! video/x-raw,width=1280,height=720 ! videoconvert'".format(needed)
    return [Check("camera", "warning", "there is no camera; " + found, fix)]


def _uses(devices: List[str], root: str) -> Tuple[Dict[str, str], Dict[str, str]]:
    """Return, by each node's path, why it is not a camera, and why it cannot be opened; "" if it is, or can be.

    A child process asks the drivers, which may hang.
    """
    answer = ask(_QUERY.format(paths=devices))
    known = dict(zip(devices, answer.found or [(None, "")] * len(devices)))
    uses = {path: use(title(path, root), Capabilities(*facts) if facts else None) for path, (facts, _) in known.items()}
    return uses, {path: shut for path, (_, shut) in known.items()}


def check_confinement() -> Check:
    """Check what confines the decoders of cameras and videos, see capture/sandbox/confine.py."""
    answer = ask(_CONFINE)
    if answer.found is None:
        return Check("decoders", "unknown", "not tried: " + answer.failure, "see the checks of numpy and OpenCV")
    found = "confined with " + ", ".join(answer.found) if answer.found else "not confined"
    if any(name.startswith(("landlock", "seccomp")) for name in answer.found):
        return Check("decoders", "ok", found)
    fix = "read untrusted cameras and videos as a user with few rights; a kernel with seccomp or Landlock confines them"
    return Check("decoders", "warning", found, fix)


def _check_camera(path: str, root: str, shut: str) -> Check:
    node = "/dev/" + os.path.basename(path)
    name = title(path, root)
    found = "{} ({})".format(node, name) if name else node
    if not os.access(path, os.R_OK | os.W_OK):
        return Check("camera", "fail", "this user may not open " + found, allow(path, node))
    if shut:
        fix = "connect it again and see dmesg; in a container: docker run --device {}".format(node)
        return Check("camera", "fail", "{} cannot be opened ({})".format(found, shut), fix)
    users = _users(node, root)
    if users:
        return Check("camera", "warning", "{} is in use by {}".format(found, ", ".join(users)), "stop it first")
    # Only root sees other users' processes.
    return Check("camera", "ok", found + (", free" if os.geteuid() == 0 else ", free as far as this user can see"))


def _users(node: str, root: str) -> List[str]:
    """Return "name (process id)" of each process that has a device open."""
    found = []
    for folder in glob.glob(os.path.join(glob.escape(root), "proc/[0-9]*")):
        for link in glob.glob(os.path.join(glob.escape(folder), "fd/*")):
            try:
                if os.readlink(link) == node:
                    name = read_text(os.path.join(folder, "comm"))
                    found.append("{} (process {})".format(name or "?", os.path.basename(folder)))
                    break
            except OSError:
                continue  # the process has just ended, or is another user's
    return found


_ANOTHER_CACHE = "export XDG_CACHE_HOME=FOLDER, a folder that this user can write to"


def check_cache(folder: Optional[str]) -> Check:
    """Check whether engines can be stored in the cache's folder, or in the nearest existing folder above it.

    folder      None: there is no such folder
    """
    if folder is None:
        return Check("cache", "fail", "this user has no folder to store anything in", _ANOTHER_CACHE)
    nearest = os.path.abspath(folder)
    while not os.path.isdir(nearest) and nearest != os.path.dirname(nearest):
        nearest = os.path.dirname(nearest)
    try:
        # Tried out: the rights of a read-only file system, or of /proc, would allow it.
        tempfile.TemporaryFile(dir=nearest).close()
    except OSError as error:
        found = "{} is not writable ({})".format(nearest, error.strerror)
        return Check("cache", "fail", found, _ANOTHER_CACHE)
    free = shutil.disk_usage(nearest).free / 1e6
    found = "{}, {:.1f} GB free".format(folder, free / 1e3)
    fix = "free some space, or set XDG_CACHE_HOME to a folder on another disk; an engine takes up to 100 MB"
    if free < LOW_DISK_MB:
        return Check("cache", "fail" if free < LEAST_DISK_MB else "warning", found, fix)
    return Check("cache", "ok", found)


def check_clock(paths: Iterable[str], now: Optional[float] = None, root: str = "/") -> Check:
    """Check whether the time can be right (no file of the bundle is from the future) and is synchronized."""
    now = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    newest = max([EARLIEST_TIME] + [os.path.getmtime(path) - CLOCK_SLACK_S for path in paths if os.path.exists(path)])
    fix = "{}; without a network: {}".format(_keep_time(root), as_root("date --set 'YYYY-MM-DD HH:MM'"))
    if now < newest:
        found = "{} is before {}, when this runtime or bundle was made".format(
            shown, time.strftime("%Y-%m-%d", time.gmtime(newest))
        )
        return Check("clock", "fail", found, fix)
    synchronized = _synchronized(root)
    if synchronized is None:
        return Check("clock", "unknown", shown + "; it is unknown whether it is synchronized", fix)
    if not synchronized:
        return Check("clock", "warning", shown + ", not synchronized", fix)
    return Check("clock", "ok", shown + ", synchronized")


def _keep_time(root: str) -> str:
    """Return how to keep the clock right: set-ntp fails if no program for it is installed."""
    if not os.path.isdir(os.path.join(root, "run/systemd/system")):
        return "set the clock of the host, if this is a container; otherwise start a time service, such as chrony"
    units = ("systemd-timesyncd", "chrony", "ntp", "ntpsec", "openntpd")
    folders = ("lib/systemd/system", "usr/lib/systemd/system")
    if any(os.path.exists(os.path.join(root, folder, unit + ".service")) for folder in folders for unit in units):
        return as_root("timedatectl set-ntp true")
    return apt("systemd-timesyncd") if this_system(root).debian else "install chrony"


def _synchronized(root: str) -> Optional[bool]:
    if os.path.exists(os.path.join(root, "run/systemd/timesync/synchronized")):
        return True
    try:
        # adjtimex(2) with modes 0 reads the state, whichever program sets the clock; struct timex has at most 208 bytes.
        state: int = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_memory(root: str = "/") -> Check:
    """Check total and free memory, and swap."""
    look = read_telemetry(root)
    if look.memory_total_mb is None or look.memory_used_mb is None:
        return Check("memory", "unknown", "/proc/meminfo cannot be read")
    limit = memory_limit(root)
    free = look.memory_total_mb - look.memory_used_mb
    swap_mb = (proc_bytes(os.path.join(root, "proc/meminfo"), "SwapTotal") or 0) / 1e6
    found = "{:.1f} GB, {:.1f} GB free, swap {:.1f} GB".format(look.memory_total_mb / 1e3, free / 1e3, swap_mb / 1e3)
    if limit is not None:
        found += "; this container or unit may use {:.0f} MB".format(limit / 1e6)
        if limit / 1e6 < LOW_MEMORY_MB:
            fix = "docker run --memory=1g, or MemoryMax=1G in the service's unit"
            return Check("memory", "warning", found, fix)
    if free < LOW_MEMORY_MB:
        fix = "stop other programs; on a Jetson the desktop: sudo systemctl isolate multi-user.target"
        return Check("memory", "warning", found, fix)
    if is_jetson(root) and look.memory_total_mb < SMALL_MEMORY_MB and not swap_mb:
        fix = "building an engine needs more: sudo systemctl enable --now nvzramconfig"
        return Check("memory", "warning", found, fix)
    return Check("memory", "ok", found)


def check_shared_memory() -> Check:
    """Check where camera frames are stored, and whether there is room for those of the largest camera."""
    name, shown = "shared memory", _sizes(frame_memory.SHARED)
    if frame_memory.has_memfd():
        return Check(name, "ok", "memfd, as large as memory; {} is not needed".format(shown))
    room = [_free(folder) for folder in (frame_memory.SHARED, temporary_folder()) if folder]
    fix = "docker run --shm-size=512m, or mount -o remount,size=512m {}".format(frame_memory.SHARED)
    if not any(room):
        return Check(name, "fail", "no memfd, and no room: {}".format(shown), fix)
    if room[0] < _LARGEST_FRAMES_BYTES:
        found = "no memfd, and {}: a camera of 3840 x 2160 needs {:.0f} MB".format(shown, _LARGEST_FRAMES_BYTES / 1e6)
        return Check(name, "warning", found, fix)
    return Check(name, "ok", "no memfd; " + shown)


def _free(folder: str) -> int:
    """Return the number of bytes that this user can write to a folder."""
    try:
        found = os.statvfs(folder)
    except OSError:
        return 0
    return found.f_bavail * found.f_frsize if os.access(folder, os.W_OK | os.X_OK) else 0


def _sizes(folder: str) -> str:
    try:
        found = os.statvfs(folder)
    except OSError as error:
        return "{} ({})".format(folder, error.strerror)
    sizes = [blocks * found.f_frsize / 1e6 for blocks in (found.f_blocks, found.f_bavail)]
    return "{} ({:.0f} MB, {:.0f} MB free)".format(folder, *sizes)


def check_power(root: str = "/") -> List[Check]:
    """Check the power mode, and whether the machine has throttled since the start; returns two Checks."""
    frequency = governor(root)
    mode = [text for text in (power_mode(root), frequency and "governor " + frequency) if text]
    check = Check("power mode", "ok" if mode else "unknown", ", ".join(mode) or "not reported by nvpmodel or cpufreq")
    look = read_telemetry(root)
    events = {OVER_CURRENT.get(name, name): count for name, count in look.throttle_events.items()}
    alerts = [name for name, state in look.throttle_alerts.items() if state]
    states = [*events.values(), *look.throttle_alerts.values()]
    known = [value for value in states if value is not None]
    hottest = max((value for value in look.temperature_c.values() if value is not None), default=None)
    warmth = "temperature unknown" if hottest is None else "at most {:.0f} degrees".format(hottest)
    found = ["{} times {}".format(count, name) for name, count in events.items() if count]
    found += ["now: " + name for name in alerts]
    pi = _pi_power(root)
    found += ["{}: {}".format(when, ", ".join(names)) for when, names in (pi or {}).items() if names]
    known += [True] if pi is not None else []
    if found and pi is not None:
        fix = "use the power supply that the board requires (5 V, 3 A; a Pi 5: 5 A) and a short cable, and cool it"
        return [check, Check("throttling", "warning", "{}; {}".format("; ".join(found), warmth), fix)]
    if found:
        fix = "use the power supply that the board requires, cool it, or choose a lower mode with nvpmodel"
        return [check, Check("throttling", "warning", "{}; {}".format(", ".join(found), warmth), fix)]
    state = "none since the start" if known else "unknown"
    return [check, Check("throttling", "ok" if known else "unknown", "{}; {}".format(state, warmth))]


def _pi_power(root: str) -> Optional[Dict[str, List[str]]]:
    """Return the faults that a Raspberry Pi's firmware reports, for "now" and "since the start"; None on other machines."""
    patterns = ("sys/devices/platform/*/*firmware/get_throttled", "sys/devices/platform/*firmware/get_throttled")
    for path in [path for pattern in patterns for path in glob.glob(os.path.join(glob.escape(root), pattern))]:
        text = read_text(path) or ""
        if re.match(r"(0x)?[0-9a-fA-F]{1,8}$", text):
            bits = int(text, 16)
            shifts = (("now", 0), ("since the start", 16))
            return {when: [name for bit, name in enumerate(PI_BITS) if bits >> bit + by & 1] for when, by in shifts}
    for path in glob.glob(os.path.join(glob.escape(root), "sys/class/hwmon/hwmon*/name")):
        alarm = read_text(os.path.join(os.path.dirname(path), "in0_lcrit_alarm"))
        if read_text(path) == "rpi_volt" and alarm in ("0", "1"):
            return {"now": [PI_BITS[0]] if alarm == "1" else []}
    return None
