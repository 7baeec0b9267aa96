"""Engines that were built on this device, each with a JSON file of facts beside it.

An engine is native code, and one for another TensorRT or GPU crashes or gives wrong results.  So an engine is loaded only
if it was stored under the same key and its hash is still the same.  The key is in ``trt/engine_spec.py``: EngineSpec.key.
"""

import contextlib
import glob
import json
import logging
import os
import shutil
import tempfile
import time
from typing import Iterator, List, NamedTuple, Optional, Tuple

from ..bundle.manifest import SHA256
from ..errors import BackendError, OutputError
from ..files.outputs import OTHER_CACHE, new_file
from ..files.read import open_regular, read_json, sha256_bytes
from ..files.schema import JsonObject, integer, number, record, text
from ..files.stage import is_busy
from ..files.user_folders import cache_folder, home_cache_folder
from .engine_spec import EngineSpec

_MOST_JSON_BYTES = 1 << 20
_VERSION = text(r"[0-9]{1,9}(\.[0-9]{1,9}){0,5}", "a version, as 8.5.2,")
_KEY = record(
    {"model_sha256": text(), "tensorrt": _VERSION, "compute_capability": _VERSION, "gpu": text(), "precision": text()},
    others=True,
)
_FACTS = record(
    {"key": _KEY, "sha256": SHA256, "built": text(), "build_s": number(0), "bytes": integer(0)},
    optional=("build_s", "bytes"),
    others=True,
)


def _lines(value: object, where: str) -> None:
    """Check a text of several lines."""
    text(r"(.|\n)+", most=1 << 20)(value.replace("\n", " ") if isinstance(value, str) else value, where)


_REFUSED = record({"key": _KEY, "refused": _lines})
# On a Jetson Nano a large network takes most of an hour.
_LONGEST_BUILD_S = 2 * 3600.0
_log = logging.getLogger(__name__)


class Engine(NamedTuple):
    """An engine that passed the checks of load().

    plan    its bytes
    facts   what the JSON file beside it holds: key, sha256, time and more
    folder  the folder of both files
    """

    plan: bytes
    facts: JsonObject
    folder: str

    @property
    def spec(self) -> EngineSpec:
        """The specification that it was stored under."""
        return EngineSpec(**self.facts["key"])


def folders() -> List[str]:
    """Return the folders for engines, first choice first: below XDG_CACHE_HOME, and in the user's own cache."""
    caches = [path for path in dict.fromkeys([cache_folder(), home_cache_folder()]) if path is not None]
    return [os.path.join(path, "engines") for path in caches]


def load(folder: str, spec: EngineSpec) -> Optional[Engine]:
    """Return the engine of a specification, or None.

    If there is one that cannot be used, the reason is logged, with the names of the values that differ.
    """
    path = _path(folder, spec)
    facts = _read_facts(path + ".json")
    if facts is None or "refused" in facts:
        return None
    reason = _difference(spec, facts["key"])
    if reason:
        _log.warning("%s.engine is not used: %s", path, reason)
        return None
    try:
        with open_regular(path + ".engine") as stream:
            owner = os.fstat(stream.fileno()).st_uid
            plan = stream.read()
    except OSError as error:
        _log.warning("%s.engine is not used: it cannot be read (%s)", path, error.strerror)
        return None
    if owner not in (0, os.getuid()):
        _log.warning("%s.engine is not used: it belongs to another user (%d)", path, owner)
        return None
    if sha256_bytes(plan) != facts["sha256"]:
        _log.warning("%s.engine is not used: it was changed (its sha256 differs from the one beside it)", path)
        return None
    return Engine(plan, facts, folder)


def specs(folder: str) -> List[EngineSpec]:
    """Return the specifications of all cached engines."""
    found = [EngineSpec.from_key(facts["key"]) for _, facts in _all_facts(folder) if "sha256" in facts]
    return [spec for spec in found if spec is not None]


def of_any_mode(spec: EngineSpec) -> JsonObject:
    """Return a specification without the power mode, which decides only which engine is fastest, not which is right."""
    return _of_any_mode(spec.key)


def _of_any_mode(key: JsonObject) -> JsonObject:
    return {name: value for name, value in key.items() if name != "power_mode"}


def refusal(folder: str, spec: EngineSpec) -> Optional[str]:
    """Return the reason why an earlier build of a specification failed, in any power mode, or None."""
    for _, facts in _all_facts(folder):
        if "refused" in facts and _of_any_mode(facts["key"]) == of_any_mode(spec):
            return str(facts["refused"])
    return None


def log_others(folder: str, spec: EngineSpec) -> None:
    """Log why each cached engine of the same model and precision cannot be used."""
    for path, facts in _all_facts(folder):
        key = facts["key"]
        if (key.get("model_sha256"), key.get("precision")) == (spec.model_sha256, spec.precision):
            _log.warning("%s.engine is not used: %s", path[: -len(".json")], _difference(spec, key))


@contextlib.contextmanager
def writable(folders: List[str]) -> Iterator[str]:
    """Give the first of the folders that is writable, or else a temporary one, which is removed at the end."""
    for path in folders:
        try:
            os.makedirs(path, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            _log.warning("%s is not writable (%s)", path, error.strerror)
        else:
            if path != folders[0]:
                _log.warning("engines are stored in %s", path)
            yield path
            return
    _log.warning("the engine will be built at every start; set XDG_CACHE_HOME to a writable folder")
    try:
        temporary = tempfile.mkdtemp(prefix="edgeclf-engines-")
    except OSError as error:
        raise BackendError(
            "there is no writable folder for the engine, not even a temporary one ({}): set XDG_CACHE_HOME or TMPDIR "
            "to one".format(error.strerror)
        )
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_being_built(folder: str, spec: EngineSpec) -> bool:
    """Return whether another process is building the engine of a specification."""
    return is_busy(_path(folder, spec) + ".engine")


@contextlib.contextmanager
def new_engine(folder: str, spec: EngineSpec) -> Iterator[str]:
    """Give a path to write an engine to; the file gets its final name if the block ends without an error.

    If another process is building the same engine, this waits for it; load() returns that engine then.
    """
    try:
        path = _path(folder, spec) + ".engine"
        with new_file(path, overwrite=True, wait_s=_LONGEST_BUILD_S, elsewhere=OTHER_CACHE) as work:
            yield work
    except OutputError as error:
        raise BackendError(str(error))


def keep_facts(folder: str, spec: EngineSpec, plan: bytes, facts: JsonObject) -> JsonObject:
    """Store the facts of an engine beside it; returns them, with key, hash and time."""
    built = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
    facts = dict(facts, key=spec.key, sha256=sha256_bytes(plan), built=built)
    _write_facts(_path(folder, spec) + ".json", facts)
    return facts


def add_facts(folder: str, spec: EngineSpec, **facts: object) -> Optional[JsonObject]:
    """Add facts to those of a cached engine; returns them all, or None if it is not cached."""
    kept = _read_facts(_path(folder, spec) + ".json")
    if kept is None:
        return None
    kept.update(facts)
    _write_facts(_path(folder, spec) + ".json", kept)
    return kept


def prefer(folder: str, default: EngineSpec, spec: EngineSpec) -> None:
    """Remember that a specification replaces the default one in any power mode; if it is the default one, forget that."""
    path = _preferred_path(folder, default)
    if of_any_mode(spec) == of_any_mode(default):
        with contextlib.suppress(OSError):
            os.remove(path)
    else:
        _write_facts(path, {"key": of_any_mode(spec)})


def preferred(folder: str, default: EngineSpec) -> Optional[EngineSpec]:
    """Return the specification that replaces the default one, in the power mode of the default, or None."""
    try:
        found = read_json(_preferred_path(folder, default), _MOST_JSON_BYTES)
        record({"key": _KEY})(found, "")
        return EngineSpec.from_key(dict(found["key"], power_mode=default.power_mode))
    except (OSError, ValueError):
        return None


def earlier_build_s(folder: str, spec: EngineSpec) -> Optional[float]:
    """Return the seconds of the last build of the same model and precision on this GPU in this power mode, or None."""
    same = {name: getattr(spec, name) for name in ("model_sha256", "precision", "gpu", "power_mode")}
    built = [
        (facts["built"], float(facts["build_s"]))
        for _, facts in _all_facts(folder)
        if "build_s" in facts and all(facts["key"].get(name) == value for name, value in same.items())
    ]
    return max(built)[1] if built else None


def keep_refusal(folder: str, spec: EngineSpec, reason: str) -> None:
    """Remember that a build fails, so that a service that is restarted over and over does not spend minutes on it."""
    _write_facts(_path(folder, spec) + ".json", {"key": spec.key, "refused": reason})


def timing_path(folder: str, spec: EngineSpec) -> str:
    """Return the path of TensorRT's timing cache, shared by all models on one TensorRT, GPU and power mode."""
    shared = {name: getattr(spec, name) for name in ("tensorrt", "gpu", "compute_capability", "power_mode")}
    return os.path.join(folder, _digest(shared) + ".timing")


def _path(folder: str, spec: EngineSpec) -> str:
    return os.path.join(folder, _digest(spec.key))


def _preferred_path(folder: str, default: EngineSpec) -> str:
    return os.path.join(folder, _digest(of_any_mode(default)) + ".preferred")


def _digest(key: JsonObject) -> str:
    return sha256_bytes(json.dumps(key, sort_keys=True).encode())[:32]


def _read_facts(path: str) -> Optional[JsonObject]:
    """Return the facts in a file, or None if it is missing or damaged."""
    try:
        facts: JsonObject = read_json(path, _MOST_JSON_BYTES)
        (_REFUSED if isinstance(facts, dict) and "refused" in facts else _FACTS)(facts, "")
        return facts
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be used (%s): the engine will be built again", path, error)
        return None


def _write_facts(path: str, facts: JsonObject) -> None:
    try:
        with new_file(path, overwrite=True, elsewhere=OTHER_CACHE) as work, open(work, "w", encoding="utf-8") as stream:
            json.dump(facts, stream, indent=1)
    except (OSError, OutputError) as error:
        _log.warning("%s cannot be written (%s): the engine will be built again at the next start", path, error)


def _difference(wanted: EngineSpec, found: JsonObject) -> str:
    key = wanted.key
    names = sorted(name for name in set(key) | set(found) if key.get(name) != found.get(name))
    return ", ".join("{} {} (here {})".format(name, found.get(name), key.get(name)) for name in names)


def _all_facts(folder: str) -> Iterator[Tuple[str, JsonObject]]:
    """Yield the path and the facts of each JSON file that can be read."""
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.json"))):
        facts = _read_facts(path)
        if facts:
            yield path, facts
