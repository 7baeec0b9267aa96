"""Power, temperature and throttling of a graphics card, which only its driver's nvidia-smi reports."""

import threading
from typing import List, Optional

from ...device.child_process import find_program
from ...errors import BackendError
from ...files.schema import JsonObject
from ..doctor.checks import run

TIMEOUT_S = 20.0
INTERVAL_S = 1.0
_TEXTS = ("name", "driver_version", "clocks_throttle_reasons.active")
_NUMBERS = ("memory.total", "power.draw", "temperature.gpu", "clocks.sm")
# NVML's reasons for a lower clock; idling and the owner's settings do not count.
_REASONS = {0x4: "power cap", 0x8: "hardware", 0x20: "temperature", 0x40: "temperature (hardware)", 0x80: "power brake"}


def program() -> Optional[str]:
    """Return the path of nvidia-smi, or None."""
    return find_program("nvidia-smi")


def reading(nvidia_smi: str) -> JsonObject:
    """Return one reading of the first card; a value that it does not have is None.  Raises BackendError."""
    fields = (*_TEXTS, *_NUMBERS)
    command = [nvidia_smi, "--query-gpu=" + ",".join(fields), "--format=csv,noheader,nounits"]
    status, text = run(command, TIMEOUT_S)
    if status != 0:
        words = " ".join(text.split())[-200:]
        raise BackendError("nvidia-smi {}: {}".format("gave no answer" if status is None else "failed", words))
    values = [value.strip() for value in (text.strip().splitlines() or [""])[0].split(",")]
    if len(values) != len(fields):
        raise BackendError("nvidia-smi answered {!r}; {} values were expected".format(text[:200], len(fields)))
    found = dict(zip(fields, values))
    return {
        "gpu": found["name"],
        "driver": found["driver_version"],
        "memory_mb": _number(found["memory.total"]),
        "power_w": _number(found["power.draw"]),
        "temperature_c": _number(found["temperature.gpu"]),
        "clock_mhz": _number(found["clocks.sm"]),
        "throttled": _reasons(found["clocks_throttle_reasons.active"]),
    }


def _number(text: str) -> Optional[float]:
    try:
        return float(text)
    except ValueError:  # "[N/A]"
        return None


def _reasons(text: str) -> Optional[List[str]]:
    try:
        bits = int(text, 16)
    except ValueError:
        return None
    return [reason for bit, reason in _REASONS.items() if bits & bit]


class Watch:
    """Reads the card about once a second inside ``with``, while something else uses it.

    found   the highest power, temperature and clock, and all reasons for throttling; None if nothing was read
    """

    def __init__(self, nvidia_smi: Optional[str]) -> None:
        self._program = nvidia_smi
        self._ending = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nvidia-smi", daemon=True)
        self._readings: List[JsonObject] = []

    def _run(self) -> None:
        while self._program and not self._ending.wait(INTERVAL_S):
            try:
                self._readings.append(reading(self._program))
            except BackendError:
                return  # the report's own reading says why

    def __enter__(self) -> "Watch":
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._ending.set()
        self._thread.join(INTERVAL_S)

    @property
    def found(self) -> Optional[JsonObject]:
        if not self._readings:
            return None
        most: JsonObject = {"readings": len(self._readings)}
        for name in ("power_w", "temperature_c", "clock_mhz"):
            most[name] = max((one[name] for one in self._readings if one[name] is not None), default=None)
        lists = [one["throttled"] for one in self._readings if one["throttled"] is not None]
        most["throttled"] = sorted({reason for reasons in lists for reason in reasons}) if lists else None
        return most
