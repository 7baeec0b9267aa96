"""The machine's power draw, temperatures and throttling.

Everything is read from kernel files, so no tool, privilege or vendor service is needed.  A value that is missing or
cannot be read is None, "unknown", never zero.

Sources: NVIDIA's Jetson Linux Developer Guide ("Platform Power and Performance") for rails, their sums and over-current
counters; the kernel's hwmon/ina3221 for channels and units; jetson_stats' ``core/gpu.py`` for the GPU's clock and load;
the kernel's power/powercap for a PC.  The trees in the tests follow these sources; no board has confirmed them yet.
"""

import glob
import os
import re
import threading
import time
from typing import Dict, List, NamedTuple, Optional, Tuple

from .machine import proc_bytes, read_text

# Rails that add up to the whole module's power: Nano; Xavier NX, Orin Nano and Orin NX; AGX Orin, whose
# VDDQ_VDD2_1V8AO is fed by VIN_SYS_5V0; AGX Xavier; Thor, by its INA238.  A PC's processor (RAPL) has no rail.
TOTALS = (
    ("POM_5V_IN",),
    ("VDD_IN",),
    ("VDD_GPU_SOC", "VDD_CPU_CV", "VIN_SYS_5V0"),
    ("GPU", "CPU", "SOC", "CV", "VDDRQ", "SYS5V"),
    ("VIN",),
)
SAMPLE_INTERVAL_S = 0.1
# Nano: 57000000.gpu, TX2: 17000000.gp10b, Xavier: 17000000.gv11b, Orin: 17000000.ga10b, then .gpu, Thor: gpu-gpc-0.
_GPU = re.compile(r"(\.(gpu|gp10b|gv11b|ga10b)|^gpu-gpc-0)$")
# A sensor in a powered-off part reads -256 degrees.
_OFF_MILLIDEGREES = -100000


class Telemetry(NamedTuple):
    """One reading of the machine.  A value that cannot be read is None; a group is empty if the machine has none.

    power_mw            by rail, in milliwatts
    power_total_mw      of the whole module
    temperature_c       by thermal zone, in degrees Celsius
    throttle_events     how often the hardware has throttled since boot, by counter
    throttle_alerts     by thermal alert: above 0 while it throttles a component
    cpu_mhz             by processor
    gpu_mhz, gpu_load   an integrated GPU's clock, and the fraction of time it is busy, 0 to 1
    memory_used_mb, memory_total_mb     of the machine; on a Jetson the GPU's too
    rss_mb              memory of this process
    """

    power_mw: Dict[str, Optional[float]]
    power_total_mw: Optional[float]
    temperature_c: Dict[str, Optional[float]]
    throttle_events: Dict[str, Optional[int]]
    throttle_alerts: Dict[str, Optional[int]]
    cpu_mhz: Dict[str, Optional[float]]
    gpu_mhz: Optional[float]
    gpu_load: Optional[float]
    memory_used_mb: Optional[float]
    memory_total_mb: Optional[float]
    rss_mb: Optional[float]

    def to_dict(self) -> Dict[str, object]:
        """Return the values in JSON types."""
        return dict(self._asdict())


def read_telemetry(root: str = "/") -> Telemetry:
    """Return a Telemetry of this moment; takes a few milliseconds and raises nothing.

    root        the folder that holds /proc and /sys
    """
    power = _power(root)
    gpu_mhz, gpu_load = _gpu(root)
    used, total = _memory(root)
    return Telemetry(
        power_mw=power,
        power_total_mw=_total(power),
        temperature_c=_temperatures(root),
        throttle_events=_throttle_events(root),
        throttle_alerts=_throttle_alerts(root),
        cpu_mhz={
            path.split("/")[-3]: _scaled(path, 1e-3)  # in kHz
            for path in _find(root, "sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
        },
        gpu_mhz=gpu_mhz,
        gpu_load=gpu_load,
        memory_used_mb=used,
        memory_total_mb=total,
        rss_mb=_field(os.path.join(root, "proc/self/status"), "VmRSS"),
    )


def throttled(before: Telemetry, after: Telemetry) -> Optional[bool]:
    """Return whether the machine throttled between two Telemetries: True, False, or None if nothing shows it."""
    counts = [(before.throttle_events.get(name), count) for name, count in after.throttle_events.items()]
    signs = [count > earlier for earlier, count in counts if earlier is not None and count is not None]
    signs += [state > 0 for look in (before, after) for state in look.throttle_alerts.values() if state is not None]
    return any(signs) if signs else None


# Microjoules and the largest value of each RAPL counter, by its path.
_Counters = Dict[str, Tuple[int, int]]
# Time in seconds, total milliwatts, RAPL counters.
_Reading = Tuple[float, Optional[float], _Counters]


class PowerMeter:
    """Measures energy in a thread, ten times a second, from :meth:`start` to :meth:`stop` or inside ``with``.

    Reads a Jetson's rails, or a PC's RAPL counters of the processors, which only root can read.

    energy_j        joules; None until stopped, and if power could not be read at both ends
    seconds         duration of the measurement
    samples         number of readings
    """

    def __init__(self, root: str = "/", interval_s: float = SAMPLE_INTERVAL_S) -> None:
        self._root, self._interval_s = root, interval_s
        self._stopping = threading.Event()
        self._thread: Optional[threading.Thread] = None
        self._joules = 0.0
        self._last: Optional[_Reading] = None
        self.energy_j: Optional[float] = None
        self.seconds = 0.0
        self.samples = 0

    def start(self) -> "PowerMeter":
        """Start measuring; a meter can be used once."""
        self._began = time.monotonic()
        if self._sample():
            self._thread = threading.Thread(target=self._run, name="power", daemon=True)
            self._thread.start()
        return self

    def stop(self) -> Optional[float]:
        """Stop, and return the energy in joules, or None."""
        if self._thread is not None:
            self._stopping.set()
            self._thread.join()
            self._thread = None
            # If this reading fails, the energy since the last one is unknown.
            self.energy_j = self._joules if self._sample() else None
        self.seconds = time.monotonic() - self._began
        return self.energy_j

    def _run(self) -> None:
        while not self._stopping.wait(self._interval_s):
            self._sample()

    def _sample(self) -> bool:
        now, milliwatts = time.monotonic(), _total(_power(self._root))
        counters = _rapl(self._root) if milliwatts is None else {}
        if milliwatts is None and not counters:
            return False
        if self._last is not None and (self._last[1] is None) != (milliwatts is None):
            return False  # the rails appeared or disappeared: watts and RAPL's counters cannot be mixed
        if self._last is not None:
            self._joules += _joules(self._last, (now, milliwatts, counters))
        self._last = (now, milliwatts, counters)
        self.samples += 1
        return True

    def __enter__(self) -> "PowerMeter":
        return self.start()

    def __exit__(self, *exception: object) -> None:
        self.stop()


def _joules(before: _Reading, after: _Reading) -> float:
    (start, milliwatts, counters), (end, next_milliwatts, next_counters) = before, after
    if milliwatts is not None and next_milliwatts is not None:
        return (milliwatts + next_milliwatts) / 2 * 1e-3 * (end - start)
    # A counter starts over at zero after its largest value.
    return sum(
        (value - counters[path][0]) % (largest + 1) * 1e-6
        for path, (value, largest) in next_counters.items()
        if path in counters
    )


def _rapl(root: str) -> _Counters:
    """Return (microjoules, largest value) by the path of each processor package's counter."""
    counters: _Counters = {}
    for path in _find(root, "sys/class/powercap/intel-rapl:[0-9]*/energy_uj"):
        value, largest = _number(path), _number(_beside(path, "max_energy_range_uj"))
        # A package includes its own zones (core, dram), and "psys" counts the packages again.
        if (read_text(_beside(path, "name")) or "").startswith("package"):
            if value is None or largest is None:
                return {}
            counters[path] = value, largest
    return counters


def _power(root: str) -> Dict[str, Optional[float]]:
    rails: Dict[str, Optional[float]] = {}
    # JetPack 4.
    for path in _find(root, "sys/bus/i2c/drivers/ina3221x/*/iio:device*/rail_name_[0-9]"):
        rails[read_text(path) or path] = _number(_beside(path, "in_power{}_input".format(path[-1])))  # in milliwatts
    # JetPack 5 and later: millivolts and milliamperes.  Channels above 3 are sums and shunt voltages.
    for path in _find(root, "sys/bus/i2c/drivers/ina3221/*/hwmon/hwmon*/in[123]_label"):
        channel = path[-len("1_label")]
        millivolts = _number(_beside(path, "in{}_input".format(channel)))
        milliamperes = _number(_beside(path, "curr{}_input".format(channel)))
        rails[read_text(path) or path] = (
            None if millivolts is None or milliamperes is None else millivolts * milliamperes / 1e3
        )
    for path in _find(root, "sys/class/hwmon/hwmon*/power1_input"):
        if read_text(_beside(path, "name")) == "ina238":
            rails["VIN"] = _scaled(path, 1e-3)  # in microwatts
    rails.pop("NC", None)  # not connected
    return rails


def _total(rails: Dict[str, Optional[float]]) -> Optional[float]:
    for names in TOTALS:
        values = [value for value in map(rails.get, names) if value is not None]
        if len(values) == len(names):
            return sum(values)
    return None


def _temperatures(root: str) -> Dict[str, Optional[float]]:
    zones: Dict[str, Optional[float]] = {}
    for path in _find(root, "sys/class/thermal/thermal_zone*/type"):
        zone, value = path.split("/")[-2], _number(_beside(path, "temp"))
        name = read_text(path) or zone
        if name == "PMIC-Die":
            continue  # Nano, TX2, Xavier: no sensor, always 100 degrees
        name = "{} ({})".format(name, zone) if name in zones else name
        zones[name] = None if value is None or value < _OFF_MILLIDEGREES else value * 1e-3
    return zones


def _throttle_events(root: str) -> Dict[str, Optional[int]]:
    # Jetson Orin and Thor: oc1 under-voltage, oc2 average and oc3 instantaneous over-current.
    pattern = "sys/class/hwmon/hwmon*/oc[0-9]*_event_cnt"
    events = {os.path.basename(path).split("_")[0]: _number(path) for path in _find(root, pattern)}
    # A PC's processors.
    pattern = "sys/devices/system/cpu/cpu[0-9]*/thermal_throttle/core_throttle_count"
    events.update((path.split("/")[-3], _number(path)) for path in _find(root, pattern))
    return events


def _throttle_alerts(root: str) -> Dict[str, Optional[int]]:
    alerts: Dict[str, Optional[int]] = {}
    for path in _find(root, "sys/class/thermal/cooling_device*/type"):
        name = read_text(path) or ""
        if name.endswith("throttle-alert"):
            alerts[name] = _number(_beside(path, "cur_state"))
    return alerts


def _gpu(root: str) -> Tuple[Optional[float], Optional[float]]:
    for path in _find(root, "sys/class/devfreq/*/cur_freq"):
        if _GPU.search(path.split("/")[-2]):
            return _scaled(path, 1e-6), _scaled(_beside(path, "device/load"), 1e-3)  # in Hz and per mille
    return None, None


def _memory(root: str) -> Tuple[Optional[float], Optional[float]]:
    path = os.path.join(root, "proc/meminfo")
    total, available = _field(path, "MemTotal"), _field(path, "MemAvailable")
    return (None if total is None or available is None else total - available), total


def _field(path: str, name: str) -> Optional[float]:
    """Return a field that /proc gives in kB, in MB of a million bytes."""
    found = proc_bytes(path, name)
    return None if found is None else found / 1e6


def _find(root: str, pattern: str) -> List[str]:
    paths = glob.glob(os.path.join(glob.escape(root), pattern))
    return sorted(paths, key=lambda path: [int(part) if part.isdigit() else part for part in re.split(r"(\d+)", path)])


def _beside(path: str, name: str) -> str:
    return os.path.join(os.path.dirname(path), name)


def _number(path: str) -> Optional[int]:
    text = read_text(path)
    return int(text) if text and re.match(r"-?\d+$", text) else None


def _scaled(path: str, factor: float) -> Optional[float]:
    value = _number(path)
    return None if value is None else value * factor
