"""The doctor's checks of the machine around the libraries: cameras, clock, disk, memory and power."""

import ctypes
import glob
import grp
import os
import platform
import re
import shutil
import tempfile
import time

from .checks import Check, ask
from .machine import board, governor, is_jetson, jetson_linux, power_mode, read_text
from .telemetry import read_telemetry

# 2026-01-01: the runtime is younger, so an earlier time is wrong.
EARLIEST_TIME = 1767225600
CLOCK_SLACK_S = 120
LOW_DISK_MB, LEAST_DISK_MB = 1000, 100
LOW_MEMORY_MB = 500
SMALL_MEMORY_MB = 4500
OVER_CURRENT = {"oc1": "under-voltage", "oc2": "average over-current", "oc3": "instantaneous over-current"}
_TIME_ERROR = 5
_CONFINE = """
import os
os.environ["OPENBLAS_NUM_THREADS"] = os.environ["OMP_NUM_THREADS"] = "1"
import cv2
from edgeclf_runtime.sandbox import confine
from edgeclf_runtime.sources import Source
return confine(Source("test", "", "test://"), 1 << 20)
"""


def check_board(root="/"):
    """Which machine this is."""
    parts = [board(root) or "no name in a device tree", jetson_linux(root), platform.machine(), platform.release()]
    return Check("board", "ok", ", ".join(part for part in parts if part))


def check_cameras(root="/"):
    """A Check for each camera device: whether this user may open it, and who has it open."""
    pattern = os.path.join(glob.escape(root), "dev/video[0-9]*")
    devices = sorted(glob.glob(pattern), key=lambda path: int(re.sub(r"\D", "", os.path.basename(path)) or 0))
    if not devices:
        fix = (
            "connect one and see dmesg; in a container: docker run --device /dev/video0; rtsp:// and http:// need none"
        )
        return [Check("camera", "warning", "there is no /dev/video*", fix)]
    return [_check_camera(path, root) for path in devices]


def check_confinement():
    """What keeps the decoders of cameras and videos from the rest of this machine, see sandbox.py."""
    answer = ask(_CONFINE)
    if answer.found is None:
        return Check("decoders", "unknown", "not tried: " + answer.failure, "see the checks of numpy and OpenCV")
    found = "confined by " + ", ".join(answer.found) if answer.found else "not confined"
    if any(name.startswith(("landlock", "seccomp")) for name in answer.found):
        return Check("decoders", "ok", found)
    fix = (
        "read cameras and videos of others as a user of little rights; a kernel with seccomp or Landlock confines them"
    )
    return Check("decoders", "warning", found, fix)


def _check_camera(path, root):
    node = "/dev/" + os.path.basename(path)
    title = read_text(os.path.join(root, "sys/class/video4linux", os.path.basename(path), "name"))
    found = "{} ({})".format(node, title) if title else node
    if not os.access(path, os.R_OK | os.W_OK):
        fix = "sudo usermod -aG {} $USER, then log in again".format(_group(path))
        return Check("camera", "fail", found + " may not be opened by this user", fix)
    users = _users(node, root)
    if users:
        return Check("camera", "warning", "{} is in use by {}".format(found, ", ".join(users)), "stop it first")
    # Who is not root sees its own processes alone.
    return Check("camera", "ok", found + (", free" if os.geteuid() == 0 else ", free as far as this user can see"))


def _group(path):
    try:
        return grp.getgrgid(os.stat(path).st_gid).gr_name
    except (KeyError, OSError):
        return "video"


def _users(node, root):
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
                continue  # it has just ended, or is another user's
    return found


def check_cache(folder):
    """Whether engines can be kept: the cache's folder, or the nearest above it that is there."""
    place = os.path.abspath(folder)
    while not os.path.isdir(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    try:
        # By trying: a file system that is read-only, or /proc, is writable by its rights.
        tempfile.TemporaryFile(dir=place).close()
    except OSError as error:
        found = "{} cannot be written ({})".format(place, error.strerror)
        return Check("cache", "fail", found, "set XDG_CACHE_HOME to a folder that can")
    free = shutil.disk_usage(place).free / 1e6
    found = "{}, {:.1f} GB free".format(folder, free / 1e3)
    fix = "free some space, or set XDG_CACHE_HOME to a folder on another disk; an engine takes up to 100 MB"
    if free < LOW_DISK_MB:
        return Check("cache", "fail" if free < LEAST_DISK_MB else "warning", found, fix)
    return Check("cache", "ok", found)


def check_clock(paths, now=None, root="/"):
    """Whether the time can be right (no file of the bundle is from the future) and is kept right."""
    now = time.time() if now is None else now
    shown = time.strftime("%Y-%m-%d %H:%M UTC", time.gmtime(now))
    newest = max([EARLIEST_TIME] + [os.path.getmtime(path) - CLOCK_SLACK_S for path in paths if os.path.exists(path)])
    fix = "sudo timedatectl set-ntp true; without a network: sudo date --set '2026-01-31 12:00'"
    if now < newest:
        found = "{} is before {}, when this runtime or bundle was made".format(
            shown, time.strftime("%Y-%m-%d", time.gmtime(newest))
        )
        return Check("clock", "fail", found, fix)
    synchronized = _synchronized(root)
    if synchronized is None:
        return Check("clock", "unknown", shown + "; whether it is synchronised cannot be told", fix)
    if not synchronized:
        return Check("clock", "warning", shown + ", not synchronised", fix)
    return Check("clock", "ok", shown + ", synchronised")


def _synchronized(root):
    if os.path.exists(os.path.join(root, "run/systemd/timesync/synchronized")):
        return True
    try:
        # adjtimex(2) with modes 0 asks, whichever program sets the clock; struct timex has 208 bytes at most.
        state = ctypes.CDLL(None, use_errno=True).adjtimex(ctypes.create_string_buffer(512))
    except (AttributeError, OSError):
        return None
    return None if state < 0 else state != _TIME_ERROR


def check_memory(root="/"):
    """Memory that is there and free, and swap."""
    look = read_telemetry(root)
    if look.memory_total_mb is None or look.memory_used_mb is None:
        return Check("memory", "unknown", "/proc/meminfo cannot be read")
    free = look.memory_total_mb - look.memory_used_mb
    swap = re.search(r"^SwapTotal:\s+(\d+)", read_text(os.path.join(root, "proc/meminfo")) or "", re.MULTILINE)
    swap_mb = int(swap.group(1)) * 1024 / 1e6 if swap else 0.0
    found = "{:.1f} GB, {:.1f} GB free, swap {:.1f} GB".format(look.memory_total_mb / 1e3, free / 1e3, swap_mb / 1e3)
    if free < LOW_MEMORY_MB:
        fix = "stop other programs; on a Jetson the desktop: sudo systemctl isolate multi-user.target"
        return Check("memory", "warning", found, fix)
    if is_jetson(root) and look.memory_total_mb < SMALL_MEMORY_MB and not swap_mb:
        fix = "building an engine needs more: sudo systemctl enable --now nvzramconfig"
        return Check("memory", "warning", found, fix)
    return Check("memory", "ok", found)


def check_power(root="/"):
    """The power mode, and whether the supply has been too weak since the start; returns two Checks."""
    mode = [text for text in (power_mode(root), governor(root) and "governor " + governor(root)) if text]
    check = Check("power mode", "ok" if mode else "unknown", ", ".join(mode) or "neither nvpmodel nor cpufreq tells")
    look = read_telemetry(root)
    events = {OVER_CURRENT.get(name, name): count for name, count in look.throttle_events.items()}
    alerts = [name for name, state in look.throttle_alerts.items() if state]
    known = [value for value in list(events.values()) + list(look.throttle_alerts.values()) if value is not None]
    hottest = max((value for value in look.temperature_c.values() if value is not None), default=None)
    warmth = "temperature unknown" if hottest is None else "{:.0f} degrees at most".format(hottest)
    found = ["{} times {}".format(count, name) for name, count in events.items() if count]
    found += ["now: " + name for name in alerts]
    if found:
        fix = "use the supply that the board's guide asks for, cool it, or choose a lower mode with nvpmodel"
        return [check, Check("throttling", "warning", "{}; {}".format(", ".join(found), warmth), fix)]
    state = "none since the start" if known else "unknown"
    return [check, Check("throttling", "ok" if known else "unknown", "{}; {}".format(state, warmth))]
