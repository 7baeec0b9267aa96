"""Candidate, one way to run a bundle: a model, a backend, a number of threads, and images one after another or several at once."""

from typing import TYPE_CHECKING, List, NamedTuple, Optional, Sequence

from ...device.machine import cores, inference_threads, thread_limit
from ...runners import is_concurrent
from ..selection import GPU_ONLY, pair_name

if TYPE_CHECKING:
    from ...bundle.open_bundle import Model
    from ..selection import Pair

# OpenCV has one number for the whole process, resizing included; a GPU's backend has none.
_WITH_THREADS = ("onnxruntime", "openvino")
# Small networks on processors with many cores are fastest with few of them.
_FEW = 4
# A quantized model is less exact than the float one, so it must be this much faster.  Two medians differ by less.
_QUANTIZED_HANDICAP = 1.03


class Candidate(NamedTuple):
    """A way to run a bundle.

    threads     number of threads of the backend; None: its own choice
    at_once     number of images that are inferred at the same time; they share the threads
    """

    model: "Model"
    backend: str
    threads: Optional[int] = None
    at_once: int = 1

    @property
    def pair(self) -> str:
        """The name of its model and backend."""
        return pair_name(self.model, self.backend)

    @property
    def name(self) -> str:
        """Its name in messages and in the file of the figures, such as "int8-cpu on openvino, 2 threads"."""
        threads = "{} thread{}".format(self.threads, "s" * (self.threads > 1)) if self.threads else ""
        at_once = "{} at once".format(self.at_once) if self.at_once > 1 else ""
        return ", ".join(filter(None, (self.pair, threads, at_once)))

    def cost(self, ms: float) -> float:
        """Return milliseconds that can be compared with those of other candidates."""
        return ms * (_QUANTIZED_HANDICAP if self.model.precision.startswith("int") else 1.0)


def variants(pairs: "Sequence[Pair]", threads: Optional[int] = None, at_once: int = 1) -> List[Candidate]:
    """Return the candidates of (Model, backend) pairs: first each pair as it is, then several at once, then with other threads.

    threads     the number of threads that was asked for; None: several are tried
    at_once     largest number of images at the same time
    """
    found = [Candidate(model, backend, threads) for model, backend in pairs]
    if at_once > 1:
        several = [(model, backend) for model, backend in pairs if backend not in GPU_ONLY and is_concurrent(backend)]
        found += [Candidate(model, backend, threads, at_once) for model, backend in several]
    if threads is None:
        several = [(model, backend) for model, backend in pairs if backend in _WITH_THREADS]
        found += [Candidate(model, backend, count) for model, backend in several for count in _other_threads()]
    return found


def _other_threads() -> List[int]:
    """Return numbers of threads besides the backends' own choice, which is usually one for each physical core."""
    usual = inference_threads()
    return sorted({1, min(_FEW, usual), max(1, usual // 2), thread_limit() or cores()} - {usual})
