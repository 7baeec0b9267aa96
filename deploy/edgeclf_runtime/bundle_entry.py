"""Starts the runtime next to this file: ``python3 NAME.edge COMMAND``.

The runtime verifies the whole bundle, but damaged code cannot be trusted to detect its own damage.  So Python's own
importer imports nothing from the bundle: each module is compiled from the bytes whose hash was compared with the
manifest, and byte code on disk is never read.
"""

import sys

if __name__ == "__main__":
    # Python searches the bundle's folder first, where a stray folder json/ would replace Python's own module.
    _FOLDER = __file__.rpartition("/")[0]
    sys.path[:] = [entry for entry in sys.path if entry.rstrip("/") not in ("", ".", _FOLDER)]
sys.dont_write_bytecode = True

import os  # noqa: E402 - only now is it safe to import these

if os.getpid() == 1:
    import signal

    # As device.stop_signals does, which is not verified yet: a container's first process has only the signals that it handles.
    for _NUMBER in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(_NUMBER, lambda number, _: os._exit(128 + number))

import hashlib  # noqa: E402
import importlib.machinery  # noqa: E402
import importlib.util  # noqa: E402
import json  # noqa: E402
import stat  # noqa: E402

TYPE_CHECKING = False  # see edgeclf_runtime/__init__.py
if TYPE_CHECKING:
    from types import CodeType, ModuleType
    from typing import Any, Dict

HERE = os.path.dirname(os.path.abspath(__file__))
PACKAGE = "edgeclf_runtime"
FILES: "Dict[str, str]" = {}
_MAX_BYTES = 8 << 20
_COPY_AGAIN = "copy the bundle again from where it was made"


class DamagedCode(ImportError):  # noqa: N818 - a finding, as CameraLost
    """A file of the runtime differs from the manifest."""

    remedy = _COPY_AGAIN


class Importer(importlib.machinery.SourceFileLoader):
    """Compiles the bundle's modules after comparing their bytes with the manifest."""

    def get_code(self, fullname: str) -> "CodeType":
        """Return a module's code, compiled from verified bytes; byte code is neither read nor written."""
        path = self.get_filename(fullname)
        name = os.path.relpath(path, HERE).replace(os.sep, "/")
        return compile(verified_bytes(name), path, "exec", dont_inherit=True)


def read(path: str) -> bytes:
    """Return a regular file's bytes without waiting (for a pipe, say); b"" if there is no such file."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        return b""
    try:
        status = os.fstat(descriptor)
        # Python allocates as many bytes as are asked for: 8 MiB for each of 200 small files took longer than all else here.
        return os.read(descriptor, min(status.st_size, _MAX_BYTES)) if stat.S_ISREG(status.st_mode) else b""
    finally:
        os.close(descriptor)


def verified_bytes(name: str) -> bytes:
    """Return the bytes of one of the bundle's files, named as in the manifest; DamagedCode if they differ from it."""
    data = read(HERE + "/" + name)
    if name not in FILES or hashlib.sha256(data).hexdigest() != FILES[name]:
        raise DamagedCode("{}: {} was changed or is missing".format(HERE, name))
    return data


def read_manifest(sha256: str = "") -> str:
    """Read the SHA-256 of each of the bundle's files from the manifest into FILES; return the manifest's own.

    sha256      the manifest's expected hash, if known
    """
    data = read(os.path.join(HERE, "manifest.json"))
    try:
        files = json.loads(data.decode("utf-8"))["files"]
        FILES.update((str(name), facts["sha256"]) for name, facts in files.items())
    except (AttributeError, KeyError, TypeError, ValueError, RecursionError):
        data = b""
    found = hashlib.sha256(data).hexdigest()
    if not data or sha256 not in ("", found):
        raise DamagedCode("{}: manifest.json was changed or is missing".format(HERE))
    return found


def import_runtime(sha256: str = "") -> "ModuleType":
    """Import the bundle's runtime, and make all its later imports verified too; see read_manifest()."""
    manifest = read_manifest(sha256)
    for name in sorted(FILES):
        # All at once, so that damage shows before any of them runs, not months later.
        if name.endswith(".py"):
            verified_bytes(name)
    folder = os.path.join(HERE, PACKAGE)
    sys.path_hooks.insert(0, _open_folder)
    for entry in [entry for entry in sys.path_importer_cache if _is_inside(entry)]:
        del sys.path_importer_cache[entry]
    start = os.path.join(folder, "__init__.py")
    loader = Importer(PACKAGE, start)
    spec: Any = importlib.util.spec_from_file_location(
        PACKAGE, start, loader=loader, submodule_search_locations=[folder]
    )
    module = importlib.util.module_from_spec(spec)
    sys.modules[PACKAGE] = module
    loader.exec_module(module)
    # Makes child processes start here as well.
    hashes = {"__verified_start__": FILES["__main__.py"], "__verified_manifest__": manifest}
    vars(module).update(hashes, __verified_home__=HERE)
    return module


def _is_inside(path: str) -> bool:
    return (os.path.abspath(path) + os.sep).startswith(os.path.join(HERE, PACKAGE, ""))


def _open_folder(path: str) -> importlib.machinery.FileFinder:
    """Find modules in the runtime's folders with the Importer; ImportError leaves other folders to Python."""
    if not _is_inside(path):
        raise ImportError(path)
    return importlib.machinery.FileFinder(path, (Importer, [".py"]))


def start() -> None:
    """Run the command line and end with its exit code."""
    try:
        import_runtime()
        # Absolute: in a bundle this file is a program, not a module of the package.
        from edgeclf_runtime.__main__ import program
    except DamagedCode as error:
        sys.exit("error: {}; {}".format(error, error.remedy))
    program(HERE)


if __name__ == "__main__":
    start()
