"""The interface of every inference backend, and the parts that several of them share.

A library can raise anything, when it is imported too: pybind11's TypeError, an OSError of its loader, SystemExit.
Here that becomes a BackendError with the library's words, for every backend, so that the next one can answer.
"""

import contextlib
import importlib.util
import logging
import sys
from typing import Any, Dict, Optional, Tuple, Type

from ..errors import BackendError, EdgeclfError

_MOST_WORDS = 400
# What no library means: our own errors, which say enough, and the user's wish to end the program.
PASSED: Tuple[Type[BaseException], ...] = (EdgeclfError, KeyboardInterrupt)
_log = logging.getLogger(__name__)


class Runner:
    """One model, loaded on one backend.  Used inside ``with``; shared between threads where it is ``concurrent``.

    A backend's class has ``_load``, ``_infer`` and ``_free``, which may raise whatever its library does.

    model_path  an ONNX file: a path, or a VerifiedFile
    threads     that the backend may use; None leaves the choice to it
    options     what else the class's ``_load`` takes

    backend     the backend's name in the table of runners
    title       its name in messages
    version     its library's version, "" before it is known
    device      where it computes: "cpu" or "cuda"
    concurrent  whether several threads may call infer() at the same time; if not, the Classifier lets one in at a time
    closed      whether it was closed
    transfer_ms time of the last inference that was spent on copies between processor and GPU, in milliseconds; None if the
                backend does not measure it
    facts       what is known of a compiled model: an engine's cache entry; {} for other backends

    Raises BackendError if the library is missing or cannot be imported, or refuses the model.
    """

    backend = ""
    title = ""
    version = ""
    device = "cpu"
    concurrent = False
    closed = False
    transfer_ms: Optional[float] = None
    facts: Dict[str, Any] = {}

    def __init__(self, model_path, threads=None, **options):
        try:
            self._load(model_path, threads, **options)
        except PASSED:
            raise
        except BaseException as error:
            named = " ".join(filter(None, (self.title, str(self.version))))
            raise BackendError("{} cannot load {}: {}".format(named, model_path, brief(error)))

    def infer(self, batch):
        """Return logits, float32 [N, classes], of a batch, float32 [N, height, width, 3] with values 0 to 255.

        Raises BackendError where the backend fails, or is closed.
        """
        if self.closed:
            raise BackendError("{} is closed; open the model again".format(self.title))
        try:
            return self._infer(batch)
        except PASSED:
            raise
        except BaseException as error:
            shape = list(getattr(batch, "shape", ()))
            raise BackendError("{} failed on a batch of shape {}: {}".format(self.title, shape, brief(error)))

    def close(self):
        """Free what the backend holds, while no thread is inside infer(); a second call does nothing.

        Raises BackendError where the library does.
        """
        if not self.closed:
            self.closed = True
            with library_errors("{} cannot be closed".format(self.title)):
                self._free()

    def _load(self, model_path, threads):
        raise NotImplementedError

    def _infer(self, batch):
        raise NotImplementedError

    def _free(self):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        close_quietly(self)


def close_quietly(runner):
    """Close a runner, or nothing where it is None; what fails is logged: nothing that was classified is wrong by it."""
    try:
        if runner is not None:
            runner.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _log.warning("%s", error if isinstance(error, EdgeclfError) else brief(error))


@contextlib.contextmanager
def library_errors(what, *passed):
    """Turn whatever a library raises inside the block into a BackendError: ``what``, and the library's words.

    passed      errors that go through; ImportError where our own imports of numpy and OpenCV are in the block, whose
                absence is no backend's failure
    """
    try:
        yield
    except PASSED + passed:
        raise
    except BaseException as error:
        raise BackendError("{}: {}".format(what, brief(error)))


@contextlib.contextmanager
def importing(title, install):
    """Turn whatever the import of a backend's library raises into a BackendError that says how to install it.

    install     returns the command that installs it: finding that out takes time
    """
    try:
        yield
    except PASSED:
        raise
    except ImportError as error:
        raise BackendError(
            "{} is not there for {} ({}); install it: {}".format(title, sys.executable, brief_text(error), install())
        )
    except BaseException as error:
        raise BackendError(
            "{} is there for {}, but cannot be imported ({}); install it again: {}".format(
                title, sys.executable, brief(error), install()
            )
        )


def installed_version(module, package):
    """Return the version of a package by pip, without importing its module: some load hundreds of MB of libraries at once.

    Raises ImportError where it is missing.
    """
    # Looked for first, since reading a package's metadata would cost each start some milliseconds.
    if importlib.util.find_spec(module) is None:
        raise ImportError(module)
    from importlib.metadata import version

    return version(package)  # its PackageNotFoundError is an ImportError


def brief(error):
    """Return an error's type and words as one line of bearable length: libraries say much, or nothing at all."""
    text = brief_text(error)
    return "{}: {}".format(type(error).__name__, text) if text else type(error).__name__


def brief_text(error):
    """Return an error's words as one line of bearable length."""
    try:
        return " ".join(str(error).split())[:_MOST_WORDS]
    except Exception:  # its own __str__ fails
        return ""
