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
from typing import Dict, List

from .errors import EdgeclfError, OutputError
from .files import read_json
from .golden import golden_images
from .machine import cache_folder, machine_facts
from .outputs import new_file
from .preprocess import as_batch, preprocess
from .runners import backend_version
from .schema import any_json, list_of, mapping, number, record, text
from .selection import open_proven, pair_name

ROUNDS = 3
BLOCK_S = 0.25
_FEWEST_RUNS = 3
# A quantised model, less exact than the float one, must be this much faster: more than two medians differ by chance.
_QUANTISED_HANDICAP = 1.05
_MOST_BYTES = 1 << 20
_MOST_DEVICES = 32
_FIGURES = record(
    {
        "devices": list_of(
            record({"device": mapping(text(), any_json), "latency_ms": mapping(text(), number(above=0, high=1e9))})
        )
    }
)
_log = logging.getLogger(__name__)


def tune(bundle, pairs, threads=None):
    """Measure the (Model, backend) pairs that pass the golden images, and remember the figures.

    Returns the pairs, the fastest first and those that do not run last.
    """
    if len(pairs) < 2:
        return pairs
    latency_ms = measure(bundle, pairs, threads)
    _log.info("inference on this device, ms: %s", latency_ms)
    _remember(bundle, pairs, threads, latency_ms)
    return _fastest_first(pairs, latency_ms)


def recall(bundle, pairs, threads=None):
    """Return the pairs, those that were measured on this device before first, the fastest of them first."""
    entries = _read(_path(bundle))
    device = _device(pairs, threads) if entries and len(pairs) > 1 else None
    found = [entry["latency_ms"] for entry in entries if entry["device"] == device]
    return _fastest_first(pairs, found[-1]) if found else pairs


def measure(bundle, pairs, threads=None):
    """Return the median milliseconds of an inference, by "model on backend", of the pairs that pass the golden images.

    The pairs take turns, so that a machine whose speed drifts favours none, and only the one that
    is measured is loaded: the idle threads of another would disturb it.
    """
    batch = as_batch([preprocess(golden_images(bundle)[0], bundle.preprocessing)])
    left = list(pairs)
    samples: Dict[str, List[float]] = {}
    for _ in range(ROUNDS):
        for pair in list(left):
            model, backend = pair
            try:
                # Its golden images warm it up.
                with open_proven(bundle, model, backend, threads) as runner:
                    samples.setdefault(pair_name(*pair), []).extend(_measure_block(runner, batch))
            except EdgeclfError as error:
                _log.warning("passed over %s: %s", pair_name(*pair), error)
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
    device = {name: facts[name] for name in ("machine", "board", "processor", "cores", "edgeclf_runtime")}
    return dict(device, threads=threads, backends={backend: backend_version(backend) for _, backend in pairs})


def _path(bundle):
    return os.path.join(cache_folder(), "tuning", bundle.id + ".json")


def _read(path):
    """Return the entries of a file, or none where it is missing or not as it should be."""
    try:
        found = read_json(path, _MOST_BYTES)
        _FIGURES(found, "")
        return found["devices"]
    except FileNotFoundError:
        return []
    except (OSError, ValueError) as error:
        _log.warning("what was measured before cannot be read from %s (%s); measure again with --tune", path, error)
        return []


def _remember(bundle, pairs, threads, latency_ms):
    path, device = _path(bundle), _device(pairs, threads)
    entries = _read(path)
    figures = {name: ms for entry in entries if entry["device"] == device for name, ms in entry["latency_ms"].items()}
    for pair in pairs:
        figures.pop(pair_name(*pair), None)
    figures.update(latency_ms)
    entries = [entry for entry in entries if entry["device"] != device][1 - _MOST_DEVICES :]
    entries.append({"device": device, "latency_ms": figures})
    try:
        with new_file(path, overwrite=True) as work, open(work, "w", encoding="utf-8") as stream:
            json.dump({"devices": entries}, stream, indent=1)
    except (OSError, OutputError) as error:
        _log.warning("what was measured cannot be remembered (%s); the next start goes by the manifest's order", error)
