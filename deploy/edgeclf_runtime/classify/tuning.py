"""Which model and backend are fastest on this very device: measured once, and remembered.

The figures are kept in ``$XDG_CACHE_HOME/edgeclf/tuning/BUNDLE_ID.json`` (``~/.cache`` where
that is not set), by the device's facts: a home that several boards share, or a library's new
version, never mixes them.  The cache is a convenience: without it the manifest's order counts.
"""

import json
import logging
import os
import statistics
import time
from typing import Any, Dict, List, NamedTuple, Optional, Tuple

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

ROUNDS = 3
BLOCK_S = 0.25
_FEWEST_RUNS = 3
# A quantised model, less exact than the float one, must be this much faster: more than two medians differ by chance.
_QUANTISED_HANDICAP = 1.05
_MOST_BYTES = 1 << 20
_MOST_DEVICES = 32
# A Jetson's power mode sets its clocks: what is fastest at 5 W need not be at 15 W.
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
    """Measurements, as people read them.

    names           "model on backend" of each pair, the fastest first and those that do not run last
    latency_ms      median milliseconds of an inference, of those that passed the golden images
    failures        why the others were passed over
    before_ms       what was remembered of this device before
    measured        when that was, or ""
    """

    names: Tuple[str, ...]
    latency_ms: Dict[str, float]
    failures: Dict[str, str]
    before_ms: Dict[str, float]
    measured: str = ""

    def __str__(self):
        if not self.latency_ms and not self.failures:
            return "nothing to compare: {} is all that could run here".format(", ".join(self.names) or "nothing")
        width = max(map(len, ("model on backend",) + self.names))
        lines = ["measured on this device, the fastest first:"]
        lines.append("{:<{}} {:>9}  {}".format("model on backend", width, "p50 ms", "golden images"))
        for name in self.names:
            shown, golden = "-", self.failures.get(name, "failed").split("\n")[0]
            if name in self.latency_ms:
                shown, golden = "{:.3f}".format(self.latency_ms[name]), "passed"
            lines.append("{:<{}} {:>9}  {}{}".format(name, width, shown, golden, self._before(name)))
        return "\n".join(lines)

    def _before(self, name):
        if name not in self.before_ms:
            return ""
        return "; remembered from {}: {:.3f} ms".format(self.measured or "before", self.before_ms[name])


def tune(bundle, pairs, threads=None, show=None):
    """Measure the (Model, backend) pairs that pass the golden images, and remember the figures.

    show        called with what was measured, a Tuning

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


def recall(bundle, pairs, threads=None):
    """Return the pairs, those that were measured on this device before first, the fastest of them first."""
    found = _recalled(bundle, pairs, threads)
    if not found:
        return pairs
    _log.info("by what was measured on this device%s, ms: %s", _at(found.get("measured")), found["latency_ms"])
    return _fastest_first(pairs, found["latency_ms"])


def _at(measured):
    return " on " + measured if measured else " before"


def _recalled(bundle, pairs, threads):
    """Return the entry of the file that holds this device's figures, or {}."""
    entries = _read(_path(bundle))
    device = _device(pairs, threads) if entries and len(pairs) > 1 else None
    found: Dict[str, Any] = next((entry for entry in reversed(entries) if entry["device"] == device), {})
    if device and not found:
        _say_of_other_power_modes(entries, device)
    return found


def _say_of_other_power_modes(entries, device):
    for entry in entries:
        if dict(entry["device"], power_mode=device["power_mode"]) == device:
            _log.warning(
                "what was measured in power mode %s does not count in %s: the manifest's order does; measure with --tune",
                entry["device"].get("power_mode"),
                device["power_mode"],
            )
            return


def measure(bundle, pairs, threads=None, failures: Optional[Dict[str, str]] = None):
    """Return the median milliseconds of an inference, by "model on backend", of the pairs that pass the golden images.

    failures    takes the reason why a pair was passed over, by the same name

    The pairs take turns, so that a machine whose speed drifts favours none, and only the one that
    is measured is loaded: the idle threads of another would disturb it.
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


def _measure_block(runner, batch):
    samples: List[float] = []
    end = time.perf_counter() + BLOCK_S
    while len(samples) < _FEWEST_RUNS or time.perf_counter() < end:
        start = time.perf_counter()
        runner.infer(batch)
        samples.append((time.perf_counter() - start) * 1e3)
    return samples


def _fastest_first(pairs, latency_ms):
    def cost(pair):
        handicap = _QUANTISED_HANDICAP if pair[0].precision.startswith("int") else 1.0
        return latency_ms.get(pair_name(*pair), float("inf")) * handicap

    return sorted(pairs, key=cost)


def _device(pairs, threads):
    """Return what the figures depend on besides the bundle."""
    facts = machine_facts()
    device = {name: facts[name] for name in _FACTS}
    return dict(device, threads=threads, backends={backend: backend_version(backend) for _, backend in pairs})


def _path(bundle):
    """Return the file of a bundle's figures, or None if nothing can be kept."""
    cache = cache_folder()
    return None if cache is None else os.path.join(cache, "tuning", bundle.id + ".json")


def _read(path):
    """Return the entries of a file, or none where it is missing or not as it should be."""
    if path is None:
        return []
    try:
        found = read_json(path, _MOST_BYTES)
        _FIGURES(found, "")
        return found["devices"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        _log.warning("what was measured before cannot be read from %s (%s); measure again: run --tune", path, error)
        return []


def _remember(bundle, pairs, threads, latency_ms):
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
        _log.warning("what was measured cannot be remembered (%s); the next start goes by the manifest's order", error)
