"""Engines that were built on this device, each with a JSON file beside it.

An engine is native code, and one of another TensorRT or GPU crashes or lies.  So an engine is
handed out only if it was put here under the very same key and its hash is what it was then.

Knows nothing of what TensorRT is.
"""

import contextlib
import glob
import json
import logging
import os
import shutil
import tempfile
import time

from ..bundle.manifest import SHA256
from ..errors import BackendError, OutputError
from ..files.outputs import OTHER_CACHE, new_file
from ..files.read import open_regular, read_json, sha256_bytes
from ..files.schema import integer, number, record, text
from ..files.stage import is_busy
from ..files.user_folders import cache_folder, home_cache_folder

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


def _lines(value, where):
    """Declare a text of several lines."""
    text(r"(.|\n)+", most=1 << 20)(value.replace("\n", " ") if isinstance(value, str) else value, where)


_REFUSED = record({"key": _KEY, "refused": _lines})
# On a Jetson Nano a large network takes most of an hour.
_LONGEST_BUILD_S = 2 * 3600.0
_log = logging.getLogger(__name__)


def folders():
    """Return where engines are kept, the first choice first: below XDG_CACHE_HOME, and in the user's own cache."""
    caches = [path for path in dict.fromkeys([cache_folder(), home_cache_folder()]) if path is not None]
    return [os.path.join(path, "engines") for path in caches]


def load(folder, key):
    """Return the bytes and the facts of the engine that was kept under a key, or None.

    Why one is not used is logged, with the names of the values that differ.
    """
    path = _path(folder, key)
    facts = _read_facts(path + ".json")
    if facts is None or "refused" in facts:
        return None
    reason = _difference(key, facts["key"])
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
        _log.warning("%s.engine is not used: it was changed (its sha256 differs from that beside it)", path)
        return None
    return plan, facts


def keys(folder):
    """Return the keys of all engines that are kept."""
    return [facts["key"] for _, facts in _all_facts(folder) if "sha256" in facts]


def of_any_mode(key):
    """Return a key without the power mode: which engine is right does not depend on it, only which one is fastest."""
    return {name: value for name, value in key.items() if name != "power_mode"}


def refusal(folder, key):
    """Return why a build under a key failed before, in whatever power mode, or None."""
    for _, facts in _all_facts(folder):
        if "refused" in facts and of_any_mode(facts["key"]) == of_any_mode(key):
            return facts["refused"]
    return None


def tell_of_others(folder, key):
    """Log what sets engines of the same model and precision apart from the one that is wanted."""
    for path, facts in _all_facts(folder):
        if all(facts["key"].get(name) == key[name] for name in ("model_sha256", "precision")):
            _log.warning("%s.engine is not used: %s", path[: -len(".json")], _difference(key, facts["key"]))


@contextlib.contextmanager
def writable(folders):
    """Give the first of the folders that can be written, or a temporary one, which is removed again."""
    for path in folders:
        try:
            os.makedirs(path, exist_ok=True)
            with tempfile.TemporaryFile(dir=path):
                pass
        except OSError as error:
            _log.warning("%s cannot be written (%s)", path, error.strerror)
        else:
            if path != folders[0]:
                _log.warning("engines are kept in %s", path)
            yield path
            return
    _log.warning("the engine will be built anew at every start; choose another folder by XDG_CACHE_HOME")
    try:
        temporary = tempfile.mkdtemp(prefix="edgeclf-engines-")
    except OSError as error:
        raise BackendError(
            "no folder can be written for the engine, nor a temporary one ({}): name one by XDG_CACHE_HOME or "
            "TMPDIR".format(error.strerror)
        )
    try:
        yield temporary
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def is_being_built(folder, key):
    """Whether another process builds the engine of a key now."""
    return is_busy(_path(folder, key) + ".engine")


@contextlib.contextmanager
def new_engine(folder, key):
    """Give a path to write an engine to; it takes its place when the block ends well.

    While another process builds the same engine this waits for it, and load() has it then.
    """
    try:
        path = _path(folder, key) + ".engine"
        with new_file(path, overwrite=True, wait_s=_LONGEST_BUILD_S, elsewhere=OTHER_CACHE) as work:
            yield work
    except OutputError as error:
        raise BackendError(str(error))


def keep_facts(folder, key, plan, facts):
    """Keep the facts of an engine beside it; returns them, with key, hash and time."""
    facts = dict(facts, key=key, sha256=sha256_bytes(plan), built=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))
    _write_facts(_path(folder, key) + ".json", facts)
    return facts


def add_facts(folder, key, **facts):
    """Add to the facts of an engine that is kept; returns them all, or None where it is not kept."""
    kept = _read_facts(_path(folder, key) + ".json")
    if kept is None:
        return None
    kept.update(facts)
    _write_facts(_path(folder, key) + ".json", kept)
    return kept


def prefer(folder, usual, key):
    """Remember that the engine of a key is to take the place of the usual one; of the usual key itself: forget it."""
    path = _path(folder, usual) + ".preferred"
    if key == usual:
        with contextlib.suppress(OSError):
            os.remove(path)
    else:
        _write_facts(path, {"key": key})


def preferred(folder, usual):
    """Return the key of the engine that takes the place of the usual one, or None."""
    try:
        found = read_json(_path(folder, usual) + ".preferred", _MOST_JSON_BYTES)
        record({"key": _KEY})(found, "")
        return found["key"]
    except (OSError, ValueError):
        return None


def earlier_build_s(folder, key):
    """Return what the last build of the same model and precision took on this GPU in this power mode, in seconds, or None."""
    same = ("model_sha256", "precision", "gpu", "power_mode")
    built = [f for _, f in _all_facts(folder) if "build_s" in f and all(f["key"].get(n) == key.get(n) for n in same)]
    return max(built, key=lambda facts: facts["built"])["build_s"] if built else None


def keep_refusal(folder, key, reason):
    """Remember that a build fails, so that a service that is started again and again does not spend minutes on it."""
    _write_facts(_path(folder, key) + ".json", {"key": key, "refused": reason})


def timing_path(folder, key):
    """Return where TensorRT's timings are kept: they serve every model on the same TensorRT and GPU in the same power mode."""
    shared = {name: key.get(name) for name in ("tensorrt", "gpu", "compute_capability", "power_mode")}
    return os.path.join(folder, _digest(shared) + ".timing")


def _path(folder, key):
    return os.path.join(folder, _digest(key))


def _digest(key):
    return sha256_bytes(json.dumps(key, sort_keys=True).encode())[:32]


def _read_facts(path):
    """Return the facts of a file, or None where it is missing or not as it was written."""
    try:
        facts = read_json(path, _MOST_JSON_BYTES)
        (_REFUSED if isinstance(facts, dict) and "refused" in facts else _FACTS)(facts, "")
        return facts
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        _log.warning("%s cannot be used (%s): the engine is built anew", path, error)
        return None


def _write_facts(path, facts):
    try:
        with new_file(path, overwrite=True, elsewhere=OTHER_CACHE) as work, open(work, "w", encoding="utf-8") as stream:
            json.dump(facts, stream, indent=1)
    except (OSError, OutputError) as error:
        _log.warning("%s cannot be written (%s): the engine will be built anew at the next start", path, error)


def _difference(wanted, found):
    names = sorted(name for name in set(wanted) | set(found) if wanted.get(name) != found.get(name))
    return ", ".join("{} {} (here {})".format(name, found.get(name), wanted.get(name)) for name in names)


def _all_facts(folder):
    """Yield each file of facts that can be read."""
    for path in sorted(glob.glob(os.path.join(glob.escape(folder), "*.json"))):
        facts = _read_facts(path)
        if facts:
            yield path, facts
