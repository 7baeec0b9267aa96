"""Figures of candidates, and the file that remembers them.

They are stored in ``$XDG_CACHE_HOME/edgeclf/tuning/BUNDLE_ID.json`` (default ``~/.cache``) by the device's facts, so that
boards that share a home, power modes, and versions of a library are never mixed.
"""

import contextlib
import json
import logging
import os
import time
from typing import (
    TYPE_CHECKING,
    Container,
    Dict,
    Iterator,
    List,
    NamedTuple,
    Optional,
    Sequence,
    Set,
    Tuple,
    TypeVar,
)

from ...device.machine import machine_facts
from ...errors import OutputError
from ...files.filesystem import lock
from ...files.outputs import OTHER_CACHE, new_file
from ...files.read import read_json
from ...files.schema import JsonObject, any_json, list_of, mapping, nullable, number, record, text
from ...files.user_folders import cache_folder
from ...runners import backend_version
from ...text.terminal import printable

T = TypeVar("T")
if TYPE_CHECKING:
    from ...bundle.open_bundle import Bundle
    from .candidate import Candidate

CAMERA, FILE = "camera", "file"
"""Purposes of figures: the time of an inference, or the time per frame of a whole file."""
_LOOK_EVERY_S = 0.1
_MOST_BYTES = 1 << 20
_MOST_DEVICES = 32
_MOST_WORDS = 400
# A Jetson's power mode sets its clocks: the fastest at 5 W need not be the fastest at 15 W.
_FACTS = ("machine", "board", "processor", "cores", "power_mode", "edgeclf_runtime")
_FIGURES = record(
    {
        "devices": list_of(
            record(
                {
                    "device": mapping(text(), any_json),
                    "backends": mapping(text(), nullable(text())),
                    "latency_ms": mapping(text(), number(above=0, high=1e9)),
                    "failures": mapping(text(), text()),
                    "crashed": list_of(text()),
                    "measured": text(),
                },
                optional=("backends", "failures", "crashed", "measured"),  # earlier versions did not write them
            )
        )
    }
)
_log = logging.getLogger(__name__)
_warned: Set[str] = set()  # files that cannot be read; one warning is enough


class Figures(NamedTuple):
    """Measurements of candidates, by their names.

    latency_ms  median milliseconds: of an inference for a camera, per frame for a file
    failures    reasons of those that could not be measured
    crashed     those that killed a process, which a program must not open
    measured    when, such as "2026-07-01T12:00:00Z"
    others      share of the processors that other programs took meanwhile; it is not remembered
    """

    latency_ms: Dict[str, float]
    failures: Dict[str, str]
    crashed: Tuple[str, ...] = ()
    measured: str = ""
    others: float = 0.0

    def covers(self, candidates: "Sequence[Candidate]") -> bool:
        """Return whether each of the candidates was measured, or has failed."""
        return all(one.name in self.latency_ms or one.name in self.failures for one in candidates)


def recall(bundle: "Bundle", candidates: "Sequence[Candidate]", purpose: str = CAMERA, final: bool = False) -> Figures:
    """Return what is remembered of these candidates on this device.

    final       whether nothing will be measured: then figures of another power mode are worth a warning
    """
    entries = _read(_path(bundle))
    device = _device(purpose) if entries else {}
    entry = _entry(entries, device)
    if entry is None:
        if final:
            _warn_of_other_power_modes(entries, device)
        return Figures({}, {})
    known, versions = entry["backends"], _versions(candidates)
    names = {one.name for one in candidates if one.backend in known and known[one.backend] == versions[one.backend]}
    return Figures(
        {name: ms for name, ms in entry["latency_ms"].items() if name in names},
        {name: reason for name, reason in entry["failures"].items() if name in names},
        tuple(name for name in entry["crashed"] if name in names),
        entry["measured"],
    )


def remember(bundle: "Bundle", candidates: "Sequence[Candidate]", figures: Figures, purpose: str = CAMERA) -> None:
    """Store the figures of candidates that were measured; a file that cannot be written is a warning."""
    path, device, versions = _path(bundle), _device(purpose), _versions(candidates)
    if path is None:
        return
    entries = _read(path)
    before = _entry(entries, device)
    if before is None or any(before["backends"].get(backend, found) != found for backend, found in versions.items()):
        before = {"backends": {}, "latency_ms": {}, "failures": {}, "crashed": []}
    names = {one.name for one in candidates}
    entry: JsonObject = {
        "device": device,
        "backends": dict(before["backends"], **versions),
        "latency_ms": dict(_without(names, before["latency_ms"]), **figures.latency_ms),
        "failures": dict(_without(names, before["failures"]), **figures.failures),
        "crashed": sorted(set(before["crashed"]) - names | set(figures.crashed)),
        "measured": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
    }
    # The schema accepts neither empty texts nor control characters.
    entry["failures"] = {
        name: printable(" ".join(reason.split()))[:_MOST_WORDS] or "unknown"
        for name, reason in entry["failures"].items()
    }
    entries = [one for one in entries if one["device"] != device][1 - _MOST_DEVICES :] + [entry]
    try:
        with new_file(path, overwrite=True, elsewhere=OTHER_CACHE) as work, open(work, "w", encoding="utf-8") as stream:
            json.dump({"devices": entries}, stream, indent=1)
    except (OSError, OutputError) as error:
        _log.warning("the measurements cannot be stored (%s); the next start measures again", error)


@contextlib.contextmanager
def one_at_a_time(bundle: "Bundle", wait_s: float) -> Iterator[None]:
    """Let one process of this user measure at a time: two would disturb each other.  Waits for another, at most ``wait_s``."""
    path, held = _path(bundle), None
    deadline = time.monotonic() + wait_s
    while path is not None and held is None and time.monotonic() < deadline:
        try:
            os.makedirs(os.path.dirname(path), exist_ok=True)
            held = lock(os.path.dirname(path))
        except BlockingIOError:
            time.sleep(_LOOK_EVERY_S)
        except OSError:  # remember() says why nothing can be stored
            break
    try:
        yield
    finally:
        if held is not None:
            held.close()


def has_figures(bundle: "Bundle") -> bool:
    """Return whether there are figures of a bundle, on whatever device."""
    path = _path(bundle)
    return path is not None and os.path.exists(path)


def at_time(figures: Figures) -> str:
    """Return " on " and when figures were measured, or ""."""
    return " on " + figures.measured if figures.measured else ""


def _without(names: Container[str], figures: Dict[str, T]) -> Dict[str, T]:
    return {name: value for name, value in figures.items() if name not in names}


def _warn_of_other_power_modes(entries: List[JsonObject], device: JsonObject) -> None:
    for entry in entries:
        if dict(entry["device"], power_mode=device["power_mode"]) == device:
            _log.warning(
                "measurements in power mode %s are not used in %s, but the manifest's order is; measure with --tune",
                entry["device"]["power_mode"],
                device["power_mode"],
            )
            return


def _entry(entries: List[JsonObject], device: JsonObject) -> Optional[JsonObject]:
    return next((entry for entry in reversed(entries) if entry["device"] == device and "failures" in entry), None)


def _device(purpose: str) -> JsonObject:
    """Return what the figures depend on besides the bundle and the backends."""
    facts = machine_facts()
    return dict({name: facts[name] for name in _FACTS}, purpose=purpose)


def _versions(candidates: "Sequence[Candidate]") -> Dict[str, Optional[str]]:
    return {backend: backend_version(backend) for backend in {one.backend for one in candidates}}


def _path(bundle: "Bundle") -> Optional[str]:
    """Return the path of a bundle's figures, or None if nothing can be stored."""
    cache = cache_folder()
    return None if cache is None else os.path.join(cache, "tuning", bundle.id + ".json")


def _read(path: Optional[str]) -> List[JsonObject]:
    """Return the entries of a file; none if it is missing or damaged."""
    if path is None:
        return []
    try:
        found = read_json(path, _MOST_BYTES)
        _FIGURES(found, "")
        devices: List[JsonObject] = found["devices"]
        return devices
    except (FileNotFoundError, NotADirectoryError):
        return []
    except (OSError, ValueError) as error:
        if path not in _warned:
            _warned.add(path)
            _log.warning("earlier measurements in %s cannot be read (%s); measure again: run --tune", path, error)
        return []
