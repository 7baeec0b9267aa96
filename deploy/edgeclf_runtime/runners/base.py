"""The interface of every inference backend, and the parts that several of them share.

A library can raise anything, even when it is imported: pybind11's TypeError, an OSError of its loader, SystemExit.  Here that
becomes a BackendError with the library's words, so that the next backend can take over.
"""

import contextlib
import importlib.util
import logging
import os
import sys
from typing import TYPE_CHECKING, Callable, Dict, Iterator, List, NamedTuple, Optional, Sequence, Tuple, Type, Union

from ..errors import BackendError, EdgeclfError

if TYPE_CHECKING:
    import numpy as np

# An ONNX file: a path, or a bundle's VerifiedFile.
ModelPath = Union[str, "os.PathLike[str]"]
# Name of a model's second output.
FEATURES = "features"
_MOST_WORDS = 400
# Never a library's error: our own errors, which say enough, and the user's wish to end the program.
PASSED: Tuple[Type[BaseException], ...] = (EdgeclfError, KeyboardInterrupt)
_log = logging.getLogger(__name__)


class Outputs(NamedTuple):
    """The outputs of a model for a batch.

    logits      float32 [N, classes]
    features    float32 [N, features], what the last linear layer reads; None if the model does not output them
    """

    logits: "np.ndarray"
    features: "Optional[np.ndarray]" = None


class Runner:
    """A model, loaded on a backend.  Use it inside ``with``; threads may share it only if it is ``concurrent``.

    A backend's class has ``_load``, ``_infer`` and ``_free``, which may raise anything that its library does.

    model_path  an ONNX file: a path, or a VerifiedFile
    threads     number of threads for the backend; None: the backend decides
    options     other arguments of the class's ``_load``

    backend     the backend's name in the table of runners
    title       its name in messages
    version     its library's version, "" until it is known
    device      where it computes: "cpu" or "cuda"
    concurrent  whether several threads may call infer() at the same time; if not, the Classifier lets one in at a time
    at_once     number of threads that it was opened for, see open_runner(); None if it was opened in another way
    closed      whether it was closed
    transfer_ms time of the last inference that was spent on copies between processor and GPU, in milliseconds; None if the
                backend does not measure it
    facts       facts about a compiled model, which TensorRT's cache stores with its engine; {} for other backends

    Raises BackendError if the library is missing, cannot be imported, or refuses the model.
    """

    backend = ""
    title = ""
    version = ""
    device = "cpu"
    concurrent = False
    at_once: Optional[int] = None
    closed = False
    transfer_ms: Optional[float] = None
    facts: Dict[str, object] = {}

    def __init__(self, model_path: ModelPath, threads: Optional[int] = None, **options: object) -> None:
        try:
            self._load(model_path, threads, **options)
        except PASSED:
            raise
        except BaseException as error:
            named = " ".join(filter(None, (self.title, str(self.version))))
            raise BackendError("{} cannot load {}: {}".format(named, model_path, brief(error)))

    def infer(self, batch: "np.ndarray") -> "np.ndarray":
        """Return logits, float32 [N, classes], for a batch, float32 [N, height, width, 3] with values 0 to 255.

        Raises BackendError if the backend fails or is closed.
        """
        return self.infer_outputs(batch).logits

    def infer_outputs(self, batch: "np.ndarray") -> Outputs:
        """Return the Outputs for a batch; see infer()."""
        if self.closed:
            raise BackendError("{} is closed; open the model again".format(self.title))
        try:
            return self._infer(batch)
        except PASSED:
            raise
        except BaseException as error:
            shape = list(getattr(batch, "shape", ()))
            raise BackendError("{} failed on a batch of shape {}: {}".format(self.title, shape, brief(error)))

    def close(self) -> None:
        """Free the backend's resources, while no thread is inside infer(); a second call does nothing.

        Raises BackendError if the library fails.
        """
        if not self.closed:
            self.closed = True
            with library_errors("{} cannot be closed".format(self.title)):
                self._free()

    def _load(self, model_path: ModelPath, threads: Optional[int]) -> None:
        raise NotImplementedError

    def _infer(self, batch: "np.ndarray") -> Outputs:
        raise NotImplementedError

    def _free(self) -> None:
        pass

    def __enter__(self) -> "Runner":
        return self

    def __exit__(self, *exception: object) -> None:
        close_quietly(self)


def output_order(names: Sequence[str]) -> List[int]:
    """Return the positions of a model's outputs among their names: of the logits and, if there are any, of the features."""
    features = [index for index, name in enumerate(names) if name == FEATURES]
    return [index for index in range(len(names)) if index not in features][:1] + features[:1]


def joined(parts: Sequence[Outputs]) -> Outputs:
    """Return the Outputs of several batches as those of one."""
    import numpy as np

    if len(parts) == 1:
        return parts[0]
    features = [part.features for part in parts if part.features is not None]
    return Outputs(np.concatenate([part.logits for part in parts]), np.concatenate(features) if features else None)


def close_quietly(runner: Optional[Runner]) -> None:
    """Close a runner, if there is one; a failure is only logged, because no result depends on it."""
    try:
        if runner is not None:
            runner.close()
    except KeyboardInterrupt:
        raise
    except BaseException as error:
        _log.warning("%s", error if isinstance(error, EdgeclfError) else brief(error))


@contextlib.contextmanager
def library_errors(what: str, *passed: Type[BaseException]) -> Iterator[None]:
    """Turn anything that a library raises inside the block into a BackendError: ``what``, and the library's words.

    passed      errors that are not converted; ImportError if the block imports numpy or OpenCV for us, whose absence is not
                the backend's failure
    """
    try:
        yield
    except PASSED + passed:
        raise
    except BaseException as error:
        raise BackendError("{}: {}".format(what, brief(error)))


@contextlib.contextmanager
def importing(title: str, install: Callable[[], str]) -> Iterator[None]:
    """Turn anything that the import of a backend's library raises into a BackendError that says how to install it.

    install     returns the install command, which takes time to find
    """
    try:
        yield
    except PASSED:
        raise
    except ImportError as error:
        raise BackendError(
            "{} is not installed for {} ({}); install it: {}".format(
                title, sys.executable, brief_text(error), install()
            )
        )
    except BaseException as error:
        raise BackendError(
            "{} is installed for {}, but cannot be imported ({}); install it again: {}".format(
                title, sys.executable, brief(error), install()
            )
        )


def installed_version(module: str, package: str) -> str:
    """Return the version of a pip package without importing its module: some load hundreds of MB of libraries.

    Raises ImportError if it is missing.
    """
    # First, because reading a package's metadata would cost each start some milliseconds.
    if importlib.util.find_spec(module) is None:
        raise ImportError(module)
    from importlib.metadata import version

    return version(package)  # its PackageNotFoundError is an ImportError


def brief(error: BaseException) -> str:
    """Return an error's type and message as one line of limited length: libraries say much, or nothing at all."""
    text = brief_text(error)
    return "{}: {}".format(type(error).__name__, text) if text else type(error).__name__


def brief_text(error: BaseException) -> str:
    """Return an error's message as one line of limited length."""
    try:
        return " ".join(str(error).split())[:_MOST_WORDS]
    except Exception:  # its own __str__ fails
        return ""
