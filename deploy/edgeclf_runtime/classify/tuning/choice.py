"""Choice, the order in which a device tries a bundle's models and backends, and how many threads each gets.

A first start measures the candidates (``classify/tuning/parent.py``) and remembers the figures
(``classify/tuning/memory.py``).  Without any, the manifest's order is used, and each backend's own number of threads.
"""

import logging
import os
import time
from typing import TYPE_CHECKING, Callable, Dict, List, NamedTuple, Optional, Sequence, Tuple

from ...device import systemd
from ...device.machine import cores
from ...errors import BackendError
from ..selection import GPU_ONLY, OPEN_TIMEOUT_S, candidates, pair_name, prepare
from . import memory
from .candidate import Candidate, variants
from .memory import CAMERA, FILE, Figures, at_time, one_at_a_time, recall, remember

if TYPE_CHECKING:
    from ...bundle.open_bundle import Bundle
    from ..selection import Pair

NO_TUNE = "EDGECLF_NO_TUNE"
"""Environment variable; if it is not empty, nothing is measured unless it is asked for."""
_BUSY = 0.2
# Seconds; see Limits in classify/tuning/parent.py.
_FIRST_START = (5.0, 20.0, 30.0)
_ON_REQUEST = (10.0, OPEN_TIMEOUT_S, 2 * OPEN_TIMEOUT_S)
_log = logging.getLogger(__name__)


class Choice(NamedTuple):
    """Models and backends, the fastest first.

    pairs       (Model, backend) pairs to try
    ways        by the name of a pair: its number of threads and of images at once; others have those of the program
    measured    whether the order comes from measurements on this machine
    """

    pairs: "List[Pair]"
    ways: Dict[str, Tuple[Optional[int], int]] = {}
    measured: bool = False

    def of_model(self, name: str) -> "Choice":
        """Return the choice among the backends of one model."""
        return self._replace(pairs=[pair for pair in self.pairs if pair[0].name == name])

    def of_backend(self, backend: str) -> "Choice":
        """Return the choice among the models of one backend."""
        return self._replace(pairs=[pair for pair in self.pairs if pair[1] == backend])


class Tuning(NamedTuple):
    """Measurements, for people.

    candidates      those that were measured, the fastest first and those that do not run last
    figures         their Figures
    before          earlier Figures on this device
    seconds         how long it took
    purpose         CAMERA or FILE
    """

    candidates: Tuple[Candidate, ...]
    figures: Figures
    before: Figures
    seconds: float = 0.0
    purpose: str = CAMERA

    @property
    def line(self) -> str:
        """The result as one line, and a second one if the machine was busy."""
        count, most = len(self.figures.latency_ms), len(self.candidates)
        of = "" if count == most else "of {} ".format(most)
        return "measured {} {}candidates in {:.1f} s: {}{}".format(count, of, self.seconds, self._best(), self._busy())

    def _best(self) -> str:
        best = self.candidates[0].name
        return describe(best, self.figures, self.purpose) if best in self.figures.latency_ms else "none of them runs"

    def _busy(self) -> str:
        if self.figures.others < _BUSY:
            return ""
        took = "{:.0%}".format(self.figures.others)
        return "\n(other programs took {} of the processors: measure again with --tune)".format(took)

    def __str__(self) -> str:
        if len(self.candidates) < 2:
            names = [one.name for one in self.candidates]
            return "nothing to compare: only {} can run here".format(", ".join(names) or "nothing")
        width = max(len(one.name) for one in self.candidates)
        what = "per frame of a file" if self.purpose == FILE else "of an inference"
        lines = ["milliseconds {}, fastest first, measured in {:.1f} s:".format(what, self.seconds)]
        for one in self.candidates:
            ms, reason = self.figures.latency_ms.get(one.name), self.figures.failures.get(one.name, "")
            shown, note = ("-", "  " + reason.split("\n")[0]) if ms is None else ("{:.3f}".format(ms), "")
            lines.append("{:<{}} {:>9}{}{}".format(one.name, width, shown, note, self._before(one.name)))
        lines += [self._busy().strip()] if self._busy() else []
        if self.before.latency_ms:
            lines.append("(earlier: measured{})".format(at_time(self.before)))
        return "\n".join(lines)

    def _before(self, name: str) -> str:
        return "  (earlier: {:.3f})".format(self.before.latency_ms[name]) if name in self.before.latency_ms else ""


def describe(name: str, figures: Figures, purpose: str = CAMERA) -> str:
    """Return a candidate and its time as words: "int8-cpu on openvino, 2 threads: 2.4 ms"."""
    return "{}: {:.3g} ms{}".format(name, figures.latency_ms[name], " per frame" if purpose == FILE else "")


def choose(
    bundle: "Bundle",
    pairs: "Sequence[Pair]",
    threads: Optional[int] = None,
    at_once: int = 1,
    tune: Optional[bool] = False,
    show: Optional[Callable[[Tuning], object]] = None,
) -> Choice:
    """Return the Choice among (Model, backend) pairs on this device, and measure it if that is needed.

    threads     number of threads that was asked for; None: several are tried
    at_once     largest number of images at the same time, for a file; 1 for a camera
    tune        True: measure now.  None: only if there are no figures, and no GPU's backend, which is the fastest as a
                rule, and whose engines take minutes to build.  False: never
    show        called with the Tuning if something was measured

    Raises BackendError if every candidate killed the process that measured it.
    """
    purpose = FILE if at_once > 1 else CAMERA
    found = variants(pairs, threads, at_once)
    if tune and len(found) < 2 and show:
        show(Tuning(tuple(found), Figures({}, {}), Figures({}, {})))
    if len(found) < 2:
        return Choice(list(pairs))
    figures = recall(bundle, found, purpose, final=tune is False)
    if tune or (tune is None and not figures.covers(found) and measures_by_itself(pairs)):
        if tune:
            prepare(bundle, pairs)
        figures = _measure(bundle, found, purpose, figures, bool(tune), show)
    return _choice(pairs, found, figures)


def remembered(bundle: "Bundle") -> Dict[str, str]:
    """Return the fastest on this device as words, by purpose, CAMERA or FILE; {} if nothing is remembered."""
    found: Dict[str, str] = {}
    if not memory.has_figures(bundle):
        return found
    try:
        pairs = candidates(bundle)
    except BackendError:  # a start reports it
        return found
    for purpose, at_once in ((CAMERA, 1), (FILE, cores())):
        of_pairs = variants(pairs, None, at_once)
        figures = recall(bundle, of_pairs, purpose)
        if figures.latency_ms:
            best = describe(_fastest_first(of_pairs, figures)[0].name, figures, purpose)
            found[purpose] = "{}, measured{}".format(best, at_time(figures))
    return found


def measures_by_itself(pairs: "Sequence[Pair]") -> bool:
    """Return whether a first start measures these pairs without being asked: not if a GPU's are among them."""
    return not (os.environ.get(NO_TUNE) or any(backend in GPU_ONLY for _, backend in pairs))


def _measure(
    bundle: "Bundle",
    found: List[Candidate],
    purpose: str,
    before: Figures,
    again: bool,
    show: Optional[Callable[[Tuning], object]],
) -> Figures:
    from .parent import Limits, measure  # most starts need neither

    limits = Limits(*(_ON_REQUEST if again else _FIRST_START))
    with systemd.busy(2 * limits.most_s, "measuring models and backends"), one_at_a_time(bundle, limits.most_s):
        if not again:
            figures = recall(bundle, found, purpose)
            if figures.covers(found):  # another process has measured in the meantime
                return figures
        start = time.monotonic()
        figures = measure(bundle, found, purpose, limits)
        seconds = time.monotonic() - start
        if figures.latency_ms or figures.crashed:
            remember(bundle, found, figures, purpose)
    _log.info("measured on this device, ms: %s", figures.latency_ms)
    for name in figures.crashed:
        _log.warning("%s is not used here: %s; measure again with --tune", name, figures.failures[name])
    if show:
        show(Tuning(tuple(_fastest_first(found, figures)), figures, before, seconds, purpose))
    return figures


def _fastest_first(found: Sequence[Candidate], figures: Figures) -> List[Candidate]:
    return sorted(found, key=lambda one: one.cost(figures.latency_ms.get(one.name, float("inf"))))


def _choice(pairs: "Sequence[Pair]", found: List[Candidate], figures: Figures) -> Choice:
    """Return the Choice by some Figures; pairs that killed a process in every way are left out."""
    if not figures.latency_ms and not figures.crashed:
        return Choice(list(pairs))
    ways: Dict[str, Candidate] = {}
    for one in _fastest_first(found, figures):
        if one.name not in figures.crashed:
            ways.setdefault(one.pair, one)
    if not ways:
        reasons = ["\n  {}: {}".format(name, figures.failures[name]) for name in figures.crashed]
        raise BackendError(
            "no model can be used on this machine; measure again with --tune:{}".format("".join(reasons))
        )
    known = {pair_name(*pair): pair for pair in pairs}
    ordered = [known[name] for name in ways]
    return Choice(ordered, {name: (one.threads, one.at_once) for name, one in ways.items()}, bool(figures.latency_ms))
