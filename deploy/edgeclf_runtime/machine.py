"""The facts of a machine: what a figure that was measured on it depends on.

Knows nothing of what changes from second to second; ``telemetry.py`` does.
"""

import glob
import os
import platform
import re
import sys

from . import __version__

_MAX_BYTES = 1 << 16


def read_text(path):
    """Return the first 64 KB of a small file without the blanks around it, or None where it is missing or unreadable."""
    try:
        with open(path, "rb") as stream:
            # Texts in the device tree end with a zero byte.
            return stream.read(_MAX_BYTES).decode("utf-8", "replace").strip("\0 \n")
    except (OSError, ValueError):
        return None


def machine_facts(root="/"):
    """Return what a figure depends on: board, processor, power mode and versions; None where one is unknown.

    root        where /proc, /sys, /etc and /var are looked for
    """
    import cv2
    import numpy as np

    facts = {
        "machine": platform.machine(),
        "board": board(root),
        "processor": processor(root),
        "cores": cores(),
        "kernel": platform.release(),
        "jetson_linux": jetson_linux(root),
        "power_mode": power_mode(root),
        "governor": governor(root),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "edgeclf_runtime": __version__,
    }
    # Whatever has run the models is loaded by now; nothing is loaded to ask for its version.
    for library in ("onnxruntime", "tensorrt"):
        version = getattr(sys.modules.get(library), "__version__", None)
        if version:
            facts[library] = version
    return facts


def cores():
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def physical_cores(root="/"):
    """Return how many cores this process may use, those that are two threads of one processor core counted once."""
    path = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    numbers = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else range(cores())
    return len({read_text(os.path.join(root, path.format(number))) or number for number in numbers})


def board(root="/"):
    """Return the board's name as its device tree gives it, or None (a PC has none)."""
    return read_text(os.path.join(root, "proc/device-tree/model"))


def is_jetson(root="/"):
    """Whether the device tree names one of NVIDIA's Tegra processors, inside of a container too."""
    return "nvidia,tegra" in (read_text(os.path.join(root, "proc/device-tree/compatible")) or "")


def jetson_linux(root="/"):
    """Return the release of Jetson Linux, as in "R32.7.1", or None."""
    text = read_text(os.path.join(root, "etc/nv_tegra_release")) or ""
    # "# R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t210ref, ..."
    found = re.match(r"# (R\d+) \(release\), REVISION: ([\d.]+)", text)
    return "{}.{}".format(*found.groups()) if found else None


def power_mode(root="/"):
    """Return a Jetson's power mode as nvpmodel wrote it down, as in "MAXN (mode 0)", or None."""
    status = re.match(r"pmode:(\d+)", read_text(os.path.join(root, "var/lib/nvpmodel/status")) or "")
    if not status:
        return None
    number = int(status.group(1))
    modes = read_text(os.path.join(root, "etc/nvpmodel.conf")) or ""
    # A mode's definition begins "< POWER_MODEL ID=0 NAME=MAXN >".
    name = re.search(r"^<\s*POWER_MODEL\s+ID={}\s+NAME=(\S+)".format(number), modes, re.MULTILINE)
    return "{} (mode {})".format(name.group(1), number) if name else "mode {}".format(number)


def governor(root="/"):
    """Return what sets the processors' clocks, as in "schedutil", or None."""
    pattern = os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({text for text in map(read_text, glob.glob(pattern)) if text})) or None


def cache_folder():
    """Return where what was made on this device is kept, by the XDG base directory specification."""
    cache = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    return os.path.join(cache, "edgeclf")


def processor(root="/"):
    """Return the processor's name."""
    lines = (read_text(os.path.join(root, "proc/cpuinfo")) or "").splitlines()
    names = [
        line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model")) and ":" in line
    ]
    return names[0] if names else platform.processor()
