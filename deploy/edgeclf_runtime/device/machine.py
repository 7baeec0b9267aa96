"""Facts about a machine that its benchmark figures depend on.

For values that change from second to second, see ``device/telemetry.py``.
"""

import glob
import math
import os
import platform
import re
import sys
from typing import Dict, List, Optional, Set, Tuple

from .. import __version__
from .cgroups import cpu_quota

_MAX_BYTES = 1 << 16
GPU_NODES = ("dev/nvhost-gpu", "dev/nvgpu/igpu0", "dev/nvidia0")


def read_text(path: str) -> Optional[str]:
    """Return the first 64 KB of a small file, stripped, or None if it is missing or unreadable."""
    try:
        with open(path, "rb") as stream:
            # Strings in the device tree end with a zero byte.
            return stream.read(_MAX_BYTES).decode("utf-8", "replace").strip("\0 \n")
    except (OSError, ValueError):
        return None


def machine_facts(root: str = "/") -> Dict[str, object]:
    """Return board, processor, power mode and versions; unknown ones are None.

    root        the folder that holds /proc, /sys, /etc and /var
    """
    import cv2
    import numpy as np

    facts: Dict[str, object] = {
        "machine": platform.machine(),
        "board": board(root),
        "processor": processor(root),
        "cores": cores(root),
        "kernel": platform.release(),
        "jetson_linux": jetson_linux(root),
        "power_mode": power_mode(root),
        "governor": governor(root),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "opencv": cv2.__version__,
        "edgeclf_runtime": __version__,
    }
    # The backend in use is loaded by now; nothing is loaded just to read its version.
    for library in ("onnxruntime", "tensorrt"):
        version = getattr(sys.modules.get(library), "__version__", None)
        if version:
            facts[library] = version
    return facts


# What platform.machine() may be on a kernel of a processor family.
_FAMILIES = (("aarch64", "arm64", "armv7l", "armv8l"), ("x86_64", "i386", "i686"))


def is_emulated(root: str = "/") -> bool:
    """Return whether this program runs on an emulated processor, as by qemu-aarch64: the kernel's own is of another family."""
    machine = platform.machine()
    kernel = read_text(os.path.join(root, "proc/sys/kernel/arch"))  # from Linux 6.1 on
    if kernel:
        return kernel != machine and not any({kernel, machine} <= set(family) for family in _FAMILIES)
    # x86 processors have a vendor_id.
    return machine in _FAMILIES[0] and "vendor_id" in (read_text(os.path.join(root, "proc/cpuinfo")) or "")


def cores(root: str = "/") -> int:
    """Return how many cores this process may use, by its affinity and its container's quota, rounded up."""
    return _within_quota(len(_affinity()), root)


def physical_cores(root: str = "/") -> int:
    """Return how many physical cores this process may use: two hardware threads of one core count once."""
    path = "sys/devices/system/cpu/cpu{}/topology/thread_siblings_list"
    found = {read_text(os.path.join(root, path.format(number))) or number for number in _affinity()}
    return _within_quota(len(found), root)


def inference_threads(root: str = "/") -> int:
    """Return how many threads an inference takes unless told: one for each physical core, or thread_limit() if that is fewer."""
    found = physical_cores(root)
    return min(found, thread_limit(root) or found)


def thread_limit(root: str = "/") -> Optional[int]:
    """Return the most threads that a library may take, by a quota or OMP_NUM_THREADS, or None; not all libraries obey them."""
    first = os.environ.get("OMP_NUM_THREADS", "").partition(",")[0].strip()  # one number for each level of nesting
    variable = int(first) if first.isdigit() else 0
    return min(filter(None, (variable, quota_cores(root))), default=None)


def quota_cores(root: str = "/") -> Optional[int]:
    """Return cores() if a quota reduces it, else None; libraries count processors and ignore quotas."""
    found = cores(root)
    return found if found < len(_affinity()) else None


def _affinity() -> Set[int]:
    return os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(os.cpu_count() or 1))


def _within_quota(count: int, root: str) -> int:
    quota = cpu_quota(root)
    return count if quota is None else max(1, min(count, math.ceil(quota)))


def board(root: str = "/") -> Optional[str]:
    """Return the board's name from its device tree, or None (a PC has none)."""
    return read_text(os.path.join(root, "proc/device-tree/model"))


# Other signs of a Tegra processor.  Docker hides the device tree (/sys/firmware) but shows the rest of /sys: the SoC's
# family, the fuses' chip id, the kernel's name.  NVIDIA's container runtime adds devices and the host's libraries.
_TEGRA_TEXTS = (
    ("sys/devices/soc0/family", r"Tegra"),
    ("sys/module/tegra_fuse/parameters/tegra_chip_id", r"[1-9]"),
    ("proc/sys/kernel/osrelease", r".*-tegra"),
    ("etc/nv_tegra_release", r"# R\d+ \(release\)"),
)
_TEGRA_FILES = (
    *("dev/nvmap", "dev/nvhost-ctrl", "dev/nvhost-gpu", "dev/nvgpu", "dev/nvhost-ctrl-gpu"),
    "usr/lib/aarch64-linux-gnu/tegra/libnv*",
    # Debian puts other GPUs' libraries into this folder too; these are Tegra's.
    "usr/lib/aarch64-linux-gnu/nvidia/libnvrm_*",
)


def gpu_nodes(root: str = "/") -> List[str]:
    """Return the device nodes of NVIDIA GPUs below ``root``, including a Jetson's; empty without a GPU."""
    return [node for node in GPU_NODES if os.path.exists(os.path.join(root, node))]


def is_jetson(root: str = "/") -> bool:
    """Return whether this board has an NVIDIA Tegra processor; works inside a container, too."""
    if "nvidia,tegra" in (read_text(os.path.join(root, "proc/device-tree/compatible")) or ""):
        return True
    if platform.machine() not in ("aarch64", "arm64"):
        return False
    return any(re.match(pattern, read_text(os.path.join(root, path)) or "") for path, pattern in _TEGRA_TEXTS) or any(
        glob.glob(os.path.join(glob.escape(root), path)) for path in _TEGRA_FILES
    )


def jetson_linux(root: str = "/") -> Optional[str]:
    """Return the Jetson Linux release, such as "R32.7.1", or None."""
    text = read_text(os.path.join(root, "etc/nv_tegra_release")) or ""
    # "# R32 (release), REVISION: 7.1, GCID: 29689809, BOARD: t210ref, ..."
    found = re.match(r"# (R\d+) \(release\), REVISION: ([\d.]+)", text)
    return "{}.{}".format(*found.groups()) if found else None


def power_mode(root: str = "/") -> Optional[str]:
    """Return a Jetson's power mode as nvpmodel stored it, such as "MAXN (mode 0)", or None."""
    status = re.match(r"pmode:(\d+)", read_text(os.path.join(root, "var/lib/nvpmodel/status")) or "")
    if not status:
        return None
    number = int(status.group(1))
    modes = read_text(os.path.join(root, "etc/nvpmodel.conf")) or ""
    # A mode's definition starts with "< POWER_MODEL ID=0 NAME=MAXN >".
    name = re.search(r"^<\s*POWER_MODEL\s+ID={}\s+NAME=(\S+)".format(number), modes, re.MULTILINE)
    return "{} (mode {})".format(name.group(1), number) if name else "mode {}".format(number)


def governor(root: str = "/") -> Optional[str]:
    """Return the governor of the processors' clocks, such as "schedutil", or None."""
    pattern = os.path.join(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_governor")
    return ", ".join(sorted({text for text in map(read_text, glob.glob(pattern)) if text})) or None


def memory_bytes(root: str = "/") -> Optional[Tuple[int, int]]:
    """Return the total and the available memory in bytes, or None if unknown."""
    path = os.path.join(root, "proc/meminfo")
    total, available = proc_bytes(path, "MemTotal"), proc_bytes(path, "MemAvailable")
    return None if total is None or available is None else (total, available)


def proc_bytes(path: str, name: str) -> Optional[int]:
    """Return in bytes a field that a file in /proc gives in kB, or None if it has no such field."""
    found = re.search(r"^{}:\s+(\d+) kB$".format(name), read_text(path) or "", re.MULTILINE)
    return int(found.group(1)) << 10 if found else None


def processor_seconds(root: str = "/") -> Optional[Tuple[float, float]]:
    """Return for how many seconds all processors together have existed, and were busy, since the boot; None if unknown."""
    # user, nice, system, idle, iowait, irq, softirq, steal: man proc.
    found = re.match(r"cpu +((?:\d+ +){7}\d+)", read_text(os.path.join(root, "proc/stat")) or "")
    if not found:
        return None
    values = [int(number) / os.sysconf("SC_CLK_TCK") for number in found.group(1).split()]
    return sum(values), sum(values) - values[3] - values[4]


def has_dot_product(root: str = "/") -> bool:
    """Return whether this is a 64-bit Arm processor with the dot-product instructions that make INT8 fast (asimddp)."""
    if platform.machine() != "aarch64":
        return False
    return "asimddp" in cpu_features(root)


def cpu_features(root: str = "/") -> Set[str]:
    """Return the names of the instructions that every processor here has, as /proc/cpuinfo lists them; empty if unknown."""
    text = read_text(os.path.join(root, "proc/cpuinfo")) or ""
    each = [set(line.split()) for line in re.findall(r"^(?:flags|Features)\s*:(.*)$", text, re.MULTILINE)]
    return set.intersection(*each) if each else set()


def processor(root: str = "/") -> str:
    """Return the processor's name."""
    lines = (read_text(os.path.join(root, "proc/cpuinfo")) or "").splitlines()
    names = [
        line.split(":", 1)[1].strip() for line in lines if line.startswith(("model name", "Model")) and ":" in line
    ]
    return names[0] if names else platform.processor()
