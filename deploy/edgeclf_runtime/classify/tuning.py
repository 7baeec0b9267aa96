"""Measures which model and backend are fastest on this device, and remembers it.

The figures are stored in ``$XDG_CACHE_HOME/edgeclf/tuning/BUNDLE_ID.json`` (default ``~/.cache``) by the device's facts, so
that boards that share a home, or versions of a library, are never mixed.  Without this cache the manifest's order is used.
"""

import json
import logging
import os
import statistics
import time
from typing import TYPE_CHECKING, Any, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ..device import systemd
from ..device.machine import machine_facts
from ..errors import EdgeclfError, OutputError
from ..files.outputs import OTHER_CACHE, new_file
from ..files.read import read_json
from ..files.schema import any_json, list_of, mapping, number, record, text
from ..files.user_folders import cache_folder
from ..images.preprocess import as_batch, preprocess
from ..runners import backend_version
from ..runners.base import library_errors
from .golden import golden_images
from .selection import OPEN_TIMEOUT_S, open_proven, pair_name, prepare

if TYPE_CHECKING:
    import numpy as np

    from ..bundle.open_bundle import Bundle
    from ..runners.base import Runner
    from .selection import Pair

ROUNDS = 3
BLOCK_S = 0.25
_FEWEST_RUNS = 3
# A quantized model, less exact than the float one, must be this much faster, which is more than two medians differ by
# chance.
_QUANTIZED_HANDICAP = 1.05
_MOST_BYTES = 1 << 20
_MOST_DEVICES = 32
# A Jetson's power mode sets its clocks: the fastest at 5 W need not be the fastest at 15 W.
_FACTS = ("machine", "board", "processor", "cores", "power_mode", "edgeclf_runtime")
_FIGURES = record(
    {
        "devices": list_of(
            record(
                {
                    "device": mapping(text(), any_json),
                    "latency_ms": mapping(text(), number(above=0, high=1e9)),
                    "measured": text(),
                },
                optional=("measured",),  # earlier versions did not write it
            )
        )
    }
)
_log = logging.getLogger(__name__)


class Tuning(NamedTuple):
    """Measurements, as a table for people.

    names           "model on backend" of each pair, the fastest first and those that do not run last
    latency_ms      median milliseconds of an inference, for those that passed the golden images
    failures        reasons of the others
    before_ms       earlier measurements on this device
    measured        time of the earlier measurements, or ""
    """

    names: Tuple[str, ...]
    latency_ms: Dict[str, float]
    failures: Dict[str, str]
    before_ms: Dict[str, float]
    measured: str = ""

    def __str__(self) -> str:
        if not self.latency_ms and not self.failures:
            return "nothing to compare: only {} can run here".format(", ".join(self.names) or "nothing")
        width = max(map(len, ("model on backend",) + self.names))
        lines = ["measured on this device, fastest first:"]
        lines.append("{:<{}} {:>9}  {}".format("model on backend", width, "p50 ms", "golden images"))
        for name in self.names:
            shown, golden = "-", self.failures.get(name, "failed").split("\n")[0]
            if name in self.latency_ms:
                shown, golden = "{:.3f}".format(self.latency_ms[name]), "passed"
            lines.append("{:<{}} {:>9}  {}{}".format(name, width, shown, golden, self._before(name)))
        return "\n".join(lines)

    def _before(self, name: str) -> str:
        if name not in self.before_ms:
            return ""
        return "; earlier{}: {:.3f} ms".format(_at(self.measured), self.before_ms[name])


def tune(
    bundle: "Bundle",
    pairs: "Sequence[Pair]",
    threads: Optional[int] = None,
    show: Optional[Callable[[Tuning], Any]] = None,
) -> "Sequence[Pair]":
    """Measure the (Model, backend) pairs that pass the golden images, and remember the figures.

    show        called with the measurements, a Tuning

    Returns the pairs, the fastest first and those that do not run last.
    """
    before = _recalled(bundle, pairs, threads) if show else {}
    latency_ms: Dict[str, float] = {}
    failures: Dict[str, str] = {}
    if len(pairs) > 1:
        latency_ms = measure(bundle, pairs, threads, failures)
        _log.info("inference on this device, ms: %s", latency_ms)
        _remember(bundle, pairs, threads, latency_ms)
        pairs = _fastest_first(pairs, latency_ms)
    if show:
        names = tuple(pair_name(*pair) for pair in pairs)
        show(Tuning(names, latency_ms, failures, before.get("latency_ms", {}), before.get("measured", "")))
    return pairs


def recall(bundle: "Bundle", pairs: "Sequence[Pair]", threads: Optional[int] = None) -> "Sequence[Pair]":
    """Return the pairs in the order of earlier measurements on this device, fastest first; without any, unchanged."""
    found = _recalled(bundle, pairs, threads)
    if not found:
        return pairs
    _log.info("using measurements of this device%s, ms: %s", _at(found.get("measured")), found["latency_ms"])
    return _fastest_first(pairs, found["latency_ms"])


def _at(measured: Optional[str]) -> str:
    return " on " + measured if measured else ""


def _recalled(bundle: "Bundle", pairs: "Sequence[Pair]", threads: Optional[int]) -> Dict[str, Any]:
    """Return the file's entry with this device's figures, or {}."""
    entries = _read(_path(bundle))
    device = _device(pairs, threads) if entries and len(pairs) > 1 else None
    found: Dict[str, Any] = next((entry for entry in reversed(entries) if entry["device"] == device), {})
    if device and not found:
        _warn_of_other_power_modes(entries, device)
    return found


def _warn_of_other_power_modes(entries: List[Dict[str, Any]], device: Dict[str, Any]) -> None:
    for entry in entries:
        if dict(entry["device"], power_mode=device["power_mode"]) == device:
            _log.warning(
                "measurements in power mode %s are not used in %s, but the manifest's order is; measure with --tune",
                entry["device"].get("power_mode"),
                device["power_mode"],
            )
            return


def measure(
    bundle: "Bundle",
    pairs: "Sequence[Pair]",
    threads: Optional[int] = None,
    failures: Optional[Dict[str, str]] = None,
) -> Dict[str, float]:
    """Return the median milliseconds of an inference, by "model on backend", of the pairs that pass the golden images.

    failures    receives the reasons of the other pairs, by the same names

    The pairs take turns, so that a machine whose speed drifts favors none, and only the measured one is loaded: the idle
    threads of another would disturb it.
    """
    batch = as_batch([preprocess(golden_images(bundle)[0], bundle.preprocessing)])
    prepare(bundle, pairs)
    left = list(pairs)
    samples: Dict[str, List[float]] = {}
    for _ in range(ROUNDS):
        for pair in list(left):
            model, backend = pair
            try:
                busy = systemd.busy(OPEN_TIMEOUT_S, "measuring {}".format(pair_name(*pair)))
                # Its golden images warm it up.
                errors = library_errors("it failed", ImportError)
                with errors, busy, open_proven(bundle, model, backend, threads) as runner:
                    samples.setdefault(pair_name(*pair), []).extend(_measure_block(runner, batch))
            except EdgeclfError as error:
                _log.warning("passed over %s: %s", pair_name(*pair), error)
                if failures is not None:
                    failures[pair_name(*pair)] = str(error)
                left.remove(pair)
                samples.pop(pair_name(*pair), None)
    return {name: round(statistics.median(values), 3) for name, values in samples.items()}


def _measure_block(runner: "Runner", batch: "np.ndarray") -> List[float]:
    samples: List[float] = []
    end = time.perf_counter() + BLOCK_S
    while len(samples) < _FEWEST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        runner.infer(batch)
        samples.append((time.perf_counter() - start) * 1e3)
    return samples


def _fastest_first(pairs: "Sequence[Pair]", latency_ms: Dict[str, float]) -> "List[Pair]":
    def cost(pair: "Pair") -> float:
        handicap = _QUANTIZED_HANDICAP if pair[0].precision.startswith("int") else 1.0
        return latency_ms.get(pair_name(*pair), float("inf")) * handicap

    return sorted(pairs, key=cost)


def _device(pairs: "Sequence[Pair]", threads: Optional[int]) -> Dict[str, Any]:
    """Return everything that the figures depend on besides the bundle."""
    facts = machine_facts()
    device = {name: facts[name] for name in _FACTS}
    return dict(device, threads=threads, backends={backend: backend_version(backend) for _, backend in pairs})


def _path(bundle: "Bundle") -> Optional[str]:
    """Return the path of a bundle's figures, or None if nothing can be stored."""
    cache = cache_folder()
    return None if cache is None else os.path.join(cache, "tuning", bundle.id + ".json")


def _read(path: Optional[str]) -> List[Dict[str, Any]]:
    """Return the entries of a file; none if it is missing or damaged."""
    if path is None:
        return []
    try:
        found = read_json(path, _MOST_BYTES)
        _FIGURES(found, "")
        devices: List[Dict[str, Any]] = found["devices"]
        return devices
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        _log.warning("earlier measurements in %s cannot be read (%s); measure again: run --tune", path, error)
        return []


def _remember(bundle: "Bundle", pairs: "Sequence[Pair]", threads: Optional[int], latency_ms: Dict[str, float]) -> None:
    path, device = _path(bundle), _device(pairs, threads)
    if path is None:
        return
    entries = _read(path)
    figures = {name: ms for entry in entries if entry["device"] == device for name, ms in entry["latency_ms"].items()}
    for pair in pairs:
        figures.pop(pair_name(*pair), None)
    figures.update(latency_ms)
    entries = [entry for entry in entries if entry["device"] != device][1 - _MOST_DEVICES :]
    entries.append(
        {"device": device, "latency_ms": figures, "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())}
    )
    try:
        with new_file(path, overwrite=True, elsewhere=OTHER_CACHE) as work, open(work, "w", encoding="utf-8") as stream:
            json.dump({"devices": entries}, stream, indent=1)
    except (OSError, OutputError) as error:
        _log.warning("the measurements cannot be stored (%s); the next start uses the manifest's order", error)
