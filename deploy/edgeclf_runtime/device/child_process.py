"""Child processes: modules of the runtime that end with their parent and import nothing from the working folder.

Every child process is started here.  A child searches its parent's module path, runs the parent's copy of the
runtime, and is killed by the kernel when its parent ends, even if the child is stopped (SIGSTOP).
"""

import contextlib
import os
import queue
import shutil
import signal
import subprocess
import sys
import threading
from typing import Any, Dict, List, Mapping, Optional

import edgeclf_runtime

from .process_secrets import child_environment

# Python is started isolated (-I): otherwise a folder "importlib" in the working folder, or in an empty entry of
# PYTHONPATH, would run here.  Only the built-in sys is imported before the path is the parent's; Python's own entries
# (its library, its site-packages) come after it.  The runtime's folder is on the path for one import only, so that a
# numpy.py dropped there is never imported.
_START = """
import sys
module, parent, verified, start, manifest, home, count = sys.argv[1:8]
handles = [int(handle) for handle in sys.argv[8:8 + int(count)]]
path = sys.argv[8 + int(count):]
sys.path[:] = path + [entry for entry in sys.path if entry and entry not in path]
if verified:
    import hashlib
    file = verified + "/__main__.py"
    with open(file, "rb") as stream:
        source = stream.read()
    if start not in ("", hashlib.sha256(source).hexdigest()):
        sys.exit(file + " was changed while the program runs; copy the bundle again from where it was made")
    bundle = {"__name__": "edgeclf_bundle", "__file__": file}
    exec(compile(source, file, "exec"), bundle)
    bundle["import_runtime"](manifest)
else:
    sys.path.insert(0, home)
    import edgeclf_runtime
    del sys.path[0]
from edgeclf_runtime.device.child_process import run_child
run_child(module, int(parent), handles)
"""
_PR_SET_PDEATHSIG = 1


def runtime_command(module: str, *handles: int) -> List[str]:
    """Return the command that calls a module's ``main`` with the numbers of the handles it inherits.

    If a bundle verified and imported the runtime (``edgeclf_runtime.__verified_home__`` is its folder,
    ``__verified_start__`` and ``__verified_manifest__`` are the hashes of its ``__main__.py`` and its manifest), the child
    runs that ``__main__.py`` under the name ``edgeclf_bundle`` and calls its ``import_runtime()``, which verifies the code
    and imports ``edgeclf_runtime`` as it did here.
    """
    home = os.path.dirname(os.path.dirname(os.path.abspath(edgeclf_runtime.__file__)))
    verified = [getattr(edgeclf_runtime, "__verified_{}__".format(name), "") for name in ("home", "start", "manifest")]
    options = ["-I", "-B"] + (["-X", "utf8"] if getattr(sys.flags, "utf8_mode", 0) else [])
    return [
        *[sys.executable, *options, "-c", _START, module, str(os.getpid()), *verified, home, str(len(handles))],
        *map(str, handles),
        *_module_path(),
    ]


def _module_path() -> List[str]:
    """Return the child's module path: the parent's absolute entries and those of PYTHONPATH.

    The working folder is left out if ``python -m`` added it.
    """
    given = [] if sys.flags.ignore_environment else os.environ.get("PYTHONPATH", "").split(os.pathsep)
    given = [entry for entry in given if os.path.isabs(entry)]
    path = [entry for entry in sys.path if isinstance(entry, str) and os.path.isabs(entry)]
    if getattr(sys.modules.get("__main__"), "__spec__", None) is not None:
        path = [entry for entry in path if entry in given or not _is_working_folder(entry)]
    return [entry for entry in given if entry not in path] + path


def _is_working_folder(entry: str) -> bool:
    try:
        return os.path.samefile(entry, os.curdir)
    except OSError:
        return False


def start_child(module: str, *handles: int, **options: Any) -> "subprocess.Popen[bytes]":
    """Start a module's ``main`` as a process that inherits the handles; ``options`` are Popen's.  Returns the Popen.

    Its environment is this process's without passwords, unless ``env`` is given.
    """
    options.setdefault("env", child_environment())
    return _starter().start(runtime_command(module, *handles), dict(options, pass_fds=handles))


def run_child(module: str, parent: int, handles: List[int]) -> None:
    """Run a module's ``main`` in the child; the host's modules have their package's name."""
    _end_with(parent)
    name = module if module.startswith("edgeclf.") else "edgeclf_runtime." + module
    __import__(name)
    sys.modules[name].main(*handles)  # type: ignore[attr-defined]


def _end_with(parent: int) -> None:
    """Have the kernel kill this process when its parent ends; outside of Linux, only its closed pipes show that."""
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:  # the parent has already ended
        os._exit(1)


def die_first() -> None:
    """If memory runs out, have the kernel kill this process, and not the one that classifies."""
    with contextlib.suppress(OSError), open("/proc/self/oom_score_adj", "w") as stream:
        stream.write("1000")


def find_program(name: str) -> Optional[str]:
    """Return the absolute path of a program on PATH, or None; entries relative to the working folder are ignored."""
    folders = os.environ.get("PATH", os.defpath).split(os.pathsep)
    return shutil.which(name, path=os.pathsep.join(folder for folder in folders if os.path.isabs(folder)) or os.devnull)


def without_working_folder(environment: Mapping[str, str]) -> Dict[str, str]:
    """Return an environment whose PYTHONPATH has no entries relative to the working folder."""
    path = [entry for entry in environment.get("PYTHONPATH", "").split(os.pathsep) if os.path.isabs(entry)]
    cleaned = {name: value for name, value in environment.items() if name != "PYTHONPATH"}
    return dict(cleaned, PYTHONPATH=os.pathsep.join(path)) if path else cleaned


class _Starter:
    """The thread that starts every child.

    "Kill it when its parent ends" (prctl) refers to the thread that started it, and a camera can outlive the thread that
    opened it.  This thread lives as long as the process.
    """

    def __init__(self) -> None:
        self.process = os.getpid()
        self._orders: "queue.Queue[_Order]" = queue.Queue()
        threading.Thread(target=self._run, name="starter", daemon=True).start()

    def start(self, command: List[str], options: Dict[str, Any]) -> "subprocess.Popen[bytes]":
        """Return the Popen; raises whatever starting it raised."""
        order = _Order(command, options)
        self._orders.put(order)
        return order.wait()

    def _run(self) -> None:
        while True:
            self._orders.get().carry_out()


class _Order:
    """A process for the starter thread to start; killed at once if no one waits for it anymore."""

    def __init__(self, command: List[str], options: Dict[str, Any]) -> None:
        self._command, self._options = command, options
        self._done, self._lock = threading.Event(), threading.Lock()
        self._given_up = False
        self._started: "List[subprocess.Popen[bytes]]" = []
        self._error: Optional[Exception] = None

    def carry_out(self) -> None:
        with self._lock:
            if self._given_up:
                return
            try:
                self._started.append(subprocess.Popen(self._command, **self._options))
            except Exception as error:  # wait() raises it
                self._error = error
        self._done.set()

    def wait(self) -> "subprocess.Popen[bytes]":
        try:
            self._done.wait()
        except BaseException:  # Ctrl-C
            with self._lock:
                self._given_up = True
            for process in self._started:
                process.kill()
                process.wait()
            raise
        if self._error is not None:
            raise self._error
        return self._started[0]


_starters: List[_Starter] = []
_starters_lock = threading.Lock()


def _starter() -> _Starter:
    """Return this process's starter; after a fork it needs a new one, since threads are not inherited."""
    with _starters_lock:
        if not _starters or _starters[0].process != os.getpid():
            _starters[:] = [_Starter()]
        return _starters[0]
